"""Take files out of archives: tar, zip, compressed or not, an archive in an archive, a file in .gz.

Only the files that are asked for are read, and they are written under names of our own: whatever an
archive calls its members, nothing lands outside the directory, and no link is followed or made.
"""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tqdm.utils import CallbackIOWrapper

from data_prep.errors import DataPrepError
from data_prep.progress import progress

_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda stream: cast(IO[bytes], gzip.GzipFile(fileobj=stream)),
    b"BZh": lambda stream: cast(IO[bytes], bz2.BZ2File(stream)),
    b"\xfd7zXZ\x00": lambda stream: cast(IO[bytes], lzma.LZMAFile(stream)),  # noqa: SIM115
}
_ZIP = b"PK\x03\x04"
_DAMAGE = (EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def extract(
    archive: Path,
    wanted: Collection[str],
    directory: Path,
    inner: str | None = None,
    shown: str | None = None,
) -> None:
    """Write the members with file names ``wanted``, in whatever folder they are, to ``directory``.

    If the archive has a member called ``inner``, an archive too, they are taken out of that. It is
    called ``shown`` in messages. Raises DataPrepError if one is missing, is a link, or is there
    twice, or the archive is damaged.
    """
    shown = shown or str(archive)
    nested = directory / f".{inner}"
    names = {*wanted, inner} if inner else set(wanted)
    found: set[str] = set()
    try:
        with _members(archive) as members:
            for name, stream in members:
                if name not in names:
                    continue
                if name in found:
                    raise DataPrepError(f"{shown}: has two files called {name}")
                found.add(name)
                if stream is None:
                    raise DataPrepError(f"{shown}: {name} is not a regular file in it")
                target = nested if name == inner else directory / name
                with target.open("wb") as copy:
                    shutil.copyfileobj(stream, copy, 1 << 20)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # a full disk, for one
            raise
        raise DataPrepError(
            f"{shown}: is cut short or damaged ({error}); remove it, and get it again"
        ) from error
    if inner in found:
        extract(nested, wanted, directory, shown=f"{shown}, {inner} in it")
        nested.unlink()
    elif missing := sorted(set(wanted) - found):
        raise DataPrepError(
            f"{shown}: there is no {' and no '.join(missing)} in it; is it the right archive?"
        )


_Member = tuple[str, IO[bytes] | None]


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """Open an archive; its members are file names and contents, None for what is no regular file.

    A content is to be read before the next member is asked for.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(archive.open("rb"))
        magic = stream.read(6)
        stream.seek(0)
        if magic.startswith(_ZIP):
            yield _zip_members(stack.enter_context(zipfile.ZipFile(stream)))
            return
        bar = stack.enter_context(
            progress(None, f"unpack {archive.name}", "B", archive.stat().st_size)
        )
        counted = CallbackIOWrapper(bar.update, stream)
        opener = next((o for start, o in _OPENERS.items() if magic.startswith(start)), None)
        content = stack.enter_context(opener(counted)) if opener else counted
        alone = archive.suffix == ".gz" and not archive.stem.endswith(".tar")
        yield iter([(archive.stem, content)]) if alone else _tar_members(content)


def _tar_members(content: IO[bytes]) -> Iterator[_Member]:
    with tarfile.open(fileobj=content, mode="r|") as tar:
        for member in tar:
            if not member.isdir():
                stream = tar.extractfile(member) if member.isreg() else None
                yield PurePosixPath(member.name).name, stream
    while content.read(1 << 20):  # to the checksum at its end
        pass


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for entry in archive.infolist():
        if not entry.is_dir():
            is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
            with archive.open(entry) as stream:
                yield PurePosixPath(entry.filename).name, None if is_link else stream
