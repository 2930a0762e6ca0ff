"""Are a model's probabilities what they say? `python -m recipes.evaluation.calibration`.

The expected calibration error and the reliability diagram of the SALT paper (Figure 2; Appendix C,
Eqs. 8 to 10). Of a classifier a sample is a sentence, and the prediction the most probable class.
Of a translation model it is a token: given the source and the reference up to a token, the model
predicts that token. The end of a sentence is a token like all others; padding is none. The
confidence is the probability of what is predicted, which is correct if it is the reference's.

The paper has "10 bins of equal size according to their prediction confidence", with bounds. They
are equally wide here, as in Guo et al. (2017), whom it follows, and as the x axis of its diagrams
is. Bins of equally many tokens would be the other reading: their bounds differ from model to model,
so that diagrams could not be laid side by side.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from recipes.models.checkpoint import direction, of_sentences
from recipes.models.model import Loaded, batches, load, models_parser, named, outputs, quiet
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import data_report, write_json, written_whole
from recipes.support.plot import GREY, STYLE

if TYPE_CHECKING:
    from torch import Tensor

BINS = 10
CALIBRATION = "calibration.json"
DIAGRAM = "calibration.png"

_SUMMED = ("samples", "confidence", "correct", "cross-entropy", "entropy")
_ACCURACY, _GAP = "#0072B2", "#D55E00"
_PER_ROW = 4


@dataclass(frozen=True)
class Bin:
    """The samples predicted with a confidence above `low` and up to `high`; the first has 0 too.

    :param confidence: their mean; None if there are none.
    :param accuracy: share of them that was predicted correctly; None if there are none.
    """

    low: float
    high: float
    samples: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How well confidence and accuracy agree, over all samples of a split.

    :param unit: what a sample is: `token` or `sentence`.
    :param ece: expected calibration error (Eq. 10), 0 to 1.
    :param confidence: mean probability of the most probable token, or class.
    :param accuracy: share of samples of which that is the right one.
    :param cross_entropy: bits per sample.
    :param entropy: of the predicted distribution, bits per sample.
    """

    unit: str
    samples: int
    ece: float
    confidence: float
    accuracy: float
    cross_entropy: float
    entropy: float
    bins: list[Bin]


def sums_of(log_probabilities: "Tensor", reference: "Tensor") -> "Tensor":
    """Return BINS x 5 sums over the samples of each bin, in float64.

    They are the number of samples, their confidence, how many are correct, and, in nats, their
    cross-entropy and the entropy of their predictions.

    :param log_probabilities: N samples x V, in nats.
    :param reference: N, the right tokens, or classes.
    """
    import torch

    best, predicted = log_probabilities.max(-1)
    confidence = best.exp().double()
    values = torch.stack(
        (
            torch.ones_like(confidence),
            confidence,
            predicted.eq(reference).double(),
            -log_probabilities.gather(-1, reference.unsqueeze(-1)).squeeze(-1).double(),
            torch.special.entr(log_probabilities.exp()).sum(-1, dtype=torch.float64),
        ),
        dim=1,
    )
    bounds = [number / BINS for number in range(1, BINS)]
    bins = torch.bucketize(confidence, confidence.new_tensor(bounds))  # a bound is in the lower bin
    return values.new_zeros(BINS, len(_SUMMED)).index_add_(0, bins, values)


def calibration_of(sums: Sequence[Sequence[float]], unit: str = "token") -> Calibration:
    """Return what the sums of `sums_of` over all batches, BINS x 5, amount to."""
    totals = dict(zip(_SUMMED, np.sum(sums, axis=0).tolist(), strict=True))
    samples = totals["samples"]
    bins = [
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            samples=round(count),
            confidence=confidence / count if count else None,
            accuracy=correct / count if count else None,
        )
        for number, (count, confidence, correct, *_) in enumerate(sums)
    ]
    return Calibration(
        unit=unit,
        samples=round(samples),
        # |B_m| / n times Eq. 9, in which |B_m| cancels.
        ece=sum(abs(correct - confidence) for _, confidence, correct, *_ in sums) / samples,
        confidence=totals["confidence"] / samples,
        accuracy=totals["correct"] / samples,
        cross_entropy=totals["cross-entropy"] / samples / math.log(2),
        entropy=totals["entropy"] / samples / math.log(2),
        bins=bins,
    )


