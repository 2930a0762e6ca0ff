"""The trainings behind a table or a figure: each is a recipe with a method and a seed."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recipes.support.errors import RecipeError
from recipes.support.files import ATTENTION, CHECKPOINTS, LOG, SCORES, read_json
from recipes.support.methods import metric_name, preset_and_changes
from recipes.support.pool import Job, updates_done
from recipes.support.seeds import OverSeeds

_OUTPUT = "run.log"
_UPDATES = re.compile(r"\b([0-9]+) updates of ")  # what a recipe says before it trains
_PRESETS = Path(__file__).parents[1] / "presets" / "sentences"
CORRELATION = "correlation"
"""Pearson's of attention and importance: of an explained run a metric like others, no per cent."""


@dataclass(frozen=True)
class Run:
    """One training of a recipe, and its scores.

    :param method: a preset, with changes after commas; see recipes/training/stages.sh.
    """

    method: str
    seed: int

    stages: ClassVar[tuple[str, ...]] = ("train", "score")

    @property
    def script(self) -> str:
        """The recipe."""
        raise NotImplementedError

    @property
    def directory(self) -> Path:
        """Where the recipe puts all of it."""
        raise NotImplementedError

    @property
    def variables(self) -> dict[str, str]:
        """What the recipe needs to know of it."""
        return {"METHOD": self.method, "SEED": str(self.seed)}

    def headline(self, scores: Mapping[str, Any]) -> str:
        """Return its scores in a few words."""
        raise NotImplementedError

    @property
    def scores(self) -> dict[str, Any] | None:
        """What is in scores.json; None if the run is not finished."""
        path = self.directory / SCORES
        return read_json(path, "the recipe") if (self.directory / ".score").exists() else None

    def command(self, stages: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """Return what does stages of it, with `environment`."""
        return [self.script, *stages, *(["--", *options] if options else [])]

    def environment(self, gpus: int) -> dict[str, str]:
        """Return the variables that `command` needs."""
        return {**self.variables, "GPUS": str(gpus)}

    def updates(self, gpus: int, options: Sequence[str]) -> int:
        """Return how many updates it takes. Raises RecipeError if the recipe refuses something."""
        said = subprocess.run(
            self.command(["train"], options),
            env=os.environ | self.environment(gpus) | {"DRY_RUN": "1"},
            capture_output=True,
            text=True,
        )
        found = _UPDATES.search(said.stdout)
        if said.returncode or found is None:
            raise RecipeError((said.stderr or said.stdout).strip().removeprefix("error: "))
        return int(found[1])

    def job(self, gpus: int, options: Sequence[str]) -> Job:
        """Return what trains and scores it, in a process of its own."""

        def result() -> str:
            scores = self.scores
            return "" if scores is None else self.headline(scores)

        return Job(
            name=str(self),
            command=self.command(self.stages, options),
            output=self.directory / _OUTPUT,
            work=self.updates(gpus, options),
            done=lambda: updates_done(self.directory / LOG),
            result=result,
            environment=self.environment(gpus),
        )


@dataclass(frozen=True)
class Translating(Run):
    """A run of a corpus' recipe.

    :param recipe: its name, `iwslt14-de-en`.
    :param name: the recipe's, or that at a smaller scale.
    """

    recipe: str
    name: str

    def __str__(self) -> str:
        return f"{self.name}, {self.method}, seed {self.seed}"

    @property
    def script(self) -> str:
        """See `Run`."""
        return f"recipes/{self.recipe}.sh"

    @property
    def directory(self) -> Path:
        """See `Run`."""
        return Path("results", self.name, self.method, f"seed-{self.seed}")

    def headline(self, scores: Mapping[str, Any]) -> str:
        """See `Run`."""
        return f"BLEU {scores['systems']['model']['bleu']:.1f}"


@dataclass(frozen=True)
class Variant:
    """A setting of a method, of several from which dev chooses.

    :param value: as the user gives it.
    """

    value: str

    name: ClassVar[str]
    """What the value is, for people."""

    def varies(self, method: str) -> bool:
        """Return whether a method has this setting, and leaves it open."""
        return True

    def played(self, method: str) -> str:
        """Return the method with it."""
        return method

    @property
    def variables(self) -> dict[str, str]:
        """What the recipe needs to know of it beside the method."""
        return {}

    @property
    def folders(self) -> list[str]:
        """Where results are, below those of the method as it is played."""
        return []


class LearningRate(Variant):
    """The leader's."""

    name = "learning rate"

    @property
    def variables(self) -> dict[str, str]:
        """See `Variant`."""
        return {"LR": self.value}

    @property
    def folders(self) -> list[str]:
        """See `Variant`."""
        return [f"lr-{self.value}"]


class Epsilon(Variant):
    """The radius of the follower's ball."""

    name = "epsilon"
    option = "--epsilon"

    def varies(self, method: str) -> bool:
        """See `Variant`: presets with an adversary name its radius."""
        preset, changes = preset_and_changes(method)
        file = _PRESETS / f"{preset}.txt"
        if any(change.split("=")[0] == self.option for change in changes) or not file.exists():
            return False
        return self.option in file.read_text("utf-8").split()

    def played(self, method: str) -> str:
        """See `Variant`."""
        return f"{method},{self.option}={self.value}"


@dataclass(frozen=True)
class FineTuning(Run):
    """A run of recipes/finetune.sh.

    :param method: without what the variant changes.
    :param task: its RECIPE, `glue-rte`.
    :param name: the same, or that at a smaller scale.
    :param encoder: as the user gives it.
    :param variant: what is searched: such runs have directories of their own.
    """

    task: str
    name: str
    encoder: str
    variant: Variant | None = None

    def __str__(self) -> str:
        variant = "" if self.variant is None else f", {self.variant.name} {self.variant.value}"
        return f"{self.name}, {self.method}{variant}, seed {self.seed}"

    @property
    def played(self) -> str:
        """The method as finetune.sh takes it."""
        return self.method if self.variant is None else self.variant.played(self.method)

    @property
    def script(self) -> str:
        """See `Run`."""
        return "recipes/finetune.sh"

    @property
    def directory(self) -> Path:
        """See `Run`."""
        at = [] if self.variant is None else self.variant.folders
        encoder = Path(self.encoder).name
        return Path("results", self.name, encoder, self.played, *at, f"seed-{self.seed}")

    @property
    def data(self) -> Path:
        """What data_prep has made for it."""
        return Path("data", f"{self.name}.{Path(self.encoder).name}")

    @property
    def checkpoint(self) -> Path:
        """The best one by the dev set."""
        return self.directory / CHECKPOINTS / "checkpoint_best.pt"

    @property
    def variables(self) -> dict[str, str]:
        """See `Run`."""
        found = {"RECIPE": self.task, "ENCODER": self.encoder}
        found |= {"METHOD": self.played, "SEED": str(self.seed)}
        if self.variant is not None and self.variant.variables:
            found |= {**self.variant.variables, "OUT": str(self.directory)}
        return found

    def headline(self, scores: Mapping[str, Any]) -> str:
        """See `Run`."""
        score = dev_score(scores)
        return f"dev {metric_name(scores['metric'])} {'-' if score is None else f'{score:.1f}'}"


class Explained(FineTuning):
    """One whose attention is laid beside the importance of words, too."""

    stages = (*FineTuning.stages, "attention")

    @property
    def scores(self) -> dict[str, Any] | None:
        """See `Run`; the correlation is a metric of the split that it is of."""
        scores = super().scores
        if scores is None or not (self.directory / ".attention").exists():
            return None
        found = read_json(self.directory / ATTENTION, "the recipe")
        of_split = scores["splits"][found["split"]].setdefault("metrics", {})
        of_split[CORRELATION] = {"value": found["models"][-1]["correlation"]}
        return scores


def dev_score(scores: Mapping[str, Any]) -> float | None:
    """Return the metric that chooses checkpoints, on the first dev set; None if it is undefined."""
    value = scores["splits"]["valid"]["metrics"][scores["metric"]]["value"]
    return None if value is None else float(value)


def bleu_of(scores: dict[str, Any], which: str) -> float:
    """Return a BLEU of `scores.json`: `sacrebleu`, or `tokenized_bleu`.

    A corpus in SentencePiece's pieces has no tokens; there it is sacreBLEU's in both cases.
    """
    bleu = scores["systems"]["model"]["bleu"]
    return float(bleu if which == "sacrebleu" else scores.get(which, bleu))


def over_runs(runs: Sequence[Run], which: str) -> OverSeeds | None:
    """Return the BLEU of those runs that are finished, by seed; None if none is."""
    found = {run.seed: scores for run in runs if (scores := run.scores) is not None}
    if not found:
        return None
    return OverSeeds({seed: bleu_of(scores, which) for seed, scores in found.items()})


def gain(ours: OverSeeds | None, plain: OverSeeds | None) -> OverSeeds | None:
    """Return the differences, seed by seed, of the seeds that both have; None if there are none."""
    if ours is None or plain is None:
        return None
    seeds = ours.by_seed.keys() & plain.by_seed.keys()
    found = {seed: ours.by_seed[seed] - plain.by_seed[seed] for seed in sorted(seeds)}
    return OverSeeds(found) if found else None
