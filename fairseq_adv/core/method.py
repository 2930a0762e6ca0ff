"""What a method is: it plays one game per batch, and says what came of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.comparison.evaluation import Term
from fairseq_adv.core.game import Game
from fairseq_adv.core.players.directions import FREE, Directions
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.mixed import MixedLeader
from fairseq_adv.core.sites import Delta

Raised = Literal["divergence", "task-loss"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What happened in one game, whose gradient has been accumulated."""

    objective: Tensor
    """The whole objective, as in L + alpha l_v, detached: nats, summed."""
    delta: Delta
    """The follower's final move, detached; empty where there is none, or it has not moved yet."""
    adv_loss: Tensor | None
    """What the follower raised, at its final move, without its weight; detached, nats, summed.

    Without a follower: the divergence between the two passes. None where nothing was perturbed yet.
    """
    clean_loss: Term | None
    """The task loss of an unperturbed pass, evaluated; None where there was none."""
    adv_gain: Tensor | None = None
    """`adv_loss` minus its value at delta = 0 under the same masks; None unless asked for."""
    proximal_loss: Tensor | None = None
    """Divergence from the reference model, without its weight; None where there is none."""
    task_losses: int = 1
    """How many passes' task losses the objective sums. Its gradient is averaged over them."""


class Peak(NamedTuple):
    """What is held at a time, but for parameters and their gradients; about."""

    graphs: int
    """Passes' graphs."""
    logits: int = 0
    """Tensors as large as all logits."""


class Memory(Protocol):
    """What a batch carries on from replay to replay."""

    def recall(self) -> Delta | None:
        """What `remember` was given when this batch was last played in its group of replays.

        None if that never happened: in the first replay, or where nothing is replayed.
        """

    def remember(self, delta: Delta) -> None:
        """Keep delta, detached, for the next replay of this batch."""


class Interacts(ABC):
    """A method whose gradient has a leader-follower term: the leader knows how it is answered."""

    @abstractmethod
    def interaction(self, game: Game, accumulate: Accumulate, *, weight: float) -> None:
        """Accumulate that term alone.

        From the same random state it is that of the same game.
        """


class Method(ABC):
    """One way to train: it plays one game per batch."""

    follower: Follower | None
    """The adversary; None where there is none."""
    leader: MixedLeader | None = None
    """How the model plays a mixed strategy; None where it makes one move."""
    replays: int = 1
    """How many times in a row each group of batches is to be trained on."""
    ascends_apart = False
    """Whether the follower's ascent takes gradients apart from the backward passes."""

    @property
    def takes_differences(self) -> bool:
        """Whether it takes differences of gradients, which have to be resolved for that."""
        return False

    @property
    def attacked(self) -> tuple[str, ...]:
        """The names of the sites at which passes are edited."""
        return () if self.follower is None else self.follower.sites

    @property
    def directions(self) -> Directions:
        """In which perturbations are."""
        return FREE if self.follower is None else self.follower.directions

    @property
    def edits_passes(self) -> bool:
        """Whether a second pass differs from the clean one by more than its dropout masks."""
        return bool(self.attacked)

    @property
    def raises(self) -> Raised | None:
        """What the follower raises, if there is one."""
        return None

    @property
    def replaces_task_loss(self) -> bool:
        """Whether the weight is moved from the clean task loss to the perturbed one, not added."""
        return False

    @property
    @abstractmethod
    def peak(self) -> Peak:
        """What a step holds when it holds most."""

    @abstractmethod
    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Accumulate the gradient of the whole objective; return what happened.

        :param weight: alpha, the weight of the adversarial term in this update.
        :param gauges: also measure what costs an extra pass (`Step.adv_gain`).
        """
