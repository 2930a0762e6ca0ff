"""A comparison as tables for people."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recipes.comparison.costs import Cost
from recipes.comparison.kinds.kind import Column, Kind
from recipes.comparison.plan import Budget
from recipes.comparison.results import Outcome, Result
from recipes.support.markdown import markdown_table
from recipes.support.seeds import over_seeds

_SIGNIFICANT = 0.05
_Cell = tuple[str, Callable[[Outcome], str]]
_COSTS_AND_GAPS = (
    "*Time* is per update, *memory* the peak of an update beyond what is held between updates, both"
    " relative to plain training. A - in place of scores: no checkpoint in that time, or the run is"
    " missing."
)


@dataclass(frozen=True)
class Conditions:
    """What all runs of a comparison have in common.

    :param corpus: its name.
    :param options: of fairseq-train.
    :param trivial: the figures of `Kind.compared` of predictors that need no training, by name.
    :param details: see `Kind`.
    :param device: what the costs were measured on.
    :param versions: of the tools.
    """

    corpus: str
    kind: Kind
    details: Mapping[str, Any]
    seeds: tuple[int, ...]
    budget: Budget
    options: tuple[str, ...]
    trivial: Mapping[str, Sequence[float]]
    device: str
    versions: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return all of it in plain containers."""
        found = {**vars(self), "budget": asdict(self.budget), **self.details}
        del found["kind"], found["details"]
        return {**self.kind.identity(), **found}


def markdown(conditions: Conditions, results: Sequence[Result], missing: Sequence[str]) -> str:
    """Return the whole report.

    :param missing: the runs that have no scores yet.
    """
    budget, kind = conditions.budget, conditions.kind
    seeds = len(conditions.seeds)
    scores = _scores(kind)
    parts = [
        f"# {conditions.corpus}: {len(results)} methods, {seeds} seed{'s' if seeds > 1 else ''}",
        f"{kind.introduction()} Seeds {', '.join(map(str, conditions.seeds))}. Checkpoints every"
        f" {budget.every:,} updates. Costs measured on: {conditions.device}.",
        f"Mean ± standard deviation over seeds. {kind.how_scored} {_COSTS_AND_GAPS}",
    ]
    if missing:
        parts.append("**Missing:** " + "; ".join(missing) + ".")
    parts += [
        f"## After equally many updates: {budget.updates:,}",
        _table(results, lambda result: result.equal_updates, scores, _COSTS),
        f"## After equal time: that of {budget.time:,} updates of plain training",
        _table(results, lambda result: result.equal_time, [_UPDATES, *scores]),
    ]
    if conditions.trivial:
        parts.append(
            "Without training: "
            + ", ".join(
                f"{name} "
                + ", ".join(
                    f"{column.title} {value:.1f}"
                    for column, value in zip(kind.compared, figures, strict=True)
                )
                for name, figures in conditions.trivial.items()
            )
            + "."
        )
    parts += [
        "## Which game was played",
        "Medians over the second half of the equal updates, means over seeds; losses in bits per"
        f" {kind.unit}. *adv_gain* is what the adversary adds to *adv_loss*; *interaction* is the"
        " leader-follower term's share of the gradient.",
        _gauge_table(results),
        "## Settings",
        "All: " + _code(conditions.options),
        "\n".join(
            f"- {result.contender.label}: {_code(result.contender.options)}" for result in results
        ),
        *kind.appendix(),
        ", ".join(f"{tool} {version}" for tool, version in conditions.versions.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(
    results: Sequence[Result],
    outcome_of: Callable[[Result], Outcome | None],
    columns: Sequence[_Cell],
    costs: Sequence[tuple[str, Callable[[Cost], str]]] = (),
) -> str:
    rows = [["method", *(name for name, _ in (*columns, *costs))]]
    for result in results:
        outcome = outcome_of(result)
        cells = ["-" if outcome is None else cell(outcome) for _, cell in columns]
        rows.append([result.contender.label, *cells, *(cell(result.cost) for _, cell in costs)])
    return markdown_table(rows)


def significance(outcome: Outcome, key: str) -> str:
    """Return in how many seeds a figure is significantly better or worse than plain training's."""
    differences = outcome.differences[key]
    if differences is None:
        return "-"
    significant = [
        differences.by_seed[seed] > 0 for seed, p in outcome.p[key].items() if p < _SIGNIFICANT
    ]
    better, worse = significant.count(True), significant.count(False)
    counts = [f"+{better}"] * (better > 0) + [f"-{worse}"] * (worse > 0) or ["0"]
    return f"{' '.join(counts)} of {len(outcome.p[key])}"


_UPDATES: _Cell = ("updates", lambda outcome: f"{outcome.updates:,}")


def _scores(kind: Kind) -> list[_Cell]:
    """Return the columns of scores; after the first one come its differences to plain training."""
    first, *others = kind.columns

    def difference(outcome: Outcome) -> str:
        found = outcome.differences[first.key]
        return "-" if found is None else over_seeds(found, sign="+")

    return [
        _cell(first),
        ("against plain", difference),
        (f"p < {_SIGNIFICANT}", lambda outcome: significance(outcome, first.key)),
        *map(_cell, others),
    ]


def _cell(column: Column) -> _Cell:
    def of(outcome: Outcome) -> str:
        figure = outcome.figures[column.key]
        if column.spread:
            return over_seeds(figure, column.digits)
        return f"{figure.mean:.{column.digits}f}"

    return column.title, of


_COSTS: list[tuple[str, Callable[[Cost], str]]] = [
    ("time", lambda cost: f"{cost.time:.2f}"),
    ("memory", lambda cost: f"{cost.memory:.2f}"),
]


def _gauge_table(results: Sequence[Result]) -> str:
    rows = [["method", "adv_loss", "adv_gain", "delta_norm", "interaction", "proximal_loss"]]
    for result in results:
        gauges = result.gauges
        if not gauges:
            continue
        gain = "-"
        if "adv_gain" in gauges:
            share = gauges["adv_gain"] / gauges["adv_loss"] if gauges.get("adv_loss") else None
            gain = f"{gauges['adv_gain']:.3f}" + ("" if share is None else f" ({share:.0%})")
        rows.append(
            [
                result.contender.label,
                _gauge(gauges.get("adv_loss"), ".3f"),
                gain,
                _norms(gauges),
                _gauge(gauges.get("interaction"), ".0%"),
                _gauge(gauges.get("proximal_loss"), ".3f"),
            ]
        )
    return markdown_table(rows) if len(rows) > 1 else "No method logged a gauge."


def _norms(gauges: Mapping[str, float]) -> str:
    """Return that of words, and that of attention scores, whose unit is another one."""
    attention = gauges.get("attention_delta_norm")
    of_words = _gauge(gauges.get("delta_norm"), ".2f")
    return of_words if attention is None else f"{of_words}, attention {attention:.2f}"


def _gauge(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _code(options: Sequence[str]) -> str:
    return f"`{shlex.join(options)}`"
