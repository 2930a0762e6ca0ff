"""Tables 4 and 5 of Zhong et al. (2023), and what each part of a mixed strategy adds.

The paper changes the number of samples, K, of both players, and the weight lambda of its
divergence. Which of the parts matters, the leader's mean, the follower's or the noise, it does not
ask.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from recipes.paper.beside import cell
from recipes.paper.fine_tuning import (
    PLAIN,
    Choice,
    Row,
    measured,
    notes_of,
    plan_of,
    printed,
    rows_of,
)
from recipes.paper.mixed.tables import BASE, COLUMNS, ZHONG
from recipes.paper.plan import Plan
from recipes.paper.reported import LabelColumn, LabelTable, Numbers
from recipes.paper.runs import FineTuning, Run
from recipes.support.curves import draw_points, look
from recipes.support.errors import RecipeError
from recipes.support.files import LOG, write_json, written_whole
from recipes.support.markdown import markdown_table
from recipes.support.plot import STYLE
from recipes.support.seeds import OverSeeds
from recipes.training.training_log import column as logged
from recipes.training.training_log import read_log

TASKS = ("glue-cola", "glue-sst-2", "glue-mrpc")
METHOD = "mat"
SAMPLES = (1, 5, 10, 20, 30, 50)
LAMBDAS = (0.1, 1.0, 3.0, 5.0, 10.0, 50.0)

# MRPC's accuracies, and F1
_OF_K = (85.7, 87.0, 89.0, 87.3, 86.5, 86.3), (90.0, 90.9, 92.1, 91.1, 90.3, 90.2)
_OF_LAMBDA = (86.5, 88.2, 88.7, 89.0, 86.3, 85.5), (90.3, 91.5, 92.0, 92.1, 90.2, 90.0)

_LEADER_S = ("--leader-mean-decay=0",)
_FOLLOWER_S = ("--follower-mean-decay=0",)
_NOISE = ("--thermal-noise=0",)
PARTS = {
    "all of it": (),
    "without the follower": ("--adv-weight=0",),
    "without the follower's mean": _FOLLOWER_S,
    "without the leader's mean": _LEADER_S,
    "without noise": _NOISE,
    "without any of the three: pure strategies": (*_LEADER_S, *_FOLLOWER_S, *_NOISE),
}
"""Of MAT. Without a mean the last sample is played: moves of several steps."""

GAUGES = {"leader_spread": "leader's spread", "noise_share": "noise", "adv_gain": "gain"}
"""What is told of them: means over the second half of training."""


@dataclass(frozen=True)
class Axis:
    """A setting and its values.

    :param name: what it is called in the paper.
    :param changes: of the method, by the setting's value.
    :param reported: the paper's numbers, by column and value.
    """

    title: str
    name: str
    changes: Mapping[float, tuple[str, ...]]
    reported: Mapping[str, Mapping[float, Numbers]]

    def method(self, base: str, value: float) -> str:
        """Return a method with a value."""
        return changed(base, self.changes[value])


def changed(method: str, changes: Sequence[str]) -> str:
    """Return a method with changes, the last ones of all."""
    return ",".join([method, *changes])


def _by(values: Sequence[float], numbers: Sequence[Numbers]) -> dict[float, Numbers]:
    return dict(zip(values, numbers, strict=True))


def axes_of(samples: Sequence[int], lambdas: Sequence[float]) -> list[Axis]:
    """Return what the paper changes, at our values."""
    return [
        Axis(
            "Table 4: samples of each player",
            "K",
            {k: (f"--leader-samples={k}", f"--follower-samples={k}") for k in samples},
            {
                "CoLA": _by(SAMPLES, [(61.5,), (61.7,), (62.6,), (61.6,), (62.2,), (61.4,)]),
                "SST-2": _by(SAMPLES, [(93.1,), (93.8,), (93.8,), (93.2,), (93.0,), (93.0,)]),
                "MRPC": _by(SAMPLES, [*zip(_OF_K[0], _OF_K[1], strict=True)]),
            },
        ),
        Axis(
            "Table 5: weight of the divergence, our `--adv-weight` being twice lambda",
            "lambda",
            {value: (f"--adv-weight={2 * value:g}",) for value in lambdas},
            {
                "CoLA": _by(LAMBDAS, [(60.8,), (60.1,), (62.6,), (61.9,), (62.4,), (57.8,)]),
                "SST-2": _by(LAMBDAS, [(93.7,), (93.7,), (93.8,), (93.5,), (93.5,), (92.4,)]),
                "MRPC": _by(LAMBDAS, [*zip(_OF_LAMBDA[0], _OF_LAMBDA[1], strict=True)]),
            },
        ),
    ]


def gauges_of(runs: Sequence[FineTuning]) -> dict[str, OverSeeds | None]:
    """Return the means of gauges over the second half of trainings, by seed."""
    found: dict[str, dict[int, float]] = {gauge: {} for gauge in GAUGES}
    for run in runs:
        if run.scores is not None:
            log = read_log(run.directory / LOG)
            for gauge, by_seed in found.items():
                _, values = logged(log.train, gauge)
                if late := values[len(values) // 2 :]:
                    by_seed[run.seed] = math.fsum(late) / len(late)
    return {gauge: OverSeeds(by_seed) if by_seed else None for gauge, by_seed in found.items()}


def _axis_table(
    axis: Axis, base: str, columns: Sequence[LabelColumn], rows: Mapping[str, Row]
) -> str:
    """Return the table of a setting, a column of ours and the paper's for each set."""
    reported = [column for column in columns if column.title in axis.reported]
    header = [axis.name, *(column.heading for column in columns)]
    lines = [[*header, *(f"{column.title}, the paper's" for column in reported)]]
    for value in axis.changes:
        of_value = rows[axis.method(base, value)].cells
        ours = [measured(of_value[column.title].ours, column.digits) for column in columns]
        paper = [printed(axis.reported[c.title].get(value), c.digits) for c in reported]
        lines.append([f"{value:g}", *ours, *paper])
    return markdown_table(lines)


