"""Take files out of archives: tar, zip, compressed or not, an archive in an archive, a file in .gz.

Folders of many small texts are gathered in one file each, a line a text.

Only the files that are asked for are read, and they are written under names of our own: whatever an
archive calls its members, nothing lands outside the directory, and no link is followed or made.
How much is unpacked has a limit too: see `data_prep.sources.unpacking`.
"""

import json
import shutil
import tarfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm.utils import CallbackIOWrapper

from data_prep.sources.unpacking import DAMAGE, Allowance, TooLarge, decompressed, is_of_the_content
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_for_writing
from data_prep.support.progress import progress

_ZIP = b"PK\x03\x04"


def extract(
    archive: Path,
    wanted: Collection[str],
    directory: Path,
    inner: str | None = None,
    shown: str | None = None,
) -> None:
    """Write the members with file names ``wanted``, in whatever folder they are, to ``directory``.

    A name may say the last folders too, ``R1/train.jsonl``; it is written as ``R1-train.jsonl``.
    If the archive has a member called ``inner``, an archive too, they are taken out of that. It is
    called ``shown`` in messages. Raises DataPrepError if one is missing, is a link, or is there
    twice, or the archive is damaged, or unpacks to more than a corpus of its size would.
    """
    shown = shown or str(archive)
    nested = directory / f".{inner}"
    names = {*wanted, inner} if inner else set(wanted)
    found: set[str] = set()
    with _named(shown), _members(archive) as members:
        for path, stream in members:
            name = next((name for name in names if f"/{path}".endswith(f"/{name}")), None)
            if name is None:
                continue
            if name in found:
                raise DataPrepError(f"{shown}: has two files called {name}")
            found.add(name)
            if stream is None:
                raise DataPrepError(f"{shown}: {name} is not a regular file in it")
            target = nested if name == inner else directory / name.replace("/", "-")
            with target.open("wb") as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
    if inner in found:
        extract(nested, wanted, directory, shown=f"{shown}, {inner} in it")
        nested.unlink()
    elif missing := sorted(set(wanted) - found):
        raise DataPrepError(
            f"{shown}: there is no {' and no '.join(missing)} in it; is it the right archive?"
        )


def gather(archive: Path, wanted: Mapping[str, str], encoding: str, directory: Path) -> None:
    """Write the texts of each folder of ``wanted`` to the file of ``directory`` that it names.

    A folder is named by the last parts of its path, ``train/pos``; only what is right in it counts.
    A line is a JSON string, a text; they are in the archive's order. Raises DataPrepError if a
    folder has none, or one that is there twice, is a link, or is not in ``encoding``; or the
    archive is damaged, or unpacks to more than a corpus of its size would.
    """
    seen: set[PurePosixPath] = set()
    with ExitStack() as stack, _named(str(archive)):
        files = {
            folder: stack.enter_context(open_for_writing(directory / name))
            for folder, name in wanted.items()
        }
        for path, stream in stack.enter_context(_members(archive)):
            folder = next((f for f in wanted if f"/{path.parent}".endswith(f"/{f}")), None)
            if folder is None:
                continue
            if path in seen:
                raise DataPrepError(f"{archive}: has two files called {path}")
            seen.add(path)
            if stream is None:
                raise DataPrepError(f"{archive}: {path} is not a regular file in it")
            files[folder].write(json.dumps(_decoded(stream.read(), encoding, archive, path)) + "\n")
        empty = [folder for folder, file in files.items() if not file.tell()]
    if empty:
        raise DataPrepError(
            f"{archive}: has no texts in {' and '.join(empty)}; is it the right archive?"
        )


def _decoded(content: bytes, encoding: str, archive: Path, path: PurePosixPath) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataPrepError(
            f"{archive}: {path} in it is not {encoding.upper()}"
            f" (byte 0x{content[error.start]:02x}, number {error.start + 1})"
        ) from error


@contextmanager
def _named(shown: str) -> Iterator[None]:
    """Say which archive it is that is damaged, or unpacks to too much."""
    try:
        yield
    except TooLarge as error:
        raise DataPrepError(f"{shown}: {error}; is it the right archive?") from None
    except (*DAMAGE, OSError) as error:
        if not is_of_the_content(error):  # a full disk, for one
            raise
        raise DataPrepError(
            f"{shown}: is cut short or damaged ({error}); remove it, and get it again"
        ) from error


_Member = tuple[PurePosixPath, IO[bytes] | None]


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """Open an archive; its members are paths and contents, None for what is no regular file.

    A content is to be read before the next member is asked for.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(archive.open("rb"))
        start = stream.read(6)
        stream.seek(0)
        allowance = Allowance(archive.stat().st_size)
        if start.startswith(_ZIP):
            yield _zip_members(stack.enter_context(zipfile.ZipFile(stream)), allowance)
            return
        bar = stack.enter_context(
            progress(None, f"unpack {archive.name}", "B", archive.stat().st_size)
        )
        counted = CallbackIOWrapper(bar.update, stream)
        content = allowance.of(decompressed(counted, start))
        alone = archive.suffix == ".gz" and not archive.stem.endswith(".tar")
        yield iter([(PurePosixPath(archive.stem), content)]) if alone else _tar_members(content)


def _tar_members(content: IO[bytes]) -> Iterator[_Member]:
    with tarfile.open(fileobj=content, mode="r|") as tar:
        for member in tar:
            if not member.isdir():
                # A sparse file has zeros without end that are nowhere in the archive.
                regular = member.isreg() and not member.issparse()
                stream = tar.extractfile(member) if regular else None
                yield PurePosixPath(member.name), stream
    while content.read(1 << 20):  # to the checksum at its end
        pass


def _zip_members(archive: zipfile.ZipFile, allowance: Allowance) -> Iterator[_Member]:
    for entry in archive.infolist():
        if entry.filename and not entry.is_dir():
            is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
            with archive.open(entry) as stream:
                content = None if is_link else allowance.of(stream)
                yield PurePosixPath(entry.filename), content
