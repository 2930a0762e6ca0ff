"""The raw stage: the pairs of a corpus as plain, clean, line-aligned sentences."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from data_prep.corpus import Corpus
from data_prep.counts import EMPTY, SPLITS, TOO_LONG, Counts
from data_prep.errors import DataPrepError
from data_prep.lines import open_pair, read_lines
from data_prep.text import clean_line

NOT_CHOSEN = "not among --train-pairs"


@dataclass(frozen=True)
class Selection:
    """Which pairs to keep: None means all."""

    max_words: int | None
    train_pairs: int | None


def write_raw(corpus: Corpus, selection: Selection, directory: Path) -> dict[str, Any]:
    """Write {train,valid,test}.{source,target language} and return the counts.

    Raises DataPrepError if nothing is left of a split.
    """
    counts = Counts()
    languages = (corpus.source_lang, corpus.target_lang)
    train_hashes = array("Q")
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(open_pair(directory / split, *languages)) for split in SPLITS
        }
        for split, *sides in corpus.read(counts):
            source, target = (clean_line(side, counts.repaired) for side in sides)
            if not source or not target:
                counts.dropped[split][EMPTY] += 1
            elif selection.max_words and _words(source, target) > selection.max_words:
                counts.dropped[split][TOO_LONG] += 1
            else:
                _write_pair(files[split], source, target)
                counts.kept[split] += 1
                if split == "train":
                    train_hashes.append(_hash(source, target))
    if selection.train_pairs is not None and selection.train_pairs < counts.kept["train"]:
        _thin_out(directory / "train", languages, train_hashes, selection.train_pairs)
        counts.dropped["train"][NOT_CHOSEN] = counts.kept["train"] - selection.train_pairs
        counts.kept["train"] = selection.train_pairs
    for split in SPLITS:
        if not counts.kept[split]:
            reasons = ", ".join(f"{n} {why}" for why, n in counts.dropped[split].most_common())
            raise DataPrepError(
                f"{split}: none of {counts.found[split]} pairs is left ({reasons or 'none found'})"
            )
    return counts.as_json() | {"words": _count_words(directory, languages)}


def _words(source: str, target: str) -> int:
    """Space-separated words on the longer side."""
    return max(source.count(" "), target.count(" ")) + 1


def _write_pair(files: tuple[TextIO, TextIO], source: str, target: str) -> None:
    files[0].write(source + "\n")
    files[1].write(target + "\n")


def _hash(source: str, target: str) -> int:
    """64 bits that depend on the pair alone."""
    digest = hashlib.blake2b(f"{source}\n{target}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def _thin_out(prefix: Path, languages: tuple[str, str], hashes: "array[int]", wanted: int) -> None:
    """Keep the ``wanted`` pairs with the smallest hashes, in their order.

    That is a random sample of the whole corpus which any machine draws alike, and a smaller one is
    part of every larger one.
    """
    chosen = sorted(range(len(hashes)), key=hashes.__getitem__)[:wanted]
    is_chosen = bytearray(len(hashes))
    for index in chosen:
        is_chosen[index] = True
    thin = prefix.with_name(f"{prefix.name}.thin")
    with open_pair(thin, *languages) as files:
        for keep, source, target in zip(is_chosen, *_pair(prefix, languages), strict=True):
            if keep:
                _write_pair(files, source, target)
    for lang in languages:
        thin.with_name(f"{thin.name}.{lang}").replace(prefix.with_name(f"{prefix.name}.{lang}"))


def _pair(prefix: Path, languages: tuple[str, str]) -> list[Iterator[str]]:
    return [read_lines(prefix.with_name(f"{prefix.name}.{lang}")) for lang in languages]


def _count_words(directory: Path, languages: tuple[str, str]) -> dict[str, dict[str, int]]:
    words: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for split in SPLITS:
        for lang in languages:
            for line in read_lines(directory / f"{split}.{lang}"):
                words[split][lang] += line.count(" ") + 1
    return {split: dict(counter) for split, counter in words.items()}
