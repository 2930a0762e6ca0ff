"""Tables 2 and 3: BLEU over seeds, beside what the paper reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.paper.beside import Beside, Panel, cell, plot_beside
from recipes.paper.reported import PaperTable, preset_reported
from recipes.paper.runs import Translating, gain, over_runs
from recipes.support.markdown import markdown_table
from recipes.support.methods import label_of
from recipes.support.seeds import OverSeeds

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


def rows_of(table: PaperTable, recipe: str, runs: Sequence[Translating]) -> list[Row]:
    """Return a row for each method among the runs of a recipe, in their order."""
    reported = table.bleu.get(recipe, {})
    by_method: dict[str, list[Translating]] = {}
    for run in runs:
        if run.recipe == recipe:
            by_method.setdefault(run.method, []).append(run)
    plain = over_runs(by_method.get(PLAIN, []), table.score)
    rows = []
    for method, of_method in by_method.items():
        paper = reported.get(preset_reported(method))
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
                cell(row.bleu),
                cell(row.gain, sign="+"),
                str(len(row.bleu.by_seed)) if row.bleu else "0",
            ]
            lines.append([*line, cell(row.sacrebleu)] if len(header) > len(line) else line)
        parts += [f"## {name}", markdown_table(lines)]
    return "\n\n".join([*parts, *notes]) + "\n"


def plot(table: PaperTable, rows: dict[str, list[Row]], path: Path) -> None:
    """Draw ours beside the paper's, a panel for each recipe. A PNG, written whole or not at all."""
    panels = [
        Panel(name, "BLEU", [Beside(label_of(row.method), row.paper, row.bleu) for row in of_name])
        for name, of_name in rows.items()
    ]
    plot_beside(panels, f"Table {table.number}, {_NAMES[table.score]}", path)
