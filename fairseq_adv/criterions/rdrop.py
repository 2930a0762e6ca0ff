"""`--criterion rdrop`: the options of `core.methods.rdrop`."""

from dataclasses import field
from typing import Any

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.rdrop import RDrop
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import ScheduleConfig, options

RDropConfig = options(
    "RDropConfig",
    RDrop,
    base=ScheduleConfig,
    adv_weight=field(
        default=5.0, metadata={"help": "weight alpha of the divergence between the two passes"}
    ),
)


@register_criterion("rdrop", dataclass=RDropConfig)
class RDropCriterion(AdversarialCriterion):
    """Regularised dropout."""

    def build_method(self, cfg: Any) -> RDrop:
        """See `AdversarialCriterion.build_method`."""
        return RDrop()
