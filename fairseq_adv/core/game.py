"""The game that every method plays: one model, one batch, two players.

The leader is the model (parameters theta). The follower adds a perturbation delta to the word
embeddings of the batch. A toolkit takes part by implementing `Game`; the methods in
`core.methods` need nothing else from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from fairseq_adv.core.predictions import Predictions, Term
from fairseq_adv.core.random_state import RandomState

Side = Literal["source", "target"]

Delta = dict[Side, Tensor]
"""One perturbation per perturbed side: B x T x C, zero at padding."""


class InvalidSetting(ValueError):
    """A setting out of its range: `name`, the `value` that was given, and what is `allowed`."""

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(f"{name} is {value!r}; allowed: {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


class Game(Protocol):
    """One model and one batch of B sentences.

    Losses are scalars in nats, summed over the batch's N target tokens that are predicted, padding
    not being one of them.
    """

    def clean(self, zero: Delta | None = None) -> Predictions:
        """The unperturbed pass, with the dropout masks that come next.

        :param zero: perturbations of zero that are added all the same, for their gradient.
        """

    def clean_masks(self) -> RandomState:
        """The random state that gives a pass the same dropout masks as `clean` had."""

    def task_loss(self, predictions: Predictions) -> Term:
        """Label-smoothed cross-entropy, to be evaluated."""

    def perturbed(self, delta: Delta, masks: RandomState) -> Predictions:
        """The pass with delta added to the word embeddings, dropout drawn from masks."""

    def cut(self, keep: Mapping[Side, Tensor], masks: RandomState) -> Predictions:
        """The pass with the word embeddings set to zero where keep, B x T, is false.

        Positions stay. Dropout is drawn from masks.
        """

    def reference(self) -> Predictions:
        """The pass of the reference model, an average of earlier leaders: constants.

        Nothing is perturbed and nothing dropped out. Only where there is a reference model.
        """

    def recall(self) -> Delta | None:
        """What `remember` was given when this batch was last played in its group of replays.

        None if that never happened: in the first replay, or where nothing is replayed.
        """

    def remember(self, delta: Delta) -> None:
        """Keep delta, detached, for the next replay of this batch."""

    def sentences(self) -> Tensor:
        """N: the sentence, 0 to B - 1, that each row of predictions belongs to."""

    def zero_delta(self, side: Side) -> Tensor:
        """Zeros B x T x C for the words of one side, in float32 or wider."""

    def non_pad(self, side: Side) -> Tensor:
        """B x T, true at the words of one side, false at padding."""

    def parameters(self) -> Sequence[Tensor]:
        """The leader's parameters that are trained."""


class Accumulate(Protocol):
    """Runs backward and frees the graph, so that one graph at a time is alive."""

    def __call__(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Add d loss / d theta to the parameters' gradients; return d loss / d leaf for each leaf.

        What is returned is free of any loss scale that the optimizer works with.
        """


@dataclass(frozen=True)
class Step:
    """What one step of a method leaves to its caller.

    All terms of the objective have been accumulated but `last`, whose backward pass `finish` runs;
    only that one needs to synchronise data-parallel workers.
    """

    last: Tensor
    """The last term, with its graph. Its value means nothing on its own."""
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
    leaves: tuple[Tensor, ...] = ()
    """Whose gradients `then` wants of the last backward pass."""
    then: Callable[[tuple[Tensor, ...]], None] | None = None
    """What remains to be done with those gradients."""

    def finish(self, accumulate: Accumulate) -> None:
        """Run the last backward pass."""
        gradients = accumulate(self.last, self.leaves)
        if self.then is not None:
            self.then(gradients)


class Peak(NamedTuple):
    """What is held at a time, but for parameters and their gradients; about."""

    graphs: int
    """Passes' graphs."""
    logits: int = 0
    """Tensors as large as all logits."""


class Method(Protocol):
    """One way to train: it plays one game per batch."""

    @property
    def peak(self) -> Peak:
        """What a step holds when it holds most."""

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Accumulate the gradients of all terms but the last; return that one, and what to log.

        :param weight: alpha, the weight of the adversarial term in this update.
        :param gauges: also measure what costs an extra pass (`Step.adv_gain`).
        """
