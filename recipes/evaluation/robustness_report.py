"""What noise does to translations, for people: a table and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.evaluation.noise import LETTERS, NOISES
from recipes.evaluation.perturbed_generation import KIND
from recipes.support.files import written_whole
from recipes.support.plot import GREY, STYLE

CLEAN = "clean"

_STRENGTHS = {
    "typos": f"% of the words of {LETTERS} letters and more",
    "dropped words": "% of the words",
    KIND: "radius, embedding units",
}
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True)
class Measured:
    """How well one model translates source with one noise.

    :param noise: a kind of `NOISES`, `embeddings`, or `clean`.
    :param strength: rate, 0 to 1, or, of embeddings, radius in embedding units.
    :param bleu: 0 to 100; as is chrf.
    :param bleu_difference: to clean source, negative if noise does harm; as is chrf_difference.
    """

    model: str
    noise: str
    strength: float
    bleu: float
    chrf: float
    bleu_difference: float = 0.0
    chrf_difference: float = 0.0


def describe(noise: str, strength: float) -> str:
    """Return what to call a noise of some strength."""
    if noise == CLEAN:
        return noise
    return f"{noise}, " + (f"radius {strength:g}" if noise == KIND else f"{100 * strength:g} %")


def robustness_table(measured: Sequence[Measured]) -> str:
    """Return the scores as a table for people: the models one below the other, noise by noise."""
    width = 2 + max(len(one.model) for one in measured)
    lines = [f"{'':24}{'':{width}}{'BLEU':>6}{'diff.':>8}{'chrF':>8}{'diff.':>8}"]
    rows: dict[str, list[Measured]] = {}
    for one in measured:
        rows.setdefault(describe(one.noise, one.strength), []).append(one)
    for noise, of_models in rows.items():
        for number, one in enumerate(of_models):
            differences = ("", "")
            if one.noise != CLEAN:
                differences = (f"{one.bleu_difference:+.1f}", f"{one.chrf_difference:+.1f}")
            lines.append(
                f"{noise if number == 0 else '':24}{one.model:{width}}"
                f"{one.bleu:6.1f}{differences[0]:>8}{one.chrf:8.1f}{differences[1]:>8}"
            )
    return "\n".join(lines)


def plot_robustness(measured: Sequence[Measured], title: str, path: Path) -> None:
    """Draw BLEU over the strength of each noise; dashed lines are clean source.

    The file is a PNG, written whole or not at all.
    """
    labels = list(dict.fromkeys(one.model for one in measured))
    kinds = [kind for kind in (*NOISES, KIND) if any(one.noise == kind for one in measured)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.5 + 3.4 * len(kinds), 4.2), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(1, len(kinds), sharey=True, squeeze=False)
        for axes, kind in zip(grid.flat, kinds, strict=True):
            axes.set_title(kind.capitalize())
            axes.set_xlabel(_STRENGTHS[kind])
            for number, label in enumerate(labels):
                _curve(axes, measured, kind, label, _COLOURS[number % len(_COLOURS)])
            axes.set_xlim(left=0)
        grid[0, 0].set_ylim(bottom=0)
        grid[0, 0].set_ylabel("BLEU")
        grid[0, 0].plot([], color=GREY, linestyle="--", linewidth=1.2, label="clean source")
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=6)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def _curve(axes: Axes, measured: Sequence[Measured], kind: str, label: str, colour: str) -> None:
    of_model = [one for one in measured if one.model == label]
    clean = next(one.bleu for one in of_model if one.noise == CLEAN)
    points = sorted((one.strength, one.bleu) for one in of_model if one.noise == kind)
    scale = 1 if kind == KIND else 100
    x = [0.0, *(scale * strength for strength, _ in points)]
    y = [clean, *(bleu for _, bleu in points)]
    axes.plot(x, y, marker="o", markersize=4, color=colour, label=label, clip_on=False)
    axes.axhline(clean, color=colour, linestyle="--", linewidth=1.2, alpha=0.7)
