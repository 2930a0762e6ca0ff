"""`--criterion adv`: the options of `core.methods.adv`."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.adv import Adv
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import BallConfig, MasksConfig, follower


@dataclass
class AdvConfig(MasksConfig, BallConfig):
    """Options of adversarial training."""

    epsilon: float = field(
        default=0.3, metadata={"help": "length of the follower's one step, in embedding units"}
    )


@register_criterion("adv", dataclass=AdvConfig)
class AdvCriterion(AdversarialCriterion):
    """Adversarial training."""

    raises_task_loss = True

    def setup_method(self, cfg: AdvConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        self.follower = follower(
            cfg,
            init_std=0.0,
            ascent_steps=1,
            ascent_step_size=cfg.epsilon,
            ascent_rule="normalized",
        )
        self.method = Adv(
            follower=self.follower,
            dropout_masks=str(cfg.dropout_masks),  # type: ignore[arg-type]
        )
