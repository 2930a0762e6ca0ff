"""Do one training of a comparison: `python -m recipes.comparison.run DIR`.

DIR holds run.json (see `plan.Run`). The model is trained up to each of its horizons in turn; there
the best checkpoint so far, by the dev set, is scored on the test set (see `kinds.kind.Kind`). What
is finished is reused.
"""

import argparse
import sys
from pathlib import Path

from recipes.comparison.plan import Run
from recipes.models.checkpoint import updates_of
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import CHECKPOINTS, LOG, SCORES, read_json
from recipes.support.pool import Job, updates_done
from recipes.training.watch import watch

OUTPUT = "run.log"


def at(directory: Path, updates: int) -> Path:
    """Return where the scores after so many updates of a run are."""
    return directory / f"at-{updates}"


def is_finished(run: Run) -> bool:
    """Return whether there are scores at all horizons."""
    return all((at(run.directory, updates) / SCORES).exists() for updates in run.horizons)


def has_begun(run: Run) -> bool:
    """Return whether there are scores at one horizon at least."""
    return any((at(run.directory, updates) / SCORES).exists() for updates in run.horizons)


def job_of(run: Run, cost: float) -> Job:
    """Return what finishes a run, in a process of its own.

    :param cost: of an update, in updates of plain training: the unit of the job's work.
    """

    def result() -> str:
        scores = {n: read_json(at(run.directory, n) / SCORES, "compare.sh") for n in run.horizons}
        return ", ".join(
            f"{run.kind.headline(found)} after {updates:,} updates"
            for updates, found in scores.items()
        )

    return Job(
        name=f"{run.contender}, seed {run.seed}",
        command=[sys.executable, "-m", "recipes.comparison.run", str(run.directory)],
        output=run.directory / OUTPUT,
        work=run.horizons[-1] * cost,
        done=lambda: updates_done(run.directory / LOG) * cost,
        result=result,
    )


def finish(run: Run) -> None:
    """Train and evaluate, up to the last horizon; go on from where an earlier call ended."""
    for updates in run.horizons:
        if not (at(run.directory, updates) / SCORES).exists():
            _train(run, updates)
            _evaluate(run, updates)


def _train(run: Run, updates: int) -> None:
    """Train up to so many updates, unless that is done."""
    log = run.directory / LOG
    last = run.directory / CHECKPOINTS / "checkpoint_last.pt"
    reached = updates_of(last) if last.exists() else 0
    if reached > updates:
        raise RecipeError(
            f"{run.directory} has been trained for {reached} updates, and its best checkpoint after"
            f" {updates} is gone: remove it, or ask for {reached} updates or more"
        )
    if reached == updates:  # fairseq-train would make one more
        return
    if reached == 0:
        log.unlink(missing_ok=True)  # of a training without a checkpoint, or with one no more
    # fairseq_cli.train is fairseq-train.
    train = [sys.executable, "-m", "fairseq_cli.train", *run.command]
    watch([*train, "--max-update", str(updates)], log, updates)


def _evaluate(run: Run, updates: int) -> None:
    best = run.directory / CHECKPOINTS / "checkpoint_best.pt"
    run.kind.evaluate(best, at(run.directory, updates), run.cpu)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.comparison.run", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR")
    finish(Run.load(parser.parse_args().directory))


if __name__ == "__main__":
    sys.exit(run_main("recipes.comparison.run", _main))
