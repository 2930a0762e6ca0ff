"""Read a checkpoint of fairseq: what it is of, after how many updates, and for which data."""

import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.bidirectional import SIDES
from recipes.support.errors import RecipeError
from recipes.support.files import data_report


@dataclass(frozen=True)
class Trained:
    """What a checkpoint tells of its training.

    :param options: those of the criterion, by their names in fairseq's configuration.
    :param updates: optimizer updates done.
    :param parameters: trained numbers, shared ones counted once.
    """

    method: str
    options: dict[str, Any]
    updates: int
    parameters: int


def read_checkpoint(path: Path) -> Trained:
    """Read a checkpoint of fairseq, whose data must be where they were in training."""
    from fairseq import checkpoint_utils

    state = load_state(path)
    with refusals_as_errors():
        models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    return trained(path, state, models[0])


def trained(path: Path, state: dict[str, Any], model: Any) -> Trained:
    """Return what a checkpoint tells.

    :param state: as `load_state` returns it.
    :param model: that is in it.
    """
    from omegaconf import OmegaConf

    with fields(path):
        criterion: Any = OmegaConf.to_container(state["cfg"]["criterion"], resolve=True)
        return Trained(
            method=criterion["_name"],
            options={name: value for name, value in criterion.items() if not name.startswith("_")},
            updates=updates_in(state),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
        )


def updates_of(path: Path) -> int:
    """Return the number of optimizer updates after which a checkpoint of fairseq was saved."""
    state = load_state(path)
    with fields(path):
        return updates_in(state)


def load_state(path: Path) -> dict[str, Any]:
    """Return what a checkpoint of fairseq holds. Raises RecipeError for what is none."""
    # Imported late, since fairseq sets up the logging of the whole process when it is imported.
    from fairseq import checkpoint_utils

    import fairseq_adv.tasks  # noqa: F401  (registers the task, mends the loading of checkpoints)

    with refusals_as_errors():
        return dict(checkpoint_utils.load_checkpoint_to_cpu(str(path)))


def read_raw(path: Path) -> dict[str, Any]:
    """Read a checkpoint as it is; of its tensors, which stay in the file, only what is used.

    Raises RecipeError for what is none.
    """
    import torch

    import fairseq_adv.tasks  # noqa: F401  (which says what classes may be in a checkpoint)

    if not path.is_file():
        raise RecipeError(f"{path}: no such checkpoint")
    with fields(path):
        mapped = zipfile.is_zipfile(path)  # as torch has written it since 1.6
        return dict(torch.load(path, map_location="cpu", mmap=mapped, weights_only=True))


def direction(data: Path, checkpoints: Sequence[Path]) -> tuple[str, str]:
    """Return from which language of a directory of data_prep's to which models translate.

    It is the direction of the data, or the other one. Raises RecipeError for models of other
    languages or, as far as they tell, of other dictionaries than the data have, and for models of
    which one translates this way and one that way.
    """
    if of_sentences(data):
        raise RecipeError(
            f"{data} has sentences with labels, and no translations: python -m"
            " recipes.sentences.evaluate scores what predicts them"
        )
    found = {path: _direction(data, path) for path in checkpoints}
    first = checkpoints[0]
    for path, languages in found.items():
        if languages != found[first]:
            raise RecipeError(
                f"{first} translates {' to '.join(found[first])}, {path} {' to '.join(languages)}:"
                " compare models of one direction"
            )
    return found[first]


def of_sentences(data: Path) -> bool:
    """Return whether a directory of data_prep's has sentences with labels, and no translations."""
    return "num_classes" in data_report(data)


