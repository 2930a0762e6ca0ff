"""What a benchmark found: rows, as JSON, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recipes.support.files import write_json, written_whole
from recipes.support.plot import GREY, STYLE

_BAR, _FLOOR = "#0072B2", "#D55E00"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


@dataclass(frozen=True)
class Row:
    """One figure.

    :param name: of what was measured.
    :param threads: of torch, or processes.
    :param ratio: to the baseline; None where there is none.
    :param floor: what the ratio is at least, from a count of passes.
    :param more: what else was measured, and how.
    """

    name: str
    model: str
    threads: int
    ratio: float | None
    floor: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the row as an object, without a floor if there is none."""
        floor = {} if self.floor is None else {"floor": self.floor}
        named = {"name": self.name, "model": self.model, "threads": self.threads}
        return named | {"ratio": self.ratio} | floor | dict(self.more)


def write(rows: Sequence[Row], path: Path) -> None:
    """Write rows as a JSON list, whole or not at all."""
    write_json([row.as_json() for row in rows], path)


def table(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as text.

    :param columns: those of `more` to show.
    """
    head = ["", "model", "threads", "ratio", "floor", *columns]
    lines = [head]
    for row in rows:
        more = (row.more.get(name) for name in columns)
        lines.append([row.name, row.model, *map(_cell, (row.threads, row.ratio, row.floor, *more))])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def draw_bars(rows: Sequence[Row], title: str, unit: str, path: Path) -> None:
    """Draw the ratios as bars with a mark at each floor, a panel per model and threads.

    :param unit: of the ratio.

    The file is a PNG, written whole or not at all.
    """
    panels = _grouped([row for row in rows if row.ratio is not None], _place)
    longest = max(map(len, panels.values()))

    def bars(axes: Axes, rows: Sequence[Row]) -> None:
        heights = np.arange(len(rows))
        axes.barh(heights, _values(row.ratio for row in rows), color=_BAR, height=0.7, alpha=0.85)
        for height, row in zip(heights, rows, strict=True):
            if row.floor is not None:
                ends = (height - 0.42, height + 0.42)
                axes.plot([row.floor] * 2, ends, color=_FLOOR, linewidth=2.2)
            assert row.ratio is not None, "such rows are not drawn"
            axes.annotate(
                f"{row.ratio:.2f}",
                (max(row.ratio, row.floor or 0), height),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(heights, [row.name for row in rows], fontsize=9)
        axes.invert_yaxis()
        axes.axvline(1.0, color=GREY, linestyle=":", linewidth=1.2)
        axes.margins(x=0.12)
        axes.set_xlabel(unit)
        axes.grid(axis="y", visible=False)
        axes.set_axisbelow(True)
        if any(row.floor is not None for row in rows):
            axes.plot([], [], color=_FLOOR, linewidth=2.2, label="floor")
            axes.legend(loc="upper right", fontsize=8)

    _draw(panels, bars, title, 1.6 + 0.3 * longest, path)


def draw_lines(
    rows: Sequence[Row], scales: Mapping[str, str], title: str, unit: str, path: Path
) -> None:
    """Draw the ratios of each `series` as a line, and dashed its floors.

    :param scales: what there is in `more` to draw over, and the label of such an axis.
    :param unit: of the ratio.

    A panel per scale, model and number of threads; the file is a PNG, written whole or not at all.
    """
    panels: dict[str, list[Row]] = {}
    scale_of: dict[str, str] = {}
    for scale in scales:
        for place, chosen in _grouped([row for row in rows if scale in row.more], _place).items():
            heading = place if len(scales) == 1 else f"{scale}: {place}"
            panels[heading] = chosen
            scale_of[heading] = scale

    def lines(axes: Axes, rows: Sequence[Row]) -> None:
        scale = scale_of[axes.get_title(loc="left")]
        series = _grouped(rows, lambda row: str(row.more["series"]))
        for colour, (name, points) in zip(_LINES, series.items(), strict=False):
            points.sort(key=lambda row: row.more[scale])
            at = [row.more[scale] for row in points]
            ratios = _values(row.ratio for row in points)
            axes.plot(at, ratios, "o-", color=colour, label=name)
            floors = _values(row.floor for row in points)
            axes.plot(at, floors, "--", color=colour, linewidth=1.2)
        axes.plot([], [], "--", color=GREY, linewidth=1.2, label="floor")
        axes.set_xlabel(scales[scale])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)

    _draw(panels, lines, title, 4.2, path)


def _draw(
    panels: Mapping[str, Sequence[Row]],
    draw: Callable[[Axes, Sequence[Row]], None],
    title: str,
    height: float,
    path: Path,
) -> None:
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2 * across, height * down), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(down, across, squeeze=False)
        for axes, (heading, rows) in zip(grid.flat, panels.items(), strict=False):
            axes.set_title(heading)
            draw(axes, rows)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def _values(found: Iterable[float | None]) -> list[float]:
    """Return numbers, where nothing is drawn for none."""
    return [math.nan if value is None else value for value in found]


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _place(row: Row) -> str:
    threads = "1 thread" if row.threads == 1 else f"{row.threads} threads"
    return f"{row.model}, {threads}"
