"""The raw stage: the pairs of a corpus as plain, clean, line-aligned sentences."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.corpora.corpus import Corpus, Example
from data_prep.preparation import Preparation
from data_prep.selection.counts import SPLITS, TOO_LONG, Counts
from data_prep.selection.draws import hash_of, hold_out, thin_out, write_pair
from data_prep.selection.limits import judged
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_pair, read_lines
from data_prep.support.progress import progress
from data_prep.text.cleaning import clean_line, strip_line

NOT_CHOSEN = "not among --train-pairs"


@dataclass(frozen=True)
class Selection:
    """Which pairs to keep: None means all."""

    max_words: int | None
    train_pairs: int | None


def write_raw(
    corpus: Corpus, preparation: Preparation, selection: Selection, directory: Path, workers: int
) -> dict[str, Any]:
    """Write {train,valid,test}.{source,target language} and return the counts.

    Raises DataPrepError if nothing is left of a split, or train is too small to hold out others.
    """
    counts = Counts()
    languages = (corpus.source_lang, corpus.target_lang)
    train_hashes = array("Q")
    sizes = corpus.held_out()
    draws = bool(sizes) or selection.train_pairs is not None
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(open_pair(directory / split, *languages)) for split in SPLITS
        }
        for split, source, target in _kept(corpus, preparation, selection, counts, workers):
            write_pair(files[split], source, target)
            counts.kept[split] += 1
            if draws and split == "train":
                train_hashes.append(hash_of(source, target))
    if sizes:
        train_hashes = hold_out(sizes, directory, languages, train_hashes, counts)
    if selection.train_pairs is not None and selection.train_pairs < counts.kept["train"]:
        thin_out(directory / "train", languages, train_hashes, selection.train_pairs)
        counts.dropped["train"][NOT_CHOSEN] = counts.kept["train"] - selection.train_pairs
        counts.kept["train"] = selection.train_pairs
    for split in SPLITS:
        if not counts.kept[split]:
            raise DataPrepError(
                f"{split}: none of {counts.found[split]} pairs is left"
                f" ({counts.reasons(split) or 'none found'})"
            )
    return counts.as_json() | {"words": _count_words(directory, languages, counts.kept)}


def _kept(
    corpus: Corpus, preparation: Preparation, selection: Selection, counts: Counts, workers: int
) -> Iterator[Example]:
    """Yield the pairs that are not dropped, and say in ``counts`` why the others are."""
    languages = (corpus.source_lang, corpus.target_lang)
    pairs = _cleaned(corpus.read(counts), preparation.repairs, counts)
    every = preparation.valid_every
    number = 0
    for example, reason in judged(pairs, languages, preparation, workers):
        if not reason and selection.max_words and _words(example) > selection.max_words:
            reason = TOO_LONG
        if reason:
            counts.dropped[example.split][reason] += 1
            continue
        if every and example.split == "train":
            number += 1
            if number % every == 0:
                counts.found["train"] -= 1
                counts.found["valid"] += 1
                example = example._replace(split="valid")
        yield example


def _cleaned(pairs: Iterator[Example], repairs: bool, counts: Counts) -> Iterator[Example]:
    repair = clean_line if repairs else strip_line
    for split, *sides in pairs:
        yield Example(split, *(repair(side, counts.repaired) for side in sides))


def _words(pair: Example) -> int:
    """Space-separated words on the longer side."""
    return max(pair.source.count(" "), pair.target.count(" ")) + 1


def _count_words(
    directory: Path, languages: tuple[str, str], pairs: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    words: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for split in SPLITS:
        for lang in languages:
            lines = read_lines(directory / f"{split}.{lang}")
            for line in progress(
                lines, f"raw: count words of {split}.{lang}", "line", pairs[split]
            ):
                words[split][lang] += line.count(" ") + 1
    return {split: dict(counter) for split, counter in words.items()}
