"""`--criterion vat`: the options of `core.methods.vat`."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum

from fairseq_adv.core.clean_branch import CLEAN_BRANCHES
from fairseq_adv.core.divergence import KINDS
from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import (
    AscentConfig,
    RegularisationConfig,
    ascending_follower,
    regularisation,
)


@dataclass
class VATConfig(RegularisationConfig, AscentConfig):
    """Options of VAT; divergence and clean branch as in Miyato et al. (2017)."""

    divergence: ChoiceEnum(KINDS) = field(  # type: ignore[valid-type]
        default="kl", metadata={"help": "divergence between clean and perturbed predictions"}
    )
    clean_branch: ChoiceEnum(CLEAN_BRANCHES) = field(  # type: ignore[valid-type]
        default="detached",
        metadata={
            "help": "take the clean predictions as constants, or let the divergence's gradient "
            "flow through both of its arguments"
        },
    )


@register_criterion("vat", dataclass=VATConfig)
class VATCriterion(AdversarialCriterion):
    """Virtual adversarial training."""

    ascends_apart = True

    def setup_method(self, cfg: VATConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        self.follower = ascending_follower(cfg)
        self.method = VAT(follower=self.follower, regularisation=regularisation(cfg))
