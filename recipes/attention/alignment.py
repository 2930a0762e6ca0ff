"""Alignments of words, in Pharaoh's format, and the error rate of Och and Ney (2003)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.support.lines import read_lines
from recipes.attention.agreement import Explained
from recipes.support.errors import RecipeError

Links = set[tuple[int, int]]
"""Numbers of a source and a target word, from 0."""

_LINK = re.compile(r"(\d{1,6})-(\d{1,6})", re.ASCII)


@dataclass(frozen=True)
class AlignmentError:
    """How far hard alignments are from right ones, summed over a split.

    :param error_rate: 1 - 2 |A and S| / (|A| + |S|) of links A that were found and S that are
        right, all of them sure: Och and Ney's with S = P.
    :param found: |A|.
    :param right: |S|.
    """

    error_rate: float
    precision: float
    recall: float
    found: int
    right: int


def read_alignments(path: Path) -> list[Links]:
    """Read a file of a line for each sentence, `0-0 1-2 2-1`, source word first.

    Raises RecipeError that names the line of what is no link.
    """
    result = []
    for number, line in enumerate(read_lines(path), start=1):
        links = {word: _LINK.fullmatch(word) for word in line.split()}
        for word, link in links.items():
            if link is None:
                raise RecipeError(
                    f"{path}: line {number}: {word[:20]!r} is no link; links are pairs of numbers"
                    " of words, source first, as in 0-0 1-2"
                )
        result.append({(int(link[1]), int(link[2])) for link in links.values() if link})
    return result


def check_alignments(path: Path, right: Sequence[Links], explained: Sequence[Explained]) -> None:
    """Raise RecipeError unless the links of a file are of the words of these sentences."""
    if len(right) != len(explained):
        raise RecipeError(
            f"{path}: has {len(right)} lines, and the split {len(explained)} sentences"
        )
    for of in explained:
        for source, target in sorted(right[of.number]):
            if source >= len(of.words) or target >= len(of.said):
                raise RecipeError(
                    f"{path}: line {of.number + 1}: {source}-{target} is beyond its sentences of"
                    f" {len(of.words)} and {len(of.said)} words (not subwords), numbered from 0"
                )


def hard_alignment(of: Explained) -> Links:
    """Return the source word that each target word attends to most, the first of equal ones."""
    if not of.words:
        return set()
    return {(int(source), target) for target, source in enumerate(of.attention.argmax(1))}


def alignment_error(
    right: Sequence[Links], explained: Sequence[Explained]
) -> AlignmentError | None:
    """Return the error of attention's hard alignments; None where nothing is to be aligned.

    :param right: by the number of a sentence.
    """
    found = sum(len(hard_alignment(of)) for of in explained)
    wanted = sum(len(right[of.number]) for of in explained)
    both = sum(len(hard_alignment(of) & right[of.number]) for of in explained)
    if not found or not wanted:
        return None
    return AlignmentError(
        error_rate=1 - 2 * both / (found + wanted),
        precision=both / found,
        recall=both / wanted,
        found=found,
        right=wanted,
    )
