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
    ema_fp32: bool = II("ema.ema_fp32")


@register_criterion("smart", dataclass=SMARTConfig)
class SMARTCriterion(AdversarialCriterion):
    """Smoothness-inducing regularisation with a proximal term."""

    method: SMART
    ascends_apart = True

    def plays(self, update_num: int) -> bool:
        """See `AdversarialCriterion.plays`: the proximal term has a weight of its own."""
        weights = self.cfg.adv_weight + self.cfg.proximal_weight
        return self.schedule(update_num) * weights > 0

    def _gauges(self, gauged: bool) -> tuple[str, ...]:
        """See `AdversarialCriterion`."""
        return (*super()._gauges(gauged), "proximal_loss")

    def method_in(self, update_num: int) -> Method:
        """See `AdversarialCriterion.method_in`: both terms follow the same schedule."""
        factor = self.schedule(update_num)
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
        low = [f"--{name}" for name in ("bf16", "fp16") if getattr(cfg, name)]
        if cfg.proximal_weight > 0 and low and not cfg.ema_fp32:
            raise SystemExit(
                f"fairseq_adv: --proximal-weight {cfg.proximal_weight} with {low[0]}: an average "
                "in 16 bits does not follow the model, whose steps are below its rounding: add "
                "--ema-fp32"
            )
