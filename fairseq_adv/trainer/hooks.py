"""What fairseq's trainer tells a task: that an update begins, is done, is skipped; checkpoints.

fairseq asks tasks for forward and backward passes only. A task that has `begin_update` is told of
what comes of them, may have updates skipped and may stop the training:

- `begin_update(trainer)` (again, where an update is tried again), `end_update(trainer)` (the
  parameters have changed), `update_skipped(trainer, update, why)`;
- `gradient_known(trainer, sample_size, norm)`: of an update that is not skipped, summed over
  workers; the norm is that of the gradient divided by the sample size, before it is clipped;
- `skips_updates`: whether one whose gradient is not finite is skipped, and not an error;
- `stop`: set to a `Stop`, it ends the training after the running update, with a checkpoint;
- `before_validation(trainer)`: on every worker, before each batch of it;
- `before_checkpoint(trainer)`: on every worker, before one of them writes.

`GameTrainer` does so. Tests: test_nonfinite.py, test_interruption.py, test_compat.py in
tests/trainer/.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from fairseq import checkpoint_utils
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


def tell_tasks_of_checkpoints() -> None:
    """Let a task prepare for a checkpoint on every worker, and stop the training after one.

    fairseq asks tasks for their state (`get_checkpoint_dict`) on the worker that writes; what
    another one knows could not be saved. Test: test_every_worker_is_told_of_a_checkpoint.
    """
    save_checkpoint = checkpoint_utils.save_checkpoint

    def telling(cfg: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if not cfg.no_save and hasattr(trainer.task, "before_checkpoint"):
            trainer.task.before_checkpoint(trainer)
        saved = save_checkpoint(cfg, trainer, *args, **kwargs)
        if getattr(trainer.task, "stop", None) and not is_done(trainer):
            _leave(trainer, saved)
        return saved

    # fairseq keeps the best score as an attribute of this name, and resets it there.
    checkpoint_utils.save_checkpoint = telling


def saves_anyway(trainer: Trainer) -> bool:
    """Whether fairseq validates and saves right after this update: then that is waited for."""
    updates = trainer.get_num_updates()
    cfg = trainer.cfg.checkpoint
    batches = trainer.epoch_batches
    after_epoch = batches.end_of_epoch() and batches.epoch % cfg.save_interval == 0
    every = cfg.save_interval_updates
    after_update = every > 0 and updates > 0 and updates % every == 0
    late_enough = updates >= trainer.cfg.dataset.validate_after_updates
    return is_done(trainer) or after_epoch or (after_update and late_enough)


def is_done(trainer: Trainer) -> bool:
    """Whether all updates have been made."""
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
