"""`--criterion simcut`: the options of `core.methods.simcut`."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum

from fairseq_adv.core.divergence import KINDS
from fairseq_adv.core.methods.simcut import SimCut
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import PerturbConfig, RegularisationConfig, regularisation


@dataclass
class SimCutConfig(RegularisationConfig, PerturbConfig):
    """Options of SimCut."""

    adv_weight: float = field(
        default=3.0, metadata={"help": "weight alpha of the divergence from clean to cut"}
    )
    cutoff_rate: float = field(
        default=0.05, metadata={"help": "probability that a word's embedding is set to zero"}
    )
    divergence: ChoiceEnum(KINDS) = field(  # type: ignore[valid-type]
        default="kl", metadata={"help": "divergence between clean and cut predictions"}
    )


@register_criterion("simcut", dataclass=SimCutConfig)
class SimCutCriterion(AdversarialCriterion):
    """Whole-token cut-off as a regulariser."""

    def setup_method(self, cfg: SimCutConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        self.method = SimCut(
            perturb=str(cfg.perturb),  # type: ignore[arg-type]
            cutoff_rate=cfg.cutoff_rate,
            regularisation=regularisation(cfg),
        )
