"""Averages of checkpoints: which ones, and of what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.models.averaging import AVERAGED, average, choose
from recipes.support.errors import RecipeError
from tests.support import training


def save(path: Path, updates: int, score: float | None = None, **more: Any) -> None:
    """A checkpoint as far as it matters here."""
    model = {
        "weight": torch.full((2, 3), float(updates)),
        "half": torch.full((2,), updates / 3, dtype=torch.float16),
        "version": torch.tensor([3]),
    }
    state = {
        "cfg": {"checkpoint": {"maximize_best_checkpoint_metric": True}},
        "model": model,
        "optimizer_history": [{"num_updates": updates}],
        "extra_state": {"val_loss": score},
        "last_optimizer_state": {"exp_avg": torch.zeros(7)},
    }
    torch.save(state | more, path)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Five checkpoints, of which two have a second name."""
    for updates, score in ((100, 5.0), (200, 9.0), (300, 7.0), (1000, 9.0), (1100, None)):
        save(tmp_path / f"checkpoint_1_{updates}.pt", updates, score)
    save(tmp_path / "checkpoint_last.pt", 1100)
    save(tmp_path / "checkpoint_best.pt", 1000, 9.0)
    return tmp_path


@pytest.mark.parametrize(
    ("choice", "updates"),
    [
        ("last-1", [1100]),
        ("last-3", [300, 1000, 1100]),
        ("last-5", [100, 200, 300, 1000, 1100]),
        ("best-1", [1000]),  # as good as 200, and later
        ("best-2", [200, 1000]),
        ("best-3", [200, 300, 1000]),
    ],
)
def test_which_are_chosen(checkpoints: Path, choice: str, updates: list[int]) -> None:
    assert [saved.updates for saved in choose(checkpoints, choice)] == updates


def test_a_loss_is_better_the_lower_it_is(tmp_path: Path) -> None:
    cfg = {"checkpoint": {"maximize_best_checkpoint_metric": False}}
    for updates, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
        save(tmp_path / f"checkpoint{updates}.pt", updates, loss, cfg=cfg)
    assert [saved.updates for saved in choose(tmp_path, "best-2")] == [2, 3]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("last-6", "last-6, but there are 5 checkpoints"),
        ("best-5", "best-5, but there are 4 checkpoints with a validation score"),
        ("last", "last: allowed are last-N and best-N, such as last-10"),
        ("best-0", "best-0: allowed are"),
    ],
)
def test_a_choice_that_is_none(checkpoints: Path, choice: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        choose(checkpoints, choice)
    assert message in str(caught.value)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_last.pt").write_bytes(b"PK torn")
    with pytest.raises(RecipeError, match=r"_last\.pt: no checkpoint of fairseq, or not a whole"):
        choose(tmp_path, "last-1")
    torch.save({"model": {}}, tmp_path / "checkpoint_last.pt")
    with pytest.raises(RecipeError, match=r"not a checkpoint of a training: no (extra|optimizer)_"):
        choose(tmp_path, "last-1")
    with pytest.raises(RecipeError, match="no such directory of checkpoints"):
        choose(tmp_path / "nowhere", "last-1")


def test_the_mean_by_hand(checkpoints: Path) -> None:
    out = checkpoints / "checkpoint_average.pt"
    average(choose(checkpoints, "last-3"), out)
    state = torch.load(out)
    model = state["model"]
    assert torch.equal(model["weight"], torch.full((2, 3), 800.0))  # (300 + 1000 + 1100) / 3
    assert model["half"].dtype == torch.float32
    halves = [torch.tensor(n / 3, dtype=torch.float16).item() for n in (300, 1000, 1100)]
    assert model["half"][0].item() == pytest.approx(sum(halves) / 3, rel=1e-6)
    assert model["version"].item() == 3
    assert state["extra_state"] == {AVERAGED: [300, 1000, 1100]}
    assert state["last_optimizer_state"] is None
    assert state["optimizer_history"] == [{"num_updates": 1100}]
    # An average in the same directory is no checkpoint of the training.
    assert [saved.updates for saved in choose(checkpoints, "last-1")] == [1100]


def test_another_model_among_them(checkpoints: Path) -> None:
    save(checkpoints / "checkpoint_1_200.pt", 200, 9.0, model={"weight": torch.zeros(2, 4)})
    with pytest.raises(RecipeError, match=r"_300\.pt is of another model than .*_200\.pt"):
        average(choose(checkpoints, "last-4"), checkpoints / "average.pt")
    assert not (checkpoints / "average.pt").exists()


def test_a_real_training_s_average_translates(toy_data: Path, tmp_path: Path) -> None:
    """By its command line; the mean of the parameters is worked out here."""
    saved = ("--save-interval-updates", "2", "--keep-interval-updates", "9")
    training.run_training(toy_data, tmp_path, *saved, "--max-update", "6", "--disable-validation")
    command = [
        sys.executable,
        "-m",
        "recipes.models.averaging",
        str(tmp_path),
        "--choose",
        "last-2",
    ]
    out = tmp_path / "average.pt"
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: the mean of 2 checkpoints, after 4, 6 updates\n"
    states = [torch.load(path)["model"] for path in tmp_path.glob("checkpoint_*_[46].pt")]
    assert len(states) == 2
    for name, value in torch.load(out)["model"].items():
        torch.testing.assert_close(value, (states[0][name] + states[1][name]) / 2)
    options = ["--user-dir", training.USER_DIR, "--beam", "1"]
    assert len(training.translations(toy_data, out, *options)) == 100
