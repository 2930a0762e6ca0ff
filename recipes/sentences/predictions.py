"""What a model says of sentences: classes with their probabilities, or scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recipes.models.model import Loaded, batches, outputs
from recipes.support.errors import RecipeError


@dataclass(frozen=True)
class Predicted:
    """What a model says of a split, by the numbers of its sentences.

    :param outputs: N x K logits of classes, or N x 1 scores, as the model gives them.
    :param true: N classes or scores as in fairseq's data; None where there are no labels.
    """

    outputs: np.ndarray
    true: np.ndarray | None

    @property
    def classes(self) -> np.ndarray:
        """N, the most probable ones, the first of equally probable ones."""
        return self.outputs.argmax(axis=1)


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Return the probability of the most probable class, N, of logits, N x K."""
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return np.asarray(1 / powers.sum(axis=1))


def predict(loaded: Loaded, split: str, what: str) -> Predicted:
    """Return what a model says of each sentence of a split.

    Sentences of like length go together, so that batches do not depend on the order of the data.

    :param what: for the progress bar, and for errors.

    Raises RecipeError if a sentence is left out, or a prediction is not a number.
    """
    made: dict[int, np.ndarray] = {}
    true: dict[int, float] = {}
    for sample in batches(loaded, split, what):
        numbers = sample["id"].tolist()
        made |= zip(numbers, outputs(loaded, sample["net_input"]).cpu().numpy(), strict=True)
        if "target" in sample:
            true |= zip(numbers, sample["target"].view(-1).tolist(), strict=True)
    found = np.array([made[number] for number in range(len(made))])
    if not np.isfinite(found).all():
        raise RecipeError(f"{what}: predicts what are no numbers: it has diverged")
    return Predicted(found, np.array([true[n] for n in range(len(made))]) if true else None)


def label_of(classes: Sequence[str] | None, divisor: float, outputs: np.ndarray) -> tuple[str, str]:
    """Return the label of one sentence, and its probability (empty for a score), for people.

    :param outputs: K, as the model gives them.
    :param divisor: of scores.
    """
    if classes is None:
        return f"{float(outputs[0]) * divisor:.6f}", ""
    return classes[int(outputs.argmax())], f"{probabilities_of(outputs[None])[0]:.4f}"
