"""`--criterion simcut`: the options of `core.methods.simcut`."""

from dataclasses import field
from typing import Any

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.simcut import SimCut
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import COMPARED, build, options, sites

_MEANS: dict[str, Any] = {
    "adv_weight": field(
        default=3.0, metadata={"help": "weight alpha of the divergence from clean to cut"}
    ),
    "divergence": field(
        default="kl", metadata={"help": "divergence between clean and cut predictions"}
    ),
}
SimCutConfig = options("SimCutConfig", SimCut, **{**COMPARED, **_MEANS}, cutoff_rate=0.05)


@register_criterion("simcut", dataclass=SimCutConfig)
class SimCutCriterion(AdversarialCriterion):
    """Whole-token cut-off as a regulariser."""

    def build_method(self, cfg: Any) -> SimCut:
        """See `AdversarialCriterion.build_method`."""
        places = sites(cfg, self.words)
        if not set(places) <= set(self.words):
            raise InvalidSetting("perturb", cfg.perturb, ", ".join(self.words))
        return build(SimCut, cfg, sites=places)
