"""Figure 2: reliability diagrams and expected calibration errors of classifiers."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from recipes.evaluation.calibration import CALIBRATION
from recipes.paper.fine_tuning import Choice, notes_of, plan_of
from recipes.paper.plan import Plan
from recipes.paper.runs import FineTuning, Run
from recipes.support.errors import RecipeError
from recipes.support.files import read_json, write_json, written_whole
from recipes.support.markdown import markdown_table
from recipes.support.methods import label_of
from recipes.support.seeds import OverSeeds, over_seeds

TASKS = ("glue-sst-2",)
METHODS = ("plain", "smart", "salt")
_FIGURES = {"ece": "ECE", "confidence": "confidence", "accuracy": "accuracy"}


def calibrated(runs: Sequence[FineTuning], out: Path) -> list[dict[str, float]]:
    """Return the calibration of the models of one task and seed; their diagrams go to ``out``."""
    made = out / CALIBRATION
    checkpoints = [run.checkpoint for run in runs]
    if made.exists():
        found = read_json(made, "make figure2")["models"]
        time = made.stat().st_mtime_ns
        if [of["checkpoint"] for of in found] == list(map(str, checkpoints)) and all(
            path.stat().st_mtime_ns < time for path in checkpoints
        ):
            return list(found)
    command = [sys.executable, "-m", "recipes.evaluation.calibration", str(runs[0].data)]
    command += ["--checkpoint", *map(str, checkpoints)]
    command += ["--label", *(label_of(run.method) for run in runs), "--out", str(out)]
    if subprocess.run(command).returncode:
        raise RecipeError(f"the calibration of {runs[0].name} could not be measured")
    return list(read_json(made, "make figure2")["models"])


def plan(choice: Choice, out: Path) -> Plan:
    """Return what the figure takes."""
    tasks = choice.tasks_of_any(TASKS)
    methods = list(choice.methods or METHODS)

    def report(runs: Sequence[FineTuning], missing: Sequence[Run]) -> None:
        parts = [
            "# Figure 2 of Zuo et al. (2021): calibration of classifiers",
            "On the test set or, where that has no labels, on dev. Per cent; mean ± standard"
            f" deviation over the seeds {', '.join(map(str, choice.seeds))}. The diagrams are in"
            " TASK/seed-N/calibration.png. The paper's ECEs are in its picture alone: not here.",
        ]
        found: dict[str, dict[str, dict[str, OverSeeds]]] = {}
        for task in tasks:
            by_method: dict[str, dict[int, dict[str, float]]] = {method: {} for method in methods}
            for seed in choice.seeds:
                done = [
                    r for r in runs if (r.task, r.seed) == (task, seed) and r.scores is not None
                ]
                if done:
                    models = calibrated(done, out / choice.scale.of(task) / f"seed-{seed}")
                    for run, model in zip(done, models, strict=True):
                        by_method[run.method][seed] = model
            found[task] = {
                method: {
                    name: OverSeeds({seed: 100 * of[name] for seed, of in of_seeds.items()})
                    for name in _FIGURES
                }
                for method, of_seeds in by_method.items()
                if of_seeds
            }
            rows = [["method", *_FIGURES.values(), "runs"]]
            for method in methods:
                figures = found[task].get(method)
                cells = [over_seeds(figures[name]) if figures else "-" for name in _FIGURES]
                rows.append([label_of(method), *cells, str(len(by_method[method]))])
            parts += [f"## {task}", markdown_table(rows)]
        parts += notes_of(choice, tasks, methods, runs, missing)
        with written_whole(out / "figure.md") as temporary:
            temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        as_json = {
            task: {
                method: {name: figure.as_json() for name, figure in figures.items()}
                for method, figures in of_task.items()
            }
            for task, of_task in found.items()
        }
        write_json({"missing": list(map(str, missing)), "tasks": as_json}, out / "figure.json")

    return plan_of(choice, tasks, methods, report)
