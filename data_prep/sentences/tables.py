"""Tab-separated values as corpora have them: a line each, quotes are plain characters."""

from collections.abc import Iterator
from pathlib import Path

from data_prep.support.errors import DataPrepError
from data_prep.support.lines import read_lines
from data_prep.support.progress import progress


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line and its columns. Raises DataPrepError if there is none."""
    number = 0
    lines = progress(read_lines(path), f"read {path.name}", "line")
    for number, line in enumerate(lines, start=1):
        yield number, line.removesuffix("\r").split("\t")
    if not number:
        raise DataPrepError(f"{path}: is empty")


def named_rows(path: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Yield the number of each line and its columns by the names in the first line.

    None stands for a line with another number of columns.
    """
    names: list[str] = []
    for number, columns in rows(path):
        if not names:
            names = [name.strip("\ufeff ") for name in columns]
            continue
        same = len(columns) == len(names)
        yield number, dict(zip(names, columns, strict=True)) if same else None


def wrong_columns(path: Path, number: int, found: int | None, wanted: str) -> DataPrepError:
    """Return the error for a line with another number of columns."""
    has = f"{found} columns" if found is not None else "another number of columns than the first"
    return DataPrepError(f"{path}: line {number} has {has}; {wanted}")
