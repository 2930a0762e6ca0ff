"""Figure 4 of Kitada and Iyatomi (2021): what prediction does on dev when epsilon changes.

The trainings are those of the search for the table's epsilons, of one seed, as each of the paper's
hundred is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from recipes.paper.attention.table import TABLE
from recipes.paper.beside import cell
from recipes.paper.fine_tuning import Choice, notes_of
from recipes.paper.plan import Plan
from recipes.paper.reported import LabelColumn
from recipes.paper.runs import Epsilon, FineTuning, Run
from recipes.support.curves import draw_points, look
from recipes.support.errors import RecipeError
from recipes.support.files import write_json, written_whole
from recipes.support.markdown import markdown_table
from recipes.support.plot import STYLE
from recipes.support.seeds import OverSeeds

_PER_ROW = 3


@dataclass(frozen=True)
class Curves:
    """A task.

    :param column: its first one of the table: the metric is that, on dev.
    :param levels: of methods without an epsilon; None where a run is not finished.
    :param curves: of the others, by method and epsilon.
    """

    column: LabelColumn
    levels: Mapping[str, OverSeeds | None]
    curves: Mapping[str, Mapping[float, OverSeeds | None]]


def curves_of(
    choice: Choice, column: LabelColumn, methods: Sequence[str], runs: Sequence[FineTuning]
) -> Curves:
    """Return what the runs of a task amount to."""
    found = {
        (run.method, run.variant and float(run.variant.value)): _on_dev(run, column)
        for run in runs
        if run.task == column.task
    }
    searched = [method for method in methods if choice.is_searched(method)]
    epsilons = sorted(float(variant.value) for variant in choice.variants)
    return Curves(
        column,
        {method: found[method, None] for method in methods if method not in searched},
        {method: {value: found[method, value] for value in epsilons} for method in searched},
    )


def _on_dev(run: FineTuning, column: LabelColumn) -> OverSeeds | None:
    scores = run.scores
    if scores is None:
        return None
    value = scores["splits"]["valid"]["metrics"][column.parts[0].metric]["value"]
    return OverSeeds({run.seed: float(value)})


def markdown(drawn: Sequence[Curves], seed: int, notes: Sequence[str]) -> str:
    """Return a table for each task, a column a method."""
    parts = [
        f"# Figure 4 of {TABLE.paper.cited}: prediction over epsilon",
        f"Per cent, on dev, of trainings with seed {seed}. The paper prints no numbers beside its"
        " curves.",
    ]
    for of in drawn:
        rows = [["epsilon", *map(TABLE.label, of.curves)]]
        for value in next(iter(of.curves.values()), {}):
            figures = (curve[value] for curve in of.curves.values())
            rows.append([f"{value:g}", *(cell(f, digits=of.column.digits) for f in figures)])
        levels = [
            f"{TABLE.label(method)}: {cell(figure, digits=of.column.digits)}."
            for method, figure in of.levels.items()
        ]
        parts += [f"## {of.column.task}: {_axis(of.column)}", markdown_table(rows)]
        parts += [" ".join(levels)] if levels else []
    return "\n\n".join([*parts, *notes]) + "\n"


def _axis(column: LabelColumn) -> str:
    return "F1" if column.metric == "F1" else "accuracy"


def plot(drawn: Sequence[Curves], path: Path) -> None:
    """Draw a panel for each task. A PNG, written whole or not at all."""
    columns = min(len(drawn), _PER_ROW)
    rows = -(-len(drawn) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.8 + 4.4 * columns, 1.2 + 3.4 * rows), layout="constrained")
        figure.suptitle(
            "Prediction over epsilon", fontsize=13, fontweight="bold", x=0.01, ha="left"
        )
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in grid[len(drawn) :]:
            axes.set_visible(False)
        labels: dict[str, Any] = {}
        for axes, of in zip(grid, drawn, strict=False):
            for number, (method, level) in enumerate(of.levels.items()):
                if level is not None:
                    style = {**look(number), "linestyle": "--", "linewidth": 1.2}
                    axes.axhline(level.mean, label=TABLE.label(method), **style)
            for number, (method, curve) in enumerate(of.curves.items(), len(of.levels)):
                draw_points(axes, curve, TABLE.label(method), look(number))
            axes.set_title(of.column.task)
            axes.set_xlabel("epsilon")
            axes.set_ylabel(f"{_axis(of.column)} on dev, per cent")
            axes.set_xscale("log")
            values = sorted({value for curve in of.curves.values() for value in curve})
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
            handles, names = axes.get_legend_handles_labels()
            labels |= zip(names, handles, strict=True)
        figure.legend(list(labels.values()), list(labels), loc="outside lower left", ncols=4)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def plan(choice: Choice, out: Path) -> Plan:
    """Return what the figure takes. Raises RecipeError for other variants than epsilons."""
    if not all(isinstance(variant, Epsilon) for variant in choice.variants):
        values = " ".join(variant.value for variant in choice.variants)
        raise RecipeError(f"LRS={values}: attention-study is over EPSILONS")
    tasks = choice.tasks_of(TABLE.tasks)
    methods = list(choice.methods or TABLE.methods)
    seed = choice.seeds[0]
    levels = [method for method in methods if not choice.is_searched(method)]
    runs = [choice.run(task, method, seed) for task in tasks for method in levels]
    runs += choice.search(tasks, methods)
    columns = {column.task: column for column in reversed(TABLE.columns)}

    def report(missing: Sequence[Run]) -> None:
        drawn = [curves_of(choice, columns[task], methods, runs) for task in tasks]
        notes = notes_of(
            choice, tasks, methods, runs, missing, paper=TABLE.paper, label=TABLE.label
        )
        with written_whole(out / "figure.md") as temporary:
            temporary.write_text(markdown(drawn, seed, notes), encoding="utf-8")
        plot(drawn, out / "figure.png")
        found = {
            of.column.task: {
                "metric": of.column.parts[0].metric,
                "levels": {method: level and level.mean for method, level in of.levels.items()},
                "curves": {
                    method: {f"{value:g}": f and f.mean for value, f in curve.items()}
                    for method, curve in of.curves.items()
                },
            }
            for of in drawn
        }
        write_json(
            {"seed": seed, "missing": list(map(str, missing)), "tasks": found},
            out / "figure.json",
        )

    return Plan(choice.corpora(tasks), lambda: runs, report)
