"""fairseq criterions: the options of each method, registered under the method's name."""

from fairseq_adv.criterions import adv, freeat, freelb, rdrop, salt, simcut, smart, vat

__all__ = ["adv", "freeat", "freelb", "rdrop", "salt", "simcut", "smart", "vat"]
