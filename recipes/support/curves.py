"""Curves of several trainings: means over seeds, with their range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from recipes.support.plot import smooth
from recipes.support.seeds import OverSeeds
from recipes.training.training_log import Curve

# Okabe and Ito's colours, which colour-blind readers can tell apart, and two greys.
_COLOURS = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#B8A800"),
    *("#888888", "#7B3F99"),
)
_LINES = ("-", "--", ":")


@dataclass(frozen=True)
class Band:
    """Means over seeds, with their range."""

    updates: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def band(curves: Sequence[Curve]) -> Band:
    """Return the curve over those updates that all seeds have.

    :param curves: of each seed, updates and values there.
    """
    by_update = [dict(zip(*curve, strict=True)) for curve in curves]
    updates = sorted(set.intersection(*(set(values) for values in by_update)))
    table = np.array([[values[update] for update in updates] for values in by_update])
    return Band(np.array(updates), table.mean(0), table.min(0), table.max(0))


def smoothed(curve: Curve) -> Curve:
    """Return running averages of a curve."""
    updates, values = curve
    return updates, smooth(values, np.mean)


def draw(
    axes: Axes, curve: Band, label: str | None, style: Mapping[str, Any], per_update: float = 1.0
) -> None:
    """Draw a curve and its range.

    :param per_update: the unit of the axis.
    """
    x = curve.updates * per_update
    axes.plot(x, curve.mean, label=label, **style)
    axes.fill_between(x, curve.low, curve.high, color=style["color"], alpha=0.12, linewidth=0)


def draw_points(
    axes: Axes, figures: Mapping[float, OverSeeds | None], label: str, style: Mapping[str, Any]
) -> None:
    """Draw a curve through figures over seeds, with their deviations.

    :param figures: by what is on the axis; None where there is none.
    """
    found = {value: figure for value, figure in figures.items() if figure is not None}
    if found:
        axes.errorbar(
            list(found),
            [figure.mean for figure in found.values()],
            yerr=[figure.std or 0.0 for figure in found.values()],
            marker="o",
            markersize=5,
            capsize=3,
            label=label,
            **style,
        )


def look(number: int) -> dict[str, Any]:
    """Return colour and line style of the n-th method; many methods differ in style too."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _LINES[number // len(_COLOURS) % len(_LINES)],
    }


def leave_out_the_beginning(axes: Axes) -> None:
    """Set the limits so that the fall from a uniform prediction does not flatten all the rest."""
    curves = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    curves = [curve for curve in curves if curve.size]
    if not curves:  # too few updates for the log
        return
    low = min(curve.min() for curve in curves)
    late = max(curve[len(curve) // 3 :].max() for curve in curves)
    if late > low:
        axes.set_ylim(low - 0.05 * (late - low), late + 0.05 * (late - low))
