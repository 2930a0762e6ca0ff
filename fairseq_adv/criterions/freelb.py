"""`--criterion freelb`: the options of `core.methods.freelb`."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.freelb import FreeLB
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import (
    AdvObjectiveConfig,
    BallConfig,
    follower,
    regularisation,
)


@dataclass
class FreeLBConfig(AdvObjectiveConfig, BallConfig):
    """Options of FreeLB, whose start is uniform in the ball and whose steps are normalized."""

    ascent_steps: int = field(
        default=3, metadata={"help": "ascent steps K, over which the model's gradient is averaged"}
    )
    ascent_step_size: float = field(
        default=0.3, metadata={"help": "length eta of an ascent step, in embedding units"}
    )


@register_criterion("freelb", dataclass=FreeLBConfig)
class FreeLBCriterion(AdversarialCriterion):
    """Free large-batch adversarial training."""

    def setup_method(self, cfg: FreeLBConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        self.follower = follower(
            cfg,
            init_std=None,
            ascent_steps=cfg.ascent_steps,
            ascent_step_size=cfg.ascent_step_size,
            ascent_rule="normalized",
        )
        self.raises_task_loss = self.replaces_task_loss = str(cfg.adv_objective) == "task-loss"
        self.method = FreeLB(
            follower=self.follower,
            objective=str(cfg.adv_objective),  # type: ignore[arg-type]
            regularisation=regularisation(cfg),
        )
