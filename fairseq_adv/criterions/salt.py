"""`--criterion salt`: the options of `core.methods.salt`."""

from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.core.players.start import Gaussian
from fairseq_adv.core.settings import InvalidSetting, at_least
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import (
    ASCENT,
    COMPARED,
    PerturbConfig,
    build,
    follower,
    options,
)


@dataclass
class UnrollConfig(PerturbConfig):
    """How far the leader looks."""

    unroll_steps: Optional[int] = field(  # noqa: UP045  (fairseq reads no other spelling)
        default=None,
        metadata={
            "help": "ascent steps U, the last ones, that the leader's gradient looks through "
            "(default: all of them); 0 is virtual adversarial training"
        },
    )


SALTConfig = options(
    "SALTConfig", SALT, Gaussian, base=UnrollConfig, **ASCENT, **COMPARED, unroll_method="exact"
)


@register_criterion("salt", dataclass=SALTConfig)
class SALTCriterion(AdversarialCriterion):
    """Stackelberg adversarial regularisation."""

    def build_method(self, cfg: Any) -> SALT | VAT:
        """See `AdversarialCriterion.build_method`."""
        at_least("ascent_steps", cfg.ascent_steps, 1)
        player = follower(cfg, self.words)
        steps = cfg.ascent_steps if cfg.unroll_steps is None else cfg.unroll_steps
        if not 0 <= steps <= cfg.ascent_steps:
            raise InvalidSetting("unroll_steps", steps, f"0 to {cfg.ascent_steps} (all steps)")
        if steps == 0 or not player.rule.reacts:
            return build(VAT, cfg, follower=player)
        return build(SALT, cfg, follower=player, unroll_steps=steps)
