"""Tables of labels of sentences over seeds, beside what a paper reports."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.encoders.words import OWN_WORDS, told
from data_prep.sentences.corpora import SENTENCE_CORPORA
from recipes.paper.beside import Beside, Panel, cell, plot_beside
from recipes.paper.plan import Corpus, Plan, Scale, missing_note, versions
from recipes.paper.reported import ZUO, LabelColumn, LabelTable, Numbers, Paper
from recipes.paper.runs import (
    CORRELATION,
    Epsilon,
    Explained,
    FineTuning,
    LearningRate,
    Run,
    Variant,
    dev_score,
    gain,
)
from recipes.support.errors import RecipeError
from recipes.support.files import LOG, data_report, write_json, written_whole
from recipes.support.markdown import markdown_table
from recipes.support.methods import label_of
from recipes.support.seeds import OverSeeds
from recipes.training.training_log import read_log

PLAIN = "plain"
_GLUE = "glue-"


@dataclass(frozen=True)
class Choice:
    """What a user wants of a table or a figure; empty: what that has by default.

    :param variants: to choose from on dev; empty: methods and finetune.sh as they are.
    :param kind: of trainings.
    """

    tasks: Sequence[str]
    methods: Sequence[str]
    seeds: Sequence[int]
    encoder: str
    variants: Sequence[Variant]
    scale: Scale
    kind: type[FineTuning] = FineTuning

    @staticmethod
    def of(args: argparse.Namespace, what: str) -> "Choice":
        """Return it from the command line. Raises RecipeError for what has no place in it."""
        if args.recipes:
            raise RecipeError(f"RECIPES={' '.join(args.recipes)}: {what} takes TASKS")
        rates, epsilons = (list(given or []) for given in (args.rates, args.epsilons))
        if rates and epsilons:
            raise RecipeError(
                f"LRS={' '.join(rates)}, EPSILONS={' '.join(epsilons)}: give one of them"
            )
        variants = [*map(LearningRate, rates), *map(Epsilon, epsilons)]
        encoder = args.encoder.rstrip("/")
        return Choice(
            args.tasks or [], args.methods or [], args.seeds, encoder, variants, args.scale
        )

    def tasks_of_any(self, usual: Sequence[str]) -> list[str]:
        """Return the tasks to take, of all that there are."""
        known = [name for name in SENTENCE_CORPORA if name != "sentences"]
        return self.tasks_of(known) if self.tasks else list(usual)

    def tasks_of(self, known: Sequence[str]) -> list[str]:
        """Return the tasks to take, `rte` or `glue-rte`. Raises RecipeError for an unknown one."""
        named = [t if t in known or t.startswith(_GLUE) else f"{_GLUE}{t}" for t in self.tasks]
        for task, given in zip(named, self.tasks, strict=True):
            if task not in known:
                allowed = ", ".join(name.removeprefix(_GLUE) for name in known)
                raise RecipeError(f"TASKS={given}: allowed is {allowed}")
        if len(set(named)) < len(named):
            raise RecipeError(f"TASKS={' '.join(self.tasks)}: one is there twice")
        return named or list(known)

    def run(self, task: str, method: str, seed: int, variant: Variant | None = None) -> FineTuning:
        """Return a training."""
        return self.kind(method, seed, task, self.scale.of(task), self.encoder, variant)

    def corpora(self, tasks: Sequence[str]) -> list[Corpus]:
        """Return the corpora of tasks."""
        runs = [self.run(task, PLAIN, self.seeds[0]) for task in tasks]
        return [
            Corpus(run.name, run.script, {"RECIPE": run.task, "ENCODER": run.encoder}, run.data)
            for run in runs
        ]

    def search(self, tasks: Sequence[str], methods: Sequence[str]) -> list[FineTuning]:
        """Return the first seed's trainings with every variant, of the methods that have any."""
        return [
            self.run(task, method, self.seeds[0], variant)
            for task in tasks
            for variant in self.variants
            for method in methods
            if variant.varies(method)
        ]

    def is_searched(self, method: str) -> bool:
        """Return whether there are variants of a method."""
        return any(variant.varies(method) for variant in self.variants)

    def best(self, task: str, method: str) -> Variant | None:
        """Return what is best on dev, the first of equally good ones; None if nothing is known."""
        found = {}
        for run in self.search([task], [method]):
            scores = run.scores
            if scores is not None and (score := dev_score(scores)) is not None:
                found[run.variant] = score
        return max(found, key=found.__getitem__, default=None)

    def runs(self, tasks: Sequence[str], methods: Sequence[str]) -> list[FineTuning]:
        """Return all trainings that are known: those of searched methods after the search."""
        found = []
        for task in tasks:
            best = {method: self.best(task, method) for method in methods}
            found += [
                self.run(task, method, seed, best[method])
                for seed in self.seeds
                for method in methods
                if best[method] is not None or not self.is_searched(method)
            ]
        return found

    def values(self, tasks: Sequence[str], method: str) -> dict[str, str | None]:
        """Return what is best for a method on dev, by task."""
        found = {task: self.best(task, method) for task in tasks}
        return {task: best.value if best else None for task, best in found.items()}


