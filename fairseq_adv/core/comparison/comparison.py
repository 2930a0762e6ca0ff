"""What every comparison of predictions does, whatever they are predictions of."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from torch import Tensor

from fairseq_adv.core.comparison.evaluation import Term
from fairseq_adv.core.comparison.predictions import Logits, Predictions

Kind = Literal["kl", "symmetric-kl"]

KINDS: tuple[Kind, ...] = get_args(Kind)


class Comparison(Protocol):
    """How far predictions of one pass are from given ones, summed over rows: a divergence in nats,
    or another distance.
    """

    def keep(self, predictions: Predictions) -> Logits:
        """The predictions as constants, for whoever compares several passes with them."""

    def term(
        self, given: Predictions, predictions: Predictions, weights: Tensor | float = 1.0
    ) -> Term:
        """The distance, to be evaluated.

        :param weights: N, of the rows, or one for all.
        """

    def gradient(self, given: Logits, predictions: Predictions, *, differentiable: bool) -> Tensor:
        """The derivative of the distance in the predictions' vectors, N x C, in float32 or wider.

        Nothing goes back through the projection's weight.

        :param differentiable: in both.
        """


class OneOutput(ValueError):
    """A softmax of one output is 1, and two of them never differ."""

    def __init__(self) -> None:
        super().__init__(
            "a softmax of one output is 1 in every pass: compare numbers by their difference"
        )


def refuse_one_output(predictions: Predictions) -> None:
    """Raise OneOutput where there is nothing that a softmax could tell apart."""
    if predictions.size < 2:
        raise OneOutput
