"""Models that fairseq lacks: a family a file. Importing one registers it."""

from fairseq_adv.models import attention_classifier, bert

__all__ = ["attention_classifier", "bert"]
