"""Trained models in this process: what to call them, how to load them, and batches of a split."""

import argparse
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.support.printing import printable
from data_prep.support.progress import progress
from recipes.models.checkpoint import check_labels, direction, of_sentences, refusals_as_errors
from recipes.models.generation import MAX_TOKENS
from recipes.support.errors import RecipeError
from recipes.support.files import CHECKPOINTS

_SHOWN_IDS = 10


def models_parser(
    program: str, description: str, results: str, split: str | None = "test"
) -> argparse.ArgumentParser:
    """Return a parser of what all that compares models has in common.

    :param results: the files that it writes.
    :param split: that of the data, by default; None: test or, where that cannot be, valid.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("data", type=Path, metavar="DATA", help="directory made by data_prep")
    parser.add_argument(
        "--checkpoint", type=Path, nargs="+", required=True, metavar="FILE", help="of one or more"
    )
    parser.add_argument(
        "--label",
        nargs="+",
        metavar="NAME",
        help="what to call each checkpoint (default: the name of its directory of results)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"where {results} go"
    )
    parser.add_argument("--split", default=split, help=f"(default: {split or 'test, or valid'})")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    return parser


def named(checkpoints: Sequence[Path], labels: Sequence[str] | None) -> dict[str, Path]:
    """Return the checkpoints by what to call them.

    Without labels, that is the name of the directory that they are in or, where that is called
    `checkpoints`, of the one above. Raises RecipeError where two would be called the same.
    """
    if labels is None:
        parents = [path.resolve().parent for path in checkpoints]
        labels = [(up.parent if up.name == CHECKPOINTS else up).name for up in parents]
    if len(labels) != len(checkpoints):
        raise RecipeError(f"--label: {len(labels)} names for {len(checkpoints)} checkpoints")
    result: dict[str, Path] = {}
    for label, path in zip(map(printable, labels), checkpoints, strict=True):
        if label in result:
            raise RecipeError(
                f'{result[label]} and {path} would both be called "{label}": name them with --label'
            )
        if not path.is_file():
            raise RecipeError(f"{path}: no such checkpoint")
        result[label] = path
    return result


@contextmanager
def quiet() -> Iterator[None]:
    """Let fairseq, and torch under it, tell a user nothing that is not an error or a warning."""
    level = logging.root.manager.disable
    logging.disable(logging.INFO)  # fairseq sets the level of all loggers, to show everything
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'pin_memory' argument is set as true")
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(level)


@dataclass(frozen=True)
class Loaded:
    """A model of fairseq, in float32 and without dropout, and the task that knows its data."""

    model: Any
    task: Any
    cuda: bool


def load(data: Path, checkpoint: Path, cpu: bool) -> Loaded:
    """Load a checkpoint, to be used on data that need not be where they were in training.

    :param data: a directory made by data_prep, of translations or of sentences with labels, whose
        dictionaries the model was trained with.
    :param cpu: stay on the CPU even where there is a GPU.

    Raises RecipeError for what is no checkpoint, or one of a model with other words or labels.
    """
    # Imported late, since fairseq sets up the logging of the whole process when it is imported.
    import torch
    from fairseq import checkpoint_utils

    import fairseq_adv.tasks  # noqa: F401  (registers the task, mends the loading of checkpoints)

    changes: dict[str, Any] = {"data": str(data / "bin")}
    if of_sentences(data):
        check_labels(data, checkpoint)
    else:
        source_lang, target_lang = direction(data, [checkpoint])
        changes |= {"source_lang": source_lang, "target_lang": target_lang, "eval_bleu": False}
    with refusals_as_errors():
        models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], changes)
    cuda = torch.cuda.is_available() and not cpu
    model = models[0].float().eval()
    return Loaded(model.cuda() if cuda else model, task, cuda)


def outputs(loaded: Loaded, net_input: dict[str, Any]) -> Any:
    """Return what a model says of a batch of sentences: B x K logits, or scores, in float32."""
    import torch

    with torch.no_grad():
        made, _ = loaded.model(
            **net_input,
            features_only=True,
            classification_head_name=loaded.task.cfg.classification_head_name,
        )
    return made.float()


def batches(loaded: Loaded, split: str, what: str) -> Iterator[dict[str, Any]]:
    """Yield fairseq's batches of a split, those of fairseq-generate, behind a progress bar.

    :param what: the bar's name.

    Raises RecipeError that names the ids unless each sentence is there exactly once.
    """
    from fairseq import utils
    from fairseq.data import SortDataset

    try:
        loaded.task.load_dataset(split)
    except FileNotFoundError:
        directory = loaded.task.cfg.data
        raise RecipeError(f"--split {split}: {directory} has no such binarised split") from None
    dataset = loaded.task.dataset(split)
    if isinstance(dataset, SortDataset):
        # fairseq shuffles sentences: here like lengths go together.
        dataset = SortDataset(dataset, sort_order=[[dataset.size(n) for n in range(len(dataset))]])
    limits = utils.resolve_max_positions(loaded.task.max_positions(), loaded.model.max_positions())
    iterator = loaded.task.get_batch_iterator(
        dataset,
        max_tokens=MAX_TOKENS,
        max_positions=limits,
        ignore_invalid_inputs=True,  # they are missed below, by number
        required_batch_size_multiple=8,
        disable_iterator_cache=True,
    ).next_epoch_itr(shuffle=False)
    times = [0] * len(dataset)
    with progress(None, what, "sentence", total=len(dataset)) as bar:
        for sample in iterator:
            ids = sample["id"].tolist()
            for number in ids:
                times[number] += 1
            yield utils.move_to_cuda(sample) if loaded.cuda else sample
            bar.update(len(ids))
    wrong = [number for number, count in enumerate(times) if count != 1]
    if wrong:
        ids = ", ".join(map(str, wrong[:_SHOWN_IDS])) + (", ..." if wrong[_SHOWN_IDS:] else "")
        raise RecipeError(
            f"{len(wrong)} of {len(dataset)} sentences of {split} are not in exactly one batch,"
            f" or longer than the model takes, {limits} tokens: ids {ids}"
        )
