"""`--criterion salt`: the options of `core.methods.salt`."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum

from fairseq_adv.core.clean_branch import CLEAN_BRANCHES
from fairseq_adv.core.divergence import KINDS
from fairseq_adv.core.methods.salt import DROPOUT_MASKS, SALT
from fairseq_adv.core.stackelberg import UNROLL_METHODS
from fairseq_adv.criterions.adversarial import AdversarialCriterion, FollowerConfig, follower


@dataclass
class SALTConfig(FollowerConfig):
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
    divergence: ChoiceEnum(KINDS) = field(  # type: ignore[valid-type]
        default="symmetric-kl",
        metadata={"help": "divergence between clean and perturbed predictions"},
    )
    clean_branch: ChoiceEnum(CLEAN_BRANCHES) = field(  # type: ignore[valid-type]
        default="differentiated",
        metadata={
            "help": "let the divergence's gradient flow through both of its arguments, or take "
            "the clean predictions as constants"
        },
    )
    dropout_masks: ChoiceEnum(DROPOUT_MASKS) = field(  # type: ignore[valid-type]
        default="independent",
        metadata={"help": "draw dropout masks for each pass, or share those of the clean pass"},
    )


@register_criterion("salt", dataclass=SALTConfig)
class SALTCriterion(AdversarialCriterion):
    """Stackelberg adversarial regularisation."""

    def setup_method(self, cfg: SALTConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        self.follower = follower(cfg)
        salt = SALT(
            follower=self.follower,
            divergence=str(cfg.divergence),  # type: ignore[arg-type]
            clean_branch=str(cfg.clean_branch),  # type: ignore[arg-type]
            dropout_masks=str(cfg.dropout_masks),  # type: ignore[arg-type]
            unroll_steps=cfg.ascent_steps if cfg.unroll_steps is None else cfg.unroll_steps,
            unroll_method=str(cfg.unroll_method),  # type: ignore[arg-type]
        )
        self.method = salt
        if salt.unrolled > 0:
            self.without_interaction = salt.without_interaction()
            self.sound_in_half_precision = salt.unroll_method == "exact"
