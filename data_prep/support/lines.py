"""Read and write line-oriented text, where only LF ends a line."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from data_prep.support.errors import DataPrepError


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their LF.

    Raises DataPrepError that names file, line and byte if it is not UTF-8.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield line.removesuffix(b"\n").decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataPrepError(
                    f"{path}: line {number} is not UTF-8"
                    f" (byte 0x{line[error.start]:02x}, number {error.start + 1} of the line)"
                ) from error


def count_lines(path: Path) -> int:
    """Return the number of lines; a last line without LF counts."""
    with path.open("rb") as stream:
        return sum(1 for _ in stream)


@contextmanager
def open_pair(prefix: Path, source_lang: str, target_lang: str) -> Iterator[tuple[TextIO, TextIO]]:
    """Open ``prefix.source_lang`` and ``prefix.target_lang`` for writing, UTF-8 and LF only."""
    with ExitStack() as stack:
        source, target = (
            stack.enter_context(open_for_writing(prefix.with_name(f"{prefix.name}.{lang}")))
            for lang in (source_lang, target_lang)
        )
        yield source, target


def open_for_writing(path: Path) -> TextIO:
    """Open a text file for writing, UTF-8 and LF only, on every system."""
    return path.open("w", encoding="utf-8", newline="\n")
