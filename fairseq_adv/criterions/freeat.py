"""`--criterion freeat`: the options of `core.methods.freeat`."""

from typing import Any

from fairseq.criterions import register_criterion

from fairseq_adv.core.methods.freeat import FreeAT
from fairseq_adv.core.players.start import AtRest
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.criterions.common.options import (
    BALL,
    COMPARED,
    STEP,
    ReplayConfig,
    build,
    follower,
    options,
)
from fairseq_adv.games.game import FairseqGame

FreeATConfig = options(
    "FreeATConfig",
    FreeAT,
    base=ReplayConfig,
    **BALL,
    **STEP,
    **COMPARED,
    adv_objective="task-loss",
    replays=2,
)


@register_criterion("freeat", dataclass=FreeATConfig)
class FreeATCriterion(AdversarialCriterion):
    """Free adversarial training."""

    def build_method(self, cfg: Any) -> FreeAT:
        """See `AdversarialCriterion.build_method`."""
        if cfg.adv_interval != 1:
            raise InvalidSetting("adv_interval", cfg.adv_interval, "1 with freeat")
        return build(
            FreeAT, cfg, follower=follower(cfg, self.words, start=AtRest(), ascent_steps=1)
        )

    def beside(self, game: FairseqGame, **known: Any) -> dict[str, Any]:
        """See `AdversarialCriterion.beside`: the batch's memory."""
        memory = known["memory"]
        return {"memory": None if memory is None else memory.of(game.sample)}
