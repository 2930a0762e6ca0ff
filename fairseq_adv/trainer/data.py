"""What fairseq's way with data needs: all of it, in the same batches; one small patch each.

Tests: tests/trainer/test_compat.py.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import numpy as np
from fairseq import utils
from fairseq.data import data_utils
from fairseq.tasks import FairseqTask, LegacyFairseqTask


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


PATCHES = (
    keep_the_last_batch,
    name_sentences_that_are_too_long,
    take_a_path_with_colons_as_one,
    resume_with_the_same_batches,
)
