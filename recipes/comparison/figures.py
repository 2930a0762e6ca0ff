"""A comparison as pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.comparison.kinds.kind import Column, Kind
from recipes.comparison.plan import Budget
from recipes.comparison.results import Outcome, Result
from recipes.support.files import written_whole
from recipes.support.plot import GREY, STYLE, smooth
from recipes.training.training_log import column

# Okabe and Ito's colours, which colour-blind readers can tell apart, and two greys.
_COLOURS = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#B8A800"),
    *("#888888", "#7B3F99"),
)
_LINES = ("-", "--", ":")


def plot_curves(
    results: Sequence[Result], kind: Kind, budget: Budget, title: str, path: Path
) -> None:
    """Draw dev scores over updates and over time, and losses: means over seeds, with their range.

    Dotted lines are where the methods are compared.

    The file is a PNG, written whole or not at all.
    """
    drawn = [result for result in results if result.logs]
    bits, plain_updates = f"bits per {kind.unit}", "time, in updates of plain training"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 8.4), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        scores, in_time, dev, train = figure.subplots(2, 2).flat
        for number, result in enumerate(drawn):
            look = _look(number)
            logs = list(result.logs.values())
            chosen_by = _over_seeds([column(log.valid, kind.chosen_by.key) for log in logs])
            _draw(scores, chosen_by, result.contender.label, look)
            _draw(in_time, chosen_by, None, look, per_update=result.cost.time)
            losses = [kind.losses(log) for log in logs]
            _draw(dev, _over_seeds([of_dev for _, of_dev in losses]), None, look)
            _draw(train, _over_seeds([_smoothed(of_train) for of_train, _ in losses]), None, look)
        for axes, heading, x, y in (
            (scores, "Dev set", "updates", kind.chosen_by.title),
            (in_time, "Dev set over time", plain_updates, kind.chosen_by.title),
            (dev, "Loss on dev", "updates", bits),
            (train, "Loss in training, unperturbed", "updates", bits),
        ):
            axes.set_title(heading)
            axes.set_xlabel(x)
            axes.set_ylabel(y)
            axes.set_xlim(left=0)
        for axes, compared in ((scores, budget.updates), (in_time, budget.time)):
            axes.set_ylim(bottom=kind.floor)
            axes.axvline(compared, color=GREY, linestyle=":", linewidth=1.2)
        for axes in (dev, train):
            _leave_out_the_beginning(axes)
        figure.legend(loc="outside lower left", ncols=5)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def plot_bars(results: Sequence[Result], kind: Kind, title: str, path: Path) -> None:
    """Draw test scores against plain training: means, standard deviations, each seed.

    The file is a PNG, written whole or not at all.
    """
    others = [
        result
        for result in results
        if result.equal_updates and any(result.equal_updates.differences.values())
    ]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 1.6 + 0.55 * max(2, len(others))), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        panels = figure.subplots(1, len(kind.compared), sharey=True, squeeze=False)[0]
        for axes, compared in zip(panels, kind.compared, strict=True):
            _bars(axes, others, compared)
        panels[0].legend(loc="best")
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


@dataclass(frozen=True)
class _Curve:
    """Means over seeds, with their range."""

    updates: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _over_seeds(curves: Sequence[tuple[list[int], list[float]]]) -> _Curve:
    """Return the curve over those updates that all seeds have."""
    by_update = [dict(zip(*curve, strict=True)) for curve in curves]
    updates = sorted(set.intersection(*(set(values) for values in by_update)))
    table = np.array([[values[update] for update in updates] for values in by_update])
    return _Curve(np.array(updates), table.mean(0), table.min(0), table.max(0))


def _smoothed(curve: tuple[list[int], list[float]]) -> tuple[list[int], list[float]]:
    updates, values = curve
    return updates, smooth(values, np.mean)


def _draw(
    axes: Axes, curve: _Curve, label: str | None, look: Mapping[str, Any], per_update: float = 1.0
) -> None:
    x = curve.updates * per_update
    axes.plot(x, curve.mean, label=label, **look)
    axes.fill_between(x, curve.low, curve.high, color=look["color"], alpha=0.12, linewidth=0)


def _look(number: int) -> dict[str, Any]:
    """Return colour and line style of the n-th method; many methods differ in style too."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _LINES[number // len(_COLOURS) % len(_LINES)],
    }


def _leave_out_the_beginning(axes: Axes) -> None:
    """Set the limits so that the fall from a uniform prediction does not flatten all the rest."""
    curves = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    curves = [curve for curve in curves if curve.size]
    if not curves:  # too few updates for the log
        return
    low = min(curve.min() for curve in curves)
    late = max(curve[len(curve) // 3 :].max() for curve in curves)
    axes.set_ylim(low - 0.05 * (late - low), late + 0.05 * (late - low))


def _bars(axes: Axes, results: Sequence[Result], compared: Column) -> None:
    """Draw a pair of bars per method: after equally many updates, and after equal time."""
    for offset, when, what, colour in (
        (-0.2, "equal_updates", "equal updates", "#0072B2"),
        (0.2, "equal_time", "equal time", "#E69F00"),
    ):
        for number, result in enumerate(results):
            outcome: Outcome | None = getattr(result, when)
            found = outcome.differences[compared.key] if outcome else None
            if found is None:
                continue
            y = number + offset
            axes.barh(y, found.mean, 0.36, color=colour, alpha=0.75)
            if found.std is not None:
                axes.errorbar(found.mean, y, xerr=found.std, color=GREY, capsize=3, linewidth=1.2)
            seeds = list(found.by_seed.values())
            axes.plot(seeds, [y] * len(seeds), "o", color="black", markersize=3.5, alpha=0.7)
        axes.barh([0], [0], color=colour, alpha=0.75, label=what)  # for the legend
    axes.axvline(0, color="black", linewidth=1)
    axes.set_title(f"Test {compared.title}, against plain training")
    axes.set_xlabel(f"{compared.title} points; line: standard deviation, dots: seeds")
    axes.set_yticks(range(len(results)), [result.contender.label for result in results])
    axes.set_ylim(len(results) - 0.4, -0.6)  # the first one on top
    axes.grid(axis="y", visible=False)
