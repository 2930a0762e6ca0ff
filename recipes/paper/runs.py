"""The trainings behind a table or a figure: each is a recipe with a method and a seed."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.support.errors import RecipeError
from recipes.support.files import LOG, SCORES, read_json
from recipes.support.pool import Job, updates_done
from recipes.support.seeds import OverSeeds

_OUTPUT = "run.log"
_UPDATES = re.compile(r": ([0-9]+) updates of ")  # what a recipe says before it trains
_MADE_BY = "recipes/RECIPE.sh score"


@dataclass(frozen=True)
class PaperRun:
    """One training of a recipe, and its scores.

    :param recipe: its name, `iwslt14-de-en`.
    :param method: a preset, with changes after commas; see recipes/training/training.sh.
    :param name: the recipe's, or that at a smaller scale.
    """

    recipe: str
    method: str
    seed: int
    name: str

    def __str__(self) -> str:
        return f"{self.name}, {self.method}, seed {self.seed}"

    @property
    def directory(self) -> Path:
        """Where recipes/training/training.sh puts all of it."""
        return Path("results", self.name, self.method, f"seed-{self.seed}")

    @property
    def scores(self) -> dict[str, Any] | None:
        """What is in scores.json; None if the run is not finished."""
        path = self.directory / SCORES
        return read_json(path, _MADE_BY) if (self.directory / ".score").exists() else None

    def command(self, stages: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """Return what does stages of it. METHOD and SEED are in `environment`."""
        return [f"recipes/{self.recipe}.sh", *stages, *(["--", *options] if options else [])]

    def environment(self, gpus: int) -> dict[str, str]:
        """Return the variables that `command` needs."""
        return {"METHOD": self.method, "SEED": str(self.seed), "GPUS": str(gpus)}

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
            return "" if scores is None else f"BLEU {scores['systems']['model']['bleu']:.1f}"

        return Job(
            name=str(self),
            command=self.command(["train", "score"], options),
            output=self.directory / _OUTPUT,
            work=self.updates(gpus, options),
            done=lambda: updates_done(self.directory / LOG),
            result=result,
            environment=self.environment(gpus),
        )


def bleu_of(scores: dict[str, Any], which: str) -> float:
    """Return a BLEU of `scores.json`: `sacrebleu`, or `tokenized_bleu`.

    A corpus in SentencePiece's pieces has no tokens; there it is sacreBLEU's in both cases.
    """
    bleu = scores["systems"]["model"]["bleu"]
    return float(bleu if which == "sacrebleu" else scores.get(which, bleu))


def over_runs(runs: Sequence[PaperRun], which: str) -> OverSeeds | None:
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
