"""`--criterion freelb`: the options of `core.methods.freelb`."""

from dataclasses import field
from typing import Any

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.freelb import FreeLB
from fairseq_adv.core.players.start import Uniform
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import BALL, COMPARED, build, follower, options

FreeLBConfig = options(
    "FreeLBConfig",
    FreeLB,
    **BALL,
    **COMPARED,
    adv_objective="divergence",
    ascent_steps=field(
        default=3, metadata={"help": "ascent steps K, over which the model's gradient is averaged"}
    ),
    ascent_step_size=field(
        default=0.3, metadata={"help": "length eta of an ascent step, in embedding units"}
    ),
    attention_step_size=None,
)


@register_criterion("freelb", dataclass=FreeLBConfig)
class FreeLBCriterion(AdversarialCriterion):
    """Free large-batch adversarial training, from a uniform start, by normalized steps."""

    def build_method(self, cfg: Any) -> FreeLB:
        """See `AdversarialCriterion.build_method`."""
        player = follower(cfg, self.words, start=Uniform(), ascent_rule="normalized")
        return build(FreeLB, cfg, follower=player)
