"""Figure 1: what BLEU does when the number of unrolled steps, or the radius, changes.

The radius matters only to a follower that reaches it. With the step sizes of Table 8 none does
(docs/presets.md), so that panels (b) and (c) would be flat whatever the method; here a step is as
long as the radius, and the follower ends on the rim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from recipes.paper.beside import cell
from recipes.paper.runs import Translating, over_runs
from recipes.paper.tables import PLAIN
from recipes.support.curves import draw_points
from recipes.support.files import written_whole
from recipes.support.markdown import markdown_table
from recipes.support.methods import name_of
from recipes.support.plot import STYLE
from recipes.support.seeds import OverSeeds

METHODS = ("salt", "smart")
_COLOURS = {"salt": "#0072B2", "smart": "#E69F00"}


@dataclass(frozen=True)
class Panel:
    """One panel of the figure.

    :param axis: what changes.
    :param settings: how to change a method, by the value on the axis.
    :param logarithmic: whether the axis is.
    """

    title: str
    axis: str
    settings: dict[float, str]
    logarithmic: bool

    def method(self, method: str, value: float) -> str:
        """Return a preset with the changes that play with a value."""
        return f"{method},{self.settings[value]}"

    @property
    def methods(self) -> list[str]:
        """All that is trained for this panel."""
        return [self.method(method, value) for method in METHODS for value in self.settings]


def panels(steps: Sequence[int], radii: Sequence[float]) -> list[Panel]:
    """Return the panels (a), (b) and (c)."""
    return [
        Panel(
            "(a) ascent steps, all of them unrolled",
            "K",
            {k: f"--ascent-steps={k}" for k in steps},
            logarithmic=False,
        ),
        *(
            Panel(
                f"({letter}) radius of the {sign} ball",
                "epsilon",
                {
                    radius: f"--norm={norm},--epsilon={radius:g},--ascent-step-size={radius:g}"
                    for radius in radii
                },
                logarithmic=True,
            )
            for letter, norm, sign in (("b", "l2", "l2"), ("c", "linf", "l-infinity"))
        ),
    ]


@dataclass(frozen=True)
class Point:
    """BLEU at one value; None if no run is finished."""

    panel: str
    method: str
    value: float
    bleu: OverSeeds | None

    def as_json(self) -> dict[str, Any]:
        """Return all of it in plain containers."""
        return vars(self) | {"bleu": self.bleu.as_json() if self.bleu else None}


def points_of(drawn: Sequence[Panel], runs: Sequence[Translating], score: str) -> list[Point]:
    """Return all points of the panels."""
    by_method: dict[str, list[Translating]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    return [
        Point(
            panel.title,
            method,
            value,
            over_runs(by_method.get(panel.method(method, value), []), score),
        )
        for panel in drawn
        for method in METHODS
        for value in panel.settings
    ]


def markdown(
    name: str,
    drawn: Sequence[Panel],
    points: Sequence[Point],
    plain: OverSeeds | None,
    seeds: Sequence[int],
    notes: Sequence[str],
) -> str:
    """Return a table for each panel.

    :param name: of the recipe.
    :param plain: BLEU of plain training.
    """
    parts = [
        f"# Figure 1 of Zuo et al. (2021): {name}",
        f"BLEU on the test set, mean ± standard deviation over the seeds"
        f" {', '.join(map(str, seeds))}. Plain training: {cell(plain)}. A step is as long as the"
        " radius, so that the follower reaches it.",
    ]
    for panel in drawn:
        found = {(p.method, p.value): p.bleu for p in points if p.panel == panel.title}
        rows = [[panel.axis, *(name_of(method) for method in METHODS)]]
        rows += [
            [f"{value:g}", *(cell(found[method, value]) for method in METHODS)]
            for value in panel.settings
        ]
        parts += [f"## {panel.title}", markdown_table(rows)]
    return "\n\n".join([*parts, *notes]) + "\n"


def plot(
    name: str,
    drawn: Sequence[Panel],
    points: Sequence[Point],
    plain: OverSeeds | None,
    path: Path,
) -> None:
    """Draw the three panels with the same axis of BLEU. A PNG, written whole or not at all."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        figure.suptitle(f"{name}: BLEU", fontsize=13, fontweight="bold", x=0.01, ha="left")
        panels_of_figure = figure.subplots(1, len(drawn), sharey=True)
        for axes, panel in zip(panels_of_figure, drawn, strict=True):
            for method in METHODS:
                of_panel = [p for p in points if (p.panel, p.method) == (panel.title, method)]
                style = {"color": _COLOURS[method]}
                draw_points(axes, {p.value: p.bleu for p in of_panel}, name_of(method), style)
            if plain is not None:
                axes.axhline(
                    plain.mean, color="black", linestyle="--", linewidth=1.2, label="plain"
                )
            axes.set_title(panel.title)
            axes.set_xlabel(panel.axis)
            if panel.logarithmic:
                axes.set_xscale("log")
            values = list(panel.settings)
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
        panels_of_figure[0].set_ylabel("BLEU on the test set")
        panels_of_figure[0].legend(loc="best")
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def runs_of(
    recipe: str, name: str, drawn: Sequence[Panel], seeds: Sequence[int]
) -> list[Translating]:
    """Return what is trained for the panels, plain training first, each once."""
    methods = dict.fromkeys([PLAIN, *(method for panel in drawn for method in panel.methods)])
    return [Translating(method, seed, recipe, name) for seed in seeds for method in methods]
