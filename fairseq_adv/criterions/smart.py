"""`--criterion smart`: the options of `core.methods.smart`."""

from dataclasses import dataclass, replace
from typing import Any

from fairseq.criterions import register_criterion
from omegaconf import II

from fairseq_adv.core.methods.smart import SMART
from fairseq_adv.core.players.start import Gaussian
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import ASCENT, PerturbConfig, build, follower, options
from fairseq_adv.games.game import FairseqGame


@dataclass
class AverageConfig(PerturbConfig):
    """What SMART has to know of fairseq's average of earlier models."""

    store_ema: bool = II("ema.store_ema")
    ema_fp32: bool = II("ema.ema_fp32")


SMARTConfig = options(
    "SMARTConfig",
    SMART,
    Gaussian,
    base=AverageConfig,
    **ASCENT,
    dropout_masks="independent",
    proximal_weight=1.0,
)


@register_criterion("smart", dataclass=SMARTConfig)
class SMARTCriterion(AdversarialCriterion):
    """Smoothness-inducing regularisation with a proximal term."""

    method: SMART

    def plays(self, update_num: int) -> bool:
        """See `AdversarialCriterion.plays`: the proximal term has a weight of its own."""
        weights = self.cfg.adv_weight + self.cfg.proximal_weight
        return bool(self.schedule.factor(update_num) * weights > 0)

    def method_in(self, update_num: int) -> SMART:
        """See `AdversarialCriterion.method_in`: both terms follow the same schedule."""
        factor = self.schedule.factor(update_num)
        return replace(self.method, proximal_weight=factor * self.cfg.proximal_weight)

    def beside(self, game: FairseqGame, **known: Any) -> dict[str, Any]:
        """See `AdversarialCriterion.beside`: the same batch, and the average of earlier models."""
        average = known["reference_model"]
        if average is None or self.cfg.proximal_weight == 0:
            return {}
        return {"reference": game.of(average.eval())}

    def _gauges(self, gauged: bool) -> tuple[str, ...]:
        """See `AdversarialCriterion`."""
        return (*super()._gauges(gauged), "proximal_loss")

    def build_method(self, cfg: Any) -> SMART:
        """See `AdversarialCriterion.build_method`."""
        method = build(SMART, cfg, follower=follower(cfg, self.words))
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
        return method
