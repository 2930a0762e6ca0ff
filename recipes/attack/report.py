"""Attack success rates: which examples count, how far chance may move them, and all attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from recipes.attack.search import Attempt, Texts
from recipes.sentences.metrics import resamples
from recipes.support.curves import look
from recipes.support.files import write_json, write_table, written_whole
from recipes.support.markdown import markdown_table
from recipes.support.plot import STYLE

FOUND, ATTACKS, TABLE, PICTURE = "attack.json", "attacks.tsv", "attack.md", "attack.png"

SYNONYMS, ANTONYMS, NEGATION = "synonyms", "antonyms", "negation"
KINDS = (SYNONYMS, ANTONYMS, NEGATION)

_MEANT = {
    SYNONYMS: "answers that change, and should not (fickle)",
    ANTONYMS: "answers that stay, and should not (obstinate)",
    NEGATION: "answers that stay, and should not (obstinate)",
}
_COLUMNS = (
    *("model", "attack", "id", "class", "succeeded", "candidates", "before", "behind", "calls"),
    *("changed", "texts", "attacked texts"),
)


@dataclass(frozen=True)
class Tried:
    """An attack on one example.

    :param number: of the example in its split, from 0.
    :param label: its class.
    """

    number: int
    label: str
    texts: Texts
    attempt: Attempt


@dataclass(frozen=True)
class Rate:
    """A share of examples, per cent, with its 95 % interval by the bootstrap; None of none."""

    value: float | None
    low: float | None
    high: float | None

    @staticmethod
    def of(successes: Sequence[bool]) -> "Rate":
        """Return the share of successes."""
        if not successes:
            return Rate(None, None, None)
        values = 100.0 * np.array(successes)
        means = [values[drawn].mean() for drawn in resamples(len(values))]
        low, high = np.percentile(means, (2.5, 97.5)).tolist()
        return Rate(float(values.mean()), low, high)

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"


@dataclass(frozen=True)
class Outcome:
    """An attack on one model.

    :param attacked: examples that are classified rightly, of the classes that count.
    :param possible: those of them that have a word to change.
    :param rate: successes of those attacked, which is the paper's; one without such a word is a
        failure.
    :param of_possible: successes of those that have one.
    :param words: changed in successes, mean; None for negations, and without successes.
    :param calls: examples that the model has read, for all of it.
    """

    attacked: int
    possible: int
    rate: Rate
    of_possible: Rate
    words: float | None
    calls: int

    @staticmethod
    def of(tried: Sequence[Tried]) -> "Outcome":
        """Return what came of an attack."""
        attempts = [of.attempt for of in tried]
        possible = [of for of in attempts if of.candidates]
        lengths = [len(of.changed) for of in attempts if of.succeeded and of.changed]
        return Outcome(
            len(attempts),
            len(possible),
            Rate.of([of.succeeded for of in attempts]),
            Rate.of([of.succeeded for of in possible]),
            sum(lengths) / len(lengths) if lengths else None,
            sum(of.calls for of in attempts),
        )


Found = Mapping[str, tuple[np.ndarray, Mapping[str, Sequence[Tried]]]]
"""By model: which examples it has right, and its attacks by kind."""


def write(found: Found, facts: Mapping[str, Any], out: Path) -> str:
    """Write table, picture, figures and all attempts to `out`; return the table."""
    outcomes = {
        model: {kind: Outcome.of(tried) for kind, tried in kinds.items()}
        for model, (_, kinds) in found.items()
    }
    accuracies = {model: 100 * float(right.mean()) for model, (right, _) in found.items()}
    table = _table(outcomes, accuracies)
    lines = [f"# Attacks on {facts['split']}", "", table, "", *_definitions(facts)]
    with written_whole(out / TABLE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = _rows(found)
    write_table({name: [row[i] for row in rows] for i, name in enumerate(_COLUMNS)}, out / ATTACKS)
    rates = {model: {kind: o.rate for kind, o in of.items()} for model, of in outcomes.items()}
    plot_rates(rates, _MEANT, out / PICTURE)
    models = {
        model: {
            "accuracy": accuracies[model],
            "attacks": {
                kind: vars(of) | {"rate": vars(of.rate), "of_possible": vars(of.of_possible)}
                for kind, of in kinds.items()
            },
        }
        for model, kinds in outcomes.items()
    }
    write_json({**facts, "models": models}, out / FOUND)
    return table


def _table(outcomes: Mapping[str, Mapping[str, Outcome]], accuracies: Mapping[str, float]) -> str:
    rows: list[Sequence[str]] = [
        [
            *("model", "accuracy", "attack", "succeeds", "attacked", "of those with a word"),
            *("words", "model calls"),
        ]
    ]
    for model, kinds in outcomes.items():
        for kind, of in kinds.items():
            words = "-" if of.words is None else f"{of.words:.1f}"
            possible = f"{of.of_possible}, {of.possible:,}"
            row = [model, f"{accuracies[model]:.1f}", kind, str(of.rate), f"{of.attacked:,}"]
            rows.append([*row, possible, words, f"{of.calls:,}"])
    return markdown_table(rows)


def _definitions(facts: Mapping[str, Any]) -> list[str]:
    skipped = ", ".join(facts["skip_classes"])
    return [
        "- *Succeeds*: per cent of the examples that the model has right, with the 95 % interval of"
        " the bootstrap over examples. One that has no word to change is a failure; the next column"
        " is without these.",
        "- Synonyms: the answer becomes wrong; words are replaced from the most important on"
        f" ({facts['most_words'] or 'any number'}), by the nearest that leads astray. Antonyms: one"
        " word is replaced, and the answer stays. Negation: one verb is negated, or a negation"
        " taken away, and the answer stays."
        + (" It has to become more probable, too." if facts["confident"] else ""),
        "- A new word has the part of speech of the old one, in its sentence."
        + (f" Antonyms and negations are no attack on {skipped}." if skipped else ""),
    ]


def _rows(found: Found) -> list[list[str]]:
    """Return all attempts."""
    rows = []
    for model, (_, kinds) in found.items():
        for kind, tried in kinds.items():
            for of in tried:
                attempt = of.attempt
                before, behind = (f"{value:.4f}" for value in attempt.probability)
                columns = [
                    *(model, kind, str(of.number), of.label),
                    *("yes" if yes else "no" for yes in (attempt.succeeded, attempt.candidates)),
                    *(before, behind, str(attempt.calls)),
                    ", ".join(f"{old} > {new}" for old, new in attempt.changed),
                    *(" ||| ".join(texts) for texts in (of.texts, attempt.texts)),
                ]
                rows.append(columns)
    return rows


def plot_rates(
    rates: Mapping[str, Mapping[str, Rate]], meant: Mapping[str, str], path: Path
) -> None:
    """Draw a panel for each attack, a bar a model. A PNG, written whole or not at all.

    :param meant: of what an attack's rate is, by its kind.
    """
    kinds = list(next(iter(rates.values())))
    with matplotlib.rc_context(STYLE):
        size = (1 + 3.6 * len(kinds), 1.4 + 0.45 * len(rates))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
        for axes, kind in zip(grid, kinds, strict=True):
            for place, (model, of) in enumerate(rates.items()):
                rate = of[kind]
                if rate.value is not None and rate.low is not None and rate.high is not None:
                    axes.barh(place, rate.value, 0.6, color=look(place + 1)["color"], alpha=0.6)
                    middle, half = (rate.low + rate.high) / 2, (rate.high - rate.low) / 2
                    axes.errorbar(middle, place, xerr=half, color="black", capsize=3, fmt="none")
                axes.text(0, place, f" {model}", va="center", fontsize=8)
            axes.set_yticks([])
            axes.set_ylim(len(rates) - 0.5, -0.5)  # the first one on top
            axes.set_xlim(0, 100)
            axes.set_title(kind)
            axes.set_xlabel(f"per cent, {meant[kind]}", fontsize=8)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)
