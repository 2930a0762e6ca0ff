"""Comparisons of models that predict labels of sentences: fairseq's metrics, on the test set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_prep.encoders.prepared import PreparedEncoder
from recipes.comparison.kinds.kind import Column, System
from recipes.sentences.evaluate import evaluate
from recipes.sentences.labelled import Labelled
from recipes.sentences.metrics import compare, metrics_of
from recipes.sentences.trivial import rivals
from recipes.support.errors import RecipeError
from recipes.support.files import PREDICTIONS, SCORES, read_json, read_table
from recipes.support.methods import metric_name
from recipes.training.training_log import Curve, TrainingLog, column, unperturbed

_RIVALS = {"majority": "always the same label", "bag_of_words": "a bag of words"}


@dataclass(frozen=True)
class Sentences:
    """See `Kind`. Data and encoder are read when they are needed.

    Where the test set has no labels, as GLUE's, dev is in its place, which has chosen the
    checkpoints too: the report says so.

    :param encoder: a directory that data_prep has made, whose weights trainings begin with.
    """

    data: Path
    encoder: Path

    name: ClassVar[str] = "sentences"
    presets: ClassVar[Path] = Path(__file__).parents[2] / "presets" / "sentences"
    plain: ClassVar[str] = "plain"
    task: ClassVar[str] = "adversarial_sentence_prediction"
    floor: ClassVar[float | None] = None
    unit: ClassVar[str] = "sentence"

    @cached_property
    def _corpus(self) -> Labelled:
        return Labelled.of(self.data)

    @cached_property
    def _encoder(self) -> PreparedEncoder:
        """Raises RecipeError if it is not that of the data."""
        found = PreparedEncoder.read(self.encoder)
        theirs = self._corpus.report["encoder"]["files"]
        if any(theirs[name] != found.digests[name] for name in ("dict.txt", "tokenizer.json")):
            raise RecipeError(
                f"{self.encoder}: {self.data} is in the pieces of another encoder,"
                f" {self._corpus.report['encoder']['name']}: give that one"
            )
        return found

    @property
    def _split(self) -> str:
        return "test" if "test" in self._corpus.report["labelled"] else "valid"

    @property
    def _first(self) -> str:
        """The metric that counts, and chooses checkpoints."""
        return self._corpus.measures[-1]

    @property
    def chosen_by(self) -> Column:
        """See `Kind`."""
        return Column(self._first, metric_name(self._first))

    @property
    def compared(self) -> Sequence[Column]:
        """See `Kind`."""
        others = self._corpus.measures[:-1]
        return [Column(name, metric_name(name)) for name in (self._first, *others)]

    @property
    def columns(self) -> Sequence[Column]:
        """See `Kind`."""
        return [*self.compared, Column(f"dev_{self._first}", f"dev {metric_name(self._first)}")]

    @property
    def how_scored(self) -> str:
        """See `Kind`."""
        first = metric_name(self._first)
        where = "test set" if self._split == "test" else "dev set, for the test set has no labels"
        return (
            f"The best checkpoint so far by dev {first} labels the {where}; all in per cent."
            f" *p < 0.05*: in how many seeds {first} is significantly better (+) or worse (-) than"
            " plain training's with the same seed, by the paired bootstrap over its sentences."
        )

    def options(self) -> Sequence[str]:
        """See `Kind`. A training that goes on does not begin with the encoder again."""
        model = (self._encoder.path / "options.txt").read_text("utf-8").split()
        report = self._corpus.report
        scores = ["--regression-target"] if self._corpus.classes is None else []
        return [
            *("--num-classes", str(report["num_classes"]), *scores, *report["metrics"]),
            *("--finetune-from-model", str(self.encoder / "model.pt"), *model),
        ]

    def identity(self) -> Mapping[str, Any]:
        """See `Kind`."""
        weights = self._encoder.digests["model.pt"]
        return {"kind": self.name, "encoder": str(self.encoder), "weights": weights}

    def details(self) -> Mapping[str, Any]:
        """See `Kind`."""
        report = self._corpus.report
        return {
            "task": report["task"],
            "classes": self._corpus.classes,
            "examples": report["raw"]["kept"],
            "pieces": report["bin"]["max_pieces"],
            "split": self._split,
        }

    def size(self) -> str:
        """See `Kind`."""
        return f"{self._corpus.report['raw']['kept']['train']:,} training examples"

    def introduction(self) -> str:
        """See `Kind`."""
        report = self._corpus.report
        kept = report["raw"]["kept"]
        classes = self._corpus.classes
        what = f"{len(classes)} classes" if classes else "scores"
        texts = "pairs" if self._corpus.texts == 2 else "sentences"
        test = f" and {kept['test']:,} test" if self._split == "test" else ""
        return (
            f"{what} of {texts}, {kept['train']:,} to train on, {kept['valid']:,} dev{test},"
            f" {report['bin']['max_pieces']} pieces at most; encoder {report['encoder']['name']}."
        )

    def appendix(self) -> Sequence[str]:
        """See `Kind`."""
        return []

    def trivial(self) -> Mapping[str, Sequence[float]]:
        """See `Kind`."""
        labels, _ = self._corpus.rows(self._split)
        right = np.array([self._corpus.number(label) for label in labels])
        names = [of.key for of in self.compared]
        found = {}
        for rival, said in rivals(self._corpus, [self._split]).items():
            metrics = metrics_of(names, said[self._split], right)
            found[_RIVALS[rival]] = [_defined(metrics[name]) for name in names]
        return found

    def check(self, scores: Mapping[str, Any]) -> str | None:
        """See `Kind`: the metrics have no settings."""

    def evaluate(self, checkpoint: Path, out: Path, cpu: bool) -> None:
        """See `Kind`."""
        evaluate(self.data, checkpoint, out, split=self._split, cpu=cpu)

    def system(self, directory: Path) -> System:
        """See `Kind`."""
        metrics = self._metrics(read_json(directory / SCORES, made_by="recipes/compare.sh"))
        rows = read_table(directory / PREDICTIONS)
        said, right = (
            [self._corpus.number(row[name]) for row in rows] for name in ("predicted", "label")
        )
        return System({of.key: metrics[of.key] for of in self.compared}, said, right)

    def headline(self, scores: Mapping[str, Any]) -> str:
        """See `Kind`."""
        return f"{metric_name(self._first)} {self._metrics(scores)[self._first]:.1f}"

    def p_values(self, plain: System, system: System) -> Mapping[str, float]:
        """See `Kind`."""
        said, by_plain, right = map(np.array, (system.said, plain.said, system.right))
        found = compare(self._first, said, by_plain, right)
        return {} if found is None else {self._first: found.p}

    def losses(self, log: TrainingLog) -> tuple[Curve, Curve]:
        """See `Kind`."""
        return unperturbed(log), column(log.valid, "loss")

    def _metrics(self, scores: Mapping[str, Any]) -> dict[str, float]:
        found = scores["splits"][self._split]["metrics"]
        return {name: _defined(of["value"]) for name, of in found.items()}


def _defined(value: float | None) -> float:
    """Return a metric; a correlation with predictions that are all equal counts as none."""
    return 0.0 if value is None or np.isnan(value) else value
