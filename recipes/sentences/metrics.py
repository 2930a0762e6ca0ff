"""How good predictions of labels are: fairseq's own metrics, and how far chance may move them.

In per cent, as fairseq logs them. An interval is of the bootstrap: the 2.5 and 97.5 percentiles of
a metric over resamples of the sentences, with replacement. Two models are compared on the same
resamples. It is the test set's chance alone: that of another training seed comes on top.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
SEED = 1
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Measured:
    """A metric; None where it is not defined, as the correlation of predictions that are equal.

    :param low: end of its 95 % interval; so is `high`.
    """

    value: float | None
    low: float | None
    high: float | None


def measure(
    measures: Sequence[str], predicted: np.ndarray, true: np.ndarray
) -> dict[str, Measured]:
    """Return metrics of predictions, with their intervals.

    :param measures: of `accuracy`, `mcc`, `f1` and `acc_and_f1` (class 1 is the positive one) for
        numbers of classes; of `pearson`, `spearman` and `pearson_and_spearman` for scores.
    """
    value = metrics_of(measures, predicted, true)
    rows = [metrics_of(measures, predicted[drawn], true[drawn]) for drawn in resamples(len(true))]
    return {
        name: _measured(value[name], np.array([row[name] for row in rows])) for name in measures
    }


def metrics_of(
    measures: Sequence[str], predicted: np.ndarray, true: np.ndarray
) -> dict[str, float]:
    """Return metrics as fairseq defines them; NaN where one is not defined."""
    # Imported late, since fairseq sets up the logging of the whole process when it is imported.
    from fairseq.criterions import sentence_prediction as theirs

    found: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is not defined
        if "accuracy" in measures:
            found["accuracy"] = theirs.simple_accuracy(predicted, true)
        if "mcc" in measures:
            found["mcc"] = theirs.matthews_corrcoef(predicted, true)
        if {"f1", "acc_and_f1"} & {*measures}:
            found |= theirs.acc_and_f1(predicted, true)
        if {"pearson", "spearman", "pearson_and_spearman"} & {*measures} and len(true) > 1:
            both = theirs.pearson_and_spearman(predicted, true)
            found |= {"spearman": both["spearmanr"], "pearson_and_spearman": both["corr"], **both}
    return {name: 100 * float(found.get(name, np.nan)) for name in measures}


def resamples(sentences: int) -> Iterator[np.ndarray]:
    """Yield the numbers of the sentences of each resample, the same at every call."""
    generator = np.random.default_rng(SEED)
    for _ in range(RESAMPLES):
        yield generator.integers(sentences, size=sentences)


@dataclass(frozen=True)
class Compared:
    """The difference of a metric to that of a baseline.

    :param p: of a difference as large as this one where there is none, by the paired bootstrap:
        the share of resamples whose difference is as far from their mean, as in sacreBLEU.
    """

    difference: float
    low: float
    high: float
    p: float


def compare(
    measure: str, predicted: np.ndarray, baseline: np.ndarray, true: np.ndarray
) -> Compared | None:
    """Return by how much predictions are better than a baseline's; None if that is not defined."""

    def difference(drawn: np.ndarray | slice) -> float:
        ours, theirs = (
            metrics_of([measure], who[drawn], true[drawn])[measure] for who in (predicted, baseline)
        )
        return ours - theirs

    found = difference(slice(None))
    others = np.array([difference(drawn) for drawn in resamples(len(true))])
    if not np.isfinite(found) or not np.isfinite(others).all():
        return None
    as_far = np.abs(others - others.mean()) >= abs(found) - 1e-9
    low, high = np.percentile(others, _INTERVAL).tolist()
    return Compared(found, low, high, (int(as_far.sum()) + 1) / (RESAMPLES + 1))


def _measured(value: float, resampled: np.ndarray) -> Measured:
    if not np.isfinite(value):
        return Measured(None, None, None)
    low, high = np.percentile(resampled[np.isfinite(resampled)], _INTERVAL).tolist()
    return Measured(value, low, high)
