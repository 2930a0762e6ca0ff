"""The game that every method plays: one model, one batch, two players.

The leader is the model (parameters theta). The follower adds a perturbation delta at the sites of
the batch. A toolkit takes part by implementing `Game`: passes, with edits at sites, and facts.
The methods in `core.methods` need nothing else of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from fairseq_adv.core.comparison.comparison import Comparison, Kind
from fairseq_adv.core.comparison.evaluation import Term
from fairseq_adv.core.comparison.predictions import Predictions
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.sites import Edits, Site


class Game(Protocol):
    """One model and one batch of B sentences.

    Losses are scalars in nats, summed over the batch's N target tokens that are predicted, padding
    not being one of them.
    """

    @property
    def sites(self) -> Mapping[str, Site]:
        """Where the follower can attack, by name."""

    def clean(self, edits: Edits) -> Predictions:
        """The unperturbed pass, with the dropout masks that come next.

        :param edits: additions of zero, for their gradient; or none.
        """

    def perturbed(self, edits: Edits, masks: RandomState) -> Predictions:
        """The pass with these edits, dropout drawn from masks."""

    def task_loss(self, predictions: Predictions) -> Term:
        """The loss of the true labels, to be evaluated."""

    def comparison(self, divergence: Kind) -> Comparison:
        """How predictions of two passes are compared."""

    def sentences(self) -> Tensor:
        """N: the sentence, 0 to B - 1, that each row of predictions belongs to."""

    def parameters(self) -> Sequence[Tensor]:
        """The leader's parameters that are trained."""
