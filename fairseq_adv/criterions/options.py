"""The options that several methods share, and what they describe.

fairseq reads the types of these dataclasses at run time: there is no `from __future__ import
annotations` here, nor in the criterions.
"""

from dataclasses import dataclass, field

from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.dataclass import ChoiceEnum

from fairseq_adv.core.adv_objective import ADV_OBJECTIVES, DROPOUT_MASKS, Regularisation
from fairseq_adv.core.clean_branch import CLEAN_BRANCHES
from fairseq_adv.core.divergence import KINDS
from fairseq_adv.core.follower import PERTURB, RULES, Follower
from fairseq_adv.core.perturbation import NORMS, SCOPES
from fairseq_adv.criterions.unsupported import SurroundingsConfig


@dataclass
class ScheduleConfig(SurroundingsConfig, LabelSmoothedCrossEntropyCriterionConfig):
    """When the game is played, and with what weight."""

    adv_weight: float = field(
        default=1.0,
        metadata={"help": "weight alpha of the adversarial term in the objective"},
    )
    adv_interval: int = field(
        default=1,
        metadata={
            "help": "play the game every n-th update, its weight multiplied by n; the updates "
            "between are plain ones"
        },
    )
    adv_warmup_updates: int = field(
        default=0,
        metadata={"help": "let the weight grow from 0 to --adv-weight over so many updates"},
    )
    adv_parts: int = field(
        default=0,
        metadata={
            "help": "play each game on so many parts of the batch, one after another, in about so "
            "many times less memory; 0: on a CPU, where that takes no longer, as many as bring it "
            "near a plain update's; 1 on a GPU"
        },
    )
    gauge_interval: int = field(
        default=100,
        metadata={
            "help": "measure the gauges that cost extra passes (adv_gain, interaction) in every "
            "n-th game; 0: never"
        },
    )
    max_skipped_updates: int = field(
        default=10,
        metadata={
            "help": "an update whose gradient is not finite is skipped; end the training when more "
            "than so many in a row were"
        },
    )


@dataclass
class PerturbConfig(ScheduleConfig):
    """Whose words are perturbed."""

    perturb: ChoiceEnum(PERTURB) = field(  # type: ignore[valid-type]
        default="both", metadata={"help": "perturb the word embeddings of which side"}
    )


@dataclass
class BallConfig(PerturbConfig):
    """Where a perturbation may lie. The defaults are the active preset: see the README."""

    epsilon: float = field(
        default=1.0,
        metadata={"help": "radius of the ball that a perturbation stays in, in embedding units"},
    )
    norm: ChoiceEnum(NORMS) = field(  # type: ignore[valid-type]
        default="l2", metadata={"help": "norm of the ball and of normalized ascent"}
    )
    norm_scope: ChoiceEnum(SCOPES) = field(  # type: ignore[valid-type]
        default="sentence", metadata={"help": "take the norm over a whole sentence or each token"}
    )


@dataclass
class StepConfig(BallConfig):
    """How the follower steps."""

    ascent_step_size: float = field(
        default=0.3,
        metadata={
            "help": "size eta of an ascent step: a length in embedding units for the rules "
            "normalized, sign and adam; a multiplier of the gradient for sgd"
        },
    )
    ascent_rule: ChoiceEnum(RULES) = field(  # type: ignore[valid-type]
        default="normalized", metadata={"help": "how the follower steps along its gradient"}
    )


@dataclass
class AscentConfig(StepConfig):
    """Several steps from a random start."""

    init_std: float = field(
        default=1e-3,
        metadata={"help": "standard deviation sigma of each component of the initial perturbation"},
    )
    ascent_steps: int = field(default=1, metadata={"help": "ascent steps K of the follower"})


@dataclass
class MasksConfig:
    """Dropout in the passes of a game."""

    dropout_masks: ChoiceEnum(DROPOUT_MASKS) = field(  # type: ignore[valid-type]
        default="independent",
        metadata={"help": "draw dropout masks for each pass, or share those of the clean pass"},
    )


@dataclass
class RegularisationConfig(MasksConfig):
    """How clean and perturbed predictions are compared."""

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


@dataclass
class AdvObjectiveConfig(RegularisationConfig):
    """What the follower raises."""

    adv_objective: ChoiceEnum(ADV_OBJECTIVES) = field(  # type: ignore[valid-type]
        default="divergence",
        metadata={
            "help": "what the follower raises: the divergence from the clean predictions, beside "
            "the clean loss, or the task loss of the perturbed words, in place of the clean one"
        },
    )


def follower(
    cfg: BallConfig,
    *,
    init_std: float | None,
    ascent_steps: int,
    ascent_step_size: float,
    ascent_rule: str,
) -> Follower:
    """The follower of these options. Raises InvalidSetting."""
    return Follower(
        perturb=str(cfg.perturb),  # type: ignore[arg-type]
        epsilon=cfg.epsilon,
        norm=str(cfg.norm),  # type: ignore[arg-type]
        norm_scope=str(cfg.norm_scope),  # type: ignore[arg-type]
        init_std=init_std,
        ascent_steps=ascent_steps,
        ascent_step_size=ascent_step_size,
        ascent_rule=str(ascent_rule),  # type: ignore[arg-type]
    )


def ascending_follower(cfg: AscentConfig) -> Follower:
    """The follower of VAT, SALT and SMART. Raises InvalidSetting."""
    return follower(
        cfg,
        init_std=cfg.init_std,
        ascent_steps=cfg.ascent_steps,
        ascent_step_size=cfg.ascent_step_size,
        ascent_rule=str(cfg.ascent_rule),
    )


def regularisation(cfg: RegularisationConfig) -> Regularisation:
    """The comparison that the options describe. Raises InvalidSetting."""
    return Regularisation(
        divergence=str(cfg.divergence),  # type: ignore[arg-type]
        clean_branch=str(cfg.clean_branch),  # type: ignore[arg-type]
        dropout_masks=str(cfg.dropout_masks),  # type: ignore[arg-type]
    )
