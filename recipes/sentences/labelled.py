"""What is read of a directory of sentences that data_prep made: its task, its texts, its labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.sentences.raw import raw_rows
from recipes.models.checkpoint import of_sentences
from recipes.support.errors import RecipeError
from recipes.support.files import data_report


@dataclass(frozen=True)
class Labelled:
    """A corpus of sentences or pairs, with classes or scores.

    :param classes: in the order of their numbers; None for scores.
    :param report: all that data_prep says of it.
    """

    data: Path
    classes: list[str] | None
    report: Mapping[str, Any]

    @classmethod
    def of(cls, data: Path) -> "Labelled":
        """Read it. Raises RecipeError if the directory is of another kind."""
        if not of_sentences(data):
            raise RecipeError(
                f"{data} has translations, and no sentences with labels: python -m"
                " recipes.evaluation.evaluate scores these"
            )
        report = data_report(data)
        return cls(data, report["classes"], report)

    @property
    def texts(self) -> int:
        """How many belong together: 1, or 2 in a pair."""
        return 2 if self.report["texts"] == "pairs" else 1

    @property
    def divisor(self) -> float:
        """Of scores, on the way from the text to the model."""
        return float(self.report["scores_divided_by"] or 1.0)

    @property
    def measures(self) -> tuple[str, ...]:
        """The metrics that belong to the corpus; see `recipes.sentences.metrics`.

        The last one is that by which a checkpoint is chosen.
        """
        if self.classes is None:
            return ("pearson", "spearman", "pearson_and_spearman")
        more = {"--report-mcc": ("mcc",), "--report-acc-and-f1": ("f1", "acc_and_f1")}
        asked = [name for option in self.report["metrics"] for name in more.get(option, ())]
        return ("accuracy", *asked)

    def scored(self, split: str | None) -> list[str]:
        """Return the splits to predict: the one asked for, or all but train.

        Raises RecipeError if there is no such split.
        """
        splits = list(self.report["splits"])
        if split is None:
            return [name for name in splits if name != "train"]
        if split not in splits:
            raise RecipeError(f"--split {split}: {self.data} has {', '.join(splits)}")
        return [split]

    def rows(self, split: str) -> tuple[list[str], list[list[str]]]:
        """Return labels, empty where there are none, and texts of a split."""
        rows = list(raw_rows(self.data / "raw" / f"{split}.tsv"))
        return [label for label, _ in rows], [texts for _, texts in rows]

    def number(self, label: str) -> float:
        """Return a label as fairseq's data have it: the number of a class, or a score."""
        if self.classes is None:
            return float(label) / self.divisor
        return float(self.classes.index(label))
