"""One picture of a training: losses, dev score and the gauges of a game over updates."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from recipes.support.files import written_whole
from recipes.training.training_log import (
    TRANSLATION,
    Kind,
    Record,
    TrainingLog,
    column,
    kind_of,
)

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_TRAIN, _DEV, _GAME, _GAIN = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_PROXIMAL = "#E69F00"
GREY = "#666666"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "text.parse_math": False,  # a user's label may hold dollar signs
}
_SMOOTHED_OVER = 5  # records


def plot_training(
    log: TrainingLog, title: str, epsilon: float | None, chosen_update: int, path: Path
) -> None:
    """Write the picture as a PNG, whole or not at all.

    :param epsilon: radius that bounds delta's norm, in embedding units; None if there is none.
    :param chosen_update: update of the checkpoint that was evaluated.
    """
    logged = {name for record in log.train for name in record.values}
    kind = kind_of(log.valid)
    gauges: list[Callable[[Axes], None]] = []  # methods without a follower log neither
    if "delta_norm" in logged:
        gauges.append(lambda axes: _norm(axes, log, epsilon))
    if "interaction" in logged:
        gauges.append(lambda axes: _interaction(axes, log))
    rows = 2 if "adv_loss" in logged else 1
    with matplotlib.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.12)
        figure = Figure(figsize=(11, 3.6 * rows), layout=layout)
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.add_gridspec(rows, 2, hspace=0.06)
        losses = figure.add_subplot(grid[0, 0])
        score = figure.add_subplot(grid[0, 1], sharex=losses)
        _losses(losses, log, kind)
        _score(score, log, chosen_update, kind)
        lowest = [losses, score]
        if rows == 2:
            place = grid[1, 0] if gauges else grid[1, :]
            lowest = [figure.add_subplot(place, sharex=losses)]
            _adversarial(lowest[0], log, kind)
        if rows == 2 and gauges:
            places = grid[1, 1].subgridspec(len(gauges), 1)
            stack = [figure.add_subplot(places[i], sharex=losses) for i in range(len(gauges))]
            for axes, draw in zip(stack, gauges, strict=True):
                draw(axes)
                axes.tick_params(labelbottom=axes is stack[-1])
            lowest.append(stack[-1])
        for axes in lowest:
            axes.set_xlabel("updates")
        last = max(record.update for record in (*log.train, *log.valid))
        losses.set_xlim(0, last * 1.01)
        losses.xaxis.set_major_locator(MaxNLocator(integer=True))
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def _losses(axes: Axes, log: TrainingLog, kind: Kind) -> None:
    axes.set_title(
        "Cross-entropy" if kind.score != "pearson_and_spearman" else "Squared difference"
    )
    axes.set_ylabel(f"bits per {kind.unit}")
    logged = {name for record in log.train for name in record.values}
    of_train = next((name for name in kind.losses if name in logged), kind.losses[-1])
    _line(axes, log.train, of_train, "train, with dropout", _TRAIN)
    _line(axes, log.valid, kind.losses[-1], "dev", _DEV, marker="o")
    if of_train != "loss":
        _line(axes, log.train, "loss", "training objective", _TRAIN, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.legend()


def _score(axes: Axes, log: TrainingLog, chosen_update: int, kind: Kind) -> None:
    name = kind.title
    axes.set_title(f"Dev {name}")
    axes.set_ylabel("BLEU, greedy search" if kind is TRANSLATION else f"{name}, per cent")
    _line(axes, log.valid, kind.score, None, _DEV, marker="o")
    chosen = {r.update: r.values[kind.score] for r in log.valid if kind.score in r.values}
    if chosen_update in chosen:
        value = chosen[chosen_update]
        label = f"chosen checkpoint: {value:.1f}"
        axes.plot(
            [chosen_update], [value], "o", ms=11, mfc="none", mec=GREY, label=label, clip_on=False
        )
        axes.legend(loc="upper left" if kind is TRANSLATION else "lower right")
    if kind is TRANSLATION:
        axes.set_ylim(0, max(1, axes.get_ylim()[1]))


def _adversarial(axes: Axes, log: TrainingLog, kind: Kind) -> None:
    axes.set_title("Loss of the perturbed pass")
    axes.set_ylabel(f"bits per {kind.unit}")
    _line(axes, log.train, "adv_loss", "all of it (adv_loss)", _GAME)
    _points(axes, log.train, "adv_gain", "what the perturbation adds (adv_gain)", _GAIN)
    _line(
        axes, log.train, "proximal_loss", "distance from earlier models (proximal_loss)", _PROXIMAL
    )
    low, high = axes.get_ylim()
    axes.set_ylim(min(0, low), high + 0.25 * (high - low))  # room for the legend
    axes.legend(loc="upper left")


def _norm(axes: Axes, log: TrainingLog, epsilon: float | None) -> None:
    axes.set_title("Norm of the perturbation")
    axes.set_ylabel("embedding units")
    _line(axes, log.train, "delta_norm", "delta_norm", _GAME)
    if epsilon is not None:
        axes.axhline(epsilon, color=GREY, linestyle="--", linewidth=1.2, label="epsilon")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    axes.legend(loc="center right")


def _interaction(axes: Axes, log: TrainingLog) -> None:
    axes.set_title("Leader-follower term (interaction)")
    axes.set_ylabel("gradient share")
    _points(axes, log.train, "interaction", None, _GAIN)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _line(
    axes: Axes,
    records: Sequence[Record],
    name: str,
    label: str | None,
    colour: str,
    marker: str = "",
    linestyle: str = "-",
) -> None:
    updates, values = column(records, name)
    if not updates:  # a legend does not name what is not there
        return
    if marker:  # few: every one counts
        axes.plot(updates, values, color=colour, label=label, marker=marker, markersize=4)
        return
    axes.plot(updates, smooth(values, np.mean), color=colour, label=label, linestyle=linestyle)


def _points(
    axes: Axes, records: Sequence[Record], name: str, label: str | None, colour: str
) -> None:
    """Draw a gauge that is measured now and then, on a single batch, so that it jumps about."""
    updates, values = column(records, name)
    if not updates:
        return
    axes.plot(updates, values, "o", color=colour, markersize=4, label=label)
    axes.plot(updates, smooth(values, np.median), color=colour, alpha=0.5, linewidth=1.2)


def smooth(
    values: Sequence[float], average: Callable[[Sequence[float]], np.floating]
) -> list[float]:
    """Return running averages over the neighbours on either side, fewer at the ends."""
    reach = _SMOOTHED_OVER // 2
    return [float(average(values[max(0, i - reach) : i + reach + 1])) for i in range(len(values))]
