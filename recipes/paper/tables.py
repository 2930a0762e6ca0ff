"""Tables 2 and 3: BLEU over seeds, beside what the paper reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.paper.reported import PaperTable
from recipes.paper.runs import PaperRun, gain, over_runs
from recipes.support.files import written_whole
from recipes.support.markdown import markdown_table
from recipes.support.methods import label_of
from recipes.support.plot import GREY, STYLE
from recipes.support.seeds import OverSeeds, over_seeds

PLAIN = "transformer"
_NAMES = {"tokenized_bleu": "tokenised BLEU", "sacrebleu": "sacreBLEU"}


@dataclass(frozen=True)
class Row:
    """A method on a corpus.

    :param paper: BLEU as reported; None if the paper has none.
    :param paper_gain: over plain training.
    :param bleu: ours, of the kind that the paper reports.
    :param gain: over plain training with the same seed.
    :param sacrebleu: ours, of detokenised text.
    """

    method: str
    paper: float | None
    paper_gain: float | None
    bleu: OverSeeds | None
    gain: OverSeeds | None
    sacrebleu: OverSeeds | None

    def as_json(self) -> dict[str, Any]:
        """Return all of it in plain containers."""
        return {
            name: value.as_json() if isinstance(value, OverSeeds) else value
            for name, value in vars(self).items()
        }


def rows_of(table: PaperTable, recipe: str, runs: Sequence[PaperRun]) -> list[Row]:
    """Return a row for each method among the runs of a recipe, in their order."""
    reported = table.bleu.get(recipe, {})
    by_method: dict[str, list[PaperRun]] = {}
    for run in runs:
        if run.recipe == recipe:
            by_method.setdefault(run.method, []).append(run)
    plain = over_runs(by_method.get(PLAIN, []), table.score)
    rows = []
    for method, of_method in by_method.items():
        # The paper's numbers of a method are for any settings of it that we play.
        paper = reported.get(method.split(",")[0].removesuffix("-paper"))
        bleu = over_runs(of_method, table.score)
        rows.append(
            Row(
                method,
                paper=paper,
                paper_gain=None if paper is None or method == PLAIN else paper - reported[PLAIN],
                bleu=bleu,
                gain=None if method == PLAIN else gain(bleu, plain),
                sacrebleu=over_runs(of_method, "sacrebleu"),
            )
        )
    return rows


def markdown(
    table: PaperTable, rows: dict[str, list[Row]], seeds: Sequence[int], notes: Sequence[str]
) -> str:
    """Return the table of each recipe.

    :param rows: by the recipe's name, or that at a smaller scale.
    :param notes: on what is missing, signatures, versions.
    """
    ours = _NAMES[table.score]
    parts = [
        f"# Table {table.number} of Zuo et al. (2021)",
        f"BLEU on the test set; ours: mean ± standard deviation over the seeds"
        f" {', '.join(map(str, seeds))}. The paper's numbers are means of three runs, {ours};"
        " *gain* is over plain training, ours with the same seed.",
    ]
    for name, of_name in rows.items():
        header = ["method", "paper", "gain", f"ours, {ours}", "gain", "runs"]
        if table.score != "sacrebleu":
            header.append("ours, sacreBLEU")
        lines = [header]
        for row in of_name:
            line = [
                label_of(row.method),
                "-" if row.paper is None else f"{row.paper:.1f}",
                "-" if row.paper_gain is None else f"{row.paper_gain:+.1f}",
                _cell(row.bleu),
                _cell(row.gain, sign="+"),
                str(len(row.bleu.by_seed)) if row.bleu else "0",
            ]
            lines.append([*line, _cell(row.sacrebleu)] if len(header) > len(line) else line)
        parts += [f"## {name}", markdown_table(lines)]
    return "\n\n".join([*parts, *notes]) + "\n"


def _cell(figure: OverSeeds | None, sign: str = "") -> str:
    return "-" if figure is None else over_seeds(figure, sign=sign)


def plot(table: PaperTable, rows: dict[str, list[Row]], path: Path) -> None:
    """Draw ours beside the paper's, a panel for each recipe. A PNG, written whole or not at all."""
    tallest = max(map(len, rows.values()))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1 + 4.6 * len(rows), 1.5 + 0.55 * tallest), layout="constrained")
        figure.suptitle(
            f"Table {table.number}, {_NAMES[table.score]}",
            fontsize=13,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
        panels = figure.subplots(1, len(rows), squeeze=False)[0]
        for axes, (name, of_name) in zip(panels, rows.items(), strict=True):
            _panel(axes, of_name)
            axes.set_title(name)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower left", ncols=2)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    reported: list[float] = []
    for y, row in enumerate(rows):
        if row.paper is not None:
            axes.barh(y + 0.2, row.paper, 0.36, color="#BBBBBB")
            reported.append(row.paper)
        if row.bleu is not None:
            axes.barh(y - 0.2, row.bleu.mean, 0.36, color="#0072B2", alpha=0.8)
            seeds = list(row.bleu.by_seed.values())
            axes.plot(seeds, [y - 0.2] * len(seeds), "o", color="black", markersize=3.5, alpha=0.7)
            if row.bleu.std is not None:
                axes.errorbar(
                    row.bleu.mean, y - 0.2, xerr=row.bleu.std, color=GREY, capsize=3, linewidth=1.2
                )
            reported += seeds
    axes.barh([0], [0], color="#0072B2", alpha=0.8, label="ours (dots: seeds)")
    axes.barh([0], [0], color="#BBBBBB", label="paper")
    axes.set_yticks(range(len(rows)), [label_of(row.method) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    left = 0.0
    if reported:  # the differences are small beside the scores
        low, high = min(reported), max(reported)
        left = max(0.0, low - 0.6 * (high - low) - 0.5)
        axes.set_xlim(left, high + 0.1 * (high - low) + 0.2)
    axes.set_xlabel("BLEU (the axis does not begin at 0)" if left else "BLEU")
