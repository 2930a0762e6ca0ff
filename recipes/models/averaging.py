"""Average checkpoints of one training: `python -m recipes.models.averaging CHECKPOINTS --out FILE`.

The mean of the last, or of the best, checkpoints often translates better than any one of them
(Vaswani et al., Attention Is All You Need, 2017, section 6.1).
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.support.progress import progress
from recipes.models.checkpoint import fields, read_raw, told_of_words, updates_in
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import written_whole

if TYPE_CHECKING:
    from torch import Tensor

AVERAGED = "averaged"
"""Under this name in a checkpoint's `extra_state`: the numbers of updates of those averaged."""

_CHOICE = re.compile(r"(last|best)-([1-9][0-9]*)")


@dataclass(frozen=True)
class Saved:
    """A checkpoint in a directory of them.

    :param updates: after so many it was saved.
    :param score: what it was validated by, the higher the better; None if it was not.
    """

    path: Path
    updates: int
    score: float | None


def choose(directory: Path, choice: str) -> list[Saved]:
    """Return the checkpoints that ``choice`` means, in the order of their updates.

    :param choice: ``last-N``, or ``best-N``: by --best-checkpoint-metric, and of equally good ones
        the last. Only what is in the directory can be chosen (--keep-interval-updates).

    Raises RecipeError if there are not so many.
    """
    meant = _CHOICE.fullmatch(choice)
    if meant is None:
        raise RecipeError(f"{choice}: allowed are last-N and best-N, such as last-10")
    which, count = meant[1], int(meant[2])
    if not directory.is_dir():
        raise RecipeError(f"{directory}: no such directory of checkpoints")
    # The same one may be there under several names: as the last, and as the best.
    found = {
        saved.updates: saved
        for saved in (_saved(path) for path in sorted(directory.glob("checkpoint*.pt")))
        if saved is not None
    }
    if which == "best":
        found = {updates: saved for updates, saved in found.items() if saved.score is not None}
    if len(found) < count:
        scored = " with a validation score" if which == "best" else ""
        raise RecipeError(f"{directory}: {choice}, but there are {len(found)} checkpoints{scored}")
    order = sorted(found, key=lambda n: (found[n].score if which == "best" else 0, n))
    return [found[updates] for updates in sorted(order[-count:])]


def average(chosen: Sequence[Saved], out: Path) -> None:
    """Write a checkpoint with the means of the parameters, in float32; all else is the last one's.

    There is no state of the optimizer in it: it is for inference, or to start another training.

    Raises RecipeError if the checkpoints are of different models.
    """
    import torch

    sums: dict[str, Tensor] = {}
    state: dict[str, Any] = {}
    words: dict[str, Any] = {}
    for saved in progress(chosen, "average", "checkpoint"):
        state = _read(saved.path)
        with fields(saved.path):
            told = told_of_words(state)
            weights = dict(state["model"])
            if not all(hasattr(value, "is_floating_point") for value in weights.values()):
                raise TypeError("weights that are no tensors")
        same_words = all(words.get(key, value) == value for key, value in told.items())
        if sums and not (same_words and _alike(sums, weights)):
            raise RecipeError(f"{saved.path} is of another model than {chosen[0].path}")
        words |= told
        for name, parameter in weights.items():
            if not parameter.is_floating_point():  # of buffers, such as a version
                sums[name] = parameter.clone()
            elif name in sums:
                sums[name] += parameter  # float64
            else:
                sums[name] = parameter.double()
    model = {
        name: (value / len(chosen)).float() if value.is_floating_point() else value
        for name, value in sums.items()
    }
    kept = ("args", "cfg", "criterion", "optimizer_history", "task_state")
    averaged = {name: state[name] for name in kept if name in state}
    averaged |= {
        "model": model,
        "extra_state": {AVERAGED: [saved.updates for saved in chosen]},
        "last_optimizer_state": None,
    }
    with written_whole(out) as temporary:
        torch.save(averaged, temporary)


def _alike(sums: dict[str, "Tensor"], model: dict[str, "Tensor"]) -> bool:
    return sums.keys() == model.keys() and all(
        value.shape == model[name].shape for name, value in sums.items()
    )


def _saved(path: Path) -> Saved | None:
    """Read what `choose` needs of a checkpoint; None for an average."""
    state = _read(path)
    with fields(path):
        if AVERAGED in state["extra_state"]:
            return None
        score = state["extra_state"].get("val_loss")
        if score is not None and not _higher_is_better(state):
            score = -score
        return Saved(path, updates_in(state), score)


def _higher_is_better(state: dict[str, Any]) -> bool:
    if state.get("cfg") is None:  # fairseq up to 0.10
        return bool(state["args"].maximize_best_checkpoint_metric)
    return bool(state["cfg"]["checkpoint"]["maximize_best_checkpoint_metric"])


def _read(path: Path) -> dict[str, Any]:
    state = read_raw(path)
    missing = {"model", "extra_state", "optimizer_history"} - set(state)
    if missing:
        raise RecipeError(f"{path}: not a checkpoint of a training: no {', '.join(missing)} in it")
    return state


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.models.averaging", description="Average checkpoints of one training."
    )
    parser.add_argument("directory", type=Path, metavar="CHECKPOINTS")
    parser.add_argument(
        "--choose",
        default="last-5",
        metavar="WHICH",
        help="last-N or best-N, by the score on the validation set (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    chosen = choose(args.directory, args.choose)
    average(chosen, args.out)
    updates = ", ".join(f"{saved.updates:,}" for saved in chosen)
    print(f"{args.out}: the mean of {len(chosen)} checkpoints, after {updates} updates")


if __name__ == "__main__":
    sys.exit(run_main("recipes.models.averaging", _main))
