"""What a task needs to play games: several backward passes per batch. A mixin for any task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from fairseq.optim import FairseqOptimizer
from fairseq.optim.amp_optimizer import AMPOptimizer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fairseq_adv.criterions.adversarial import AdversarialCriterion
from fairseq_adv.criterions.freeat import FreeATConfig, FreeATCriterion
from fairseq_adv.replay import Memory, ReplayedBatches


class Backward:
    """`core.game.Accumulate` over a fairseq optimizer.

    :param ignore_grad: the batch is a stand-in of a worker that has run out of data: go through
        the same motions, and leave zeros.
    """

    def __init__(self, optimizer: FairseqOptimizer, ignore_grad: bool) -> None:
        self.optimizer = optimizer
        self.factor = 0.0 if ignore_grad else 1.0

    def __call__(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """See `core.game.Accumulate`."""
        self.optimizer.backward(loss * self.factor)
        gradients = []
        for leaf in leaves:
            grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            gradients.append(grad / self._loss_scale())
            leaf.grad = None
        return tuple(gradients)

    def _loss_scale(self) -> float:
        scaler = getattr(self.optimizer, "scaler", None)
        return 1.0 if scaler is None else float(scaler.loss_scale)


class AdversarialTraining:
    """Mixin, before a fairseq task: serves the criterions of fairseq_adv, and any other too."""

    plays_games = True
    uses_ema = True
    """Asks fairseq for the average of earlier models, where --store-ema keeps one."""
    memory: Memory | None = None
    """What batches carry from replay to replay, where the criterion replays them."""
    _model: Any = None
    _replayed: FreeATConfig
    _memories: list[dict[str, Any]]

    def build_model(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's; the criterion, which is built next, looks at the model."""
        self._model = super().build_model(cfg, *args, **kwargs)  # type: ignore[misc]
        return self._model

    def build_criterion(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's, after a check that the processes of a distributed run know of each other.

        Under torchrun, fairseq-train takes no notice of the launcher: each process would train on
        its own and overwrite the others' checkpoints.
        """
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        world = _world_size()
        if launched > 1 and world != launched:
            raise SystemExit(
                f"fairseq_adv: the launcher started {launched} processes, but fairseq trains with "
                f"{world}: pass --distributed-world-size $WORLD_SIZE --distributed-rank $RANK "
                "--distributed-init-method env:// --distributed-no-spawn --device-id $LOCAL_RANK"
            )
        criterion = super().build_criterion(cfg, *args, **kwargs)  # type: ignore[misc]
        if isinstance(criterion, AdversarialCriterion) and self._model is not None:
            criterion.check_model(self._model)
        if isinstance(criterion, FreeATCriterion):
            self.memory = Memory(criterion.cfg.replays)
            self._replayed = criterion.cfg
        return criterion

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's; that of the training set replays its batches if the criterion asks for it."""
        batches = super().get_batch_iterator(dataset, *args, **kwargs)  # type: ignore[misc]
        if (
            self.memory is None
            or isinstance(batches, ReplayedBatches)
            or dataset is not self.dataset(self._replayed.train_subset)  # type: ignore[attr-defined]
        ):
            return batches
        cfg = self._replayed
        replayed = ReplayedBatches(batches, cfg.replays, cfg.update_freq, cfg.max_update)
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
        if self.memory is not None:
            self.memory.begin_epoch(epoch)

    def before_checkpoint(self) -> None:
        """Bring what all workers remember to the one that writes; called on each of them."""
        if self.memory is None:
            return
        self._memories = [self.memory.state_dict()]
        if _world_size() > 1:
            self._memories *= _world_size()
            torch.distributed.all_gather_object(self._memories, self.memory.state_dict())

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """fairseq's hook: what goes into a checkpoint, under the name of the task's class."""
        return {} if self.memory is None else {type(self).__name__: {"memories": self._memories}}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """fairseq's hook: what came out of a checkpoint.

        With another number of workers the batches are dealt out anew, and nothing is remembered.
        """
        memories = state["memories"]
        if self.memory is not None and len(memories) == _world_size():
            self.memory.load_state_dict(memories[_rank()])

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
            return super().train_step(  # type: ignore[misc]
                sample, model, criterion, optimizer, update_num, ignore_grad
            )
        _refuse_what_is_not_sound(model, criterion, optimizer)
        model.train()
        model.set_num_updates(update_num)
        return criterion.play(
            model,
            sample,
            update_num,
            Backward(optimizer, ignore_grad),
            reference_model=ema_model,
            memory=None if ignore_grad else self.memory,  # a stand-in is nobody's replay
        )


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _world_size() -> int:
    return torch.distributed.get_world_size() if _distributed() else 1


def _rank() -> int:
    return torch.distributed.get_rank() if _distributed() else 0


def _refuse_what_is_not_sound(
    model: Any, criterion: AdversarialCriterion, optimizer: FairseqOptimizer
) -> None:
    if isinstance(getattr(model, "module", None), DistributedDataParallel):
        raise SystemExit(
            "fairseq_adv: --ddp-backend pytorch_ddp synchronises workers in the first backward "
            "pass of a batch, and a game takes several: use --ddp-backend legacy_ddp"
        )
    if isinstance(optimizer, AMPOptimizer):
        raise SystemExit("fairseq_adv: --amp is not supported: use --bf16, --fp16 or neither")
    half = next(model.parameters()).dtype in (torch.float16, torch.bfloat16)
    if half and not criterion.sound_in_half_precision:
        raise SystemExit(
            "fairseq_adv: --unroll-method central and one-sided take differences of gradients "
            "that 16 bits do not resolve: use --unroll-method exact with --bf16 and --fp16"
        )