def measure(loaded: Loaded, split: str, what: str) -> Calibration:
    """Return the calibration of a model on a split, of which one batch at a time is in memory.

    :param what: the model's name, for the progress bar and errors.

    Raises RecipeError if a sentence is left out, or a probability is not a number.
    """
    unit = "sentence" if hasattr(loaded.model, "classification_heads") else "token"
    predicted = _classes if unit == "sentence" else _tokens
    sums = None
    for sample in batches(loaded, split, f"calibration: {what}"):
        found = sums_of(*predicted(loaded, sample))
        sums = found if sums is None else sums + found
    if sums is None:
        raise RecipeError(f"--split {split}: has no sentences")
    if not sums.isfinite().all():
        raise RecipeError(f"{what}: gives probabilities that are not numbers: it has diverged")
    return calibration_of(sums.tolist(), unit)


def _tokens(loaded: Loaded, sample: dict[str, Any]) -> "tuple[Tensor, Tensor]":
    """Return what a translation model gives for each token of the reference, and these."""
    import torch

    with torch.no_grad():
        output = loaded.model(**sample["net_input"])
        log_probabilities = loaded.model.get_normalized_probs(output, True, sample)
    reference = sample["target"]
    is_token = reference.ne(loaded.task.target_dictionary.pad())  # B x T
    return log_probabilities[is_token], reference[is_token]


def _classes(loaded: Loaded, sample: dict[str, Any]) -> "tuple[Tensor, Tensor]":
    """Return what a classifier gives for each sentence, and their classes."""
    return outputs(loaded, sample["net_input"]).log_softmax(-1), sample["target"].view(-1)


def _labelled(data: Path, split: str | None) -> str:
    """Return the split to measure: the one asked for, or test, or valid where test has no labels.

    Raises RecipeError where there is nothing to be right about.
    """
    if not of_sentences(data):
        return split or "test"
    report = data_report(data)
    if report["task"] == "regression":
        raise RecipeError(f"{data} has scores: calibration is of the probabilities of classes")
    labelled = report["labelled"]
    if split in report["splits"] and split not in labelled:
        raise RecipeError(f"--split {split}: has no labels; {', '.join(labelled)} have")
    return split or ("test" if "test" in labelled else "valid")


def calibrate(
    data: Path, checkpoints: Mapping[str, Path], out: Path, *, split: str | None = None, cpu: bool
) -> dict[str, Calibration]:
    """Measure each checkpoint; write calibration.json and calibration.png to `out`.

    :param data: a directory made by data_prep, of translations or of sentences with classes.
    :param checkpoints: by what to call them.
    :param split: None: test or, where that has no labels, valid.
    """
    split = _labelled(data, split)
    if not of_sentences(data):
        direction(data, list(checkpoints.values()))  # one for all
    found = {
        label: measure(load(data, checkpoint, cpu), split, label)
        for label, checkpoint in checkpoints.items()
    }
    models = [
        {"label": label, "checkpoint": str(checkpoints[label]), **asdict(calibration)}
        for label, calibration in found.items()
    ]
    plot_calibration(found, f"Calibration on {split}", out / DIAGRAM)
    write_json({"split": split, "models": models}, out / CALIBRATION)
    return found


