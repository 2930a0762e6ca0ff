"""What a table or a figure takes: corpora, runs, and what is made of them; and doing it."""

import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.support.parallel import cores
from data_prep.support.versions import installed
from recipes.paper.runs import Run
from recipes.support.errors import RecipeError
from recipes.support.gpus import visible_gpus
from recipes.support.pool import Job, finish_all

_TOOLS = ("torch", "ve-fairseq", "sacrebleu")


@dataclass(frozen=True)
class Scale:
    """At what size the recipes are run: `full` or `tiny`."""

    name: str

    def of(self, what: str) -> str:
        """Return the name of a recipe, or of what is made with them, at this scale."""
        return what if self.name == "full" else f"{what}-{self.name}"

    def recipes(self, paper_s: Sequence[str]) -> list[str]:
        """Return the recipes to take if the user names none: to try it, corpora at hand."""
        tiny = ["libreoffice-help-de-en", "multi30k-en-de"]
        return list(paper_s) if self.name == "full" else tiny


@dataclass(frozen=True)
class Corpus:
    """What has to be there before the runs, which would wait for one another.

    :param variables: that its recipe, `script`, needs.
    :param data: the directory that it makes.
    """

    name: str
    script: str
    variables: Mapping[str, str]
    data: Path


@dataclass(frozen=True)
class Plan:
    """What to train, and what to make of it.

    :param search: runs that decide which the others are.
    :param runs: returns all that count, as far as that is known.
    :param report: writes tables and pictures; it is given the runs that are not finished.
    """

    corpora: Sequence[Corpus]
    runs: Callable[[], Sequence[Run]]
    report: Callable[[Sequence[Run]], None]
    search: Sequence[Run] = ()


def together(plans: Sequence[Plan]) -> Plan:
    """Return the plan of several; each reports of its own runs."""

    def report(missing: Sequence[Run]) -> None:
        for plan in plans:
            ours = {*plan.search, *plan.runs()}
            plan.report([run for run in missing if run in ours])

    return Plan(
        [corpus for plan in plans for corpus in plan.corpora],
        lambda: [run for plan in plans for run in plan.runs()],
        report,
        [run for plan in plans for run in plan.search],
    )


def versions() -> str:
    """Return those of what has made the results."""
    found = {"python": platform.python_version(), **installed(_TOOLS)}
    return ", ".join(f"{tool} {version}" for tool, version in found.items())


def missing_note(missing: Sequence[Run]) -> list[str]:
    """Return the paragraph that names the runs that are not finished, if there are such."""
    return [f"**Missing:** {'; '.join(map(str, missing))}."] if missing else []


@dataclass(frozen=True)
class Means:
    """What to do it with.

    :param options: of fairseq-train, for all runs.
    :param gpus_each: of a training, where there are GPUs.
    :param jobs: trainings at a time; None: as many as there is room for.
    """

    scale: Scale
    options: Sequence[str]
    gpus_each: int
    jobs: int | None
    dry_run: bool


def finish(plan: Plan, means: Means, out: Path) -> None:
    """Train and score what is missing, as many runs at a time as there is room for; report."""
    gpus = visible_gpus()
    each = means.gpus_each if gpus else 0
    if each > len(gpus):
        raise RecipeError(f"GPUS_EACH={each}: there are {len(gpus)}")
    at_a_time = means.jobs or (len(gpus) // each if gpus else cores())

    def jobs_of(runs: Sequence[Run]) -> list[Job]:
        return [run.job(each, means.options) for run in runs]

    jobs = jobs_of(plan.search or plan.runs())  # refuses wrong settings
    if means.dry_run:
        scale = {"SCALE": means.scale.name}
        for corpus in plan.corpora:
            print(_line(scale | dict(corpus.variables), [corpus.script, "data"]))
        for job in jobs:
            print(_line(scale | dict(job.environment), job.command))
        if plan.search:
            print("# then all seeds, each method and task with what is best on dev")
        return
    for corpus in plan.corpora:
        if not (corpus.data / "report.json").exists():
            print(f"1/3 data: {corpus.name}")
            environment = os.environ | dict(corpus.variables)
            if subprocess.run([corpus.script, "data"], env=environment).returncode:
                raise RecipeError(f"the corpus {corpus.name} could not be made by {corpus.script}")

    def report() -> None:
        runs = dict.fromkeys((*plan.search, *plan.runs()))  # some are in both
        plan.report([run for run in runs if run.scores is None])

    def train(what: str, runs: Sequence[Run]) -> list[Job]:
        print(f"2/3 {what}: {len(runs)} runs, {at_a_time} at a time")
        # How long they take is known since the corpora are there.
        jobs = jobs_of(runs)
        return finish_all(jobs, at_a_time, gpus, after_each=report, gpus_each=max(1, each))

    failed = train("search", plan.search) if plan.search else []
    if not failed:  # what is best is known of whole searches alone
        failed = train("training", plan.runs())
    print(f"3/3 report: {out}")
    report()
    for text in sorted(out.rglob("*.md")):
        print("\n" + text.read_text("utf-8"))
    if failed:
        raise RecipeError(f"{len(failed)} runs failed; the same command tries them again")


def _line(variables: Mapping[str, str], command: Sequence[str]) -> str:
    """Return a command with its variables as one would type it."""
    return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in variables.items()), shlex.join(command)])
