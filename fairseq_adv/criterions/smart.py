"""`--criterion smart`: the options of `core.methods.smart`."""

from dataclasses import dataclass, field, replace

from fairseq.criterions import register_criterion
from omegaconf import II

from fairseq_adv.core.game import Method
from fairseq_adv.core.methods.smart import SMART
from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.options import AscentConfig, MasksConfig, ascending_follower


@dataclass
class SMARTConfig(MasksConfig, AscentConfig):
    """Options of SMART."""

    proximal_weight: float = field(
        default=1.0,
        metadata={
            "help": "weight mu of the divergence from the average of earlier models that "
            "--store-ema keeps; 0: none"
        },
    )
    store_ema: bool = II("ema.store_ema")


@register_criterion("smart", dataclass=SMARTConfig)
class SMARTCriterion(AdversarialCriterion):
    """Smoothness-inducing regularisation with a proximal term."""

    method: SMART
    ascends_apart = True

    def method_in(self, update_num: int) -> Method:
        """See `AdversarialCriterion.method_in`: the proximal term follows the weight's schedule."""
        if self.cfg.adv_weight == 0:
            return self.method
        factor = self.weight(update_num) / self.cfg.adv_weight
        return replace(self.method, proximal_weight=factor * self.cfg.proximal_weight)

    def setup_method(self, cfg: SMARTConfig) -> None:
        """See `AdversarialCriterion.setup_method`."""
        self.follower = ascending_follower(cfg)
        self.method = SMART(
            follower=self.follower,
            dropout_masks=str(cfg.dropout_masks),  # type: ignore[arg-type]
            proximal_weight=cfg.proximal_weight,
        )
        if cfg.proximal_weight > 0 and not cfg.store_ema:
            raise SystemExit(
                f"fairseq_adv: --proximal-weight {cfg.proximal_weight} compares with an average of "
                "earlier models: add --store-ema --ema-decay 0.999, or set --proximal-weight 0"
            )
