"""What a task needs to play games: several backward passes per batch. A mixin for any task."""

from __future__ import annotations

import math
from abc import abstractmethod
from contextlib import nullcontext
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from fairseq.optim import FairseqOptimizer
from fairseq.optim.amp_optimizer import AMPOptimizer
from torch import Tensor

from fairseq_adv.core.gauges import PartOfGradient
from fairseq_adv.core.method import Interacts
from fairseq_adv.criterions.common.adversarial import PLAYS_GAMES, AdversarialCriterion
from fairseq_adv.criterions.common.measures import are_of_games
from fairseq_adv.games.game import FairseqGame
from fairseq_adv.tasks import workers
from fairseq_adv.tasks.optimizer_backward import OptimizerBackward
from fairseq_adv.trainer import vocabulary
from fairseq_adv.trainer.hooks import Stop, UpdateSkipped
from fairseq_adv.trainer.interruption import Interruption
from fairseq_adv.trainer.mixed_leader import SampledLeader
from fairseq_adv.trainer.nonfinite import SkippedUpdates
from fairseq_adv.trainer.replay import Memory, ReplayedBatches


class AdversarialTraining:
    """Mixin, before a fairseq task: serves the criterions of fairseq_adv, and any other too."""

    plays_games = True
    game: type[FairseqGame]
    """Which game is played."""
    plain_options: type[FairseqDataclass]
    """Those of `plain_criterion`, which are the task's own: all criterions go by them."""
    uses_ema = True
    """Asks fairseq for the average of earlier models, where --store-ema keeps one."""
    memory: Memory | None = None
    """What batches carry from replay to replay, where the criterion replays them."""
    sampled: SampledLeader | None = None
    """The model as a player of a mixed strategy, where the criterion's method has one."""
    skipped: SkippedUpdates | None = None
    """Updates without a finite gradient, where the criterion is one of fairseq_adv."""
    stop: Stop | None = None
    """Why the training is to end before its time: see `trainer.hooks`."""
    _interruption: Interruption | None = None
    _interaction: PartOfGradient | None = None
    """The leader-follower term of the running update, where it is measured."""
    _model: Any = None
    _replayed: AdversarialCriterion
    """The criterion, where it replays."""
    _memories: list[dict[str, Any]]

    def build_model(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's; the criterion, which is built next, looks at the model."""
        self._model = super().build_model(cfg, *args, **kwargs)  # type: ignore[misc]
        return self._model

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """fairseq's, and the options of the plain criterion."""
        super().add_args(parser)  # type: ignore[misc]
        gen_parser_from_dataclass(parser, cls.plain_options())
        parser.set_defaults(**{PLAYS_GAMES: True})

    @abstractmethod
    def plain_criterion(self) -> FairseqCriterion:
        """The criterion of plain updates and of validation.

        Raises InvalidSetting.
        """

    def build_criterion(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's, after a check that the processes of a distributed run know of each other.

        Under torchrun, fairseq-train takes no notice of the launcher: each process would train on
        its own and overwrite the others' checkpoints.
        """
        launched = workers.launched()
        world = workers.world_size()
        if launched > 1 and world != launched:
            raise SystemExit(
                f"fairseq_adv: the launcher started {launched} processes, but fairseq trains with "
                f"{world}: pass --distributed-world-size $WORLD_SIZE --distributed-rank $RANK "
                "--distributed-init-method env:// --distributed-no-spawn --device-id $LOCAL_RANK"
            )
        criterion = super().build_criterion(cfg, *args, **kwargs)  # type: ignore[misc]
        if isinstance(criterion, AdversarialCriterion):
            if self._model is not None:
                criterion.check_model(self._model)
            limit = criterion.cfg.max_skipped_updates
            self.skipped = SkippedUpdates(criterion.cfg._name, limit)
            if criterion.method.replays > 1:
                self.memory = Memory(criterion.method.replays)
                self._replayed = criterion
            if criterion.method.leader is not None:
                self.sampled = SampledLeader(criterion.method.leader, criterion.cfg.gauge_interval)
        return criterion

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's; that of the training set replays its batches if the criterion asks for it."""
        batches = super().get_batch_iterator(dataset, *args, **kwargs)  # type: ignore[misc]
        if (
            self.memory is None
            or isinstance(batches, ReplayedBatches)
            or dataset is not self.dataset(self._replayed.cfg.train_subset)  # type: ignore[attr-defined]
        ):
            return batches
        cfg, replays = self._replayed.cfg, self._replayed.method.replays
        replayed = ReplayedBatches(batches, cfg._name, replays, cfg.update_freq, cfg.max_update)
        if dataset in self.dataset_to_epoch_iter:  # type: ignore[attr-defined]
            self.dataset_to_epoch_iter[dataset] = replayed  # type: ignore[attr-defined]
        return replayed

    def valid_step(
        self, sample: dict[str, Any], model: Any, criterion: Any, ema_model: Any = None
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq's: validation is of the model itself, and plain."""
        return super().valid_step(sample, model, criterion)  # type: ignore[misc]

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """fairseq's hook; replays do not go on in another epoch."""
        super().begin_epoch(epoch, model)  # type: ignore[misc]
        if self._interruption is None:
            self._interruption = Interruption()
            self._interruption.listen()
        if self.memory is not None:
            self.memory.begin_epoch(epoch)

    def before_validation(self, trainer: Any) -> None:
        """See `trainer.hooks`: a leader's sample is not what is validated."""
        if self.sampled is not None:
            self.sampled.show_start(trainer)

    def before_checkpoint(self, trainer: Any) -> None:
        """Bring what all workers remember to the one that writes; called on each of them."""
        if self.sampled is not None:
            self.sampled.show_start(trainer)
        if self.memory is None:
            return
        self._memories = [self.memory.state_dict()]
        if workers.world_size() > 1:
            self._memories *= workers.world_size()
            torch.distributed.all_gather_object(self._memories, self.memory.state_dict())

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """fairseq's hook: what goes into a checkpoint, under the name of the task's class."""
        if self.memory is None:
            return {}
        found: dict[str, Any] = {"memories": self._memories}
        if self.sampled is not None:
            found["leader"] = self.sampled.state_dict()
        return {type(self).__name__: found}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """fairseq's hook: what came out of a checkpoint.

        With another number of workers the batches are dealt out anew, and nothing is remembered.
        """
        memories = state["memories"]
        if self.memory is not None and len(memories) == workers.world_size():
            self.memory.load_state_dict(memories[workers.rank()])
            if self.sampled is not None and "leader" in state:
                self.sampled.load_state_dict(state["leader"])

    def state_dict(self) -> dict[str, Any]:
        """fairseq's hook: what a task remembers; here also which dictionaries it has."""
        return super().state_dict() | vocabulary.remembered(self)  # type: ignore[misc]

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool = False,
        ema_model: Any = None,
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq's `train_step`, which leaves the passes of a game to the criterion."""
        if not isinstance(criterion, AdversarialCriterion):
            loss, sample_size, log = super().train_step(  # type: ignore[misc]
                sample, model, criterion, optimizer, update_num, ignore_grad
            )
            return loss, sample_size, self._with_vote(log)
        model.train()
        model.set_num_updates(update_num)
        interaction = self._measured_interaction(criterion, model, update_num)
        # fairseq synchronises a plain one by itself
        with workers.synchronised_once(model) if criterion.plays(update_num) else nullcontext():
            loss, sample_size, log = criterion.play(
                model,
                sample,
                update_num,
                OptimizerBackward(optimizer, ignore_grad),
                reference_model=ema_model,
                memory=None if ignore_grad else self.memory,  # a stand-in is nobody's replay
                replay=self._replay,
                interaction=interaction,
                autocast=isinstance(optimizer, AMPOptimizer),
            )
        if self.skipped is not None and not ignore_grad:
            self.skipped.played(sample, log)
        return loss, sample_size, self._with_vote(log)

    def _with_vote(self, log: dict[str, Any]) -> dict[str, Any]:
        vote = 0 if self._interruption is None else self._interruption.vote
        return log | {"interrupted": vote}

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """fairseq's; and the workers learn whether one of them wants to stop."""
        if isinstance(criterion, AdversarialCriterion) and not are_of_games(logging_outputs):
            criterion = criterion.plain  # validation, and plain updates
        super().reduce_metrics(logging_outputs, criterion)  # type: ignore[misc]
        if self._interruption is not None:
            self._interruption.count(sum(log.get("interrupted", 0) for log in logging_outputs))
            self.stop = self.stop or self._interruption.stop

    @property
    def skips_updates(self) -> bool:
        """Whether an update whose gradient is not finite is skipped."""
        return self.skipped is not None

    @property
    def _replay(self) -> int:
        """Which one of its group, from 0, the running update is."""
        return 0 if self.memory is None else self.memory.replay

    def begin_update(self, trainer: Any) -> None:
        """See `trainer.hooks`."""
        if self.sampled is not None:
            self.sampled.begin_update(trainer, self._replay)
        self._interaction = None
        if self.skipped is not None:
            self.skipped.begin_update()
        if self.memory is not None:
            self.memory.begin_update()

    def gradient_known(self, trainer: Any, sample_size: Any, norm: Tensor) -> None:
        """See `trainer.hooks`: the leader-follower term's share of it is logged, if it is measured.

        It is that of the update as a whole, like the norm: of all its batches, on all workers.
        """
        update_num = trainer.get_num_updates() - 1
        measured = self._measured_interaction(trainer.criterion, trainer.model, update_num)
        if measured is None or not norm > 0:
            return
        term = measured.total
        if trainer.data_parallel_world_size > 1:
            distributed_utils.all_reduce(term, group=trainer.data_parallel_process_group)
        share = float(term.norm() / sample_size / norm)
        if math.isfinite(share):  # float16 may overflow in one of the two only
            metrics.log_scalar("interaction", share, round=6)

    def _measured_interaction(
        self, criterion: Any, model: Any, update_num: int
    ) -> PartOfGradient | None:
        """The leader-follower term of the running update, if that is one to be measured.

        Also on a worker that has had no batch for it: all of them add theirs up.
        """
        if not isinstance(criterion, AdversarialCriterion):
            return None
        if not isinstance(criterion.method, Interacts):
            return None
        if self._interaction is None and criterion.gauged(update_num):
            trained = [p for p in model.parameters() if p.requires_grad]
            self._interaction = PartOfGradient(trained)
        return self._interaction

    def end_update(self, trainer: Any) -> None:
        """See `trainer.hooks`."""
        if self.sampled is not None:
            self.sampled.end_update(trainer, self._replay)
        if self.skipped is not None:
            self.skipped.end_update()
            if self.skipped.total:
                metrics.log_scalar("skipped", self.skipped.total, weight=0, priority=750)
        if self.memory is not None:
            self.memory.end_update()

    def update_skipped(self, trainer: Any, update: int, why: UpdateSkipped) -> None:
        """See `trainer.hooks`."""
        assert self.skipped is not None, "no other criterion skips"
        if self.sampled is not None:
            self.sampled.end_update(trainer, self._replay, skipped=True)
        self.stop = self.stop or self.skipped.skip(update, why, is_master=workers.rank() == 0)
        if self.memory is not None:
            self.memory.end_update(skipped=True)
