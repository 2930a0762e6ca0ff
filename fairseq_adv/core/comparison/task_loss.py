"""Task losses, in nats: label-smoothed cross-entropy, as fairseq defines it; and of classes."""

from __future__ import annotations

from torch import Tensor

from fairseq_adv.core.comparison.chunks import Chunk
from fairseq_adv.core.comparison.comparison import refuse_one_output
from fairseq_adv.core.comparison.evaluation import Term
from fairseq_adv.core.comparison.predictions import Predictions
from fairseq_adv.core.comparison.softmax import probabilities, top


class TaskLoss(Term):
    """Cross-entropy with 1 - s on the true word and s / (V - 1) on each other, summed over rows.

    :param targets: N, the true words.
    :param smoothing: s.
    """

    def __init__(self, predictions: Predictions, targets: Tensor, smoothing: float) -> None:
        refuse_one_output(predictions)
        self.of = (predictions,)
        self._targets = targets.unsqueeze(1)
        self._smoothing = smoothing
        self.nll: Tensor
        """Without smoothing, after evaluation: a scalar."""

    def begin(self, zero: Tensor) -> None:
        """See `Term`."""
        self.value = self.nll = zero

    def add(self, *chunks: Chunk) -> None:
        """See `Term`."""
        (chunk,) = chunks
        z, targets = chunk.logits, self._targets[chunk.rows]
        each = self._smoothing / (z.size(1) - 1)
        true = 1 - self._smoothing - each
        z_top, q_top = top(chunk)
        log_sum = z_top - q_top.log()  # log sum exp z
        nll = (log_sum - z.gather(1, targets)).sum()
        self.nll = self.nll + nll
        self.value = self.value + true * nll
        if each > 0:
            self.value = self.value + each * (z.size(1) * log_sum.squeeze(1) - z.sum(1)).sum()
        if chunk.wanted:  # q less what it should be
            to_logits = probabilities(chunk) - each
            share = to_logits.new_full((), -true).expand_as(targets)
            chunk.add(to_logits.scatter_add_(1, targets, share))


class ClassLoss(TaskLoss):
    """Cross-entropy without smoothing, and how many rows are predicted right.

    :param targets: N, the true classes.
    """

    def __init__(self, predictions: Predictions, targets: Tensor) -> None:
        super().__init__(predictions, targets, 0.0)
        self.correct: Tensor
        """After evaluation: a scalar."""

    def begin(self, zero: Tensor) -> None:
        """See `Term`."""
        super().begin(zero)
        self.correct = zero

    def add(self, *chunks: Chunk) -> None:
        """See `Term`."""
        (chunk,) = chunks
        found = chunk.logits.argmax(-1, keepdim=True)
        self.correct = self.correct + (found == self._targets[chunk.rows]).sum()
        super().add(chunk)
