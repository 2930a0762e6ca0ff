"""Methods that train on the follower's own steps, FreeAT and FreeLB: on one of two objectives.

`PerturbedTaskLoss` is the task loss of the perturbed words, which gives the follower the true
labels, as these were published. `TwoViews` is l_v, the divergence between clean and perturbed
predictions. Both are called with a perturbation and dropout masks, and give a sum over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.comparison.evaluation import Term, evaluate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Method, Peak, Raised
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.settings import InvalidSetting, means, one_of
from fairseq_adv.core.sites import Delta, added
from fairseq_adv.core.two_views import Masks, Regularisation, TwoViews

ADV_OBJECTIVES: tuple[Raised, ...] = get_args(Raised)


class PerturbedTaskLoss:
    """The task loss of the perturbed words: F = (1 - alpha) L(x) + alpha L(x + delta).

    With alpha = 1 there is no clean pass, as in the papers' algorithms. `task_loss` is what the
    clean pass adds to F, detached; `clean_loss` is the task loss of an unperturbed pass, once there
    was one, and `latest` that of the latest pass.
    """

    def __init__(self, game: Game, accumulate: Accumulate, masks: Masks, weight: float) -> None:
        if not 0 <= weight <= 1:
            raise InvalidSetting("weight", weight, "0 to 1 with the task loss as objective")
        self.game = game
        self.accumulate = accumulate
        self._masks = masks
        self._clean_masks = RandomState.capture()
        self.task_loss: Tensor | float = 0.0
        self.clean_loss: Term | None = None
        self.latest: Term | None = None
        if weight < 1:
            self.clean_loss = game.task_loss(game.clean({}))
            loss = (1 - weight) * evaluate(self.clean_loss)
            self.task_loss = loss.detach()
            accumulate(loss)
        elif masks.dropout_masks == "shared":
            self._clean_masks = RandomState.draw()

    def masks(self) -> RandomState:
        """Dropout masks for the next pass."""
        return self._masks.next(self._clean_masks)

    def __call__(self, delta: Delta, masks: RandomState) -> Tensor:
        """L(x + delta): a scalar, nats."""
        self.latest = self.game.task_loss(self.game.perturbed(added(delta), masks))
        return evaluate(self.latest)

    def gain(self, value: Tensor, masks: RandomState) -> Tensor:
        """What the follower adds: value, that of its move under these masks, less the one at rest.

        Costs a forward pass.
        """
        with torch.no_grad():
            at_rest = self({}, masks)
        if self.clean_loss is None:
            self.clean_loss = self.latest
        return value - at_rest

    def last(
        self, delta: Delta, masks: RandomState, weight: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Accumulate the last term, which has that weight.

        Returns it without the weight, detached; and the gradient of what is a leaf of delta.
        """
        leaves: Sequence[Tensor] = [d for d in delta.values() if d.requires_grad]
        value = self(delta, masks)
        gradients = self.accumulate(weight * value, leaves)
        return value.detach(), gradients


@dataclass(frozen=True, kw_only=True)
class TrainsOnAscent(Method):
    """A method whose backward passes serve both players.

    :param regularisation: l_v. With `task-loss` only its dropout masks matter.
    :param adv_objective: what the follower raises, and the leader lowers; see the module.
    """

    follower: Follower
    regularisation: Regularisation
    adv_objective: Raised = field(
        metadata=means(
            "what the follower raises: the divergence from the clean predictions, beside the clean "
            "loss, or the task loss of the perturbed words, in place of the clean one"
        )
    )

    def __post_init__(self) -> None:
        one_of("adv_objective", self.adv_objective, ADV_OBJECTIVES)

    @property
    def raises(self) -> Raised:
        """See `Method`."""
        return self.adv_objective

    @property
    def replaces_task_loss(self) -> bool:
        """See `Method`."""
        return self.adv_objective == "task-loss"

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=1) if self.replaces_task_loss else self.regularisation.peak

    def objective(
        self, game: Game, accumulate: Accumulate, weight: float
    ) -> TwoViews | PerturbedTaskLoss:
        """The objective in one game. Runs the clean pass, if there is one."""
        if self.adv_objective == "divergence":
            return TwoViews(game, accumulate, self.regularisation)
        return PerturbedTaskLoss(game, accumulate, self.regularisation, weight)
