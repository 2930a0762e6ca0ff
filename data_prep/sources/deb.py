"""Read the files in a Debian package in memory, without dpkg.

A .deb is an ``ar`` archive of ``debian-binary``, ``control.tar.*`` and ``data.tar.*`` (deb(5)).
Debian compresses the last with xz, Ubuntu with zstd. Nothing is written to a path that the
archive names, and how much is unpacked has a limit: see `data_prep.sources.unpacking`.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from data_prep.sources.unpacking import DAMAGE, Allowance, TooLarge, decompressed, is_of_the_content
from data_prep.support.errors import DataPrepError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60  # bytes: name 16, date 12, uid 6, gid 6, mode 8, size 10, end mark 2 (ar(5))
_LARGEST = 1 << 30  # bytes of a package's files: they are in memory


def read_deb(path: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of every regular file in ``path`` whose name starts with ``prefix``.

    Names have no leading ``./``. Raises DataPrepError, naming ``path``, if it is not a whole .deb,
    or unpacks to more than one of its size would.
    """
    try:
        with _open_tar(_data_member(path.read_bytes())) as archive:
            for entry in archive:
                name = entry.name.removeprefix("./")
                if entry.isreg() and name.startswith(prefix):
                    if entry.issparse():  # zeros without end that are nowhere in the archive
                        raise _Damaged(f"{name} is sparse in it")
                    content = archive.extractfile(entry)
                    assert content is not None  # a regular file has content
                    yield name, content.read()
    except TooLarge as error:
        raise DataPrepError(f"{path}: {error}; is it the right package?") from None
    except (_Damaged, *DAMAGE, OSError) as error:
        if not is_of_the_content(error):
            raise
        raise DataPrepError(
            f"{path}: not a whole Debian package ({error}); fetch the file again"
        ) from error


class _Damaged(Exception):
    """The ar archive is not what deb(5) promises."""


def _data_member(deb: bytes) -> bytes:
    """Return the ar member that holds the package's files."""
    if not deb.startswith(_AR_MAGIC):
        raise _Damaged("it does not start like an ar archive")
    position = len(_AR_MAGIC)
    while position < len(deb):
        header = deb[position : position + _AR_HEADER]
        size_field = header[48:58].strip()
        if len(header) < _AR_HEADER or header[58:] != b"`\n" or not size_field.isdigit():
            raise _Damaged(f"bad archive header at byte {position}")
        start, size = position + _AR_HEADER, int(size_field)
        if start + size > len(deb):
            raise _Damaged(f"{len(deb)} bytes long where {start + size} are announced")
        name = header[:16].rstrip(b" ").rstrip(b"/").decode("ascii", "replace")
        if name.startswith("data.tar"):
            return deb[start : start + size]
        position = start + size + size % 2  # members start at even offsets
    raise _Damaged("it has no data.tar")


def _open_tar(data: bytes) -> tarfile.TarFile:
    content = decompressed(io.BytesIO(data), data[:6])
    return tarfile.open(fileobj=Allowance(len(data), _LARGEST).of(content), mode="r|")
