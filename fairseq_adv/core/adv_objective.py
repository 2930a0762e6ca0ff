"""What the follower raises and the leader lowers: a divergence, or the task loss itself.

`Regulariser` is l_v, the divergence between clean and perturbed predictions: VAT, SALT, SMART.
`PerturbedTaskLoss` is the task loss of the perturbed words, which gives the follower the true
labels: FreeAT and FreeLB as they were published. Both are called with a perturbation and dropout
masks, and give a sum over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.clean_branch import CLEAN_BRANCHES, CleanBranch, CleanBranchKind
from fairseq_adv.core.divergence import KINDS, Divergence, Kind, gradient_of_divergence
from fairseq_adv.core.game import Accumulate, Delta, Game, InvalidSetting, Peak
from fairseq_adv.core.predictions import Predictions, Term, evaluate
from fairseq_adv.core.random_state import RandomState

AdvObjective = Literal["divergence", "task-loss"]
ADV_OBJECTIVES: tuple[AdvObjective, ...] = get_args(AdvObjective)

DropoutMasks = Literal["independent", "shared"]
DROPOUT_MASKS: tuple[DropoutMasks, ...] = get_args(DropoutMasks)


@dataclass(frozen=True, kw_only=True)
class Regularisation:
    """How clean and perturbed predictions are compared.

    :param divergence: l_v: `kl` or `symmetric-kl`.
    :param clean_branch: whether gradient flows into the clean predictions too, in the ascent as
        well; see `CleanBranch`.
    :param dropout_masks: `independent`: each pass draws its own; `shared`: every pass has those of
        the clean one.
    """

    divergence: Kind
    clean_branch: CleanBranchKind
    dropout_masks: DropoutMasks

    def __post_init__(self) -> None:
        for name, allowed in (
            ("divergence", KINDS),
            ("clean_branch", CLEAN_BRANCHES),
            ("dropout_masks", DROPOUT_MASKS),
        ):
            if getattr(self, name) not in allowed:
                raise InvalidSetting(name, getattr(self, name), ", ".join(allowed))

    @property
    def peak(self) -> Peak:
        """See `Method.peak`: the perturbed pass and, maybe, the clean one, with their graphs.

        Clean logits and their probabilities are kept for the ascent, and what goes back into them.
        """
        return Peak(2, 4) if self.clean_branch == "differentiated" else Peak(1, 2)


class Regulariser(CleanBranch):
    """l_v in one game, beside the clean pass that it compares with: F = L + alpha l_v.

    :param descends: whether L is part of F.
    """

    def __init__(
        self,
        game: Game,
        accumulate: Accumulate,
        settings: Regularisation,
        *,
        descends: bool = True,
    ) -> None:
        super().__init__(game, accumulate, settings.clean_branch, descends=descends)
        self._settings = settings

    def masks(self) -> RandomState:
        """Dropout masks for the next pass."""
        shared = self._settings.dropout_masks == "shared"
        return self.game.clean_masks() if shared else RandomState.draw()

    def __call__(self, delta: Delta, masks: RandomState, weights: Tensor | None = None) -> Tensor:
        """l_v, summed over sentences: a scalar, nats.

        :param weights: B, of the sentences; None: 1.
        """
        rows = 1.0 if weights is None else weights[self.game.sentences()]
        perturbed = self.game.perturbed(delta, masks)
        return evaluate(Divergence(self.given, perturbed, self._settings.divergence, rows))

    def at_rest(self, masks: RandomState) -> Tensor:
        """l_v where nothing is perturbed: what the dropout masks make of it."""
        return self({}, masks)

    def last(
        self, delta: Delta, masks: RandomState, weight: float, *others: Term
    ) -> tuple[Tensor, Tensor]:
        """The last term of the whole step, in which l_v has that weight; and l_v, detached.

        :param others: terms beside it.
        """
        kind = self._settings.divergence
        return self.close_with(self.game.perturbed(delta, masks), kind, weight, *others)

    def gradient(self, perturbed: Predictions, *, differentiable: bool) -> Tensor:
        """d l_v / d hidden states of a perturbed pass, N x C: see `gradient_of_divergence`."""
        kind = self._settings.divergence
        return gradient_of_divergence(self.given, perturbed, kind, differentiable=differentiable)


class PerturbedTaskLoss:
    """The task loss of the perturbed words: F = (1 - alpha) L(x) + alpha L(x + delta).

    With alpha = 1 there is no clean pass, as in the papers' algorithms. `task_loss` is what the
    clean pass adds to F, detached; `clean_loss` is the task loss of an unperturbed pass, once there
    was one, and `latest` that of the latest pass.
    """

    shared: tuple[Tensor, ...] = ()

    def __init__(
        self, game: Game, accumulate: Accumulate, dropout_masks: DropoutMasks, weight: float
    ) -> None:
        if not 0 <= weight <= 1:
            raise InvalidSetting("weight", weight, "0 to 1 with the task loss as objective")
        self.game = game
        self._accumulate = accumulate
        self._masks: RandomState | None = None
        self.task_loss: Tensor | float = 0.0
        self.clean_loss: Term | None = None
        self.latest: Term | None = None
        if weight < 1:
            self.clean_loss = game.task_loss(game.clean())
            loss = (1 - weight) * evaluate(self.clean_loss)
            self.task_loss = loss.detach()
            accumulate(loss)
        if dropout_masks == "shared":
            self._masks = game.clean_masks() if weight < 1 else RandomState.draw()

    def masks(self) -> RandomState:
        """Dropout masks for the next pass."""
        return RandomState.draw() if self._masks is None else self._masks

    def __call__(self, delta: Delta, masks: RandomState) -> Tensor:
        """L(x + delta): a scalar, nats."""
        self.latest = self.game.task_loss(self.game.perturbed(delta, masks))
        return evaluate(self.latest)

    def at_rest(self, masks: RandomState) -> Tensor:
        """L(x) under these masks."""
        value = self({}, masks)
        if self.clean_loss is None:
            self.clean_loss = self.latest
        return value

    def accumulate(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """See `core.game.Accumulate`."""
        return self._accumulate(loss, leaves)

    def last(self, delta: Delta, masks: RandomState, weight: float) -> tuple[Tensor, Tensor]:
        """The last term of the whole step, which has that weight; without it, detached."""
        value = self(delta, masks)
        return weight * value, value.detach()


def open_objective(
    objective: AdvObjective,
    game: Game,
    accumulate: Accumulate,
    regularisation: Regularisation,
    weight: float,
) -> Regulariser | PerturbedTaskLoss:
    """The objective of that name in one game. Runs the clean pass, if there is one."""
    if objective == "divergence":
        return Regulariser(game, accumulate, regularisation)
    return PerturbedTaskLoss(game, accumulate, regularisation.dropout_masks, weight)


def gain(objective: Regulariser | PerturbedTaskLoss, value: Tensor, masks: RandomState) -> Tensor:
    """What the follower adds: value, that of its move under these masks, minus the one at rest.

    Costs a forward pass.
    """
    with torch.no_grad():
        return value.detach() - objective.at_rest(masks)
