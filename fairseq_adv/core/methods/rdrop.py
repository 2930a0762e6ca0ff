"""R-Drop: regularised dropout (Wu et al., NeurIPS 2021). There is no adversary.

Each batch passes twice, with independent dropout masks, and the leader minimises

    F(theta) = L_1 + L_2 + alpha * (KL(P_1 || P_2) + KL(P_2 || P_1)) / 2,

the task losses of both passes and the symmetric divergence of their predictions, with gradient
through both. It is the neighbour of all methods here whose perturbed pass has dropout masks of its
own: what they gain may be R-Drop's.

F has two task losses. Its gradient is averaged over them, as if the batch held each sentence
twice, so that a learning rate means what it does in plain training: without dropout this is plain
training. The released code (dropreg/R-Drop) does pass such a batch, but divides by the tokens of
one half; to Adam the two are nearly the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_adv.core.divergence import Divergence
from fairseq_adv.core.game import Accumulate, Game, Peak, Step
from fairseq_adv.core.predictions import evaluate
from fairseq_adv.core.random_state import RandomState


@dataclass(frozen=True, kw_only=True)
class RDrop:
    """Two passes that differ by their dropout masks."""

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=2)

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`."""
        first, second = game.clean(), game.perturbed({}, RandomState.draw())
        divergence = Divergence(first, second, "symmetric-kl", weight)
        loss = game.task_loss(first)
        last = evaluate(loss, game.task_loss(second), divergence)
        return Step(
            last=last,
            adv_loss=divergence.value,
            objective=last.detach(),
            delta={},
            clean_loss=loss,
            task_losses=2,
        )
