"""The game that every method plays: one model, one batch, two players.

The leader is the model (parameters theta). The follower adds a perturbation delta to the word
embeddings of the batch. A toolkit takes part by implementing `Game`; the methods in
`core.methods` need nothing else from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

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

    Losses are scalars in nats, summed over the batch's target tokens. `clean` comes first; the
    other methods may rely on what it saw.
    """

    def clean(self) -> Tensor:
        """Logits of the unperturbed pass, B x T x V, with the dropout masks that come next."""

    def clean_masks(self) -> RandomState:
        """The random state that gives a pass the same dropout masks as `clean` had."""

    def task_loss(self, logits: Tensor) -> Tensor:
        """Label-smoothed cross-entropy of the logits, B x T x V."""

    def perturbed(self, delta: Delta, masks: RandomState) -> Tensor:
        """Logits B x T x V with delta added to the word embeddings, dropout drawn from masks."""

    def predicted(self) -> Tensor:
        """B x T, true where a target token is predicted, false at padding."""

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

    All terms of the objective have been accumulated but `last`, whose backward the caller runs;
    only that one needs to synchronise data-parallel workers.
    """

    last: Tensor
    """The last term, with its graph. Its value means nothing on its own."""
    task_loss: Tensor
    """Clean label-smoothed cross-entropy, detached: nats, summed over target tokens."""
    adv_loss: Tensor
    """Divergence at the final delta, without its weight, detached: nats, summed."""
    objective: Tensor
    """The whole objective, L + alpha l_v, detached: nats, summed."""
    delta: Delta
    """The follower's final move, detached."""
    adv_gain: Tensor | None = None
    """`adv_loss` minus the divergence at delta = 0 under the same masks; None unless asked for."""


class Method(Protocol):
    """One way to train: it plays one game per batch."""

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Accumulate the gradients of all terms but the last; return the last, and what to log.

        :param weight: alpha, the weight of the adversarial term in this update.
        :param gauges: also measure what costs an extra pass (`Step.adv_gain`).
        """
