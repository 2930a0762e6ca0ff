"""fairseq tasks that can train against an adversary, and what they need of fairseq.

Importing them registers criterions and models too, and mends fairseq (`trainer/compat.py`).
"""

from fairseq_adv import criterions, models
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
    "models",
]

compat.apply()
