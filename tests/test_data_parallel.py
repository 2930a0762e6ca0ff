"""Several workers are one with as many batches per update: all methods, backends, 2 and 4."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import processes, training
from tests.method_table import ROWS, Row, every_method


def train_all(data: Path, out: Path, backend: str, world: int) -> Path:
    """All methods, one after the other, in as many processes. Returns where they are."""
    out.mkdir()
    meet = processes.rendezvous(out)
    workers = range(1 if backend == "accumulated" else world)
    arguments = [(data, out, backend, meet, rank, world) for rank in workers]
    processes.end(*(processes.start("tests.workers", *each) for each in arguments))
    return out


@pytest.fixture(scope="module")
def two(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("two")
    backends = ("accumulated", "legacy_ddp", "pytorch_ddp")
    return {name: train_all(toy_data, folder / name, name, 2) for name in backends}


def assert_same(found: Path, expected: Path, row: Row) -> None:
    ours, theirs = (training.state(folder / row.name) for folder in (found, expected))
    for key in ("num_updates", "lr_scheduler_state"):
        assert ours["optimizer_history"][-1][key] == theirs["optimizer_history"][-1][key]
    for name, parameter in theirs["model"].items():
        torch.testing.assert_close(ours["model"][name], parameter, rtol=1e-4, atol=1e-6)
    if row.criterion == "smart":
        reference = theirs["extra_state"]["ema"]
        for name, parameter in reference.items():
            torch.testing.assert_close(
                ours["extra_state"]["ema"][name], parameter, rtol=1e-4, atol=1e-6
            )


@every_method
@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_workers_are_one_with_two_batches_per_update(
    row: Row, backend: str, two: dict[str, Path]
) -> None:
    """The epoch ends in the ninth update, where the second worker has no batch any more."""
    assert_same(two[backend], two["accumulated"], row)


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_gradients_are_shared_once_per_update(backend: str, two: dict[str, Path]) -> None:
    found = json.loads((two[backend] / "synchronisations.json").read_text())
    assert found == {row.name: 9 for row in ROWS}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_four_workers_are_one_with_four_batches_per_update(
    backend: str, toy_data: Path, tmp_path: Path
) -> None:
    expected = train_all(toy_data, tmp_path / "one", "accumulated", 4)
    found = train_all(toy_data, tmp_path / "four", backend, 4)
    for row in ROWS:
        assert_same(found, expected, row)


def two_workers(data: Path, save_dir: Path, *more: str) -> dict[str, Any]:
    """fairseq-train with FreeAT in two processes, as a launcher starts them: what they leave."""
    options = ["--replays", "3", "--ascent-step-size", "0.3", "--epsilon", "0.5", "--max-update"]
    options += ["10", "--max-tokens", "40", "--ddp-backend", "legacy_ddp"]
    options += ["--distributed-backend", "gloo", "--distributed-world-size", "2"]
    options += ["--distributed-no-spawn"]
    options += ["--distributed-init-method", processes.rendezvous(save_dir.parent), *more]
    arguments = training.arguments(data, save_dir, *options, criterion="freeat")
    start = functools.partial(processes.start, "fairseq_cli.train", *arguments)
    processes.end(*(start("--distributed-rank", rank) for rank in (0, 1)))
    return training.state(save_dir)


@pytest.mark.slow
def test_two_workers_resume_bit_identical(toy_data: Path, tmp_path: Path) -> None:
    """From inside a group of replays: each has the perturbations of its own batches back."""
    whole = two_workers(toy_data, tmp_path / "whole")
    parts = tmp_path / "parts"
    first = two_workers(toy_data, parts, "--max-update", "5")
    memories = first["extra_state"]["AdversarialTranslationTask"]["memories"]
    (mine,), (others,) = (memory["waiting"] for memory in memories)
    assert mine[0] != others[0], "other sentences"
    last = two_workers(toy_data, parts)
    for name, parameter in whole["model"].items():
        assert torch.equal(last["model"][name], parameter), name
