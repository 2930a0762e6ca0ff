"""`--criterion vat`: the options of `core.methods.vat`."""

from typing import Any

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.core.players.start import Gaussian
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import ASCENT, build, follower, options

VATConfig = options(
    "VATConfig",
    VAT,
    Gaussian,
    **ASCENT,
    dropout_masks="independent",
    divergence="kl",  # both as in Miyato et al. (2017)
    clean_branch="detached",
)


@register_criterion("vat", dataclass=VATConfig)
class VATCriterion(AdversarialCriterion):
    """Virtual adversarial training."""

    def build_method(self, cfg: Any) -> VAT:
        """See `AdversarialCriterion.build_method`."""
        return build(VAT, cfg, follower=follower(cfg, self.words))