def check_labels(data: Path, checkpoint: Path) -> None:
    """Raise RecipeError if a model does not predict the labels of a directory of data_prep's.

    Checkpoints of stock fairseq do not tell the names of classes: then their number counts.
    """
    from fairseq_adv.trainer.vocabulary import CLASSES

    report = data_report(data)
    state = read_raw(checkpoint)
    options = _section(state.get("cfg"), "task")
    if "num_classes" not in options:
        raise RecipeError(f"{checkpoint} predicts no labels of sentences, and {data} has such")
    scores, number = bool(options.get("regression_target")), options["num_classes"]
    names = told_of_words(state).get(CLASSES, report["classes"])
    ours = (report["task"] == "regression", report["num_classes"], report["classes"])
    if (scores, number, None if scores else names) != ours:
        theirs = "scores" if scores else f"{number} classes, {', '.join(map(str, names or ()))}"
        raise RecipeError(
            f"{checkpoint} predicts {theirs}, and {data} has"
            f" {', '.join(report['classes'] or ['scores'])}: give the data that it was trained on"
        )


def _direction(data: Path, checkpoint: Path) -> tuple[str, str]:
    from fairseq.data import Dictionary

    from fairseq_adv.trainer.vocabulary import DICTIONARIES, digest

    source, target = data_report(data)["languages"]
    state = read_raw(checkpoint)
    languages = _languages(state, checkpoint)
    if languages is None or languages == SIDES:  # of both directions, one of which is the data's
        languages = source, target
    if languages not in ((source, target), (target, source)):
        raise RecipeError(
            f"{checkpoint} translates {' to '.join(languages)}, and {data} has {source} and"
            f" {target}: give the data that it was trained on"
        )
    digests = _section(told_of_words(state), DICTIONARIES)
    for side, lang in zip(("source", "target"), languages, strict=True):
        path = data / "bin" / f"dict.{lang}.txt"
        if side in digests and digests[side] != digest(Dictionary.load(str(path))):
            raise RecipeError(
                f"{checkpoint} was not trained on {data}: their dictionaries differ, {path} and the"
                f" {side} dictionary of its training"
            )
    return languages


def _languages(state: dict[str, Any], path: Path) -> tuple[str, str] | None:
    """Return source and target language of a checkpoint; None if it does not tell.

    It tells of them since fairseq_adv keeps them; before, if the options named them.
    """
    from fairseq_adv.trainer.vocabulary import LANGUAGES

    found = told_of_words(state).get(LANGUAGES)
    if found is None:
        options = _section(state.get("cfg"), "task") or _section(state, "args")
        found = [options.get(f"{side}_lang") for side in ("source", "target")]
        if None in found:
            return None
    if not (isinstance(found, list) and list(map(type, found)) == [str, str]):
        raise RecipeError(f"{path}: tells of languages that are none, {found!r:.60}")
    return found[0], found[1]


def told_of_words(state: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint tells of its words; see `fairseq_adv.trainer.vocabulary`."""
    from fairseq_adv.trainer.vocabulary import CLASSES, DICTIONARIES, LANGUAGES

    told = _section(state, "task_state")
    return {name: told[name] for name in (CLASSES, DICTIONARIES, LANGUAGES) if name in told}


def _section(holder: Any, name: str) -> dict[str, Any]:
    """Return a dictionary in another, also as fairseq wrote it up to 0.10; empty if there is none.

    What is there instead matters to what needs it, and that says so.
    """
    value = holder.get(name) if isinstance(holder, dict) else None
    value = vars(value) if isinstance(value, Namespace) else value
    return value if isinstance(value, dict) else {}


@contextmanager
def refusals_as_errors() -> Iterator[None]:
    """Raise a RecipeError where a checkpoint is refused since it has code in it, or is damaged."""
    from fairseq_adv.trainer.safe_loading import CheckpointRefused

    try:
        yield
    except CheckpointRefused as refused:
        raise RecipeError(str(refused).removeprefix("fairseq_adv: ")) from None


@contextmanager
def fields(path: Path) -> Iterator[None]:
    """Raise a RecipeError where something of a checkpoint is missing, or not what it should be."""
    from fairseq_adv.trainer.safe_loading import refusals

    with refusals_as_errors(), refusals(path):
        yield


def updates_in(state: Mapping[str, Any]) -> int:
    """Return the number of optimizer updates after which a checkpoint was saved."""
    return int(state["optimizer_history"][-1]["num_updates"])
