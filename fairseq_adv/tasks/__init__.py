"""fairseq tasks that can train against an adversary, and what they need of fairseq.

Importing them registers the criterions too, and mends fairseq (`fairseq_adv.trainer.compat`).
"""

from fairseq_adv import criterions
from fairseq_adv.tasks import (
    adversarial_sentence_prediction,
    adversarial_translation,
    adversarial_translation_multi_simple_epoch,
)
from fairseq_adv.trainer import compat

__all__ = [
    "adversarial_sentence_prediction",
    "adversarial_translation",
    "adversarial_translation_multi_simple_epoch",
    "criterions",
]

compat.apply()
