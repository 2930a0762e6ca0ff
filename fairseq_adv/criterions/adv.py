"""`--criterion adv`: the options of `core.methods.adv`."""

from dataclasses import field
from typing import Any

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.adv import Adv
from fairseq_adv.core.players.ball import radius
from fairseq_adv.core.players.start import AtRest, Sphere
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import BALL, build, follower, options

_EPSILON = field(
    default=0.3, metadata={"help": "length of the follower's one step, in embedding units"}
)
_STEPS = field(
    default=1,
    metadata={"help": "1: a step up the gradient; 0: a random direction of the same length"},
)
AdvConfig = options(
    "AdvConfig",
    Adv,
    **{**BALL, "epsilon": _EPSILON},
    ascent_steps=_STEPS,
    dropout_masks="independent",
)


@register_criterion("adv", dataclass=AdvConfig)
class AdvCriterion(AdversarialCriterion):
    """Adversarial training."""

    def build_method(self, cfg: Any) -> Adv:
        """See `AdversarialCriterion.build_method`."""
        radius("epsilon", cfg.epsilon, finite=True)
        one_step = follower(
            cfg,
            self.words,
            start=AtRest() if cfg.ascent_steps else Sphere(),
            ascent_step_size=cfg.epsilon,
            attention_step_size=cfg.attention_epsilon,
            ascent_rule="normalized",
        )
        return build(Adv, cfg, follower=one_step)
