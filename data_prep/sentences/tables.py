"""Lines as corpora have them: tab-separated, with quotes as plain characters, or JSON's objects."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.support.errors import DataPrepError
from data_prep.support.lines import read_lines
from data_prep.support.progress import progress


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each line and its number, from 1. Raises DataPrepError if there is none."""
    number = 0
    lines = progress(read_lines(path), f"read {path.name}", "line")
    for number, line in enumerate(lines, start=1):
        yield number, line.removesuffix("\r")
    if not number:
        raise DataPrepError(f"{path}: is empty")


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line and its columns. Raises DataPrepError if there is none."""
    for number, line in numbered(path):
        yield number, line.split("\t")


def objects(path: Path, names: Sequence[str], corpus: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line, an object of JSON, and its texts with these ``names``.

    Raises DataPrepError for a line that is no such example of ``corpus``, or if there is none.
    """
    for number, line in numbered(path):
        try:
            found = json.loads(line)
            texts = [found[name] for name in names]
        except (ValueError, KeyError, TypeError, RecursionError):
            texts = [None]
        if not all(isinstance(text, str) for text in texts):
            raise DataPrepError(
                f"{path}: line {number} is no example of {corpus}: an object with the texts"
                f" {', '.join(names)}"
            )
        yield number, texts


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