def plan_of(
    choice: Choice,
    tasks: Sequence[str],
    methods: Sequence[str],
    report: Callable[[Sequence[FineTuning], Sequence[Run]], None],
) -> Plan:
    """Return what trains methods on tasks.

    :param report: is given all runs, and those that are not finished.
    """
    return Plan(
        choice.corpora(tasks),
        lambda: choice.runs(tasks, methods),
        lambda missing: report(choice.runs(tasks, methods), missing),
        choice.search(tasks, methods),
    )


def notes_of(
    choice: Choice,
    tasks: Sequence[str],
    methods: Sequence[str],
    runs: Sequence[Run],
    missing: Sequence[Run],
    *,
    paper: Paper = ZUO,
    label: Callable[[str], str] = label_of,
) -> list[str]:
    """Return the paragraphs below a table or figure: what is missing, how it was trained.

    :param label: returns what to call a method.
    """
    notes = missing_note(missing)
    scores = [found for run in runs if (found := run.scores) is not None]
    if scores:

        def all_of(name: str, form: Callable[[Any], str]) -> str:
            return ", ".join(map(form, sorted({_hashable(found[name]) for found in scores})))

        parameters = all_of("parameters", lambda value: f"{value / 1e6:.3g}")
        notes.append(
            f"Encoder {Path(choice.encoder).name}, {parameters} million parameters;"
            f" {paper.encoder}. Epochs until the end of training: {_epochs(runs)}; batches of"
            f" {all_of('batch_size', str)}; the checkpoint that is best on dev; learning rates"
            f" {all_of('lr', lambda value: f'{value:g}')}."
        )
    if choice.encoder == OWN_WORDS:
        notes.append(f"Embeddings: {'; '.join(_embeddings(choice, tasks))}.")
    if searched := [method for method in methods if choice.is_searched(method)]:
        values = ", ".join(variant.value for variant in choice.variants)
        chosen = "; ".join(
            f"{label(method)}: "
            + ", ".join(f"{task} {v or '-'}" for task, v in choice.values(tasks, method).items())
            for method in searched
        )
        notes.append(
            f"The {choice.variants[0].name} is the best of {values} on dev, with seed"
            f" {choice.seeds[0]}, for all seeds of a method and task. {chosen}."
        )
    return [*notes, versions()]


def _embeddings(choice: Choice, tasks: Sequence[str]) -> list[str]:
    """Return what embeddings words begin with, task by task."""
    data = {task: choice.run(task, PLAIN, choice.seeds[0]).data for task in tasks}
    return [
        f"{task}: {told(data_report(path)['encoder']['vocabulary'])}" for task, path in data.items()
    ]


def _epochs(runs: Sequence[Run]) -> str:
    """Return for how many epochs runs have been trained."""
    logs = [read_log(run.directory / LOG) for run in runs if run.scores is not None]
    found = sorted({round(log.valid[-1].values["epoch"]) for log in logs if log.valid})
    return " to ".join(map(str, dict.fromkeys((found[0], found[-1])))) if found else "unknown"


