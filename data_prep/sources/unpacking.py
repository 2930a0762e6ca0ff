"""Decompress what a stranger has packed, but no more than a corpus could be.

A few kilobytes can be made to unpack to terabytes. A text is a fifth of its size when it is packed,
a very repetitive one a fiftieth: what claims to be more than `RATIO` times as large is no corpus.
"""

import bz2
import errno
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, cast

import zstandard

RATIO = 200
"""What is unpacked may be so many times as large as what it is packed in,"""

ALWAYS = 64 << 20
"""or so many bytes,"""

LARGEST = 64 << 30
"""but never more bytes than these: ten times the largest corpus here."""

DAMAGE = (
    *(EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    # What the readers of the standard library stumble over in damaged headers, and how they say
    # that something is encrypted, or compressed in a way that they do not know.
    *(zstandard.ZstdError, struct.error, ValueError, LookupError, ArithmeticError, RuntimeError),
)
"""Raised for an archive that is not whole, beside OSError: see `is_of_the_content`."""

_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda stream: cast(IO[bytes], gzip.GzipFile(fileobj=stream)),
    b"BZh": lambda stream: cast(IO[bytes], bz2.BZ2File(stream)),
    b"\xfd7zXZ\x00": lambda stream: cast(IO[bytes], lzma.LZMAFile(stream)),  # noqa: SIM115
    zstandard.FRAME_HEADER: lambda stream: zstandard.ZstdDecompressor().stream_reader(
        stream, read_across_frames=True
    ),
}


class TooLarge(Exception):
    """Something unpacks to more than it may; the message is a part of a sentence."""


class Allowance:
    """How much may be unpacked of something.

    :param packed: its size in bytes.
    :param largest: see `LARGEST`.
    """

    def __init__(self, packed: int, largest: int = LARGEST) -> None:
        self._most = self._left = min(max(ALWAYS, RATIO * packed), largest)

    def of(self, content: IO[bytes]) -> IO[bytes]:
        """Return ``content`` as a stream that raises TooLarge when the allowance is spent."""
        return cast(IO[bytes], io.BufferedReader(_Limited(content, self), 1 << 16))

    def spend(self, size: int) -> None:
        """Count bytes that were unpacked."""
        self._left -= size
        if self._left < 0:
            raise TooLarge(
                f"unpacks to more than {self._most:,} bytes, which no corpus of its size does"
            )


class _Limited(io.RawIOBase):
    def __init__(self, content: IO[bytes], allowance: Allowance) -> None:
        self._content = content
        self._allowance = allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._content.read(len(buffer))
        self._allowance.spend(len(block))
        buffer[: len(block)] = block
        return len(block)


def decompressed(stream: IO[bytes], start: bytes) -> IO[bytes]:
    """Return the content of a stream compressed with gzip, bzip2, xz or zstd, or not at all.

    :param start: its first six bytes, which are still to be read from it.
    """
    opener = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), None)
    return opener(stream) if opener else stream


def is_of_the_content(error: Exception) -> bool:
    """Tell whether an OSError is about what was read, and not about a file or a disk.

    Decompressors raise some without a number; a header may name a place before the archive's begin.
    """
    return not isinstance(error, OSError) or error.errno in (None, errno.EINVAL)
