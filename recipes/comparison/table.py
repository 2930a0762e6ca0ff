"""A comparison as tables for people."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recipes.comparison.costs import Cost
from recipes.comparison.plan import Budget
from recipes.comparison.results import Outcome, Result
from recipes.support.markdown import markdown_table
from recipes.support.seeds import over_seeds

_SIGNIFICANT = 0.05
_HOW_TO_READ = (
    "Mean ± standard deviation over seeds. The best checkpoint so far by dev BLEU (greedy)"
    " translates by beam search, with the length penalty that is best on dev; *lenpen 1*: BLEU"
    " without that. *p < 0.05*: in how many seeds BLEU is significantly better (+) or worse (-)"
    " than plain training's with the same seed, by sacreBLEU's paired bootstrap. *Time* is per"
    " update, *memory* the peak of an update beyond what is held between updates, both relative to"
    " plain training. A - in place of scores: no checkpoint in that time, or the run is missing."
)


@dataclass(frozen=True)
class Conditions:
    """What all runs of a comparison have in common.

    :param corpus: its name.
    :param pairs: sentence pairs by split.
    :param options: of fairseq-train.
    :param trivial: BLEU and chrF of translators that need no training, by name.
    :param signatures: sacreBLEU's, by metric.
    :param device: what the costs were measured on.
    :param versions: of the tools.
    """

    corpus: str
    languages: tuple[str, str]
    pairs: dict[str, int]
    seeds: tuple[int, ...]
    budget: Budget
    beam: int
    options: tuple[str, ...]
    trivial: dict[str, tuple[float, float]]
    signatures: dict[str, str]
    device: str
    versions: dict[str, str]


def markdown(conditions: Conditions, results: Sequence[Result], missing: Sequence[str]) -> str:
    """Return the whole report.

    :param missing: the runs that have no scores yet.
    """
    budget = conditions.budget
    source, target = conditions.languages
    seeds = len(conditions.seeds)
    parts = [
        f"# {conditions.corpus}: {len(results)} methods, {seeds} seed{'s' if seeds > 1 else ''}",
        f"{source} to {target}, {conditions.pairs['train']:,} training pairs,"
        f" {conditions.pairs['valid']:,} dev and {conditions.pairs['test']:,} test sentences."
        f" Seeds {', '.join(map(str, conditions.seeds))}. Checkpoints every {budget.every:,}"
        f" updates, beam {conditions.beam}. Costs measured on: {conditions.device}.",
        _HOW_TO_READ,
    ]
    if missing:
        parts.append("**Missing:** " + "; ".join(missing) + ".")
    parts += [
        f"## After equally many updates: {budget.updates:,}",
        _table(results, lambda result: result.equal_updates, _SCORES, _COSTS),
        f"## After equal time: that of {budget.time:,} updates of plain training",
        _table(results, lambda result: result.equal_time, [_UPDATES, *_SCORES]),
    ]
    if conditions.trivial:
        parts.append(
            "Without training: "
            + ", ".join(
                f"{name} BLEU {bleu:.1f}, chrF {chrf:.1f}"
                for name, (bleu, chrf) in conditions.trivial.items()
            )
            + "."
        )
    parts += [
        "## Which game was played",
        "Medians over the second half of the equal updates, means over seeds; losses in bits per"
        " target token. *adv_gain* is what the adversary adds to *adv_loss*; *interaction* is the"
        " leader-follower term's share of the gradient.",
        _gauge_table(results),
        "## Settings",
        "All: " + _code(conditions.options),
        "\n".join(
            f"- {result.contender.label}: {_code(result.contender.options)}" for result in results
        ),
        "; ".join(f"{name}: `{found}`" for name, found in conditions.signatures.items()),
        ", ".join(f"{tool} {version}" for tool, version in conditions.versions.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(
    results: Sequence[Result],
    outcome_of: Callable[[Result], Outcome | None],
    columns: Sequence[tuple[str, Callable[[Outcome], str]]],
    costs: Sequence[tuple[str, Callable[[Cost], str]]] = (),
) -> str:
    rows = [["method", *(name for name, _ in (*columns, *costs))]]
    for result in results:
        outcome = outcome_of(result)
        cells = ["-" if outcome is None else cell(outcome) for _, cell in columns]
        rows.append([result.contender.label, *cells, *(cell(result.cost) for _, cell in costs)])
    return markdown_table(rows)


def significance(outcome: Outcome) -> str:
    """Return in how many seeds BLEU is significantly better or worse than plain training's."""
    if outcome.bleu_difference is None:
        return "-"
    significant = [
        outcome.bleu_difference.by_seed[seed] > 0
        for seed, p in outcome.bleu_p.items()
        if p < _SIGNIFICANT
    ]
    better, worse = significant.count(True), significant.count(False)
    counts = [f"+{better}"] * (better > 0) + [f"-{worse}"] * (worse > 0) or ["0"]
    return f"{' '.join(counts)} of {len(outcome.bleu_p)}"


def _difference(outcome: Outcome) -> str:
    found = outcome.bleu_difference
    return "-" if found is None else over_seeds(found, sign="+")


_UPDATES = ("updates", lambda outcome: f"{outcome.updates:,}")
_SCORES: list[tuple[str, Callable[[Outcome], str]]] = [
    ("BLEU", lambda outcome: over_seeds(outcome.bleu)),
    ("against plain", _difference),
    ("p < 0.05", significance),
    ("chrF", lambda outcome: over_seeds(outcome.chrf)),
    ("length", lambda outcome: f"{outcome.length_ratio.mean:.2f}"),
    ("lenpen 1", lambda outcome: f"{outcome.bleu_untuned.mean:.1f}"),
    ("dev BLEU", lambda outcome: over_seeds(outcome.dev_bleu)),
]
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
                _gauge(gauges.get("delta_norm"), ".2f"),
                _gauge(gauges.get("interaction"), ".0%"),
                _gauge(gauges.get("proximal_loss"), ".3f"),
            ]
        )
    return markdown_table(rows) if len(rows) > 1 else "No method logged a gauge."


def _gauge(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _code(options: Sequence[str]) -> str:
    return f"`{shlex.join(options)}`"