def _hashable(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


# ---- Tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What a method has in a column.

    :param paper: its numbers as reported; None if the paper has none.
    :param ours: the same of ours; None if no run is finished.
    """

    paper: Numbers | None
    ours: tuple[OverSeeds, ...] | None

    @property
    def paper_mean(self) -> float | None:
        """The mean of its numbers; None if it lacks one."""
        found = [value for value in self.paper or () if value is not None]
        return sum(found) / len(found) if found and len(found) == len(self.paper or ()) else None

    @property
    def our_mean(self) -> OverSeeds | None:
        """The mean of its numbers, by seed."""
        return None if self.ours is None else _mean(self.ours)


@dataclass(frozen=True)
class Row:
    """A method in all columns of a table; with its mean over them, if the table has one."""

    method: str
    cells: Mapping[str, Cell]
    average: Beside | None


def rows_of(
    table: LabelTable,
    columns: Sequence[LabelColumn],
    methods: Sequence[str],
    runs: Sequence[FineTuning],
) -> list[Row]:
    """Return a row for each method.

    :param columns: those of the table that are wanted.
    """
    rows = []
    for method in methods:
        reported = table.numbers_of(method)
        cells = {}
        for column in columns:
            of_column = [run for run in runs if (run.method, run.task) == (method, column.task)]
            cells[column.title] = Cell(reported.get(column), _over_runs(column, of_column))
        average = None
        if table.has_average and len(columns) == len(table.columns):
            average = _average(table.label(method), list(cells.values()))
        rows.append(Row(method, cells, average))
    return rows


def _over_runs(column: LabelColumn, runs: Sequence[FineTuning]) -> tuple[OverSeeds, ...] | None:
    """Return the numbers of a column over the seeds that are finished."""
    found = {run.seed: _numbers(column, s) for run in runs if (s := run.scores) is not None}
    if not found:
        return None
    width = 1 if column.is_pooled else len(column.parts)
    return tuple(
        OverSeeds({seed: numbers[i] for seed, numbers in found.items()}) for i in range(width)
    )


def _numbers(column: LabelColumn, scores: Mapping[str, Any]) -> list[float]:
    splits = [scores["splits"][part.split] for part in column.parts]
    # A correlation with predictions that are all equal is not defined: there is none.
    values = [
        float(split["metrics"][part.metric]["value"] or 0.0)
        for split, part in zip(splits, column.parts, strict=True)
    ]
    if not column.is_pooled:
        return values
    sentences = [split["sentences"] for split in splits]
    pairs = zip(values, sentences, strict=True)
    return [sum(value * size for value, size in pairs) / sum(sentences)]


def _average(label: str, cells: Sequence[Cell]) -> Beside:
    paper = [value for of in cells if (value := of.paper_mean) is not None]
    ours = [mean for of in cells if (mean := of.our_mean) is not None]
    return Beside(
        label,
        sum(paper) / len(paper) if len(paper) == len(cells) else None,
        _mean(ours) if len(ours) == len(cells) else None,
    )


def _mean(figures: Sequence[OverSeeds]) -> OverSeeds | None:
    """Return the means of several figures, of the seeds that have all."""
    seeds = sorted(set.intersection(*(set(figure.by_seed) for figure in figures)))
    found = {seed: sum(f.by_seed[seed] for f in figures) / len(figures) for seed in seeds}
    return OverSeeds(found) if found else None


def printed(numbers: Numbers | None, digits: int) -> str:
    """Return the paper's numbers in a cell."""
    texts = ("-" if value is None else f"{value:.{digits}f}" for value in numbers or ())
    return "/".join(texts) or "-"


def measured(figures: Sequence[OverSeeds] | None, digits: int) -> str:
    """Return ours in a cell."""
    return "/".join(cell(figure, digits=digits) for figure in figures or ()) or "-"


def markdown(
    table: LabelTable,
    columns: Sequence[LabelColumn],
    rows: Sequence[Row],
    seeds: Sequence[int],
    notes: Sequence[str],
) -> str:
    """Return the table, each method with the paper's numbers below ours, and gains."""
    header = ["method", *(column.heading for column in columns)]
    digits = {column.title: column.digits for column in columns}
    averaged = any(row.average for row in rows)
    has_pairs = any(len(column.parts) > 1 and not column.is_pooled for column in columns)
    if averaged:
        header.append("average")
    lines, gains = [header], [header]
    for row in rows:
        ours = [measured(of.ours, digits[title]) for title, of in row.cells.items()]
        paper = [printed(of.paper, digits[title]) for title, of in row.cells.items()]
        if row.average:
            ours.append(cell(row.average.ours))
            paper.append("-" if row.average.paper is None else f"{row.average.paper:.1f}")
        label = table.label(row.method)
        lines += [[label, *ours]]
        if any(text != "-" for text in paper):
            lines += [[f"{label}, the paper's", *paper]]
        if row.method != PLAIN:
            gains.append([label, *_gains(row, rows, digits)])
    parts = [
        f"# Table {table.number} of {table.paper.cited}: {table.what}",
        f"{table.unit}; ours: mean ± standard deviation over the seeds"
        f" {', '.join(map(str, seeds))}. {table.paper.numbers}"
        + (" *Average*: of all sets, of two numbers in one their mean." if averaged else ""),
        markdown_table(lines),
        "## Against plain training with the same seed",
        *(["Of two numbers in one their mean."] if has_pairs else []),
        markdown_table(gains) if len(gains) > 1 else "No other method.",
    ]
    return "\n\n".join([*parts, *notes]) + "\n"


def _gains(row: Row, rows: Sequence[Row], digits: Mapping[str, int]) -> list[str]:
    plain = next((other for other in rows if other.method == PLAIN), None)
    found = [
        cell(gain(of.our_mean, plain.cells[title].our_mean) if plain else None, "+", digits[title])
        for title, of in row.cells.items()
    ]
    if row.average:
        average = plain and plain.average
        found.append(cell(gain(row.average.ours, average.ours) if average else None, "+"))
    return found


def table_plan(table: LabelTable, choice: Choice, out: Path) -> Plan:
    """Return what a table takes."""
    tasks = choice.tasks_of(table.tasks)
    columns = [column for column in table.columns if column.task in tasks]
    methods = list(choice.methods or table.methods)
    if any(part.metric == CORRELATION for column in columns for part in column.parts):
        choice = replace(choice, kind=Explained)

    def report(runs: Sequence[FineTuning], missing: Sequence[Run]) -> None:
        rows = rows_of(table, columns, methods, runs)
        notes = notes_of(
            choice, tasks, methods, runs, missing, paper=table.paper, label=table.label
        )
        with written_whole(out / "table.md") as temporary:
            text = markdown(table, columns, rows, choice.seeds, notes)
            temporary.write_text(text, encoding="utf-8")
        panels = [
            Panel(
                column.heading,
                column.unit,
                [
                    Beside(
                        table.label(row.method),
                        (of := row.cells[column.title]).paper_mean,
                        of.our_mean,
                    )
                    for row in rows
                ],
            )
            for column in columns
        ]
        if averages := [row.average for row in rows if row.average]:
            panels.append(Panel("average", "per cent", averages))
        plot_beside(panels, f"Table {table.number}: {table.what}", out / "table.png")
        found = {
            "table": table.number,
            "encoder": choice.encoder,
            "missing": list(map(str, missing)),
            "chosen": {
                method: choice.values(tasks, method)
                for method in methods
                if choice.is_searched(method)
            },
            "rows": [
                {
                    "method": row.method,
                    "columns": {
                        title: {
                            "paper": of.paper,
                            "ours": [figure.as_json() for figure in of.ours] if of.ours else None,
                        }
                        for title, of in row.cells.items()
                    },
                    "average": row.average
                    and {
                        "paper": row.average.paper,
                        "ours": row.average.ours.as_json() if row.average.ours else None,
                    },
                }
                for row in rows
            ],
        }
        write_json(found, out / "table.json")

    return plan_of(choice, tasks, methods, report)
