"""`--criterion adv`: the options of `core.methods.adv`."""

from dataclasses import field
from typing import Any

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.adv import Adv
from fairseq_adv.core.players.start import AtRest
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import BALL, build, follower, options

_EPSILON = field(
    default=0.3, metadata={"help": "length of the follower's one step, in embedding units"}
)
AdvConfig = options("AdvConfig", Adv, **{**BALL, "epsilon": _EPSILON}, dropout_masks="independent")


@register_criterion("adv", dataclass=AdvConfig)
class AdvCriterion(AdversarialCriterion):
    """Adversarial training."""

    def build_method(self, cfg: Any) -> Adv:
        """See `AdversarialCriterion.build_method`."""
        one_step = follower(
            cfg,
            self.words,
            start=AtRest(),
            ascent_steps=1,
            ascent_step_size=cfg.epsilon,
            attention_step_size=cfg.attention_epsilon,
            ascent_rule="normalized",
        )
        return build(Adv, cfg, follower=one_step)
