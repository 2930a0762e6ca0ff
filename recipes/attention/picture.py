"""Sentences with their attention and importance as one picture, after the paper's Figure 3."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from recipes.attention.agreement import SENTENCE, Agreement, Explained
from recipes.attention.page import SIDES, heading, shades
from recipes.support.files import written_whole
from recipes.support.plot import GREY, STYLE

# Okabe and Ito's colours, which colour-blind readers can tell apart, light enough to read on.
_SHADES = [
    LinearSegmentedColormap.from_list(side, ["#ffffff", colour])
    for side, colour in zip(SIDES, ("#3f96cc", "#e88a4a"), strict=True)
]
_FONT = 10
# All in inches.
_MARGIN, _TITLE, _LINE, _CELL = 0.2, 0.55, 0.27, 0.26
_COLUMN, _GAP = 5.6, 0.4


def plot_sentences(
    models: Mapping[str, Sequence[Explained]],
    found: Mapping[str, Agreement],
    title: str,
    path: Path,
) -> None:
    """Draw the sentences of each model, one below the other: attention left, importance right.

    Translations are matrices, a row for each target word. The file is a PNG, written whole or not
    at all.
    """
    with (
        matplotlib.rc_context({**STYLE, "axes.grid": False}),
        warnings.catch_warnings(),
        written_whole(path) as temporary,
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn; the page has it
        unit = next(iter(found.values())).unit
        figure = (_texts if unit == SENTENCE else _matrices)(models, found, title)
        figure.savefig(temporary, dpi=130)


def _label(name: str, of: Agreement) -> str:
    if of.correlation is None:
        return f"{name}: no correlation"
    return f"{name}: correlation {of.correlation:.3f}"


def _texts(
    models: Mapping[str, Sequence[Explained]], found: Mapping[str, Agreement], title: str
) -> Figure:
    width = 2 * _MARGIN + 2 * _COLUMN + _GAP
    layouts = {name: [_lines(of.words) for of in shown] for name, shown in models.items()}
    lines = sum(
        2 + sum(1.4 + places[-1][1] + 1 for places in of_model) for of_model in layouts.values()
    )
    height = _TITLE + _LINE * lines + _MARGIN
    figure = Figure(figsize=(width, height))

    def write(text: str, x: float, top: float, **more: Any) -> None:
        figure.text(x / width, 1 - top / height, text, **more)

    write(title, _MARGIN, _MARGIN + 0.1, fontsize=13, fontweight="bold", va="center")
    top = _TITLE
    for name, shown in models.items():
        top += _LINE
        lefts = (_MARGIN, _MARGIN + _COLUMN + _GAP)
        write(_label(name, found[name]), lefts[0], top, fontsize=11, fontweight="bold")
        top += _LINE
        for left, side in zip(lefts, SIDES, strict=True):
            write(side, left, top, fontsize=9, color=GREY, fontweight="bold")
        for of, places in zip(shown, layouts[name], strict=True):
            top += 1.2 * _LINE
            write(heading(of, SENTENCE), lefts[0], top, fontsize=8, color=GREY)
            top += 1.2 * _LINE
            for left, values, colours in zip(
                lefts, (of.attention, of.importance), _SHADES, strict=True
            ):
                for word, (x, line), shade in zip(of.words, places, shades(values)[0], strict=True):
                    box = {"facecolor": colours(shade), "edgecolor": "none", "pad": 2.2}
                    write(word, left + x, top + _LINE * line, fontsize=_FONT, bbox=box)
            top += _LINE * places[-1][1]
    return figure


def _lines(words: Sequence[str]) -> list[tuple[float, int]]:
    """Return where in a column each word begins, in inches, and in which line."""
    canvas = FigureCanvasAgg(Figure())
    renderer, dpi = canvas.get_renderer(), canvas.figure.dpi
    font = FontProperties(size=_FONT)

    def wide(text: str) -> float:
        return float(renderer.get_text_width_height_descent(text, font, ismath=False)[0]) / dpi

    space = wide(" ") + 0.06  # and the edges of two boxes
    places, x, line = [], 0.0, 0
    for word in words:
        if x and x + wide(word) > _COLUMN:
            x, line = 0.0, line + 1
        places.append((x, line))
        x += wide(word) + space
    return places


def _matrices(
    models: Mapping[str, Sequence[Explained]], found: Mapping[str, Agreement], title: str
) -> Figure:
    rows = [(name, of) for name, shown in models.items() for of in shown]
    heights = [_CELL * len(of.said) for _, of in rows]
    widest = max((_CELL * len(of.words) for _, of in rows), default=1.0)
    around = 1.5  # of a matrix, for its words
    size = (2 * (widest + around) + _MARGIN, _TITLE + sum(heights) + around * max(1, len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    if not rows:
        return figure
    ratios = [of + around for of in heights]
    parts = figure.subfigures(len(rows), 1, height_ratios=ratios, squeeze=False)
    for part, (name, of) in zip(parts[:, 0], rows, strict=True):
        text = f"{_label(name, found[name])}\n{heading(of, found[name].unit)}"
        part.suptitle(text, fontsize=9, color=GREY, x=0.01, ha="left")
        for axes, side, values, colours in zip(
            part.subplots(1, 2), SIDES, (of.attention, of.importance), _SHADES, strict=True
        ):
            _matrix(axes, of, side, values, colours)
    return figure


def _matrix(
    axes: Axes, of: Explained, side: str, values: np.ndarray, colours: LinearSegmentedColormap
) -> None:
    axes.imshow(shades(values), cmap=colours, vmin=0, vmax=1)
    axes.set_xticks(range(len(of.words)), of.words, rotation=60, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(of.said)), of.said)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=9)
    axes.set_xlabel(side, color=GREY, fontweight="bold")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(len(of.words) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(of.said) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6e6e6", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
