"""fairseq criterions: the options of each method, registered under the method's name."""

from fairseq_adv.criterions import salt

__all__ = ["salt"]