def calibration_table(found: Mapping[str, Calibration]) -> str:
    """Return the figures as a table for people."""
    width = max(len("model"), *map(len, found))
    unit = next(iter(found.values())).unit
    lines = [
        f"{'model':{width}}{'ECE':>8}{'confidence':>12}{'accuracy':>10}{'cross-entropy':>15}"
        f"{'entropy':>9}{unit + 's':>11}"
    ]
    for label, of in found.items():
        lines.append(
            f"{label:{width}}{of.ece:8.3f}{of.confidence:12.3f}{of.accuracy:10.3f}"
            f"{of.cross_entropy:15.2f}{of.entropy:9.2f}{of.samples:11,}"
        )
    return "\n".join(lines)


def plot_calibration(found: Mapping[str, Calibration], title: str, path: Path) -> None:
    """Draw the reliability diagrams side by side, each above the share of samples in each bin.

    The file is a PNG, written whole or not at all.
    """
    columns = min(len(found), _PER_ROW)
    rows = math.ceil(len(found) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 3.1 * columns, 0.9 + 4.4 * rows), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(
            2 * rows,
            columns,
            sharex=True,
            sharey="row",
            squeeze=False,
            height_ratios=[3, 1] * rows,
        )
        for axes in grid.flat:
            axes.set_visible(False)
        for number, (label, calibration) in enumerate(found.items()):
            row, column = divmod(number, columns)
            diagram, shares = grid[2 * row, column], grid[2 * row + 1, column]
            _reliability(diagram, label, calibration)
            _shares(shares, calibration)
            shares.set_xlabel("confidence")
            if column == 0:
                diagram.set_ylabel("accuracy")
                shares.set_ylabel(f"{calibration.unit}s")
        legends = [axes.get_legend_handles_labels()[0] for axes in grid[:2, 0]]
        figure.legend(
            handles=[handle for handles in legends for handle in handles],
            loc="outside lower left",
            ncols=min(5, 2 * columns - 1),
        )
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def _reliability(axes: Axes, label: str, calibration: Calibration) -> None:
    axes.set_visible(True)
    axes.set_axisbelow(True)
    axes.set_title(f"{label}\nECE {100 * calibration.ece:.1f} %")
    filled = [of for of in calibration.bins if of.samples]
    middles = [(of.low + of.high) / 2 for of in filled]
    accuracy = np.array([of.accuracy for of in filled])
    confidence = np.array([of.confidence for of in filled])
    width = 0.94 / BINS
    axes.bar(middles, accuracy, width, color=_ACCURACY, alpha=0.8, label="accuracy")
    axes.bar(
        middles,
        confidence - accuracy,
        width,
        bottom=accuracy,
        facecolor="none",
        edgecolor=_GAP,
        hatch="////",
        linewidth=1.2,
        label="gap to mean confidence",
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.tick_params(labelbottom=False)


def _shares(axes: Axes, calibration: Calibration) -> None:
    axes.set_visible(True)
    axes.set_axisbelow(True)
    middles = [(of.low + of.high) / 2 for of in calibration.bins]
    shares = [of.samples / calibration.samples for of in calibration.bins]
    axes.bar(middles, shares, 0.94 / BINS, color=GREY, alpha=0.7)
    for value, colour, label in (
        (calibration.accuracy, _ACCURACY, "accuracy of all"),
        (calibration.confidence, _GAP, "mean confidence of all"),
    ):
        axes.axvline(value, color=colour, linewidth=1.6, label=label)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.tick_params(labelbottom=True)


@quiet()
def _main() -> None:
    parser = models_parser(
        "recipes.evaluation.calibration",
        "Measure how well a model's confidence in a token, or a class, agrees with its accuracy.",
        f"{CALIBRATION} and {DIAGRAM}",
    )
    parser.set_defaults(split=None)
    args = parser.parse_args()
    found = calibrate(
        args.data,
        named(args.checkpoint, args.label),
        args.out,
        split=args.split,
        cpu=args.cpu,
    )
    print(calibration_table(found))
    split = _labelled(args.data, args.split)
    print(f"{split}, {args.out / CALIBRATION}, {args.out / DIAGRAM}")


if __name__ == "__main__":
    sys.exit(run_main("recipes.evaluation.calibration", _main))
