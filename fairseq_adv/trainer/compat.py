"""What fairseq 0.12.3 needs on today's Python and torch: one small patch each.

Each says what breaks, where the cause is, and which test in `tests/trainer/test_compat.py` fails
without it. They change faults only, never a result that was right.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.dataclass import utils as dataclass_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from omegaconf.errors import OmegaConfBaseException

from fairseq_adv.trainer import (
    averages,
    checkpoints,
    data,
    game_trainer,
    hooks,
    interruption,
    metrics,
    safe_loading,
    vocabulary,
)

logger = logging.getLogger(__name__)


def apply() -> None:
    """Apply every patch. Calling it again does nothing."""
    for repair in (
        bf16_without_a_tpu,
        name_wrong_settings,
        load_checkpoints,
        data_parallel_on_cpu,
        gather_lists_on_cpu,
        leave_a_training_that_is_done,
        *metrics.PATCHES,
        *data.PATCHES,
        *averages.PATCHES,
        game_trainer.put_in_place,
        hooks.tell_tasks_of_checkpoints,
        interruption.keep_loading_data,
        interruption.end_what_hangs,
        *checkpoints.PATCHES,
        *vocabulary.PATCHES,
    ):
        if repair not in _applied:
            _applied.add(repair)
            repair()


_applied: set[Callable[[], None]] = set()


def bf16_without_a_tpu() -> None:
    """Let `fairseq-train --bf16` train on GPUs and CPUs.

    fairseq's command line takes --bf16 for --tpu; the model is then looked for on a TPU, and the
    training ends before it begins. Cause: `options.parse_args_and_arch`, which is running when this
    package is imported. Test: test_bf16_needs_no_tpu.
    """
    call_main = distributed_utils.call_main

    @functools.wraps(call_main)
    def without_a_tpu(cfg: Any, main: Any, **kwargs: Any) -> Any:
        if cfg.common.bf16 and find_spec("torch_xla") is None:
            cfg.common.tpu = False
        return call_main(cfg, main, **kwargs)

    distributed_utils.call_main = without_a_tpu


def name_wrong_settings() -> None:
    """Let `fairseq-hydra-train` end in one line where an option of ours has a wrong value or name.

    It compares with the types of options only when the user-dir is imported, too late for hydra to
    explain what is wrong: it ends in a traceback that does not say whose option it was. Cause:
    `dataclass.initialize.add_defaults`. Test: test_a_wrong_value_ends_in_one_line.
    """
    merge_with_parent = dataclass_utils.merge_with_parent

    @functools.wraps(merge_with_parent)
    def naming(dc: Any, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return merge_with_parent(dc, cfg, *args, **kwargs)
        except OmegaConfBaseException as error:
            if not getattr(dc, "__module__", "").startswith("fairseq_adv."):
                raise
            why = str(error.msg or error).splitlines()[0]
            raise SystemExit(f"fairseq_adv: {cfg._get_full_key(error.key)}: {why}") from None

    dataclass_utils.merge_with_parent = naming


def load_checkpoints() -> None:
    """Let `torch.load` read fairseq's checkpoints, back to 0.10, without letting it run code.

    Since torch 2.6 it unpickles nothing but tensors and plain containers unless told otherwise;
    fairseq's checkpoints also hold a few classes, and what one worker has read and broadcasts to
    the others holds the configuration as objects of omegaconf. See `safe_loading`. Tests:
    test_checkpoints_load, test_a_checkpoint_reaches_other_workers, and those of `safe_loading`.
    """
    safe_loading.refuse_code()


def data_parallel_on_cpu() -> None:
    """Let `--ddp-backend pytorch_ddp` train on CPUs.

    fairseq names a GPU for the wrapped model in any case; torch refuses that for a model on the
    CPU. Test: test_data_parallel_on_cpu.
    """
    wrapped = distributed_fairseq_model.DistributedDataParallel

    class OnAnyDevice(wrapped):  # type: ignore[misc, valid-type]
        def __init__(self, module: Any, device_ids: Any, output_device: Any, **kwargs: Any) -> None:
            if not next(module.parameters()).is_cuda:
                device_ids = output_device = None
            super().__init__(module, device_ids=device_ids, output_device=output_device, **kwargs)

    distributed_fairseq_model.DistributedDataParallel = OnAnyDevice


def gather_lists_on_cpu() -> None:
    """Let workers on CPUs gather what cannot be summed: the predictions that F1 is measured of.

    fairseq sends them through a GPU. Cause: `distributed.utils.all_gather_list`. Test:
    test_two_workers_measure_all_predictions.
    """
    all_gather_list = distributed_utils.all_gather_list

    @functools.wraps(all_gather_list)
    def gathering(data: Any, group: Any = None, max_size: int = 16384) -> list[Any]:
        if torch.cuda.is_available():
            gathered: list[Any] = all_gather_list(data, group, max_size)
            return gathered
        group = distributed_utils.get_global_group() if group is None else group
        found: list[Any] = [None] * distributed_utils.get_world_size(group)
        torch.distributed.all_gather_object(found, data, group=group)
        return found

    distributed_utils.all_gather_list = gathering


def leave_a_training_that_is_done() -> None:
    """Do nothing when a training that has made all its updates is started again, and say so.

    fairseq makes one more, and overwrites the model with it: it asks whether it is done after an
    update only. One that is to begin with another model's --restore-file, which has as many, makes
    none at all and leaves no model behind: that is refused. Cause: `fairseq_cli.train.main`, which
    reads --max-epoch right after the checkpoint is loaded. Tests:
    test_a_training_that_is_done_stays_as_it_is, test_a_training_that_cannot_begin_is_refused.
    """
    load_checkpoint = checkpoint_utils.load_checkpoint

    @functools.wraps(load_checkpoint)
    def loading(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        found = load_checkpoint(cfg, trainer, **kwargs)
        options, updates, epoch = trainer.cfg.optimization, trainer.get_num_updates(), found[1]
        done = ""
        if options.max_update and updates >= options.max_update:
            done = f"has made {updates} updates, and --max-update is {options.max_update}"
            options.max_epoch = -1  # 0 would mean that there is no end
        elif options.max_epoch > 0 and epoch.next_epoch_idx > options.max_epoch:
            done = f"has made {epoch.next_epoch_idx - 1} epochs, and --max-epoch is"
            done += f" {options.max_epoch}"
        restored = cfg.restore_file
        if done and restored != "checkpoint_last.pt" and not _is_in(restored, cfg.save_dir):
            raise SystemExit(
                f"fairseq_adv: --restore-file {restored} {done}: nothing is left to train: raise"
                " that, or begin with the model's weights alone, by --finetune-from-model"
            )
        if done and trainer.is_data_parallel_master:
            logger.info(f"the training in {cfg.save_dir} {done}: nothing is left to do")
        return found

    checkpoint_utils.load_checkpoint = loading


def _is_in(path: str, directory: str) -> bool:
    return Path(path).resolve().parent == Path(directory).resolve()
