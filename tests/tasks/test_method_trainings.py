"""Every method inside fairseq's trainer: killed and resumed, and afterwards forgotten."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.optim.adam import FairseqAdam

from tests.methods.method_table import ROWS, Row, every_method, trained, trained_of_kinds
from tests.support import training
from tests.support.training import Kind
from tests.support.updates import options_of

ACCUMULATED = ("--update-freq", "2", "--max-tokens", "40", "--max-update", "9")


class Killed(BaseException):
    """What nothing catches, as a SIGKILL."""


@trained_of_kinds(
    {
        "translation": (
            *("salt", "smart", "freeat-task-loss", "freelb-task-loss", "mat", "rdrop"),
            *("salt-on-attention", "freeat-task-loss-on-differences"),
        ),
        "sentences": ("salt", "freeat-divergence", "mat"),
    }
)
def test_a_killed_run_ends_bit_identical(
    row: Row, kind: Kind, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the 8th update, it goes on after the 5th, which is inside a group of replays."""
    options = [*kind.options, *options_of(row), *ACCUMULATED, "--save-interval-updates", "5"]
    training.run_training(data, tmp_path / "whole", *options, criterion=row.criterion)

    updates = []
    step = FairseqAdam.step

    def killing(self: Any, *args: Any, **kwargs: Any) -> Any:
        updates.append(1)
        if len(updates) == 8:
            raise Killed
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FairseqAdam, "step", killing)
        training.run_training(data, tmp_path / "parts", *options, criterion=row.criterion)
    at_kill = training.state(tmp_path / "parts")
    assert at_kill["optimizer_history"][-1]["num_updates"] == 5
    training.run_training(data, tmp_path / "parts", *options, criterion=row.criterion)

    whole, parts = training.state(tmp_path / "whole"), training.state(tmp_path / "parts")
    assert whole["optimizer_history"][-1]["num_updates"] == 9
    assert same(parts["model"], whole["model"])
    assert not same(parts["model"], at_kill["model"])
    optimizer = "last_optimizer_state"
    assert same(parts[optimizer]["state"], whole[optimizer]["state"])
    assert same(parts["extra_state"].get("ema", {}), whole["extra_state"].get("ema", {}))
    task = kind.task
    assert same(parts["extra_state"].get(task, {}), whole["extra_state"].get(task, {}))
    if row.criterion == "freeat":
        (memory,) = at_kill["extra_state"][task]["memories"]
        assert len(memory["waiting"]) == 2, "the two batches of the group, between replays"
    if row.criterion == "smart":
        assert not same(whole["extra_state"]["ema"], whole["model"])


def same(first: Any, second: Any) -> bool:
    """Whether two nests of containers are equal to the last bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@trained(quick=("salt", "freeat-task-loss", "mat", "rdrop"))
def test_nothing_of_it_is_left_in_inference(row: Row, toy_data: Path, tmp_path: Path) -> None:
    """The same translations as stock fairseq's, of the same weights in a stock checkpoint."""
    training.run_training(toy_data, tmp_path / "ours", *options_of(row), criterion=row.criterion)
    checkpoint = tmp_path / "ours" / "checkpoint_last.pt"
    valid = ("--gen-subset", "valid")
    ours = training.translations(toy_data, checkpoint, "--user-dir", training.USER_DIR, *valid)
    assert sorted(ours) == list(range(20))

    stock = training.state(tmp_path / "ours")
    plain = tmp_path / "plain"
    training.run_training(
        toy_data, plain, "--max-update", "1", criterion="label_smoothed_cross_entropy"
    )
    weights, stock = stock["model"], training.state(plain)
    assert weights.keys() == stock["model"].keys()
    stock["model"] = weights
    stock["cfg"]["task"]["_name"] = "translation"
    torch.save(stock, tmp_path / "stock.pt")
    assert training.translations(toy_data, tmp_path / "stock.pt", *valid) == ours


