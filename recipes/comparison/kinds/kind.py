"""What a comparison has to know of what its models do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recipes.training.training_log import Curve, TrainingLog


@dataclass(frozen=True)
class Column:
    """A figure in a table.

    :param key: its name in `System.figures` and in JSON.
    :param spread: whether to show the standard deviation over seeds.
    """

    key: str
    title: str
    digits: int = 1
    spread: bool = True


@dataclass(frozen=True)
class System:
    """What a run made of the test set.

    :param figures: by the keys of `Kind.columns`, but for that of the dev set.
    :param said: what it said of each sentence.
    :param right: what it should have said.
    """

    figures: Mapping[str, float]
    said: Sequence[Any]
    right: Sequence[Any]


class Kind(Protocol):
    """Translation, or the labels of sentences.

    A table shows `columns`. The first one counts: differences to plain training in it have a
    p-value. The differences in all of `compared` are drawn.
    """

    @property
    def name(self) -> str:
        """What it is called in JSON."""

    @property
    def data(self) -> Path:
        """The directory that data_prep has made."""

    @property
    def presets(self) -> Path:
        """The directory of the methods' presets."""

    @property
    def plain(self) -> str:
        """The preset of plain training."""

    @property
    def task(self) -> str:
        """fairseq's --task."""

    @property
    def chosen_by(self) -> Column:
        """Of the dev set, by which checkpoints are chosen: higher is better. As the log has it."""

    @property
    def floor(self) -> float | None:
        """Where its axis begins; None: below the curves."""

    @property
    def columns(self) -> Sequence[Column]:
        """The figures of a table; that of the dev set is `dev_KEY`."""

    @property
    def compared(self) -> Sequence[Column]:
        """The figures whose differences to plain training are told."""

    @property
    def unit(self) -> str:
        """What a mean loss is of."""

    @property
    def how_scored(self) -> str:
        """How to read the columns of a table, and by which test differences are significant."""

    def options(self) -> Sequence[str]:
        """Options of fairseq-train that are none of the user's."""

    def identity(self) -> Mapping[str, Any]:
        """All but the data from which it can be made again."""

    def details(self) -> Mapping[str, Any]:
        """What a report says of the data, and of how they are scored, for table.json."""

    def size(self) -> str:
        """Return how much there is to train on, for a title."""

    def introduction(self) -> str:
        """Return the same for people, in the first paragraph of a report."""

    def appendix(self) -> Sequence[str]:
        """Return the same, in paragraphs at the end."""

    def trivial(self) -> Mapping[str, Sequence[float]]:
        """Return the figures of `compared` of predictors that need no training, by name."""

    def check(self, scores: Mapping[str, Any]) -> str | None:
        """Return what is wrong with scores of an earlier call, if they cannot stand beside new."""

    def evaluate(self, checkpoint: Path, out: Path, cpu: bool) -> None:
        """Score a checkpoint. The last file that is written to ``out`` is scores.json."""

    def system(self, directory: Path) -> System:
        """Read what `evaluate` wrote."""

    def headline(self, scores: Mapping[str, Any]) -> str:
        """Return scores in a few words."""

    def p_values(self, plain: System, system: System) -> Mapping[str, float]:
        """Return the probabilities of such differences by chance, by the key of their columns."""

    def losses(self, log: TrainingLog) -> tuple[Curve, Curve]:
        """Return the losses of unperturbed passes in training, and on dev; in bits per `unit`."""
