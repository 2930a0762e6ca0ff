"""What fairseq's trainer tells a task: that an update begins, is done, is skipped; checkpoints.

fairseq asks tasks for forward and backward passes only. A task that has `begin_update` is told of
what comes of them, may have updates skipped and may stop the training:

- `begin_update()` (again, where an update is tried again), `end_update()` (the parameters have
  changed), `update_skipped(update, why)`;
- `gradient_known(trainer, sample_size, norm)`: of an update that is not skipped, summed over
  workers; the norm is that of the gradient divided by the sample size, before it is clipped;
- `skips_updates`: whether one whose gradient is not finite is skipped, and not an error;
- `stop`: set to a `Stop`, it ends the training after the running update, with a checkpoint;
- `before_checkpoint()`: on every worker, before one of them writes.

Tests: test_nonfinite.py, test_interruption.py, test_compat.py in tests/trainer/.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.logging import metrics
from fairseq.trainer import Trainer

logger = logging.getLogger(__name__)


class UpdateSkipped(Exception):
    """The gradient of an update is not finite: the parameters stay as they are.

    :param searching: 16 bits only overflowed, and the loss scale has been lowered for that.
    :param hopeless: the loss scale cannot be lowered any more.
    """

    def __init__(self, why: str, *, searching: bool = False, hopeless: bool = False) -> None:
        super().__init__(why)
        self.searching = searching
        self.hopeless = hopeless


@dataclass(frozen=True)
class Stop:
    """Why a training ends before its time, and the exit status that says so."""

    why: str
    status: int


def tell_tasks_of_updates() -> None:
    """Call the task's hooks around each update."""
    train_step = Trainer.train_step
    running: set[int] = set()

    @functools.wraps(train_step)
    def telling(self: Trainer, samples: Any, raise_oom: bool = False) -> Any:
        task = self.task
        if not hasattr(task, "begin_update"):
            return train_step(self, samples, raise_oom)
        before = self.get_num_updates()
        task.begin_update()
        if id(self) in running:  # --amp tries a batch again from inside its update
            return train_step(self, samples, raise_oom)
        output = None
        running.add(id(self))
        try:
            output = train_step(self, samples, raise_oom)
        except UpdateSkipped as skipped:
            self.zero_grad()
            metrics.log_stop_time("train_wall")
            task.update_skipped(before + 1, skipped)
        else:
            if self.get_num_updates() > before:
                task.end_update()
        finally:
            running.discard(id(self))
        if task.stop and not _saves_anyway(self):
            checkpoint_utils.save_checkpoint(self.cfg.checkpoint, self, self.epoch_batches, None)
        return output

    Trainer.train_step = telling


def tell_tasks_of_gradients() -> None:
    """Tell the task of an update's gradient, when all of it is known."""
    reduce_and_log_stats = Trainer._reduce_and_log_stats

    @functools.wraps(reduce_and_log_stats)
    def telling(
        self: Trainer, logging_outputs: Any, sample_size: Any, grad_norm: Any = None
    ) -> Any:
        output = reduce_and_log_stats(self, logging_outputs, sample_size, grad_norm)
        if grad_norm is not None and hasattr(self.task, "gradient_known"):
            self.task.gradient_known(self, sample_size, grad_norm)
        return output

    Trainer._reduce_and_log_stats = telling


def skip_updates() -> None:
    """Skip an update whose gradient is not finite, where the task wants that.

    fairseq ends the training there, but for the overflows of --fp16 and --amp; and what it does
    after one needs a GPU.
    """
    clip_grad_norm = Trainer.clip_grad_norm

    @functools.wraps(clip_grad_norm)
    def skipping(self: Trainer, clip_norm: float) -> Any:
        if not getattr(self.task, "skips_updates", False):
            return clip_grad_norm(self, clip_norm)
        try:
            norm = clip_grad_norm(self, clip_norm)
        except OverflowError as overflow:  # --fp16
            raise UpdateSkipped(f"overflow, {overflow}", searching=True) from None
        except FloatingPointError as error:  # its scale, or that of --amp, is at its minimum
            raise UpdateSkipped(str(error), hopeless=True) from None
        if torch.isfinite(norm).all():
            return norm
        searching = self.cfg.common.amp and self.optimizer.scaler.is_enabled()
        if searching:
            if self._amp_retries < self.cfg.common.amp_batch_retries:
                return norm  # fairseq tries the same batch again, with a smaller scale
            self._amp_retries = 0
            self.optimizer.step()  # which changes the scale, and no parameter
        raise UpdateSkipped("its gradient is not finite", searching=searching)

    Trainer.clip_grad_norm = skipping


def remember_the_batches() -> None:
    """Keep the iterator over the running epoch with the trainer: a checkpoint needs it."""
    get_train_iterator = Trainer.get_train_iterator

    @functools.wraps(get_train_iterator)
    def remembering(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        self.epoch_batches = get_train_iterator(self, *args, **kwargs)
        return self.epoch_batches

    Trainer.get_train_iterator = remembering


def tell_tasks_of_checkpoints() -> None:
    """Let a task prepare for a checkpoint on every worker, and stop the training after one.

    fairseq asks tasks for their state (`get_checkpoint_dict`) on the worker that writes; what
    another one knows could not be saved. Test: test_every_worker_is_told_of_a_checkpoint.
    """
    save_checkpoint = checkpoint_utils.save_checkpoint

    def telling(cfg: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if not cfg.no_save and hasattr(trainer.task, "before_checkpoint"):
            trainer.task.before_checkpoint()
        saved = save_checkpoint(cfg, trainer, *args, **kwargs)
        if getattr(trainer.task, "stop", None) and not _is_done(trainer):
            _leave(trainer, saved)
        return saved

    # fairseq keeps the best score as an attribute of this name, and resets it there.
    checkpoint_utils.save_checkpoint = telling


def _saves_anyway(trainer: Trainer) -> bool:
    """Whether fairseq validates and saves right after this update: then that is waited for."""
    updates = trainer.get_num_updates()
    cfg = trainer.cfg.checkpoint
    batches = trainer.epoch_batches
    after_epoch = batches.end_of_epoch() and batches.epoch % cfg.save_interval == 0
    every = cfg.save_interval_updates
    after_update = every > 0 and updates > 0 and updates % every == 0
    late_enough = updates >= trainer.cfg.dataset.validate_after_updates
    return _is_done(trainer) or after_epoch or (after_update and late_enough)


def _is_done(trainer: Trainer) -> bool:
    last = trainer.cfg.optimization.max_update
    return bool(last) and trainer.get_num_updates() >= last


def _leave(trainer: Trainer, saved: str | None) -> None:
    """End this worker's part of the training, when the checkpoint is written."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
    stop: Stop = trainer.task.stop
    if trainer.is_data_parallel_master:
        updates = trainer.get_num_updates()
        where = f"saved as {saved}" if saved else "not saved, as the options say"
        logger.error(f"{stop.why}; the model of update {updates} is {where}")
    raise SystemExit(stop.status)


HOOKS = (
    tell_tasks_of_updates,
    tell_tasks_of_gradients,
    skip_updates,
    remember_the_batches,
    tell_tasks_of_checkpoints,
)
