"""Models that fairseq lacks: a family a file. Importing one registers it."""

from fairseq_adv.models import bert

__all__ = ["bert"]
