"""`--criterion rdrop`: the options of `core.methods.rdrop`."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.rdrop import RDrop
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import ScheduleConfig


@dataclass
class RDropConfig(ScheduleConfig):
    """Options of R-Drop."""

    adv_weight: float = field(
        default=5.0, metadata={"help": "weight alpha of the divergence between the two passes"}
    )


@register_criterion("rdrop", dataclass=RDropConfig)
class RDropCriterion(AdversarialCriterion):
    """Regularised dropout."""

    def setup_method(self, cfg: RDropConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        self.method = RDrop()
