"""A comparison as pictures."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.comparison.kinds.kind import Column, Kind
from recipes.comparison.plan import Budget
from recipes.comparison.results import Outcome, Result
from recipes.support.curves import band, draw, leave_out_the_beginning, look, smoothed
from recipes.support.files import written_whole
from recipes.support.plot import GREY, STYLE
from recipes.training.training_log import column


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
            style = look(number)
            logs = list(result.logs.values())
            chosen_by = band([column(log.valid, kind.chosen_by.key) for log in logs])
            draw(scores, chosen_by, result.contender.label, style)
            draw(in_time, chosen_by, None, style, per_update=result.cost.time)
            losses = [kind.losses(log) for log in logs]
            draw(dev, band([of_dev for _, of_dev in losses]), None, style)
            draw(train, band([smoothed(of_train) for of_train, _ in losses]), None, style)
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
            leave_out_the_beginning(axes)
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
