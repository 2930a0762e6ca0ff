"""Development and test sets of evaluation campaigns: XML or SGM with a segment on each line."""

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from data_prep.support.errors import DataPrepError
from data_prep.support.lines import read_lines

_SEGMENT = re.compile(r'<seg id="(\d+)">\s*(.*?)\s*</seg>')
_DOCUMENT = re.compile(r'<doc\b[^>]* docid="([^"]*)"', re.IGNORECASE)


def segment_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield the texts of the segments of both files.

    Entities stay, as in the reference scripts. Raises DataPrepError that names the line if a
    segment is torn or there twice, or the files have different ones.
    """
    for ours, theirs in zip_longest(_segments(source), _segments(target)):
        if ours is None or theirs is None:
            path, (number, name, _) = (target, ours) if ours else (source, theirs)
            other = source if ours else target
            raise DataPrepError(f"{path} ends before {name}, {other}, line {number}")
        if ours[1] != theirs[1]:
            raise DataPrepError(
                f"{source}, line {ours[0]}, is {ours[1]}, but"
                f" {target}, line {theirs[0]}, is {theirs[1]}"
            )
        yield ours[2], theirs[2]


def _segments(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, name and text of each segment."""
    document = "no document"
    seen = set()
    for number, line in enumerate(read_lines(path), start=1):
        if found := _DOCUMENT.search(line):
            document = f"document {found[1]}"
        if "<seg" not in line:
            continue
        segment = _SEGMENT.search(line)
        if segment is None:
            raise DataPrepError(f'{path}, line {number}: no whole <seg id="...">...</seg>')
        name = f"segment {segment[1]} of {document}"
        if name in seen:
            raise DataPrepError(f"{path}, line {number}: {name} is there twice")
        seen.add(name)
        yield number, name, segment[2]
