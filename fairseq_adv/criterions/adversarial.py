"""What the criterions of all methods have in common: options, schedule, and the training log."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from torch import Tensor

from fairseq_adv.core.follower import PERTURB, RULES, Follower
from fairseq_adv.core.game import Accumulate, InvalidSetting, Method, Step
from fairseq_adv.core.gauges import delta_norm, interaction_share
from fairseq_adv.core.perturbation import NORMS, SCOPES
from fairseq_adv.embedding_hooks import UnsupportedModel
from fairseq_adv.fairseq_game import FairseqGame


@dataclass
class ScheduleConfig(LabelSmoothedCrossEntropyCriterionConfig):
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
    gauge_interval: int = field(
        default=100,
        metadata={
            "help": "measure the gauges that cost extra passes (adv_gain, interaction) in every "
            "n-th game; 0: never"
        },
    )


@dataclass
class FollowerConfig(ScheduleConfig):
    """How the follower plays. The defaults are the active preset: see the README's presets."""

    perturb: ChoiceEnum(PERTURB) = field(  # type: ignore[valid-type]
        default="both", metadata={"help": "perturb the word embeddings of which side"}
    )
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
    init_std: float = field(
        default=1e-3,
        metadata={"help": "standard deviation sigma of each component of the initial perturbation"},
    )
    ascent_steps: int = field(default=1, metadata={"help": "ascent steps K of the follower"})
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


def follower(cfg: FollowerConfig) -> Follower:
    """The follower that the options describe. Raises InvalidSetting."""
    return Follower(
        perturb=str(cfg.perturb),  # type: ignore[arg-type]
        epsilon=cfg.epsilon,
        norm=str(cfg.norm),  # type: ignore[arg-type]
        norm_scope=str(cfg.norm_scope),  # type: ignore[arg-type]
        init_std=cfg.init_std,
        ascent_steps=cfg.ascent_steps,
        ascent_step_size=cfg.ascent_step_size,
        ascent_rule=str(cfg.ascent_rule),  # type: ignore[arg-type]
    )


class AdversarialCriterion(LabelSmoothedCrossEntropyCriterion, ABC):
    """Label-smoothed cross-entropy against an adversary.

    Called as fairseq calls a criterion it is the plain loss: that is what validation sees. A game
    takes several backward passes, so that training goes through `play`, under a task that knows
    how.
    """

    method: Method
    without_interaction: Method | None = None
    follower: Follower
    sound_in_half_precision = True

    def __init__(self, cfg: FollowerConfig, task: Any) -> None:
        super().__init__(
            task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy
        )
        if not getattr(task, "plays_games", False):
            raise SystemExit(
                f"fairseq_adv: --criterion {cfg._name} needs --task adversarial_translation: "
                f"{type(task).__name__} runs one backward pass per batch, and a game takes several"
            )
        _check("label_smoothing", cfg.label_smoothing, 0 <= cfg.label_smoothing < 1, "0 up to 1")
        _check("adv_weight", cfg.adv_weight, 0 <= cfg.adv_weight < math.inf, "a number from 0 up")
        _check("adv_interval", cfg.adv_interval, cfg.adv_interval >= 1, "1, 2, 3, ...")
        for name in ("adv_warmup_updates", "gauge_interval"):
            _check(name, getattr(cfg, name), getattr(cfg, name) >= 0, "0, 1, 2, ...")
        self.cfg = cfg
        try:
            self.setup_method(cfg)
        except InvalidSetting as error:
            raise _option_error(error.name, error.value, error.allowed) from None

    @abstractmethod
    def setup_method(self, cfg: Any) -> None:
        """Set `method` and `follower` from the options. Raises InvalidSetting."""

    def weight(self, update_num: int) -> float:
        """alpha in this update: 0 between games, and ramped up from 0 at the start."""
        if update_num % self.cfg.adv_interval != 0:
            return 0.0
        warmup: int = self.cfg.adv_warmup_updates
        ramp = min(1.0, update_num / warmup) if warmup > 0 else 1.0
        return float(self.cfg.adv_weight * self.cfg.adv_interval * ramp)

    def gauged(self, update_num: int) -> bool:
        """Whether this update's game measures the gauges that cost extra passes."""
        every: int = self.cfg.gauge_interval
        return every > 0 and (update_num // self.cfg.adv_interval) % every == 0

    def play(
        self,
        model: BaseFairseqModel,
        sample: dict[str, Any],
        update_num: int,
        accumulate: Accumulate,
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """One batch of training: forward and backward passes, of a game or, between games, plain.

        Returns the objective's value, the sample size that its gradient is to be divided by, and
        the logging output, like a criterion's `forward`.
        """
        weight = self.weight(update_num)
        if weight == 0:
            loss, sample_size, log = self(model, sample)
            accumulate(loss)
            return loss.detach(), sample_size, log
        try:
            game = FairseqGame(model, sample, self)
        except UnsupportedModel as error:
            raise SystemExit(f"fairseq_adv: {error}") from None
        gauged = self.gauged(update_num)

        def play(method: Method, gauges: bool) -> Step:
            step = method.step(game, accumulate, weight=weight, gauges=gauges)
            accumulate(step.last)
            return step

        frozen = self.without_interaction
        log = {}
        if gauged and frozen is not None:
            step, log["interaction"] = interaction_share(
                game.parameters(), lambda: play(self.method, True), lambda: play(frozen, False)
            )
            log["interaction_games"] = 1
        else:
            step = play(self.method, gauged)
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        log |= {
            "loss": step.objective,
            "nll_loss": game.nll_loss,
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
            "adv_loss": step.adv_loss,
            "adv_ntokens": sample["ntokens"],
            "delta_norm": delta_norm(step.delta, self.follower),
            "games": 1,
        }
        if step.adv_gain is not None:
            log |= {"adv_gain": step.adv_gain, "gauged_ntokens": sample["ntokens"]}
        return step.objective, sample_size, log

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log, beside fairseq's own, what the game did; absent where no game was played.

        `adv_loss` and `adv_gain` are in bits per target token, like fairseq's `loss` and
        `nll_loss`; `delta_norm` is in embedding units; `interaction` is a ratio.
        """
        super().reduce_metrics(logging_outputs)

        def total(key: str) -> Any:
            return sum(log.get(key, 0) for log in logging_outputs)

        for name, count, unit in (
            ("adv_loss", "adv_ntokens", math.log(2)),
            ("adv_gain", "gauged_ntokens", math.log(2)),
            ("delta_norm", "games", 1.0),
            ("interaction", "interaction_games", 1.0),
        ):
            n = total(count)
            if n > 0:
                metrics.log_scalar(name, total(name) / n / unit, n, round=6)


def _check(name: str, value: Any, valid: bool, allowed: str) -> None:
    if not valid:
        raise _option_error(name, value, allowed)


def _option_error(name: str, value: Any, allowed: str) -> SystemExit:
    return SystemExit(f"fairseq_adv: --{name.replace('_', '-')} {value}: allowed is {allowed}")
