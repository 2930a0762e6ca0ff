"""Comparisons of translation models: BLEU and chrF of beam search, by sacreBLEU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from recipes.comparison.contenders import PLAIN, PRESETS
from recipes.comparison.kinds.kind import Column, System
from recipes.evaluation.evaluate import evaluate
from recipes.evaluation.scores import Scorer
from recipes.evaluation.trivial import nearest_translations
from recipes.models.prepared import Prepared
from recipes.support.files import (
    SCORES,
    TRANSLATIONS,
    data_report,
    read_json,
    read_table,
    sentences,
)
from recipes.training.training_log import Curve, TrainingLog, column

_BLEU = Column("bleu", "BLEU")
_CHRF = Column("chrf", "chrF")


@dataclass(frozen=True)
class Translation:
    """See `Kind`. Data are read when they are needed.

    :param beam: size, of the search on the test set.
    """

    data: Path
    beam: int = 5

    name: ClassVar[str] = "translation"
    presets: ClassVar[Path] = PRESETS
    plain: ClassVar[str] = PLAIN
    task: ClassVar[str] = "adversarial_translation"
    chosen_by: ClassVar[Column] = Column("bleu", "BLEU, greedy search")
    floor: ClassVar[float | None] = 0
    columns: ClassVar[Sequence[Column]] = (
        _BLEU,
        _CHRF,
        Column("length_ratio", "length", digits=2, spread=False),
        Column("bleu_untuned", "lenpen 1", spread=False),
        Column("dev_bleu", "dev BLEU"),
    )
    compared: ClassVar[Sequence[Column]] = (_BLEU, _CHRF)
    unit: ClassVar[str] = "target token"
    how_scored: ClassVar[str] = (
        "The best checkpoint so far by dev BLEU (greedy) translates by beam search, with the length"
        " penalty that is best on dev; *lenpen 1*: BLEU without that. *p < 0.05*: in how many seeds"
        " BLEU is significantly better (+) or worse (-) than plain training's with the same seed,"
        " by sacreBLEU's paired bootstrap."
    )

    def options(self) -> Sequence[str]:
        """See `Kind`."""
        return ()

    def identity(self) -> Mapping[str, Any]:
        """See `Kind`."""
        return {"kind": self.name, "beam": self.beam}

    @cached_property
    def scorer(self) -> Scorer:
        """Of the target language."""
        return Prepared.of(self.data).scorer

    @cached_property
    def _report(self) -> dict[str, Any]:
        return data_report(self.data)

    @cached_property
    def signatures(self) -> dict[str, str]:
        """sacreBLEU's, by metric."""
        test = self._sentences("test", 1)
        return self.scorer.signatures(test, self._report["preparation"]["lower_cases"])

    def details(self) -> Mapping[str, Any]:
        """See `Kind`."""
        return {
            "languages": tuple(self._report["languages"]),
            "pairs": self._report["raw"]["kept"],
            "beam": self.beam,
            "signatures": self.signatures,
        }

    def size(self) -> str:
        """See `Kind`."""
        return f"{self._report['raw']['kept']['train']:,} training pairs"

    def introduction(self) -> str:
        """See `Kind`."""
        source, target = self._report["languages"]
        pairs = self._report["raw"]["kept"]
        return (
            f"{source} to {target}, {pairs['train']:,} training pairs, {pairs['valid']:,} dev and"
            f" {pairs['test']:,} test sentences, beam {self.beam}."
        )

    def appendix(self) -> Sequence[str]:
        """See `Kind`."""
        return ["; ".join(f"{name}: `{found}`" for name, found in self.signatures.items())]

    def trivial(self) -> Mapping[str, Sequence[float]]:
        """See `Kind`."""
        test, references = self._sentences("test", 0), self._sentences("test", 1)
        systems = {
            "the nearest training sentence": nearest_translations(
                self._sentences("train", 0), self._sentences("train", 1), test
            ),
            "a copy of the source": test,
        }
        scores = {name: self.scorer.score(found, references) for name, found in systems.items()}
        return {name: (found.bleu, found.chrf) for name, found in scores.items()}

    def check(self, scores: Mapping[str, Any]) -> str | None:
        """See `Kind`: another tokeniser of sacreBLEU's counts other words."""

        def settings(of: Mapping[str, str]) -> dict[str, str]:
            return {metric: signature.split("|version:")[0] for metric, signature in of.items()}

        there = settings(scores["signatures"])
        return None if there == settings(self.signatures) else there["bleu"]

    def evaluate(self, checkpoint: Path, out: Path, cpu: bool) -> None:
        """See `Kind`. Others train meanwhile, so that it is in one process."""
        evaluate(self.data, checkpoint, out, beam=self.beam, lenpen=None, cpu=cpu, workers=1)

    def system(self, directory: Path) -> System:
        """See `Kind`."""
        scores = read_json(directory / SCORES, made_by="recipes/compare.sh")
        rows = read_table(directory / TRANSLATIONS)
        model = scores["systems"]["model"]
        return System(
            {
                **{name: model[name] for name in ("bleu", "chrf", "length_ratio")},
                "bleu_untuned": scores["systems"]["untuned"]["bleu"],
                "lenpen": scores["lenpen"],
            },
            [row["translation"] for row in rows],
            [row["reference"] for row in rows],
        )

    def headline(self, scores: Mapping[str, Any]) -> str:
        """See `Kind`."""
        return f"BLEU {scores['systems']['model']['bleu']:.1f}"

    def p_values(self, plain: System, system: System) -> Mapping[str, float]:
        """See `Kind`."""
        found = self.scorer.paired_bootstrap(
            list(plain.said), list(system.said), list(system.right)
        )
        return {"bleu": found["BLEU"], "chrf": found["chrF2"]}

    def losses(self, log: TrainingLog) -> tuple[Curve, Curve]:
        """See `Kind`."""
        return column(log.train, "nll_loss"), column(log.valid, "nll_loss")

    def _sentences(self, split: str, side: int) -> list[str]:
        return sentences(self.data, split, self._report["languages"][side])
