"""Checkpoints whose options are not what a training writes: one line that names the file."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fairseq_adv.trainer.safe_loading import CheckpointRefused
from recipes.evaluation.calibration import calibrate
from recipes.evaluation.evaluate import evaluate
from recipes.models.averaging import average, choose
from recipes.models.checkpoint import read_checkpoint, updates_of
from recipes.serving.export import export
from recipes.support.errors import RecipeError
from tests.support import training, translators

State = dict[str, Any]


def _without_the_model(state: State) -> None:
    del state["cfg"]["model"]


def _wrong_type(state: State) -> None:
    state["cfg"]["model"].encoder_layers = "three"


def _too_small(state: State) -> None:
    state["cfg"]["model"].encoder_embed_dim = -16


def _without_a_name(state: State) -> None:
    del state["cfg"]["criterion"]["_name"]


def _without_a_task(state: State) -> None:
    state["cfg"]["task"] = None


def _arguments_of_nothing(state: State) -> None:
    state["cfg"], state["args"] = None, Namespace(arch="transformer")


def _without_options(state: State) -> None:
    state["cfg"] = state["args"] = None


def _without_history(state: State) -> None:
    state["optimizer_history"] = []


def _languages_that_are_none(state: State) -> None:
    state["task_state"] = {"languages": 3}


def _other_weights(state: State) -> None:
    del state["model"]["encoder.layers.0.fc1.weight"]


def _dropout_that_is_no_number(state: State) -> None:
    state["cfg"]["model"].dropout = "much"


def _weights_that_are_none(state: State) -> None:
    state["model"] = None


def _a_list_of_weights(state: State) -> None:
    state["model"] = list(state["model"].values())


def _a_weight_that_is_a_number(state: State) -> None:
    state["model"]["encoder.layers.0.fc1.weight"] = 3


_NO_WEIGHTS = [_weights_that_are_none, _a_list_of_weights, _a_weight_that_is_a_number]
ODD: list[Callable[[State], None]] = [
    *(_without_the_model, _wrong_type, _too_small, _without_a_name, _without_a_task),
    *(_arguments_of_nothing, _without_options, _without_history, _languages_that_are_none),
    _other_weights,
    _dropout_that_is_no_number,
    *_NO_WEIGHTS,
]
# What each tool has a use for; evaluation reads by fairseq-generate, in seconds.
_MAKES_NO_MODEL = [
    *(_without_the_model, _wrong_type, _too_small, _without_a_task),
    *(_arguments_of_nothing, _without_options, _other_weights),
]
READ = {
    "evaluate": [_wrong_type, _languages_that_are_none, _dropout_that_is_no_number],
    "calibrate": [
        *(*_MAKES_NO_MODEL, _languages_that_are_none, _dropout_that_is_no_number),
        *_NO_WEIGHTS,
    ],
    "export": ODD,
    "describe": [*_MAKES_NO_MODEL, _without_a_name, _without_history],
    "updates": [_without_history],
    "average": [_without_history, *_NO_WEIGHTS],
}


@pytest.fixture(scope="module")
def odd(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("odd")
    found = {}
    for change in ODD:
        state = torch.load(trained)
        change(state)
        path = folder / change.__name__ / "checkpoint_last.pt"
        path.parent.mkdir()
        torch.save(state, path)
        found[change.__name__] = path
    return found


def _is_one_line(message: str, path: Path) -> None:
    assert str(path) in message and message.count("\n") <= 1 and len(message) < 600, message


@pytest.mark.parametrize(
    ("tool", "change"),
    [
        pytest.param(tool, change, marks=pytest.mark.slow if (tool, i) == ("evaluate", 2) else [])
        for tool, changes in READ.items()
        for i, change in enumerate(changes)
    ],
)
def test_a_tool_says_in_one_line_what_is_wrong(
    tool: str,
    change: Callable[[State], None],
    odd: dict[str, Path],
    clauses: Path,
    tmp_path: Path,
) -> None:
    path, out = odd[change.__name__], tmp_path / "out"
    with pytest.raises(RecipeError) as error:
        if tool == "evaluate":
            evaluate(clauses, path, out, beam=1, cpu=True, workers=1)
        elif tool == "calibrate":
            calibrate(clauses, {"it": path}, out, cpu=True)
        elif tool == "export":
            export(clauses, path, out)
        elif tool == "describe":
            read_checkpoint(path)
        elif tool == "updates":
            updates_of(path)
        else:
            average(choose(path.parent, "last-1"), out)
    _is_one_line(str(error.value), path)
    assert not out.exists()


@pytest.mark.parametrize("change", [_without_history, _other_weights])
def test_a_training_says_so_too(
    change: Callable[[State], None], odd: dict[str, Path], clauses: Path, tmp_path: Path
) -> None:
    path = odd[change.__name__]
    with pytest.raises(CheckpointRefused) as refused:
        translators.train(clauses, tmp_path, "--restore-file", str(path), updates=151)
    _is_one_line(str(refused.value), path)


@pytest.mark.parametrize(
    "options", [("--encoder-layers", "2"), ("--optimizer", "sgd"), ("--criterion", "rdrop")]
)
def test_a_model_of_other_options_is_named(
    options: tuple[str, ...], clauses: Path, trained: Path, tmp_path: Path
) -> None:
    """A mistake of the user: fairseq ends in a traceback."""
    with pytest.raises(CheckpointRefused) as refused:
        translators.train(clauses, tmp_path, "--restore-file", str(trained), *options, updates=151)
    _is_one_line(str(refused.value), trained)


def test_the_fixtures_are_odd_in_one_thing_only(clauses: Path, trained: Path) -> None:
    """What all the others begin with is read by all."""
    assert updates_of(trained) == read_checkpoint(trained).updates == 150
    assert training.translations(
        clauses / "bin", trained, "--user-dir", training.USER_DIR, "--max-len-b", "1"
    )
