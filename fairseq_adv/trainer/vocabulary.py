"""What a model's numbers of words mean: kept in its checkpoint, and compared when that is loaded.

A checkpoint of fairseq holds no dictionary. With another one of the same size a model loads, and
takes each word for some other. Here a checkpoint tells a digest of each dictionary, and the
languages, in the state of the task, where fairseq keeps what tasks remember: stock fairseq takes no
notice of it. Checkpoints without it, of stock fairseq and of earlier versions, load as ever.
Tests: tests/trainer/test_vocabulary.py.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from fairseq import checkpoint_utils
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer

from fairseq_adv.trainer.safe_loading import CheckpointRefused

DICTIONARIES = "dictionaries"
"""Name, in a task's state, of the digests by side, `source` and `target`."""
LANGUAGES = "languages"
"""Name, in a task's state, of source and target language."""


class OtherDictionary(CheckpointRefused):
    """A model that was trained with other dictionaries than the task's; the message is a clause."""


def digest(dictionary: Any) -> str:
    """Return a digest of the words of a fairseq dictionary, in their order."""
    return hashlib.sha256("\n".join(dictionary.symbols).encode()).hexdigest()


def remembered(task: Any) -> dict[str, Any]:
    """Return what a checkpoint is to tell of the words of a task."""
    found = {"source": task.source_dictionary, "target": task.target_dictionary}
    digests = {side: digest(words) for side, words in found.items() if words is not None}
    languages = [getattr(task.cfg, f"{side}_lang", None) for side in ("source", "target")]
    return {DICTIONARIES: digests} | ({LANGUAGES: languages} if all(languages) else {})


def compare(state: dict[str, Any], task: Any) -> None:
    """Raise OtherDictionary if a checkpoint tells of other dictionaries than a task has.

    :param state: the task's, in the checkpoint.
    """
    if DICTIONARIES not in state:
        return
    ours, theirs = remembered(task)[DICTIONARIES], state[DICTIONARIES]
    other = [side for side in ours.keys() & theirs.keys() if ours[side] != theirs[side]]
    if other:
        raise OtherDictionary(
            f"trained with another {' and another '.join(sorted(other))} dictionary than that of"
            " the data: each word would be taken for some other; give the data that it was trained"
            " on, or data that are binarised with its dictionaries"
        )


def compare_before_training() -> None:
    """Compare what a training goes on from, or starts from, with its data."""
    load_checkpoint = Trainer.load_checkpoint

    @functools.wraps(load_checkpoint)
    def comparing(self: Trainer, filename: str, *args: Any, **kwargs: Any) -> Any:
        load = checkpoint_utils.load_checkpoint_to_cpu

        def loading(path: str, *more: Any, **named: Any) -> Any:
            state = load(path, *more, **named)
            try:
                compare(state.get("task_state", {}), self.task)
            except OtherDictionary as error:
                raise CheckpointRefused(f"fairseq_adv: {path}: {error}") from None
            return state

        # Before the weights are loaded: of dictionaries of other sizes they do not fit.
        checkpoint_utils.load_checkpoint_to_cpu = loading
        try:
            return load_checkpoint(self, filename, *args, **kwargs)
        finally:
            checkpoint_utils.load_checkpoint_to_cpu = load

    Trainer.load_checkpoint = comparing


def compare_before_inference() -> None:
    """Compare a model with the data that it is loaded for, by whatever task of fairseq."""
    load_state_dict = FairseqTask.load_state_dict
    load = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(load_state_dict)
    def comparing(self: FairseqTask, state_dict: dict[str, Any]) -> None:
        compare(state_dict, self)
        load_state_dict(self, state_dict)

    @functools.wraps(load)
    def naming(filenames: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(filenames, *args, **kwargs)
        except OtherDictionary as error:
            raise CheckpointRefused(f"fairseq_adv: {', '.join(filenames)}: {error}") from None

    FairseqTask.load_state_dict = comparing
    checkpoint_utils.load_model_ensemble_and_task = naming


PATCHES = (compare_before_training, compare_before_inference)
