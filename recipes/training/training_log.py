"""Read what `fairseq-train --log-format json` logged, whatever else is in the file.

fairseq writes an object per log interval (`train`) and one per validation (`valid`), numbers mostly
as strings, behind a time stamp or not. A training that was interrupted and continued appends to the
same file; then what counts is the continuation.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.support.errors import RecipeError

# The prefix of each kind of line's names. There is a third kind, per epoch: "train_".
_PREFIXES = {"train": "", "valid": "valid_"}


Curve = tuple[list[int], list[float]]
"""Updates, and values there."""


@dataclass(frozen=True)
class Record:
    """One line of the log.

    :param kind: `train` or `valid`.
    :param update: optimizer updates done.
    :param values: finite numbers by their name, without the prefix of a validation. Losses are in
        bits per target token.
    """

    kind: str
    update: int
    values: dict[str, float]


@dataclass(frozen=True)
class TrainingLog:
    """The records of one training, each kind in the order of its updates."""

    train: list[Record]
    valid: list[Record]


@dataclass(frozen=True)
class Kind:
    """What a training is of, and by what its validation chooses.

    :param unit: of what losses are the mean.
    :param score: the name of the dev score in the log; `title` is for people.
    :param losses: names of the task's own loss; the first that a record has is meant.
    """

    unit: str
    score: str
    title: str
    losses: tuple[str, ...]

    def loss(self, record: Record) -> float | None:
        """Return the task's own loss in a record."""
        found = (record.values[name] for name in self.losses if name in record.values)
        return next(found, None)


TRANSLATION = Kind("token", "bleu", "BLEU", ("nll_loss",))
_SCORES = {
    "mcc": "MCC",
    "acc_and_f1": "accuracy, F1",
    "pearson_and_spearman": "correlation",
    "accuracy": "accuracy",
}
"""Of sentences. Where there are several, the first chooses the checkpoint."""


def kind_of(valid: Iterable[Record]) -> Kind:
    """Return what a training is of, by its validations."""
    names = {name for record in valid for name in record.values}
    found = next((name for name in _SCORES if name in names), None)
    if found is None or "bleu" in names:
        return TRANSLATION
    # fairseq's own "nll_loss" is of sentences per token; a game's "loss" is its objective.
    return Kind("sentence", found, _SCORES[found], ("clean_loss", "loss"))


def column(records: Iterable[Record], name: str) -> Curve:
    """Return the updates at which `name` was logged, and its values there."""
    found = [(record.update, record.values[name]) for record in records if name in record.values]
    return [update for update, _ in found], [value for _, value in found]


def unperturbed(log: TrainingLog) -> Curve:
    """Return the losses of labels of sentences in training, on what no game has perturbed.

    Nothing where all passes of a game are perturbed.
    """
    plays = any("adv_loss" in record.values for record in log.train)
    return column(log.train, "clean_loss" if plays else "loss")


def read_log(path: Path) -> TrainingLog:
    """Read a log file. Raises RecipeError if it holds no line of a training."""
    return parse_log(path.read_bytes(), str(path))


def parse_log(content: bytes, name: str) -> TrainingLog:
    """Read the content of a log file; `name` is for the error message.

    Raises RecipeError if it holds no line of a training.
    """
    records: dict[str, list[Record]] = {kind: [] for kind in _PREFIXES}
    for line in content.split(b"\n"):
        record = parse_line(line)
        if record is None:
            continue
        for kind, earlier in records.items():
            # An earlier record of a later update is from before an interruption.
            while earlier and (
                earlier[-1].update > record.update
                or (kind == record.kind and earlier[-1].update == record.update)
            ):
                earlier.pop()
        records[record.kind].append(record)
    if not any(records.values()):
        raise RecipeError(f"{name}: no training lines: not a log of fairseq-train in JSON?")
    return TrainingLog(**records)


def parse_line(line: bytes) -> Record | None:
    """Return the record in a line of the log, or None if it is another line or damaged."""
    text = line.decode("utf-8", errors="replace")
    start = text.find("{")
    if start < 0:
        return None
    try:
        found = json.loads(text[start:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    for kind, prefix in _PREFIXES.items():
        update = _number(found.get(f"{prefix}num_updates"))
        if update is not None and update >= 0 and update.is_integer():
            named = {name.removeprefix(prefix): _number(value) for name, value in found.items()}
            values = {name: value for name, value in named.items() if value is not None}
            return Record(kind, int(update), values)
    return None


def _number(value: Any) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