@every_method
def test_the_log_tells_the_game(
    row: Row, kind: Kind, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`loss` is the whole objective; validation and plain updates show nothing of a game."""
    caplog.set_level(logging.INFO)
    weight = row.options.get("adv_weight", 1.0)
    options = [*kind.options, *options_of(row), "--gauge-interval", "2"]
    training.run_training(data, tmp_path, *options, criterion=row.criterion)
    lines = training.log_of(caplog.records)
    assert len(lines) == 4
    passes = 2 if row.criterion == "rdrop" else 1
    played = [line for line in lines if line.get("adv_loss") is not None]
    # FreeAT's first replays are plain, here the first and the fourth update.
    assert len(played) == (2 if row.criterion == "freeat" else 4)
    for line in played:
        loss, adv_loss = float(line["loss"]), float(line["adv_loss"])
        if "task-loss" in row.name:
            # In the mean of FreeLB's K steps the last and highest is one, which a sentence's single
            # prediction may show.
            steps = (
                1 if kind is training.KINDS["translation"] else row.options.get("ascent_steps", 1)
            )
            assert loss >= weight / steps * adv_loss * (1 - 1e-3)
        else:
            clean = loss - weight * adv_loss
            clean -= row.options.get("proximal_weight", 0.0) * float(line.get("proximal_loss", 0))
            # Label smoothing moves the loss away from nll_loss by less than a bit at the start.
            assert clean / passes == pytest.approx(float(line[kind.clean_loss]), abs=1.0)
        assert ("delta_norm" in line) == (row.ball or row.criterion == "r3f")
        assert ("proximal_loss" in line) == (row.criterion == "smart")
    gauged = [line["num_updates"] for line in lines if line.get("adv_gain") is not None]
    # FreeAT measures in a group's last replay, here the third.
    expected = {"rdrop": [], "freeat": [3], "mat": [3]}.get(row.criterion, [1, 3])
    assert [int(number) for number in gauged] == expected
    (valid,) = training.log_of(caplog.records, "valid")
    assert not any("adv" in key or "delta" in key for key in valid)


@pytest.mark.parametrize(
    ("criterion", "option", "allowed"),
    [
        ("smart", "--proximal-weight=1", "--store-ema"),
        ("smart", "--proximal-weight=-1", "a number from 0 up"),
        ("freeat", "--replays=0", "1, 2, 3"),
        ("freeat", "--adv-interval=2", "1 with freeat"),
        ("freeat", "--ascent-rule=adam", "sgd, normalized, sign"),
        ("freeat", "--ascent-rule=rmsprop", "sgd, normalized, sign"),
        ("mat", "--leader-samples=0", "1, 2, 3"),
        ("mat", "--leader-mean-decay=1", "a number from 0 to below 1"),
        ("mat", "--follower-mean-decay=-0.1", "a number from 0 to below 1"),
        ("mat", "--follower-samples=0", "a number from 1 up"),
        ("mat", "--thermal-noise=-1", "a number from 0 up"),
        ("mat", "--adv-interval=2", "1 with mat"),
        ("mat", "--directions=neighbours", "free"),
        ("freeat", "--adv-weight=1.5", "0 to 1 with --adv-objective task-loss"),
        ("freelb", "--ascent-steps=0", "a number from 1 up"),
        ("simcut", "--cutoff-rate=1.1", "0 to 1"),
        ("adv", "--epsilon=-1", "a number from 0 up"),
        ("adv", "--epsilon=inf", "a number from 0 up"),
        ("adv", "--ascent-steps=2", "0, 1"),
        ("freelb", "--epsilon=inf", "a number from 0 up"),
        ("salt", "--ascent-steps=0", "a number from 1 up"),
        ("r3f", "--noise-size=-1", "a number from 0 up"),
        ("vat", "--init-std=-1", "a number from 0 up"),
        ("rdrop", "--adv-weight=-1", "a number from 0 up"),
        ("salt", "--directions=differences", "free, neighbours for words"),
    ],
)
def test_a_wrong_value_stops_the_run_with_one_line(
    criterion: str, option: str, allowed: str, toy_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as error:
        training.run_training(toy_data, tmp_path, option, criterion=criterion)
    message = str(error.value)
    assert option.split("=")[0] in message and allowed in message and "\n" not in message


def test_each_criterion_trains_by_its_name_alone(toy_data: Path, tmp_path: Path) -> None:
    """SMART alone asks for one option more, and says so."""
    for row in {row.criterion: row for row in ROWS}.values():
        training.run_training(
            toy_data,
            tmp_path / row.name,
            *row.training,
            "--max-update",
            "1",
            criterion=row.criterion,
        )
