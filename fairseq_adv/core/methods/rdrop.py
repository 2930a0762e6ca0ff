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

from fairseq_adv.core.clean_branch import CleanBranch
from fairseq_adv.core.divergence import divergence, log_probabilities
from fairseq_adv.core.game import Accumulate, Game, Step
from fairseq_adv.core.random_state import RandomState


@dataclass(frozen=True, kw_only=True)
class RDrop:
    """Two passes that differ by their dropout masks."""

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`."""
        first = CleanBranch(game, accumulate, "differentiated")
        logits = game.perturbed({}, RandomState.draw())
        second = game.task_loss(logits)
        value = divergence(
            first.log_probs, log_probabilities(logits), game.predicted(), "symmetric-kl"
        ).sum()
        last = second + weight * value
        return Step(
            last=first.close(last),
            adv_loss=value.detach(),
            objective=first.task_loss + last.detach(),
            delta={},
            task_losses=2,
        )
