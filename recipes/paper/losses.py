"""Figure 3: training and validation loss of methods, on unperturbed sentences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from recipes.paper.fine_tuning import Choice, notes_of, plan_of
from recipes.paper.plan import Plan
from recipes.paper.runs import FineTuning, Run
from recipes.support.curves import band, draw, leave_out_the_beginning, look, smoothed
from recipes.support.files import LOG, write_json, written_whole
from recipes.support.markdown import markdown_table
from recipes.support.methods import label_of
from recipes.support.plot import STYLE
from recipes.support.seeds import OverSeeds, over_seeds
from recipes.training.training_log import Curve, TrainingLog, column, read_log, unperturbed

TASKS = ("glue-sts-b", "glue-sst-2")
METHODS = ("smart", "salt")
_KINDS = ("training", "validation")


def curves_of(log: TrainingLog) -> dict[str, Curve]:
    """Return losses in bits per sentence; those of numbers are squared differences by log 2."""
    return dict(zip(_KINDS, (unperturbed(log), column(log.valid, "loss")), strict=True))


Curves = Mapping[str, Mapping[str, Mapping[int, Mapping[str, Curve]]]]
"""By task, method, seed and kind."""


def plot(curves: Curves, path: Path) -> None:
    """Draw a row for each task: means over seeds, with their range. A PNG, written whole."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 0.8 + 3.4 * len(curves)), layout="constrained")
        figure.suptitle("Losses", fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(len(curves), len(_KINDS), squeeze=False)
        for row, (task, of_task) in zip(grid, curves.items(), strict=True):
            for axes, kind in zip(row, _KINDS, strict=True):
                for number, (method, of_seeds) in enumerate(of_task.items()):
                    found = [of_seed[kind] for of_seed in of_seeds.values()]
                    if kind == "training":
                        found = [smoothed(curve) for curve in found]
                    if found:
                        draw(axes, band(found), label_of(method), look(number))
                axes.set_title(f"{task}: {kind} loss")
                axes.set_xlabel("updates")
                axes.set_ylabel("bits per sentence")
                leave_out_the_beginning(axes)
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower left", ncols=5)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def figures_of(of_seeds: Mapping[int, Mapping[str, Curve]]) -> dict[str, OverSeeds | None]:
    """Return the last training loss, the mean of its last quarter, and the lowest on dev."""

    def over(kind: str, figure: Any) -> OverSeeds | None:
        values = {seed: of_kind[kind][1] for seed, of_kind in of_seeds.items()}
        found = {seed: figure(losses) for seed, losses in values.items() if losses}
        return OverSeeds(found) if found else None

    return {
        "training": over("training", lambda losses: _mean(losses[-max(1, len(losses) // 4) :])),
        "validation": over("validation", min),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def plan(choice: Choice, out: Path) -> Plan:
    """Return what the figure takes."""
    tasks = choice.tasks_of_any(TASKS)
    methods = list(choice.methods or METHODS)

    def report(runs: Sequence[FineTuning], missing: Sequence[Run]) -> None:
        curves: dict[str, dict[str, dict[int, dict[str, Curve]]]] = {
            task: {method: {} for method in methods} for task in tasks
        }
        for run in runs:
            if run.scores is not None:
                log = read_log(run.directory / LOG)
                curves[run.task][run.method][run.seed] = curves_of(log)
        figures = {
            task: {method: figures_of(of_seeds) for method, of_seeds in of_task.items()}
            for task, of_task in curves.items()
        }
        parts = [
            "# Figure 3 of Zuo et al. (2021): losses",
            "Bits per sentence without perturbation, in training with dropout; of scores, squared"
            " differences divided by log 2. Means ± standard deviations over the seeds"
            f" {', '.join(map(str, choice.seeds))}. The paper prints no numbers beside its curves.",
        ]
        for task, of_task in figures.items():
            rows = [["method", "training, the last quarter", "validation, at its lowest"]]
            rows += [
                [label_of(method), *(_cell(of[kind]) for kind in _KINDS)]
                for method, of in of_task.items()
            ]
            parts += [f"## {task}", markdown_table(rows)]
        parts += notes_of(choice, tasks, methods, runs, missing)
        with written_whole(out / "figure.md") as temporary:
            temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        plot(curves, out / "figure.png")
        found = {
            task: {
                method: {
                    **{kind: of and of.as_json() for kind, of in figures[task][method].items()},
                    "curves": {str(seed): dict(of) for seed, of in of_seeds.items()},
                }
                for method, of_seeds in of_task.items()
            }
            for task, of_task in curves.items()
        }
        write_json({"missing": list(map(str, missing)), "tasks": found}, out / "figure.json")

    return plan_of(choice, tasks, methods, report)


def _cell(figure: OverSeeds | None) -> str:
    return "-" if figure is None else over_seeds(figure, digits=3)
