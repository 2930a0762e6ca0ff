"""Workers of whom one runs out of data: neither its gradient nor the others' changes its size."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.trainer import Trainer

from tests.methods.method_table import ROWS
from tests.support import processes, tiny, training
from tests.support.gradients import distance
from tests.support.updates import trainer

# Nothing that differs between workers is random. Sentences of 6 tokens: 8 of them are a batch.
OPTIONS = ["--dropout", "0", "--max-tokens", "48", "--optimizer", "sgd", "--lr", "0.5"]
OPTIONS += ["--disable-validation"]


@pytest.fixture(scope="module")
def seven_batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For two workers with two batches per update: 4 of them, then 2 and 1 and an empty one."""
    folder = tmp_path_factory.mktemp("seven")
    return training.make_data(folder, {"train": 56, "valid": 2}, words=(5, 5))


def two_workers(data: Path, save_dir: Path, backend: str, *more: str, criterion: str) -> None:
    """fairseq-train in two processes."""
    arguments = training.arguments(data, save_dir, *OPTIONS, *more, criterion=criterion)
    arguments += ["--ddp-backend", backend, "--distributed-backend", "gloo"]
    arguments += ["--distributed-world-size", "2", "--distributed-no-spawn"]
    arguments += ["--distributed-init-method", processes.rendezvous(save_dir.parent)]
    start = functools.partial(processes.start, "fairseq_cli.train", *arguments)
    processes.end(*(start("--distributed-rank", rank) for rank in (0, 1)))


@pytest.mark.parametrize(
    ("criterion", "backend"),
    [
        ("adv", "legacy_ddp"),
        pytest.param("adv", "pytorch_ddp", marks=pytest.mark.slow),
        pytest.param("freeat", "legacy_ddp", marks=pytest.mark.slow),
        pytest.param("freeat", "pytorch_ddp", marks=pytest.mark.slow),
        pytest.param("label_smoothed_cross_entropy", "pytorch_ddp", marks=pytest.mark.slow),
    ],
)
def test_an_epoch_of_two_uneven_workers_is_that_of_one(
    criterion: str, backend: str, seven_batches: Path, tmp_path: Path
) -> None:
    """The last update of the epoch has a batch of the second worker that is empty."""
    replays = 2 if criterion == "freeat" else 1
    until = ("--max-update", str(2 * replays))
    two_workers(
        *(seven_batches, tmp_path / "two", backend, "--update-freq", "2", *until),
        criterion=criterion,
    )
    alone = (*OPTIONS, "--update-freq", "4", *until)
    training.run_training(seven_batches, tmp_path / "one", *alone, criterion=criterion)
    start = (*OPTIONS, "--lr", "0", "--max-update", "1")
    training.run_training(seven_batches, tmp_path / "start", *start, criterion=criterion)
    states = {name: training.state(tmp_path / name) for name in ("two", "one", "start")}
    assert states["two"]["extra_state"]["train_iterator"]["epoch"] == 2, "the epoch is over"
    two, one, before = (list(state["model"].values()) for state in states.values())
    moved = [[a - b for a, b in zip(after, before, strict=True)] for after in (two, one)]
    assert distance(*moved) < 1e-3


@pytest.mark.parametrize(("in_step", "passes"), [(False, 2), (True, 4)])
def test_workers_whose_passes_are_in_step_keep_empty_batches(
    in_step: bool, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sharded parameters a worker that left a pass out would be waited for."""
    made = trainer(ROWS[0], tiny.transformer())
    played: list[Any] = []
    task = type(made.task)
    monkeypatch.setattr(Trainer, "is_fsdp", in_step)
    monkeypatch.setattr(
        task, "train_step", lambda *_, **given: played.append(given) or (torch.zeros(()), 1, {})
    )
    monkeypatch.setattr(Trainer, "clip_grad_norm", lambda *_: torch.ones(()))
    monkeypatch.setattr(Trainer, "_reduce_and_log_stats", lambda *_, **__: None)
    made.train_step([tiny.batch(), {}, tiny.batch(seed=5), {}])
    assert len(played) == passes
