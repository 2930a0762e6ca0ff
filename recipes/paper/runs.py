"""The trainings behind a table or a figure: each is a recipe with a method and a seed."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.support.errors import RecipeError
from recipes.support.files import CHECKPOINTS, LOG, SCORES, read_json
from recipes.support.methods import metric_name
from recipes.support.pool import Job, updates_done
from recipes.support.seeds import OverSeeds

_OUTPUT = "run.log"
_UPDATES = re.compile(r"\b([0-9]+) updates of ")  # what a recipe says before it trains


@dataclass(frozen=True)
class Run:
    """One training of a recipe, and its scores.

    :param method: a preset, with changes after commas; see recipes/training/stages.sh.
    """

    method: str
    seed: int

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
            command=self.command(["train", "score"], options),
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
class FineTuning(Run):
    """A run of recipes/finetune.sh.

    :param task: its RECIPE, `glue-rte`.
    :param name: the same, or that at a smaller scale.
    :param encoder: as the user gives it.
    :param rate: the learning rate, if it is searched: such runs have directories of their own.
    """

    task: str
    name: str
    encoder: str
    rate: str | None = None

    def __str__(self) -> str:
        rate = "" if self.rate is None else f", learning rate {self.rate}"
        return f"{self.name}, {self.method}{rate}, seed {self.seed}"

    @property
    def script(self) -> str:
        """See `Run`."""
        return "recipes/finetune.sh"

    @property
    def directory(self) -> Path:
        """See `Run`."""
        at = [] if self.rate is None else [f"lr-{self.rate}"]
        encoder = Path(self.encoder).name
        return Path("results", self.name, encoder, self.method, *at, f"seed-{self.seed}")

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
        found = {"RECIPE": self.task, "ENCODER": self.encoder, **super().variables}
        if self.rate is not None:
            found |= {"LR": self.rate, "OUT": str(self.directory)}
        return found

    def headline(self, scores: Mapping[str, Any]) -> str:
        """See `Run`."""
        score = dev_score(scores)
        return f"dev {metric_name(scores['metric'])} {'-' if score is None else f'{score:.1f}'}"


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
