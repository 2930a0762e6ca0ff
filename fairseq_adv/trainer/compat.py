"""What fairseq 0.12.3 needs on today's Python and torch: one small patch each.

Each says what breaks, where the cause is, and which test in `tests/trainer/test_compat.py` fails
without it. They change faults only, never a result that was right.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from fairseq import checkpoint_utils, utils
from fairseq.data import data_utils
from fairseq.dataclass import utils as dataclass_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from fairseq.models.ema.ema import EMA
from fairseq.tasks import FairseqTask, LegacyFairseqTask
from fairseq.trainer import Trainer
from omegaconf.errors import OmegaConfBaseException

from fairseq_adv.trainer import checkpoints, interruption, safe_loading, trainer_hooks, vocabulary

logger = logging.getLogger(__name__)


def apply() -> None:
    """Apply every patch. Calling it again does nothing."""
    for repair in (
        bf16_without_a_tpu,
        keep_the_last_batch,
        leave_out_empty_batches,
        name_wrong_settings,
        load_checkpoints,
        data_parallel_on_cpu,
        average_convolutional_models,
        average_every_layer,
        average_shared_parameters_once,
        average_every_nth_update_also_after_a_restart,
        average_a_model_that_comes_without_an_average,
        leave_a_training_that_is_done,
        refuse_a_metric_that_is_not_measured,
        take_a_path_with_colons_as_one,
        name_sentences_that_are_too_long,
        resume_with_the_same_batches,
        *trainer_hooks.HOOKS,
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


def keep_the_last_batch() -> None:
    """Translate every sentence of a test set.

    `data_utils.batch_by_size` throws the last batch away unless its size is a multiple of
    `--required-batch-size-multiple` (8): of 100 test sentences 4 would never be translated, and
    BLEU would be that of the other 96. Test: test_every_sentence_is_batched.
    """
    batch_by_size = data_utils.batch_by_size

    def keeping_all(indices: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(indices, np.ndarray):
            indices = np.fromiter(indices, dtype=np.int64, count=-1)
        if len(indices) == 0:
            return []
        batches = batch_by_size(indices, *args, **kwargs)
        kept = sum(len(batch) for batch in batches)  # batches are consecutive runs of indices
        return batches if kept == len(indices) else [*batches, indices[kept:]]

    data_utils.batch_by_size = keeping_all


def leave_out_empty_batches() -> None:
    """Divide an update's gradient by what it is a gradient of, when data have run out.

    A worker that has fewer batches than others gets empty ones, and so does the end of FreeAT's
    last group. In an update with `--update-freq` above 1 that has such a batch beside others,
    `Trainer.train_step` counts the sentences of the batch that stands in for it, or, if it is the
    last, none at all: the gradient is then divided by 1, and the update huge. Such batches are left
    out; only of an update that has no others one is kept, for its part in communication. All are
    kept where workers communicate in each pass. Test:
    test_an_empty_batch_among_others_changes_nothing.
    """
    train_step = Trainer.train_step

    @functools.wraps(train_step)
    def of_data(self: Trainer, samples: Any, *args: Any, **kwargs: Any) -> Any:
        in_step = self.is_fsdp or getattr(self.cfg.model, "base_layers", 0)
        if not in_step:
            samples = [s for s in samples if s] or samples[:1]
        return train_step(self, samples, *args, **kwargs)

    Trainer.train_step = of_data


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
    test_checkpoints_load, test_a_checkpoint_reaches_other_workers, and test_safe_loading.py.
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


def average_convolutional_models() -> None:
    """Let `--store-ema` copy a convolutional model.

    Its weights are computed from normalised parameters, and torch copies no computed tensor. They
    are computed anew in each pass: any value will do. Test: test_a_convolutional_model_is_averaged.
    """
    original = EMA.__init__

    def copying(self: EMA, model: Any, *args: Any, **kwargs: Any) -> None:
        for module in model.modules():
            if hasattr(module, "weight_g"):
                module.weight = module.weight.detach()
        original(self, model, *args, **kwargs)

    EMA.__init__ = copying


def average_every_layer() -> None:
    """Let the average of `--store-ema` keep the last layer norms of a pre-norm Transformer.

    fairseq leaves the version numbers of encoder and decoder out of the average; when it loads
    that, it takes it for a model of an early version, which had no such norms, and removes them:
    the average predicts nonsense from the first update on. Test: test_an_average_is_of_all_layers.
    """
    original = EMA.restore

    def restoring(self: EMA, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        versions = {k: v for k, v in self.model.state_dict().items() if k.endswith("version")}
        original(self, {**versions, **state_dict}, *args, **kwargs)

    EMA.restore = restoring


def average_shared_parameters_once() -> None:
    """Let `--ema-decay` mean the same for shared embeddings as for everything else.

    fairseq averages a parameter once for each of its names: shared embeddings of encoder, decoder
    and output three times per update. Test: test_shared_embeddings_are_averaged_once.
    """
    original = EMA._step_internal

    class EachOnce:
        def __init__(self, model: Any) -> None:
            self.model = model

        def state_dict(self) -> dict[str, Any]:
            state = self.model.state_dict()
            names = {value.data_ptr() or name: name for name, value in state.items()}
            return {name: state[name] for name in names.values()}

    def stepping(self: EMA, new_model: Any, *args: Any, **kwargs: Any) -> None:
        original(self, EachOnce(new_model), *args, **kwargs)

    EMA._step_internal = stepping


def average_every_nth_update_also_after_a_restart() -> None:
    """Let a training with `--ema-update-freq` above 1 end the same when it was resumed.

    fairseq counts the updates since the last one that was averaged, and begins at 0 when it starts
    again. Test: test_an_average_of_every_third_update_goes_on.
    """
    original = EMA.step

    def stepping(self: EMA, new_model: Any, updates: int | None = None) -> None:
        if updates is not None:
            self.update_freq_counter = (updates - 1) % max(1, self.config.ema_update_freq)
        original(self, new_model, updates)

    EMA.step = stepping


def average_a_model_that_comes_without_an_average() -> None:
    """Let `--store-ema` begin with the model of a checkpoint that has no average.

    fairseq says that it does, and ends with KeyError: it has just dropped that model from memory.
    Cause: `Trainer.load_checkpoint`. Test: test_an_average_begins_with_a_model_that_had_none.
    """
    original = Trainer.load_checkpoint

    @functools.wraps(original)
    def loading(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if not self.cfg.ema.store_ema:
            return original(self, *args, **kwargs)
        load = checkpoint_utils.load_checkpoint_to_cpu

        def with_an_average(*given: Any, **named: Any) -> Any:
            state = load(*given, **named)
            if state.get("extra_state") is not None:
                state["extra_state"].setdefault("ema", state["model"])
            return state

        with patch.object(checkpoint_utils, "load_checkpoint_to_cpu", with_an_average):
            return original(self, *args, **kwargs)

    Trainer.load_checkpoint = loading


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


def refuse_a_metric_that_is_not_measured() -> None:
    """Refuse `--best-checkpoint-metric bleu` without `--eval-bleu` before the training.

    fairseq ends in a KeyError after the first validation, which may be the work of hours. Cause:
    `fairseq_cli.train.validate`. Test: test_bleu_that_is_not_measured_is_refused_before_training.
    """
    load_checkpoint = checkpoint_utils.load_checkpoint

    @functools.wraps(load_checkpoint)
    def loading(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        measured = getattr(trainer.task.cfg, "eval_bleu", True)
        validates = not trainer.cfg.dataset.disable_validation
        if cfg.best_checkpoint_metric == "bleu" and validates and not measured:
            raise SystemExit(
                "fairseq_adv: --best-checkpoint-metric bleu: validation measures no BLEU without"
                " --eval-bleu: give both or neither"
            )
        return load_checkpoint(cfg, trainer, **kwargs)

    checkpoint_utils.load_checkpoint = loading


def take_a_path_with_colons_as_one() -> None:
    """Take data and models of a directory whose name has a colon in it, as of a time.

    fairseq splits such a path, since several are given that way: what is there as a whole, and not
    in parts, is one. Causes: `utils.split_paths`, and `FairseqTask.has_sharded_data`, which only
    looks for a colon. Test: test_a_path_with_colons_is_one.
    """
    split_paths = utils.split_paths

    @functools.wraps(split_paths)
    def splitting(paths: str, *args: Any, **kwargs: Any) -> list[str]:
        parts = split_paths(paths, *args, **kwargs)
        whole = len(parts) > 1 and Path(paths).exists()
        return [paths] if whole and not all(Path(part).exists() for part in parts) else parts

    def has_sharded_data(self: Any, split: str) -> bool:
        return len(utils.split_paths(getattr(self.cfg or self.args, "data", ""))) > 1

    utils.split_paths = splitting
    FairseqTask.has_sharded_data = has_sharded_data
    LegacyFairseqTask.has_sharded_data = has_sharded_data


def name_sentences_that_are_too_long() -> None:
    """Say in one line which sentence of a validation or test set is too long for the model.

    fairseq ends in a traceback with a number that is not a line's, and advises an option that its
    own programs have, but not those that call them. Cause: `FairseqTask.filter_indices_by_size`.
    Test: test_a_sentence_that_is_too_long_is_named.
    """
    filter_indices_by_size = FairseqTask.filter_indices_by_size
    signature = inspect.signature(filter_indices_by_size)

    @functools.wraps(filter_indices_by_size)
    def naming(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = signature.bind(self, *args, **kwargs)
        call.apply_defaults()
        dataset, limits = call.arguments["dataset"], call.arguments["max_positions"]
        if not call.arguments["ignore_invalid_inputs"]:
            _, ignored = dataset.filter_indices_by_size(call.arguments["indices"], limits)
            if len(ignored):
                first, *others = sorted(map(int, ignored))
                more = f", and {len(others)} more" if others else ""
                sets = [name for name, of_name in self.datasets.items() if of_name is dataset]
                size = tuple(map(int, np.atleast_1d(dataset.size(first))))
                raise SystemExit(
                    f"fairseq_adv: line {first + 1} of {sets[0] if sets else 'the data'}{more}: too"
                    f" long for the model, which takes {limits} tokens (of source and target, with"
                    f" their ends), and it has {size}: shorten it, or leave it out of the data"
                )
        return filter_indices_by_size(*call.args, **call.kwargs)

    FairseqTask.filter_indices_by_size = naming


def resume_with_the_same_batches() -> None:
    """Go on in the middle of any epoch with the batches that were cut off, not with others.

    A training makes its batches when it starts and shuffles them anew for each epoch. They are made
    in an order drawn from `seed + epoch`: one that is resumed in another epoch than the first would
    make others, so that the rest of that epoch repeats some sentences and leaves out as many, and
    the model is not that of the uninterrupted run. Cause: `FairseqTask.get_batch_iterator`. Test:
    test_a_training_resumed_in_a_later_epoch_is_the_uninterrupted_one.
    """
    get_batch_iterator = FairseqTask.get_batch_iterator
    signature = inspect.signature(get_batch_iterator)

    @functools.wraps(get_batch_iterator)
    def of_the_first_epoch(self: Any, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        call = signature.bind(self, dataset, *args, **kwargs)
        call.apply_defaults()
        given = call.arguments
        made_for_each_epoch = given["disable_iterator_cache"] or given["update_epoch_batch_itr"]
        if made_for_each_epoch or not self.can_reuse_epoch_itr(dataset):
            return get_batch_iterator(*call.args, **call.kwargs)
        seed = given["seed"]
        given["seed"] = seed + 1 - given["epoch"]  # it adds the epoch
        batches = get_batch_iterator(*call.args, **call.kwargs)
        batches.seed = seed  # which shuffles them
        return batches

    FairseqTask.get_batch_iterator = of_the_first_epoch