def _parts_table(
    base: str,
    columns: Sequence[LabelColumn],
    rows: Mapping[str, Row],
    gauges: Mapping[str, Mapping[str, Mapping[str, OverSeeds | None]]],
) -> str:
    """Return the table of what is left out, for each set its figures and gauges.

    :param gauges: by task, method and name.
    """
    header = [""]
    for column in columns:
        header += [column.heading, *(f"{column.title}: {name}" for name in GAUGES.values())]
    lines = [header]
    for label, method in {"plain training": PLAIN, **_parts_of(base)}.items():
        line = [label]
        for column in columns:
            line.append(measured(rows[method].cells[column.title].ours, column.digits))
            found = gauges[column.task][method]
            line += [cell(found[gauge], digits=3) for gauge in GAUGES]
        lines.append(line)
    return markdown_table(lines)


def _parts_of(base: str) -> dict[str, str]:
    return {label: changed(base, changes) for label, changes in PARTS.items()}


def plot(
    axes_drawn: Sequence[Axis],
    bases: Sequence[str],
    columns: Sequence[LabelColumn],
    rows: Mapping[str, Row],
    path: Path,
) -> None:
    """Draw a row for each set and a panel for each setting, over plain training's level. A PNG."""
    with matplotlib.rc_context(STYLE):
        size = (1 + 4.6 * len(axes_drawn), 0.8 + 3.2 * len(columns))
        figure = Figure(figsize=size, layout="constrained")
        title = "MAT: samples, and the weight of the divergence"
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(len(columns), len(axes_drawn), squeeze=False)
        for of_column, column in zip(grid, columns, strict=True):
            plain = rows[PLAIN].cells[column.title].our_mean
            for panel, axis in zip(of_column, axes_drawn, strict=True):
                if plain is not None:
                    panel.axhline(plain.mean, color="black", linestyle="--", label="plain")
                for number, base in enumerate(bases, 1):
                    curve = {
                        value: rows[axis.method(base, value)].cells[column.title].our_mean
                        for value in axis.changes
                    }
                    draw_points(panel, curve, BASE.label(base), look(number))
                values = sorted(axis.changes)
                panel.set_title(column.heading)
                panel.set_xlabel(axis.name)
                panel.set_ylabel("per cent, on dev")
                panel.set_xscale("log")
                panel.set_xticks(values, [f"{value:g}" for value in values])
                panel.minorticks_off()
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower left", ncols=4)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def plan(
    choice: Choice, out: Path, *, samples: Sequence[int] | None, lambdas: Sequence[float] | None
) -> Plan:
    """Return what the ablation takes. Raises RecipeError for a method that is no MAT.

    :param samples: K of each player; none given: the paper's.
    :param lambdas: the same of the weight.
    """
    bases = list(choice.methods or [METHOD])
    for base in bases:
        if not base.startswith(METHOD):
            raise RecipeError(f"METHODS={base}: mat-ablation changes mat, or mat-paper")
    tasks = choice.tasks_of(BASE.tasks) if choice.tasks else list(TASKS)
    columns = [column for column in COLUMNS if column.task in tasks]
    drawn = axes_of(samples or SAMPLES, lambdas or LAMBDAS)
    parts = [method for base in bases for method in _parts_of(base).values()]
    changes = [axis.method(b, value) for axis in drawn for b in bases for value in axis.changes]
    methods = list(dict.fromkeys([PLAIN, *parts, *changes]))
    # Of the paper's numbers those of single settings are told; its own rows are in Tables 1 to 3.
    table: LabelTable = replace(BASE, reported={})

    def report(runs: Sequence[FineTuning], missing: Sequence[Run]) -> None:
        rows = {row.method: row for row in rows_of(table, columns, methods, runs)}
        gauges = {
            task: {
                method: gauges_of([run for run in runs if (run.task, run.method) == (task, method)])
                for method in (PLAIN, *parts)
            }
            for task in tasks
        }
        text = [
            f"# Tables 4 and 5 of {ZHONG.cited}, and what mixing adds",
            "Per cent, on GLUE's dev sets; ours: mean ± standard deviation over the seeds"
            f" {', '.join(map(str, choice.seeds))}. {ZHONG.numbers}",
        ]
        for base in bases:
            of_base = f" ({base})" if len(bases) > 1 else ""
            for axis in drawn:
                text += [f"## {axis.title}{of_base}", _axis_table(axis, base, columns, rows)]
            text += [
                f"## What mixing adds{of_base}",
                "*Leader's spread* is the distance of its samples from their mean, relative to the"
                " update; *noise* that of a step which is thermal noise; *gain* what the follower"
                " adds to the divergence: means over the second half of training.",
                _parts_table(base, columns, rows, gauges),
            ]
        text += notes_of(choice, tasks, methods, runs, missing, paper=ZHONG)
        with written_whole(out / "ablation.md") as temporary:
            temporary.write_text("\n\n".join(text) + "\n", encoding="utf-8")
        plot(drawn, bases, columns, rows, out / "ablation.png")
        write_json(
            {"missing": list(map(str, missing)), "rows": _as_json(rows, gauges)},
            out / "ablation.json",
        )

    return plan_of(choice, tasks, methods, report)


def _as_json(
    rows: Mapping[str, Row],
    gauges: Mapping[str, Mapping[str, Mapping[str, OverSeeds | None]]],
) -> dict[str, Any]:
    return {
        method: {
            "columns": {
                title: [figure.as_json() for figure in of.ours] if of.ours else None
                for title, of in row.cells.items()
            },
            "gauges": {
                task: {
                    name: figure and figure.as_json() for name, figure in of_task[method].items()
                }
                for task, of_task in gauges.items()
                if method in of_task
            },
        }
        for method, row in rows.items()
    }
