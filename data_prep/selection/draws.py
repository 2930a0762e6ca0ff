"""Draw pairs from a corpus that is written down: to hold them out, or to train on fewer.

What is drawn depends on a hash of each pair's text: it is random, and the same on every machine.
"""

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from data_prep.selection.counts import SPLITS, Counts
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_pair, read_lines
from data_prep.support.progress import progress

ALSO_HELD_OUT = "also held out"


def write_pair(files: tuple[TextIO, TextIO], source: str, target: str) -> None:
    """Write a pair as a line of each of two files."""
    files[0].write(source + "\n")
    files[1].write(target + "\n")


def hash_of(source: str, target: str) -> int:
    """64 bits that depend on the pair alone."""
    digest = hashlib.blake2b(f"{source}\n{target}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def rank(hashes: "array[int]") -> npt.NDArray[np.intp]:
    """Return the indices of ``hashes`` from the smallest to the largest."""
    # sorted() with a key would take ten times the memory.
    return np.asarray(hashes).argsort(kind="stable")


def _side_hashes(prefix: Path, languages: tuple[str, str]) -> tuple["array[int]", "array[int]"]:
    """Return a hash of each sentence: that of a pair whose other side is empty."""
    sources, targets = _pair(prefix, languages)
    return (
        array("Q", (hash_of(source, "") for source in sources)),
        array("Q", (hash_of("", target) for target in targets)),
    )


def hold_out(
    sizes: Mapping[str, int | None],
    directory: Path,
    languages: tuple[str, str],
    hashes: "array[int]",
    counts: Counts,
) -> "array[int]":
    """Move pairs of train to the splits of ``sizes``; return the hashes of those that stay.

    A pair that shares a sentence with one that moves does neither: it is dropped.
    """
    train = directory / "train"
    sides = _side_hashes(train, languages)
    known: set[int] = set()
    for split in set(SPLITS) - {"train"} - sizes.keys():
        known.update(*_side_hashes(directory / split, languages))
    default = max(1, min(1000, len(hashes) // 10))
    wanted = {split: size or default for split, size in sizes.items()}
    moves = draw(wanted, hashes, sides, known)
    held_out = {side[index] for side in sides for index in moves}
    staying = array("Q")
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(open_pair(directory / split, *languages)) for split in sizes
        }
        files["train"] = stack.enter_context(_replace_pair(train, languages))
        pairs = zip(*_pair(train, languages), strict=True)
        for index, pair in enumerate(progress(pairs, "raw: hold out", "pair", len(hashes))):
            if index in moves:
                write_pair(files[moves[index]], *pair)
            elif held_out.isdisjoint(side[index] for side in sides):
                write_pair(files["train"], *pair)
                staying.append(hashes[index])
    if len(moves) < sum(wanted.values()) or not staying:
        numbers = " and ".join(f"{size} for {split}" for split, size in wanted.items())
        raise DataPrepError(
            f"train: {len(hashes)} of {counts.found['train']} pairs can be used"
            f" ({counts.reasons('train') or 'none dropped'}): too few without a sentence in"
            f" common to hold out {numbers} and to train on the rest;\n"
            "give more text, a smaller --hold-out, or --valid and --test"
        )
    for split, size in wanted.items():
        counts.found[split] = counts.kept[split] = size
        counts.found["train"] -= size
    counts.dropped["train"][ALSO_HELD_OUT] = len(hashes) - len(moves) - len(staying)
    counts.kept["train"] = len(staying)
    return staying


def draw(
    wanted: Mapping[str, int],
    hashes: "array[int]",
    sides: tuple["array[int]", ...],
    known: set[int],
) -> dict[int, str]:
    """Return the split of each pair to hold out, by index; fewer than wanted if there are no more.

    valid gets the smallest hashes and test the largest, so that a new pair which puts another out
    of one does not push it into the other. A pair is passed over if one of its sentences is known
    or in a pair drawn before.
    """
    taken = set(known)
    drawn: dict[int, str] = {}
    ranking = rank(hashes)
    for split, size in wanted.items():
        enough = len(drawn) + size
        for index in ranking if split == "valid" else ranking[::-1]:
            if len(drawn) == enough:
                break
            pair = {side[index] for side in sides}
            if taken.isdisjoint(pair):
                taken |= pair
                drawn[int(index)] = split
    return drawn


def thin_out(prefix: Path, languages: tuple[str, str], hashes: "array[int]", wanted: int) -> None:
    """Keep the ``wanted`` pairs with the smallest hashes, in their order.

    That is a random sample of the whole corpus which any machine draws alike, and a smaller one is
    part of every larger one.
    """
    is_chosen = bytearray(len(hashes))
    for index in rank(hashes)[:wanted]:
        is_chosen[index] = True
    with _replace_pair(prefix, languages) as files:
        pairs = zip(is_chosen, *_pair(prefix, languages), strict=True)
        for keep, source, target in progress(pairs, "raw: choose", "pair", len(hashes)):
            if keep:
                write_pair(files, source, target)


@contextmanager
def _replace_pair(prefix: Path, languages: tuple[str, str]) -> Iterator[tuple[TextIO, TextIO]]:
    """Open files for writing that take the place of ``prefix.language`` at the end."""
    new = prefix.with_name(f"{prefix.name}.new")
    with open_pair(new, *languages) as files:
        yield files
    for lang in languages:
        new.with_name(f"{new.name}.{lang}").replace(prefix.with_name(f"{prefix.name}.{lang}"))


def _pair(prefix: Path, languages: tuple[str, str]) -> list[Iterator[str]]:
    return [read_lines(prefix.with_name(f"{prefix.name}.{lang}")) for lang in languages]
