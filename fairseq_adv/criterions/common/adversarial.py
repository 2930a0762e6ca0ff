"""What the criterions of all methods have in common: the plain one, and a game on each batch."""

import math
from abc import ABC, abstractmethod
from typing import Any

from fairseq.criterions import FairseqCriterion
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import TASK_REGISTRY
from torch import Tensor

from fairseq_adv.core.backward import Backward
from fairseq_adv.core.gauges import PartOfGradient, norms_of
from fairseq_adv.core.method import Interacts, Method
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.criterions.common import measures
from fairseq_adv.criterions.common.options import ScheduleConfig
from fairseq_adv.criterions.common.schedule import Schedule
from fairseq_adv.criterions.common.unsupported import (
    refuse_16_bits,
    refuse_equal_passes,
    refuse_model,
    refuse_surroundings,
)
from fairseq_adv.games.dropout import fast_dropout
from fairseq_adv.games.game import FairseqGame
from fairseq_adv.games.mixed_precision import mixed_precision
from fairseq_adv.games.sites import UnsupportedModel
from fairseq_adv.trainer.replay import Memory

PLAYS_GAMES = "plays_games"
"""Attribute of tasks that do, and default of their parsers."""


class AdversarialCriterion(FairseqCriterion, ABC):
    """The task's plain criterion, and games against an adversary beside it.

    Called as fairseq calls a criterion it is the plain one: that is what validation sees. A game
    takes several backward passes, so that training goes through `play`, under a task that knows
    how.
    """

    def __init__(self, cfg: ScheduleConfig, task: Any) -> None:
        super().__init__(task)
        if not getattr(task, PLAYS_GAMES, False):
            raise SystemExit(
                f"fairseq_adv: --criterion {cfg._name} needs --task {_task_like(task)}: "
                f"{type(task).__name__} runs one backward pass per batch, and a game takes several"
            )
        refuse_surroundings(cfg)
        _check("adv_weight", cfg.adv_weight, 0 <= cfg.adv_weight < math.inf, "a number from 0 up")
        _check("adv_interval", cfg.adv_interval, cfg.adv_interval >= 1, "1, 2, 3, ...")
        for name in ("adv_warmup_updates", "adv_parts", "gauge_interval", "max_skipped_updates"):
            _check(name, getattr(cfg, name), getattr(cfg, name) >= 0, "0, 1, 2, ...")
        self.cfg = cfg
        try:
            self.plain: FairseqCriterion = task.plain_criterion()
            self.method = self.build_method(cfg)
        except InvalidSetting as error:
            raise _option_error(error.name, error.value, error.allowed) from None
        if self.method.replaces_task_loss:
            allowed = "0 to 1 with --adv-objective task-loss"
            _check("adv_weight", cfg.adv_weight, cfg.adv_weight <= 1, allowed)
        self._passes_alike = str(getattr(cfg, "explicit_attention", "all")) == "all"
        shared = str(getattr(cfg, "dropout_masks", "independent")) == "shared"
        allowed = "all with --dropout-masks shared: fused attention has masks of its own"
        _check("explicit_attention", "perturbed", self._passes_alike or not shared, allowed)
        self.schedule = Schedule(
            interval=cfg.adv_interval,
            warmup=cfg.adv_warmup_updates,
            gauge_interval=cfg.gauge_interval,
            moves_weight=self.method.replaces_task_loss,
            replays=self.method.replays,
        )

    @property
    def words(self) -> tuple[str, ...]:
        """The sites of the words that the task has."""
        words: tuple[str, ...] = self.task.game.words
        return words

    @abstractmethod
    def build_method(self, cfg: Any) -> Method:
        """The method that the options describe. Raises InvalidSetting."""

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """fairseq's.

        Under a task that plays no games, those of the plain criterions are taken, too: it is the
        task that is to be refused, and not what belongs to another.
        """
        super().add_args(parser)
        if not parser.get_default(PLAYS_GAMES):
            for task in TASK_REGISTRY.values():
                if getattr(task, PLAYS_GAMES, False):
                    gen_parser_from_dataclass(parser, task.plain_options())

    def forward(
        self, model: BaseFairseqModel, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """The plain criterion's."""
        found: tuple[Tensor, int, dict[str, Any]] = self.plain(model, sample, reduce)
        return found

    def logging_outputs_can_be_summed(self) -> bool:
        """The plain criterion's."""
        return bool(self.plain.logging_outputs_can_be_summed())

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Of games. Of all else the task asks the plain criterion."""
        measures.reduce(logging_outputs)

    def check_model(self, model: BaseFairseqModel) -> None:
        """Stop the run, with one line, if the game cannot be played on this model."""
        try:
            self.task.game.check(model, self.method.attacked, self.method.directions)
        except UnsupportedModel as error:
            raise SystemExit(f"fairseq_adv: {error}") from None
        refuse_model(model, self.cfg._name, self.method.ascends_apart)
        refuse_16_bits(self.method, self.cfg)
        refuse_equal_passes(self.method, self.cfg, model)

    def weight(self, update_num: int) -> float:
        """alpha in this update."""
        return float(self.cfg.adv_weight * self.schedule.factor(update_num))

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
        return self.plays(update_num) and self.schedule.gauged(update_num, replay)

    def beside(
        self,
        game: FairseqGame,
        *,
        reference_model: BaseFairseqModel | None,
        memory: Memory | None,
    ) -> dict[str, Any]:
        """What this method's step asks for beside the game: see `play`."""
        return {}

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
        start, found = RandomState.capture(), measures.Measures()

        whole = self.game_on(model, sample, autocast)
        parts = whole.parts(self.number_of_parts(whole))
        with fast_dropout():
            for part in parts:
                game = self.game_on(model, part, autocast)
                beside = self.beside(game, reference_model=reference_model, memory=memory)
                step = method.step(game, accumulate, weight=weight, gauges=gauged, **beside)
                found.add(step, method, game)
                del step, game, beside  # and what they keep, before the next part's graph grows
            if interaction is not None:
                assert isinstance(method, Interacts), "no other is measured"

                def leader_follower_term() -> None:
                    for part in parts:
                        game = self.game_on(model, part, autocast)
                        method.interaction(game, accumulate, weight=weight)

                with start.replay():
                    interaction.add(leader_follower_term, accumulate.scale(found.objective))
        log = found.log((*whole.logged, *self._gauges(gauged)), whole)
        return found.objective, log["sample_size"], log

    def game_on(
        self, model: BaseFairseqModel, sample: dict[str, Any], autocast: bool = False
    ) -> FairseqGame:
        """The game on a batch. `autocast`: see `play`."""
        made: FairseqGame = self.task.game(
            model,
            sample,
            self.plain,
            autocast=autocast,
            attacked=self.method.attacked,
            directions=self.method.directions,
            alike=self._passes_alike,
        )
        return made

    def number_of_parts(self, game: FairseqGame) -> int:
        """In how many parts to play a game on a batch."""
        return int(self.cfg.adv_parts or game.parts_in_memory(self.method.peak))

    def _gauges(self, gauged: bool) -> tuple[str, ...]:
        """What any game logs; 0, of none, where it has nothing to measure.

        So does that of a worker that has run out of data, while others replay their batches.
        """
        follower = self.method.follower
        norms = () if follower is None else norms_of(follower)
        return ("adv_loss", *norms, *(("adv_gain",) if gauged else ()))


def _task_like(task: Any) -> str:
    """The name of the task that is this one, but plays games."""
    for name, other in TASK_REGISTRY.items():
        if getattr(other, PLAYS_GAMES, False) and issubclass(other, type(task)):
            return str(name)
    return "adversarial_translation"


def _check(name: str, value: Any, valid: bool, allowed: str) -> None:
    if not valid:
        raise _option_error(name, value, allowed)


def _option_error(name: str, value: Any, allowed: str) -> SystemExit:
    return SystemExit(f"fairseq_adv: --{name.replace('_', '-')} {value}: allowed is {allowed}")
