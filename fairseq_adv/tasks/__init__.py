"""fairseq tasks that can train against an adversary, and what they need of fairseq.

Importing them registers the criterions too, and mends fairseq (`fairseq_adv.compat`).
"""

from fairseq_adv import compat, criterions
from fairseq_adv.tasks import adversarial_translation, adversarial_translation_multi_simple_epoch

__all__ = ["adversarial_translation", "adversarial_translation_multi_simple_epoch", "criterions"]

compat.apply()
