"""What the criterions of all methods have in common: schedule, one batch of training, the log."""

import math
from abc import ABC, abstractmethod
from typing import Any

from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from fairseq.tasks import TASK_REGISTRY
from fairseq.utils import get_perplexity
from torch import Tensor

from fairseq_adv.core.backward import Backward
from fairseq_adv.core.follower import Follower
from fairseq_adv.core.game import InvalidSetting, Method, Step
from fairseq_adv.core.gauges import PartOfGradient, delta_norm
from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.task_loss import TaskLoss
from fairseq_adv.criterions.options import ScheduleConfig
from fairseq_adv.criterions.unsupported import (
    refuse_16_bits,
    refuse_equal_passes,
    refuse_model,
    refuse_surroundings,
)
from fairseq_adv.games.dropout import fast_dropout
from fairseq_adv.games.embedding_hooks import UnsupportedModel
from fairseq_adv.games.fairseq_game import FairseqGame, check_embeddings, mixed_precision
from fairseq_adv.games.parts import number_of_parts, parts_of
from fairseq_adv.trainer.replay import Memory


class AdversarialCriterion(LabelSmoothedCrossEntropyCriterion, ABC):
    """Label-smoothed cross-entropy against an adversary.

    Called as fairseq calls a criterion it is the plain loss: that is what validation sees. A game
    takes several backward passes, so that training goes through `play`, under a task that knows
    how.
    """

    method: Method
    follower: Follower | None = None
    raises_task_loss = False
    """Whether the follower raises the task loss, and not a divergence from the clean pass."""
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
        refuse_16_bits(self.cfg)
        refuse_equal_passes(self, model)

    def schedule(self, update_num: int) -> float:
        """What weights are multiplied by: 0 between games, and ramped up from 0 at the start."""
        if update_num % self.cfg.adv_interval != 0:
            return 0.0
        warmup: int = self.cfg.adv_warmup_updates
        ramp = min(1.0, update_num / warmup) if warmup > 0 else 1.0
        times = 1 if self.replaces_task_loss else self.cfg.adv_interval
        return float(times * ramp)

    def weight(self, update_num: int) -> float:
        """alpha in this update."""
        return float(self.cfg.adv_weight * self.schedule(update_num))

    def plays(self, update_num: int) -> bool:
        """Whether there is a game in this update; else it is a plain one."""
        return self.weight(update_num) > 0

    def method_in(self, update_num: int) -> Method:
        """The method as it is played in this update."""
        return self.method

    def gauged(self, update_num: int, replay: int = 0) -> bool:
        """Whether this update's game measures the gauges that cost extra passes.

        :param replay: of the same group of batches, from 0, where groups are replayed.
        """
        every: int = self.cfg.gauge_interval
        game = update_num // self.cfg.adv_interval
        return self.plays(update_num) and every > 0 and game % every == 0

    @property
    def interacts(self) -> bool:
        """Whether the gradient has a leader-follower term, so that gauged updates measure it."""
        return isinstance(self.method, SALT)

    def play(
        self,
        model: BaseFairseqModel,
        sample: dict[str, Any],
        update_num: int,
        accumulate: Backward,
        *,
        reference_model: BaseFairseqModel | None = None,
        memory: Memory | None = None,
        replay: int = 0,
        interaction: PartOfGradient | None = None,
        autocast: bool = False,
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """One batch of training: forward and backward passes, of a game or, between games, plain.

        :param reference_model: an average of earlier models, for the methods that ask for one.
        :param memory: what a batch carries from replay to replay, for the methods that replay.
        :param replay: of the batch, from 0, for the same.
        :param interaction: what to add the leader-follower term to, if the update measures it.
        :param autocast: run the model in the mixed precision of --amp; all else is in float32.

        Returns the objective's value, the sample size that its gradient is to be divided by, and
        the logging output, like a criterion's `forward`. What is logged has the same names, and
        types, on all workers of an update.
        """
        weight = self.weight(update_num)
        if not self.plays(update_num):
            with mixed_precision(model, autocast):
                loss, sample_size, log = self(model, sample)
            accumulate(loss)
            return loss.detach(), sample_size, log
        gauged = self.gauged(update_num, replay)
        method = self.method_in(update_num)
        parts = parts_of(sample, self._parts(model, sample, method), self.padding_idx)
        start = RandomState.capture()

        def game(part: dict[str, Any]) -> FairseqGame:
            return FairseqGame(
                model,
                part,
                self,
                reference_model=reference_model,
                memory=memory,
                autocast=autocast,
            )

        found: dict[str, Tensor] = {}
        task_losses = 1
        with fast_dropout():
            for part in parts:
                step = method.step(game(part), accumulate, weight=weight, gauges=gauged)
                step.finish(accumulate)
                task_losses = step.task_losses
                for name, value in self._measures(step).items():
                    found[name] = found[name] + value if name in found else value
                del step  # and what it keeps, before the next part's graph grows
            objective = found["objective"]
            if interaction is not None:
                assert isinstance(method, SALT), "no other interacts"

                def leader_follower_term() -> None:
                    for part in parts:
                        method.interaction(game(part), accumulate, weight=weight)

                with start.replay():
                    interaction.add(leader_follower_term, accumulate.scale(objective))
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        sample_size *= task_losses
        log = {
            # Its gradient is averaged over passes' task losses; it is logged as what it is.
            "loss": objective * task_losses,
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
        }
        for name in self._gauges(gauged):
            number = log["nsentences" if name == "delta_norm" else "ntokens"]
            log[name] = found.get(name, objective.new_zeros(()))
            log[_COUNTED[name]] = number if name in found else 0
        return objective, sample_size, log

    def _parts(self, model: BaseFairseqModel, sample: dict[str, Any], method: Method) -> int:
        """In how many parts to play a game on this batch."""
        parts: int = self.cfg.adv_parts
        if parts > 0:
            return parts
        if sample["target"].device.type != "cpu":
            return 1
        words = len(self.task.target_dictionary)
        return number_of_parts(model, words, method.peak, sample["ntokens"])

    def _measures(self, step: Step) -> dict[str, Tensor]:
        """What one part of a game has measured: sums over its target tokens or sentences."""
        found = {
            "objective": step.objective,
            "adv_loss": step.adv_loss,
            "adv_gain": step.adv_gain,
            "proximal_loss": step.proximal_loss,
        }
        if step.clean_loss is not None:
            assert isinstance(step.clean_loss, TaskLoss), "it is the game's"
            found["nll_loss"] = step.clean_loss.nll
        if self.follower is not None and step.delta:
            sentences = next(iter(step.delta.values())).size(0)
            found["delta_norm"] = delta_norm(step.delta, self.follower) * sentences
        return {name: value for name, value in found.items() if value is not None}

    def _gauges(self, gauged: bool) -> tuple[str, ...]:
        """What a game logs; 0, of no tokens, where it has nothing to measure.

        So does that of a worker that has run out of data, while others replay their batches.
        """
        perturbed = () if self.follower is None else ("delta_norm",)
        return ("nll_loss", "adv_loss", *perturbed, *(("adv_gain",) if gauged else ()))

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log, beside fairseq's own, what the game did; absent where nothing was measured.

        `adv_loss`, `adv_gain` and `proximal_loss` are in bits per target token, like fairseq's
        `loss` and `nll_loss`; `delta_norm` is in embedding units.
        """

        def total(key: str) -> Any:
            return sum(log.get(key, 0) for log in logging_outputs)

        if not any(_COUNTED["nll_loss"] in log for log in logging_outputs):
            super().reduce_metrics(logging_outputs)  # no game: validation, and plain updates
            return
        size, clean = total("sample_size"), total(_COUNTED["nll_loss"])
        metrics.log_scalar("loss", total("loss") / size / math.log(2), size, round=3)
        if clean > 0:
            nll = total("nll_loss") / clean / math.log(2)
            metrics.log_scalar("nll_loss", nll, clean, round=3)
            metrics.log_derived("ppl", lambda meters: get_perplexity(meters["nll_loss"].avg))
        for name in ("adv_loss", "adv_gain", "proximal_loss", "delta_norm"):
            n = total(_COUNTED[name])
            if n > 0:
                unit = 1.0 if name == "delta_norm" else math.log(2)
                metrics.log_scalar(name, total(name) / n / unit, n, round=6)


_COUNTED = {
    "nll_loss": "nll_ntokens",
    "adv_loss": "adv_ntokens",
    "adv_gain": "gauged_ntokens",
    "proximal_loss": "proximal_ntokens",
    "delta_norm": "perturbed_sentences",
}
"""How many target tokens, or sentences, a sum in the log is of."""


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
