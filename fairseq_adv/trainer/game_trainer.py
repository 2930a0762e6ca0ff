"""fairseq's trainer, and what it lacks for games and for faults."""

from __future__ import annotations

from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.logging import metrics
from fairseq.trainer import Trainer

from fairseq_adv.replaced import replaced
from fairseq_adv.trainer import safe_loading, vocabulary
from fairseq_adv.trainer.hooks import UpdateSkipped, saves_anyway


class GameTrainer(Trainer):
    """fairseq's trainer, whose task is told of updates, and whose checkpoints are looked at.

    All trainings of a process in which fairseq is mended have this one; to a task that is not
    told of updates it is fairseq's. Tests: tests/trainer/.
    """

    _amp_retries: int
    epoch_batches: Any
    """The iterator over the running epoch: a checkpoint needs it."""
    _running = False
    """Whether an update is being made: --amp tries a batch again from inside of it."""

    def train_step(self, samples: Any, raise_oom: bool = False) -> Any:
        """fairseq's: the task is told of the update, empty batches are left out of it."""
        if not hasattr(self.task, "begin_update"):
            return super().train_step(self._with_data(samples), raise_oom)
        before = self.get_num_updates()
        self.task.begin_update(self)
        if self._running:
            return super().train_step(self._with_data(samples), raise_oom)
        output = None
        self._running = True
        try:
            output = super().train_step(self._with_data(samples), raise_oom)
        except UpdateSkipped as skipped:
            self.zero_grad()
            metrics.log_stop_time("train_wall")
            self.task.update_skipped(self, before + 1, skipped)
        else:
            if self.get_num_updates() > before:
                self.task.end_update(self)
        finally:
            self._running = False
        if self.task.stop and not saves_anyway(self):
            checkpoint_utils.save_checkpoint(self.cfg.checkpoint, self, self.epoch_batches, None)
        return output

    def valid_step(self, *args: Any, **kwargs: Any) -> Any:
        """fairseq's; the task is told before."""
        if hasattr(self.task, "before_validation"):
            self.task.before_validation(self)
        return super().valid_step(*args, **kwargs)

    def _with_data(self, samples: list[Any]) -> list[Any]:
        """The batches of an update without those that are empty, since data have run out.

        A worker that has fewer batches than others gets such ones, and so does the end of the last
        group of those that replay. In an update with `--update-freq` above 1 that has an empty
        batch beside others, fairseq counts the sentences of the batch that stands in for it, or, if
        it is the last, none at all: the gradient is then divided by 1, and the update huge. Only
        of an update that has no others one is kept, for its part in communication. All are kept
        where workers communicate in each pass. Test:
        test_an_empty_batch_among_others_changes_nothing.
        """
        if self.is_fsdp or getattr(self.cfg.model, "base_layers", 0):
            return samples
        return [s for s in samples if s] or samples[:1]

    def clip_grad_norm(self, clip_norm: float) -> Any:
        """fairseq's; an update whose gradient is not finite is skipped, if the task wants that.

        fairseq ends the training there, but for the overflows of --fp16 and --amp; and what it does
        after one needs a GPU.
        """
        if not getattr(self.task, "skips_updates", False):
            return super().clip_grad_norm(clip_norm)
        try:
            norm = super().clip_grad_norm(clip_norm)
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

    def _reduce_and_log_stats(
        self, logging_outputs: Any, sample_size: Any, grad_norm: Any = None
    ) -> Any:
        """fairseq's; the task is told of an update's gradient, when all of it is known."""
        output = super()._reduce_and_log_stats(logging_outputs, sample_size, grad_norm)
        if grad_norm is not None and hasattr(self.task, "gradient_known"):
            self.task.gradient_known(self, sample_size, grad_norm)
        return output

    def get_train_iterator(self, *args: Any, **kwargs: Any) -> Any:
        """fairseq's, which is remembered."""
        self.epoch_batches = super().get_train_iterator(*args, **kwargs)
        return self.epoch_batches

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """fairseq's; what it does not fit is said in one line.

        What a training goes on from, or begins with, is compared with its data before its weights
        are loaded: of dictionaries of other sizes they do not fit. And `--store-ema` may begin with
        a model that has no average: fairseq says that it does, and ends with KeyError, for it has
        just dropped that model from memory. Test:
        test_an_average_begins_with_a_model_that_had_none.
        """
        load = checkpoint_utils.load_checkpoint_to_cpu

        def loading(path: str, *given: Any, **named: Any) -> Any:
            state = load(path, *given, **named)
            vocabulary.compare_file(state, self.task, path)
            if self.cfg.ema.store_ema and state.get("extra_state") is not None:
                state["extra_state"].setdefault("ema", state["model"])
            return state

        with (
            replaced(checkpoint_utils, "load_checkpoint_to_cpu", loading),
            safe_loading.what_does_not_fit_is_named(filename),
        ):
            return super().load_checkpoint(filename, *args, **kwargs)


_with: dict[Any, Any] = {Trainer: GameTrainer}


def _with_games(cls: Any) -> Any:
    """The class that is made in the place of a trainer's: another's own one keeps what it does."""
    if issubclass(cls, GameTrainer):
        return cls
    if cls not in _with:
        _with[cls] = type(cls.__name__, (cls, GameTrainer), {"__module__": cls.__module__})
    return _with[cls]


def put_in_place() -> None:
    """Let whoever makes a fairseq trainer get this one, by whatever name it knows the class."""

    def make(cls: type[Trainer], *args: Any, **kwargs: Any) -> Any:
        return object.__new__(_with_games(cls))

    Trainer.__new__ = staticmethod(make)
