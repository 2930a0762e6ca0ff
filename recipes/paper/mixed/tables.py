"""What Zhong et al. (2023) report in their Tables 1 to 3 and Figure 3: MAT on GLUE and ANLI.

Table 1 is of BERT-base, Table 2 of RoBERTa-large: by the encoder, one of them stands below ours.
Table 3 is of RoBERTa-large, trained on other corpora as well.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from recipes.paper.fine_tuning import Choice, Row, rows_of, table_plan
from recipes.paper.plan import Plan, together
from recipes.paper.reported import LABELS, LabelColumn, LabelTable, Paper, rounds_of_anli
from recipes.paper.runs import FineTuning, Run
from recipes.support.curves import look
from recipes.support.files import written_whole
from recipes.support.plot import STYLE

_ZHONG = "Zhong et al. (2023)"
ZHONG = Paper(
    _ZHONG, "the paper's is BERT-base", "The paper's are of one run each, with BERT-base."
)
_LARGE = Paper(
    _ZHONG, "the paper's is RoBERTa-large", "The paper's are of one run each, with RoBERTa-large."
)
METHODS = ("plain", "freelb", "r3f", "smart", "salt", "mat", "rdrop")
"""Those that the paper compares, and R-Drop, which has no adversary."""

_BY_TASK = {column.task: column for column in LABELS["table4"].columns}
COLUMNS = tuple(
    _BY_TASK[f"glue-{task}"]
    for task in ("cola", "sst-2", "mrpc", "qqp", "sts-b", "mnli", "qnli", "rte")
)
"""GLUE's dev sets in the paper's order."""

BASE = LabelTable(
    number="1",
    what="GLUE, dev sets",
    columns=COLUMNS,
    reported={
        "plain": (
            *((54.7,), (92.9,), (84.1, 89.0), (90.9, 88.3)),
            *((89.2, 88.8), (84.5, 84.4), (91.1,), (63.5,)),
        ),
        "smart": (
            *((59.1,), (93.0,), (87.7, 91.3), (91.5, 88.5)),
            *((90.0, 89.4), (85.6, 86.0), (91.7,), (71.2,)),
        ),
        "salt": (
            *((61.0,), (93.6,), (88.4, 91.8), (91.7, 88.6)),
            *((90.4, 90.0), (86.1, 85.8), (92.0,), (72.9,)),
        ),
        "mat": (
            *((62.6,), (93.8,), (89.0, 92.1), (91.8, 89.0)),
            *((90.5, 90.2), (86.2, 86.0), (92.4,), (74.7,)),
        ),
    },
    methods=METHODS,
    has_average=True,
    paper=ZHONG,
)
LARGE = replace(
    BASE,
    number="2",
    reported={
        "plain": (
            *((68.0,), (96.4,), (90.9, None), (92.2, None)),
            *((92.4, None), (90.2, None), (94.7,), (86.6,)),
        ),
        "freelb": (
            *((71.1,), (96.7,), (91.4, None), (92.6, None)),
            *((92.7, None), (90.6, None), (95.0,), (88.1,)),
        ),
        "smart": (
            *((70.6,), (96.9,), (89.2, 92.1), (92.4, 89.8)),
            *((92.8, 92.6), (91.1, 91.3), (95.6,), (92.0,)),
        ),
        "r3f": (
            *((71.2,), (97.0,), (91.6, None), (92.4, 89.8)),
            *((), (91.1, 91.3), (95.3,), (88.5,)),
        ),
        "mat": (
            *((71.3,), (97.1,), (91.7, 93.9), (92.5, 90.0)),
            *((92.9, 92.6), (91.3, 91.4), (95.7,), (90.6,)),
        ),
    },
    paper=_LARGE,
)
ANLI = LabelTable(
    number="3",
    what="Adversarial NLI, dev and test sets of its three rounds",
    columns=(*rounds_of_anli("valid", "dev"), *rounds_of_anli("test", "test")),
    reported={
        "plain": ((73.8,), (48.9,), (44.4,), (), (), ()),
        "smart": ((74.5,), (50.9,), (47.6,), (72.4,), (49.8,), (50.3,)),
        "mat": ((74.8,), (51.0,), (49.3,), (74.7,), (51.1,), (50.5,)),
    },
    methods=METHODS,
    has_average=False,
    paper=replace(
        _LARGE,
        numbers="The paper's are of RoBERTa-large, trained on MNLI, SNLI, FEVER and ANLI together;"
        " ours is trained on ANLI alone.",
    ),
)


def glue_of(encoder: str) -> LabelTable:
    """Return the table of GLUE to lay beside an encoder."""
    return LARGE if Path(encoder).name.startswith("roberta") else BASE


def boxes(columns: Sequence[LabelColumn], rows: Sequence[Row], path: Path) -> None:
    """Draw Figure 3: a panel for each set, for each method a box over seeds. A PNG, whole."""
    per_row = 4
    height = -(-len(columns) // per_row)
    with matplotlib.rc_context(STYLE):
        size = (1 + 3.4 * min(len(columns), per_row), 0.6 + 3.2 * height)
        figure = Figure(figsize=size, layout="constrained")
        title = "Runs of all seeds: medians, quartiles and extremes"
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(height, min(len(columns), per_row), squeeze=False).flatten()
        for axes in grid[len(columns) :]:
            axes.set_visible(False)
        for axes, column in zip(grid, columns, strict=False):
            for place, row in enumerate(rows):
                ours = row.cells[column.title].our_mean
                if ours is not None:
                    values = list(ours.by_seed.values())
                    drawn = axes.boxplot(
                        [values], positions=[place], widths=0.6, whis=(0, 100), patch_artist=True
                    )
                    drawn["boxes"][0].set(facecolor=look(place)["color"], alpha=0.35)
                    drawn["medians"][0].set_color("black")
                    axes.plot([place] * len(values), values, "o", color="black", markersize=3)
            axes.set_xticks(range(len(rows)), [BASE.label(row.method) for row in rows], rotation=45)
            axes.set_xlim(-0.6, len(rows) - 0.4)
            axes.set_title(column.heading)
            axes.grid(axis="x", visible=False)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def plan(choice: Choice, out: Path) -> Plan:
    """Return what the tables take: of GLUE with its figure, and of ANLI."""
    glue = glue_of(choice.encoder)
    tasks = choice.tasks_of([*glue.tasks, *ANLI.tasks])
    plans = []
    if of_glue := [task for task in tasks if task in glue.tasks]:
        plans.append(_with_boxes(glue, replace(choice, tasks=of_glue), out / "glue"))
    if of_anli := [task for task in tasks if task in ANLI.tasks]:
        plans.append(table_plan(ANLI, replace(choice, tasks=of_anli), out / "anli"))
    return together(plans)


def _with_boxes(table: LabelTable, choice: Choice, out: Path) -> Plan:
    plan = table_plan(table, choice, out)
    columns = [column for column in table.columns if column.task in choice.tasks]

    def report(missing: Sequence[Run]) -> None:
        plan.report(missing)
        runs = [run for run in plan.runs() if isinstance(run, FineTuning)]
        rows = rows_of(table, columns, list(choice.methods or table.methods), runs)
        boxes(columns, rows, out / "boxes.png")

    return replace(plan, report=report)
