"""What the criterions of all methods have in common: schedule, one batch of training, the log."""

import math
from abc import ABC, abstractmethod
from typing import Any

from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from fairseq.tasks import TASK_REGISTRY
from torch import Tensor

from fairseq_adv.core.follower import Follower
from fairseq_adv.core.game import Accumulate, InvalidSetting, Method, Step
from fairseq_adv.core.gauges import delta_norm, interaction_share
from fairseq_adv.criterions.options import ScheduleConfig
from fairseq_adv.criterions.unsupported import refuse_16_bits, refuse_model, refuse_surroundings
from fairseq_adv.dropout import fast_dropout
from fairseq_adv.embedding_hooks import UnsupportedModel
from fairseq_adv.fairseq_game import FairseqGame, check_embeddings, mixed_precision
from fairseq_adv.parts import number_of_parts, parts_of
from fairseq_adv.replay import Memory


class AdversarialCriterion(LabelSmoothedCrossEntropyCriterion, ABC):
    """Label-smoothed cross-entropy against an adversary.

    Called as fairseq calls a criterion it is the plain loss: that is what validation sees. A game
    takes several backward passes, so that training goes through `play`, under a task that knows
    how.
    """

    method: Method
    follower: Follower | None = None
    without_interaction: Method | None = None
    """The same method with the follower's answer taken as a constant, where that matters."""
    replaces_task_loss = False
    """Whether the weight is moved from the clean task loss to the perturbed one, not added."""
    ascends_apart = False
    """Whether the follower's ascent takes gradients apart from the backward passes."""

    def __init__(self, cfg: ScheduleConfig, task: Any) -> None:
        super().__init__(
            task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy
        )
        if not getattr(task, "plays_games", False):
            raise SystemExit(
                f"fairseq_adv: --criterion {cfg._name} needs --task {_task_like(task)}: "
                f"{type(task).__name__} runs one backward pass per batch, and a game takes several"
            )
        refuse_surroundings(cfg)
        _check("label_smoothing", cfg.label_smoothing, 0 <= cfg.label_smoothing < 1, "0 up to 1")
        _check("adv_weight", cfg.adv_weight, 0 <= cfg.adv_weight < math.inf, "a number from 0 up")
        _check("adv_interval", cfg.adv_interval, cfg.adv_interval >= 1, "1, 2, 3, ...")
        for name in ("adv_warmup_updates", "adv_parts", "gauge_interval", "max_skipped_updates"):
            _check(name, getattr(cfg, name), getattr(cfg, name) >= 0, "0, 1, 2, ...")
        self.cfg = cfg
        try:
            self.setup_method(cfg)
        except InvalidSetting as error:
            raise _option_error(error.name, error.value, error.allowed) from None
        if self.replaces_task_loss:
            allowed = "0 to 1 with --adv-objective task-loss"
            _check("adv_weight", cfg.adv_weight, cfg.adv_weight <= 1, allowed)

    @abstractmethod
    def setup_method(self, cfg: Any) -> None:
        """Set `method`, and what else differs, from the options. Raises InvalidSetting."""

    def check_model(self, model: BaseFairseqModel) -> None:
        """Stop the run, with one line, if the game cannot be played on this model."""
        try:
            check_embeddings(model)
        except UnsupportedModel as error:
            raise SystemExit(f"fairseq_adv: {error}") from None
        refuse_model(model, self.cfg._name, self.ascends_apart)
        refuse_16_bits(self.cfg, model)

    def weight(self, update_num: int) -> float:
        """alpha in this update: 0 between games, and ramped up from 0 at the start."""
        if update_num % self.cfg.adv_interval != 0:
            return 0.0
        warmup: int = self.cfg.adv_warmup_updates
        ramp = min(1.0, update_num / warmup) if warmup > 0 else 1.0
        times = 1 if self.replaces_task_loss else self.cfg.adv_interval
        return float(self.cfg.adv_weight * times * ramp)

    def method_in(self, update_num: int) -> Method:
        """The method as it is played in this update."""
        return self.method

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
        *,
        reference_model: BaseFairseqModel | None = None,
        memory: Memory | None = None,
        autocast: bool = False,
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """One batch of training: forward and backward passes, of a game or, between games, plain.

        :param reference_model: an average of earlier models, for the methods that ask for one.
        :param memory: what a batch carries from replay to replay, for the methods that replay.
        :param autocast: run the model in the mixed precision of --amp; all else is in float32.

        Returns the objective's value, the sample size that its gradient is to be divided by, and
        the logging output, like a criterion's `forward`.
        """
        weight = self.weight(update_num)
        if weight == 0:
            with mixed_precision(model, autocast):
                loss, sample_size, log = self(model, sample)
            accumulate(loss)
            return loss.detach(), sample_size, log
        gauged = self.gauged(update_num)
        method = self.method_in(update_num)
        parts = parts_of(sample, self._parts(model, sample, method), self.padding_idx)

        def play(method: Method, gauges: bool) -> dict[str, Any]:
            log: dict[str, Any] = {}
            for part in parts:
                game = FairseqGame(
                    model,
                    part,
                    self,
                    reference_model=reference_model,
                    memory=memory,
                    autocast=autocast,
                )
                step = method.step(game, accumulate, weight=weight, gauges=gauges)
                step.finish(accumulate)
                for name, value in self._log(game, step).items():
                    log[name] = log.get(name, 0) + value
                del game, step  # and what they keep, before the next part's graph grows
            return log

        frozen = self.without_interaction
        with fast_dropout():
            if gauged and frozen is not None:
                parameters = [p for p in model.parameters() if p.requires_grad]
                log, share = interaction_share(
                    parameters, lambda: play(method, True), lambda: play(frozen, False)
                )
                log |= {"interaction": share, "interaction_games": 1}
            else:
                log = play(method, gauged)
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        sample_size *= log.pop("task_losses") // len(parts)
        log |= {
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
            "adv_ntokens": sample["ntokens"],
        }
        if "adv_gain" in log:
            log["gauged_ntokens"] = sample["ntokens"]
        return log["loss"], sample_size, log

    def _parts(self, model: BaseFairseqModel, sample: dict[str, Any], method: Method) -> int:
        """In how many parts to play a game on this batch."""
        parts: int = self.cfg.adv_parts
        if parts > 0:
            return parts
        if sample["target"].device.type != "cpu":
            return 1
        words = len(self.task.target_dictionary)
        return number_of_parts(model, words, method.peak, sample["ntokens"])

    def _log(self, game: FairseqGame, step: Step) -> dict[str, Any]:
        """What of one part of a game is added up for the log."""
        log = {
            "loss": step.objective,
            "nll_loss": game.nll_loss,
            "adv_loss": step.adv_loss,
            "task_losses": step.task_losses,
        }
        if self.follower is not None:
            sentences = next(iter(step.delta.values())).size(0)
            norms = delta_norm(step.delta, self.follower) * sentences
            log |= {"delta_norm": norms, "perturbed_sentences": sentences}
        if step.adv_gain is not None:
            log["adv_gain"] = step.adv_gain
        if step.proximal_loss is not None:
            log["proximal_loss"] = step.proximal_loss
        return log

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log, beside fairseq's own, what the game did; absent where no game was played.

        `adv_loss`, `adv_gain` and `proximal_loss` are in bits per target token, like fairseq's
        `loss` and `nll_loss`; `delta_norm` is in embedding units; `interaction` is a ratio.
        """
        super().reduce_metrics(logging_outputs)

        def total(key: str) -> Any:
            return sum(log.get(key, 0) for log in logging_outputs)

        for name, count, unit in (
            ("adv_loss", "adv_ntokens", math.log(2)),
            ("adv_gain", "gauged_ntokens", math.log(2)),
            ("proximal_loss", "adv_ntokens", math.log(2)),
            ("delta_norm", "perturbed_sentences", 1.0),
            ("interaction", "interaction_games", 1.0),
        ):
            n = total(count)
            if n > 0 and any(name in log for log in logging_outputs):
                metrics.log_scalar(name, total(name) / n / unit, n, round=6)


def _task_like(task: Any) -> str:
    """The name of the task that is this one, but plays games."""
    for name, other in TASK_REGISTRY.items():
        if getattr(other, "plays_games", False) and issubclass(other, type(task)):
            return str(name)
    return "adversarial_translation"


def _check(name: str, value: Any, valid: bool, allowed: str) -> None:
    if not valid:
        raise _option_error(name, value, allowed)


def _option_error(name: str, value: Any, allowed: str) -> SystemExit:
    return SystemExit(f"fairseq_adv: --{name.replace('_', '-')} {value}: allowed is {allowed}")
