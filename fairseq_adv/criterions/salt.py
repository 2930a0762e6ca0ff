"""`--criterion salt`: the options of `core.methods.salt`."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum

from fairseq_adv.core.game import InvalidSetting
from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.core.stackelberg import UNROLL_METHODS
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import (
    AscentConfig,
    RegularisationConfig,
    ascending_follower,
    regularisation,
)


@dataclass
class SALTConfig(RegularisationConfig, AscentConfig):
    """Options of SALT."""

    unroll_steps: Optional[int] = field(  # noqa: UP045  (fairseq reads no other spelling)
        default=None,
        metadata={
            "help": "ascent steps U, the last ones, that the leader's gradient looks through "
            "(default: all of them); 0 is virtual adversarial training"
        },
    )
    unroll_method: ChoiceEnum(UNROLL_METHODS) = field(  # type: ignore[valid-type]
        default="exact",
        metadata={
            "help": "differentiate through an ascent step by double backward, or by a central or "
            "one-sided finite difference of ordinary gradients, which wants a smooth "
            "--activation-fn such as gelu"
        },
    )


@register_criterion("salt", dataclass=SALTConfig)
class SALTCriterion(AdversarialCriterion):
    """Stackelberg adversarial regularisation."""

    ascends_apart = True

    def setup_method(self, cfg: SALTConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        follower = ascending_follower(cfg)
        steps = cfg.ascent_steps if cfg.unroll_steps is None else cfg.unroll_steps
        if not 0 <= steps <= cfg.ascent_steps:
            raise InvalidSetting("unroll_steps", steps, f"0 to {cfg.ascent_steps} (all steps)")
        self.follower = follower
        if steps == 0 or not follower.reacts:
            self.method = VAT(follower=follower, regularisation=regularisation(cfg))
            return
        self.method = SALT(
            follower=follower,
            regularisation=regularisation(cfg),
            unroll_steps=steps,
            unroll_method=str(cfg.unroll_method),  # type: ignore[arg-type]
        )
