"""`--criterion mat`: the options of `core.methods.mat`."""

from dataclasses import dataclass, field
from typing import Any

from fairseq.criterions import register_criterion
from omegaconf import II

from fairseq_adv.core.methods.mat import MAT
from fairseq_adv.core.players.mixed import MixedLeader, Thermal
from fairseq_adv.core.players.start import Gaussian
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import (
    ASCENT,
    COMPARED,
    ReplayConfig,
    build,
    follower,
    options,
)
from fairseq_adv.games.game import FairseqGame


@dataclass
class SamplesConfig(ReplayConfig):
    """The follower's samples, and what MAT has to know of fairseq's average of earlier models."""

    follower_samples: int = field(
        default=2,
        metadata={"help": "samples K of the follower: ascent steps with noise, once a group"},
    )
    store_ema: bool = II("ema.store_ema")


MATConfig = options(
    "MATConfig",
    MAT,
    Gaussian,
    base=SamplesConfig,
    **{name: value for name, value in ASCENT.items() if name != "ascent_steps"},
    **COMPARED,
    leader_samples=3,
    leader_mean_decay=0.5,
    follower_mean_decay=0.5,
    thermal_noise=1e-3,
)


@register_criterion("mat", dataclass=MATConfig)
class MATCriterion(AdversarialCriterion):
    """Mixed strategies of both players."""

    def build_method(self, cfg: Any) -> MAT:
        """See `AdversarialCriterion.build_method`."""
        if cfg.adv_interval != 1:
            raise InvalidSetting("adv_interval", cfg.adv_interval, "1 with mat")
        if cfg.store_ema:
            raise SystemExit(
                "fairseq_adv: --store-ema with --criterion mat: it would average the leader's"
                " samples, of which the model is the mean anyway: leave it out"
            )
        player = follower(
            cfg, self.words, ascent_steps=cfg.follower_samples, thermal=build(Thermal, cfg)
        )
        return build(MAT, cfg, follower=player, leader=build(MixedLeader, cfg))

    def beside(self, game: FairseqGame, **known: Any) -> dict[str, Any]:
        """See `AdversarialCriterion.beside`: the batch's memory."""
        memory = known["memory"]
        return {"memory": None if memory is None else memory.of(game.sample)}
