"""Our figures beside the paper's: in cells, and in a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.support.files import written_whole
from recipes.support.plot import GREY, STYLE
from recipes.support.seeds import OverSeeds, over_seeds

_PER_ROW = 4


@dataclass(frozen=True)
class Beside:
    """A method's figure, the paper's and ours; None where there is none.

    :param label: what the method is called.
    """

    label: str
    paper: float | None
    ours: OverSeeds | None


def cell(figure: OverSeeds | None, sign: str = "", digits: int = 1) -> str:
    """Return a cell of a table."""
    return "-" if figure is None else over_seeds(figure, digits, sign)


@dataclass(frozen=True)
class Panel:
    """What is drawn beside one another.

    :param axis: what the figures are.
    """

    title: str
    axis: str
    methods: Sequence[Beside]


def plot_beside(panels: Sequence[Panel], title: str, path: Path) -> None:
    """Draw panels, a pair of bars a method. A PNG, written whole or not at all."""
    tallest = max(len(panel.methods) for panel in panels)
    columns = min(len(panels), _PER_ROW)
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        size = (1 + 4.6 * columns, 0.6 + rows * (0.9 + 0.55 * tallest))
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid[: len(panels)], panels, strict=True):
            _panel(axes, panel.methods, panel.axis)
            axes.set_title(panel.title)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def _panel(axes: Axes, methods: Sequence[Beside], axis: str) -> None:
    drawn: list[float] = []
    for y, of in enumerate(methods):
        if of.paper is not None:
            axes.barh(y + 0.2, of.paper, 0.36, color="#BBBBBB")
            drawn.append(of.paper)
        if of.ours is not None:
            axes.barh(y - 0.2, of.ours.mean, 0.36, color="#0072B2", alpha=0.8)
            seeds = list(of.ours.by_seed.values())
            axes.plot(seeds, [y - 0.2] * len(seeds), "o", color="black", markersize=3.5, alpha=0.7)
            if of.ours.std is not None:
                axes.errorbar(
                    of.ours.mean, y - 0.2, xerr=of.ours.std, color=GREY, capsize=3, linewidth=1.2
                )
            drawn += seeds
    axes.barh([0], [0], color="#0072B2", alpha=0.8, label="ours (dots: seeds)")
    axes.barh([0], [0], color="#BBBBBB", label="paper")
    axes.set_yticks(range(len(methods)), [of.label for of in methods])
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    left = 0.0
    if drawn:  # the differences are small beside the scores
        low, high = min(drawn), max(drawn)
        left = max(0.0, low - 0.6 * (high - low) - 0.5)
        axes.set_xlim(min(left, low), high + 0.1 * (high - low) + 0.2)
    axes.set_xlabel(f"{axis} (the axis does not begin at 0)" if left else axis)
