"""The raw stage: clean texts with checked labels, ``label<TAB>text``, a file for each split."""

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from data_prep.selection.counts import EMPTY
from data_prep.selection.draws import ALSO_HELD_OUT, draw, hash_of, rank
from data_prep.sentences.corpus import Example, SentenceCorpus, SentenceCounts, Task
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_for_writing, read_lines
from data_prep.support.progress import progress
from data_prep.text.cleaning import clean_line, is_blank

NOT_CHOSEN = "not among --train-examples"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # of fairseq's dictionaries
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Raw:
    """What is written: classes in the order of their numbers, None for scores; and the counts."""

    classes: list[str] | None
    labelled: list[str]
    counts: dict[str, Any]


def raw_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the label and the texts of each line of a file of this stage."""
    for line in read_lines(path):
        label, *texts = line.split("\t")
        yield label, texts


def write_raw(
    corpus: SentenceCorpus, train_examples: int | None, directory: Path
) -> dict[str, Any]:
    """Write SPLIT.tsv and return classes and counts.

    Raises DataPrepError, with file and line, for a label that cannot be; and if nothing is left of
    a split.
    """
    return _Writer(corpus, train_examples, directory).run()


class _Writer:
    def __init__(self, corpus: SentenceCorpus, most: int | None, directory: Path) -> None:
        self._corpus, self._most, self._directory = corpus, most, directory
        self._task = corpus.task
        self._counts = SentenceCounts()
        self._labels = _Labels(self._task)
        self._hashes: dict[str, array[int]] = {}
        self._labelled: dict[str, bool] = {}

    def run(self) -> dict[str, Any]:
        held_out = self._corpus.held_out()
        with ExitStack() as stack:
            files = {
                split: stack.enter_context(open_for_writing(self._path(split)))
                for split in self._corpus.splits
                if split not in held_out
            }
            for example in self._corpus.read(self._counts):
                self._take(example, files[example.split])
        classes = self._labels.classes()
        if held_out:
            self._hold_out(held_out)
        self._choose()
        for split in self._corpus.splits:
            if not self._counts.kept[split]:
                raise DataPrepError(
                    f"{split}: none of {self._counts.found[split]} examples is left"
                    f" ({self._counts.reasons(split) or 'none found'})"
                )
        return {"classes": classes, **self._facts()}

    def _path(self, split: str) -> Path:
        return self._directory / f"{split}.tsv"

    def _take(self, example: Example, file: TextIO) -> None:
        split, counts = example.split, self._counts
        label = clean_line(example.label, {})
        texts = [clean_line(text, counts.repaired) for text in example.texts]
        is_labelled = self._labelled.setdefault(split, bool(label) or not split.startswith("test"))
        self._labels.check(label, example, is_labelled)
        # Each line of a set without labels is to be predicted, and counts.
        if is_labelled and any(map(is_blank, texts)):
            counts.dropped[split][EMPTY] += 1
            return
        if split == "train":
            self._labels.learn(label, example)
        file.write("\t".join([label, *texts]) + "\n")
        counts.kept[split] += 1
        self._hashes.setdefault(split, array("Q")).append(_hash(texts))

    def _hold_out(self, sizes: Mapping[str, int | None]) -> None:
        """Move examples of train to other splits; drop those that share a text with one of them."""
        counts, hashes = self._counts, self._hashes.get("train", array("Q"))
        sides = self._sides("train")
        known: set[int] = set()
        for split in self._corpus.splits:
            if split != "train" and split not in sizes:
                known.update(*self._sides(split))
        default = max(1, min(1000, len(hashes) // 10))
        wanted = {split: size or default for split, size in sizes.items()}
        moves = draw(wanted, hashes, sides, known)
        gone = {side[index] for side in sides for index in moves}
        kept: dict[str, array[int]] = {name: array("Q") for name in ("train", *wanted)}
        with ExitStack() as stack:
            files = {
                split: stack.enter_context(open_for_writing(self._path(split))) for split in wanted
            }
            new = self._path("train.new")
            files["train"] = stack.enter_context(open_for_writing(new))
            lines = progress(
                read_lines(self._path("train")), "raw: hold out", "example", len(hashes)
            )
            for index, line in enumerate(lines):
                split = moves.get(index, "train")
                if split == "train" and not gone.isdisjoint(side[index] for side in sides):
                    continue
                files[split].write(line + "\n")
                kept[split].append(hashes[index])
        new.replace(self._path("train"))
        if len(moves) < sum(wanted.values()) or not kept["train"]:
            numbers = " and ".join(f"{size} for {split}" for split, size in wanted.items())
            raise DataPrepError(
                f"train: {len(hashes)} of {counts.found['train']} examples can be used: too few"
                f" without a text in common to hold out {numbers} and to train on the rest;\n"
                "give more, a smaller --hold-out, or --valid and --test"
            )
        for split, size in wanted.items():
            counts.found[split] = counts.kept[split] = size
            counts.found["train"] -= size
            self._labelled[split] = True
        if dropped := len(hashes) - len(moves) - len(kept["train"]):
            counts.dropped["train"][ALSO_HELD_OUT] = dropped
        counts.kept["train"] = len(kept["train"])
        self._hashes.update(kept)

    def _sides(self, split: str) -> tuple["array[int]", ...]:
        """Return hashes of the single texts of a split, first and second ones."""
        sides = (array("Q"), array("Q")) if self._task.pairs else (array("Q"),)
        if self._path(split).exists():
            for _, texts in raw_rows(self._path(split)):
                for side, text in zip(sides, texts, strict=True):
                    side.append(hash_of(text, ""))
        return sides

    def _choose(self) -> None:
        hashes = self._hashes.get("train", array("Q"))
        if self._most is None or self._most >= len(hashes):
            return
        chosen = set(map(int, rank(hashes)[: self._most]))
        new = self._path("train.new")
        with open_for_writing(new) as file:
            for index, line in enumerate(read_lines(self._path("train"))):
                if index in chosen:
                    file.write(line + "\n")
        new.replace(self._path("train"))
        self._hashes["train"] = array("Q", (hashes[index] for index in sorted(chosen)))
        self._counts.dropped["train"][NOT_CHOSEN] = len(hashes) - self._most
        self._counts.kept["train"] = self._most

    def _facts(self) -> dict[str, Any]:
        counts, splits = self._counts, list(self._corpus.splits)
        train = set(self._hashes["train"])
        facts: dict[str, Any] = {
            "labelled": [split for split in splits if self._labelled.get(split)],
            "found": {split: counts.found[split] for split in splits},
            "dropped": {split: dict(sorted(counts.dropped[split].items())) for split in splits},
            "kept": {split: counts.kept[split] for split in splits},
            "repaired lines": dict(sorted(counts.repaired.items())),
            "duplicates": {
                split: len(hashes) - len(set(hashes)) for split, hashes in self._hashes.items()
            },
            "also in train": {
                split: sum(number in train for number in hashes)
                for split, hashes in self._hashes.items()
                if split != "train"
            },
        }
        if not self._task.is_regression:
            facts["labels"] = {
                split: dict(Counter(label for label, _ in raw_rows(self._path(split))))
                for split in facts["labelled"]
            }
        return facts


def _hash(texts: list[str]) -> int:
    return hash_of(texts[0], texts[1] if len(texts) > 1 else "")


class _Labels:
    """Which labels there may be: those of the task, or of train, or numbers."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._learnt: set[str] = set()
        self._train = ""

    def check(self, label: str, example: Example, is_labelled: bool) -> None:
        """Raise DataPrepError if an example cannot have the label."""
        wrong = None
        if not is_labelled:
            wrong = f"has the label {label!r}, and the first line has none" if label else None
        elif not label:
            wrong = "has no label"
        elif self._task.is_regression:
            if not _NUMBER.fullmatch(label) or not math.isfinite(float(label)):
                wrong = f"has the score {label!r}, which is no number"
        elif label in _SPECIAL or label.endswith("#fairseq:overwrite"):
            wrong = f"has the label {label!r}, which fairseq takes for another thing"
        elif self._task.classes is not None:
            if label not in self._task.classes:
                known = [self._task.source_labels.get(name, name) for name in self._task.classes]
                wrong = f"has the label {label!r}; known are {', '.join(known)}"
        elif example.split != "train" and label not in self._learnt:
            wrong = f"has the label {label!r}, which is nowhere in {self._train}"
        if wrong:
            raise DataPrepError(f"{example.file}: line {example.line} {wrong}")

    def learn(self, label: str, example: Example) -> None:
        """Take note of a label of train."""
        self._train = str(example.file)
        if self._task.classes is not None or self._task.is_regression:
            return
        self._learnt.add(label)
        if len(self._learnt) > _MOST_CLASSES:
            raise DataPrepError(
                f"{example.file}: line {example.line} has class number {_MOST_CLASSES + 1}:"
                " are the labels scores (--scores), or is the text first?"
            )

    def classes(self) -> list[str] | None:
        """Return the classes in their order; raise DataPrepError if there is but one."""
        if self._task.is_regression:
            return None
        if self._task.classes is not None:
            return list(self._task.classes)
        if len(self._learnt) < 2:
            raise DataPrepError(
                f"{self._train or 'train'}: all examples have one label, so that there is nothing"
                " to predict"
            )
        return sorted(self._learnt, key=_in_order)


def _in_order(label: str) -> tuple[bool, float, str]:
    """Numbers come first, by their size."""
    is_number = bool(_NUMBER.fullmatch(label)) and math.isfinite(float(label))
    return (not is_number, float(label) if is_number else 0.0, label)
