"""`--criterion r3f`: the options of `core.methods.r3f`."""

import math
from dataclasses import field
from typing import Any

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.r3f import R3F
from fairseq_adv.core.players.directions import FREE
from fairseq_adv.core.players.start import Noise
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import COMPARED, build, follower, options

R3FConfig = options(
    "R3FConfig",
    R3F,
    Noise,
    **COMPARED,
    adv_weight=field(
        default=2.0,
        metadata={"help": "weight alpha of the divergence; twice the paper's lambda"},
    ),
    noise="normal",
    noise_size=0.06,
)


@register_criterion("r3f", dataclass=R3FConfig)
class R3FCriterion(AdversarialCriterion):
    """Noise as a regulariser."""

    def build_method(self, cfg: Any) -> R3F:
        """See `AdversarialCriterion.build_method`."""
        only_starts = follower(
            cfg,
            self.words,
            start=build(Noise, cfg),
            epsilon=math.inf,
            attention_epsilon=None,
            norm="l2",
            norm_scope="sentence",
            directions=FREE,
            ascent_steps=0,
            ascent_step_size=0.0,
            attention_step_size=None,
            ascent_rule="sgd",
        )
        return build(R3F, cfg, follower=only_starts)
