"""`--criterion freeat`: the options of `core.methods.freeat`."""

from dataclasses import dataclass, field
from typing import Any

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum
from omegaconf import II

from fairseq_adv.core.adv_objective import ADV_OBJECTIVES
from fairseq_adv.core.game import InvalidSetting
from fairseq_adv.core.methods.freeat import FreeAT
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import (
    AdvObjectiveConfig,
    StepConfig,
    follower,
    regularisation,
)


@dataclass
class FreeATConfig(AdvObjectiveConfig, StepConfig):
    """Options of FreeAT."""

    replays: int = field(
        default=2,
        metadata={
            "help": "train so many times in a row on each group of batches: N updates then see "
            "1/n as much data as without"
        },
    )
    adv_objective: ChoiceEnum(ADV_OBJECTIVES) = field(  # type: ignore[valid-type]
        default="task-loss",
        metadata={
            "help": "what the follower raises: the task loss of the perturbed words, in place of "
            "the clean one, or the divergence from the clean predictions, beside the clean loss"
        },
    )
    max_update: int = II("optimization.max_update")
    train_subset: str = II("dataset.train_subset")
    update_freq: Any = II("optimization.update_freq")  # noqa: RUF009  (a string)


@register_criterion("freeat", dataclass=FreeATConfig)
class FreeATCriterion(AdversarialCriterion):
    """Free adversarial training."""

    def gauged(self, update_num: int, replay: int = 0) -> bool:
        """Whether to measure: in the last replay of every n-th group; in the first, delta is 0.

        Skipped updates are replays, but are not counted by the trainer.
        """
        group = update_num // self.cfg.replays
        every: int = self.cfg.gauge_interval
        last = replay == self.cfg.replays - 1
        return self.plays(update_num) and last and every > 0 and group % every == 0

    def setup_method(self, cfg: FreeATConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        if cfg.replays < 1:
            raise InvalidSetting("replays", cfg.replays, "1, 2, 3, ...")
        if cfg.adv_interval != 1:
            raise InvalidSetting("adv_interval", cfg.adv_interval, "1 with freeat")
        self.follower = follower(
            cfg,
            init_std=0.0,
            ascent_steps=1,
            ascent_step_size=cfg.ascent_step_size,
            ascent_rule=str(cfg.ascent_rule),
        )
        self.raises_task_loss = self.replaces_task_loss = str(cfg.adv_objective) == "task-loss"
        self.method = FreeAT(
            follower=self.follower,
            objective=str(cfg.adv_objective),  # type: ignore[arg-type]
            regularisation=regularisation(cfg),
        )
