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

from fairseq_adv.trainer.safe_loading import CheckpointRefused

DICTIONARIES = "dictionaries"
"""Name, in a task's state, of the digests by side, `source` and `target`."""
LANGUAGES = "languages"
"""Name, in a task's state, of source and target language."""
CLASSES = "classes"
"""Name, in a task's state, of what the classes of sentences are called, in their order."""


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


def compare_file(state: dict[str, Any], task: Any, path: str) -> None:
    """Raise CheckpointRefused if a checkpoint was trained with other dictionaries than a task has.

    :param state: all of the checkpoint.
    """
    try:
        compare(state.get("task_state", {}), task)
    except OtherDictionary as error:
        raise CheckpointRefused(f"fairseq_adv: {path}: {error}") from None


def compare_languages(state: dict[str, Any], task: Any) -> None:
    """Raise OtherDictionary if a checkpoint translates in another direction than a task does.

    Where both languages have one dictionary nothing else would tell.

    :param state: the task's, in the checkpoint.
    """
    theirs, ours = state.get(LANGUAGES), remembered(task).get(LANGUAGES)
    if not isinstance(theirs, list) or len(theirs) != 2 or ours is None:  # it does not tell
        return
    if theirs not in (ours, list(_BOTH_DIRECTIONS)):
        raise OtherDictionary(
            f"trained to translate {theirs[0]} to {theirs[1]}, and this is {ours[0]} to"
            f" {ours[1]}: give -s {theirs[0]} -t {theirs[1]}, or another model"
        )


_BOTH_DIRECTIONS = ("src", "tgt")
"""The languages of data in both directions, as data_prep and fairseq name them."""


def compare_before_inference() -> None:
    """Compare a model with the data that it is loaded for, by whatever task of fairseq."""
    load_state_dict = FairseqTask.load_state_dict
    load = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(load_state_dict)
    def comparing(self: FairseqTask, state_dict: dict[str, Any]) -> None:
        compare(state_dict, self)
        compare_languages(state_dict, self)
        load_state_dict(self, state_dict)

    @functools.wraps(load)
    def naming(filenames: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(filenames, *args, **kwargs)
        except OtherDictionary as error:
            raise CheckpointRefused(f"fairseq_adv: {', '.join(filenames)}: {error}") from None

    FairseqTask.load_state_dict = comparing
    checkpoint_utils.load_model_ensemble_and_task = naming


PATCHES = (compare_before_inference,)
