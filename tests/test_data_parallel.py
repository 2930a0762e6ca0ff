"""FreeAT on several workers: its replays are in step, and what each carries is its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import training

# No dropout and a start at zero: nothing that differs between workers is random.
FREEAT = ["--replays", "3", "--ascent-step-size", "0.3", "--epsilon", "0.5", "--dropout", "0"]
FREEAT += ["--clip-norm", "1.0", "--max-update", "10", "--max-tokens", "40"]


def two_workers(data: Path, save_dir: Path, *more: str) -> dict[str, Any]:
    """fairseq-train in two processes, as a launcher starts them; the checkpoint it leaves."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = training.arguments(data, save_dir, *FREEAT, *more, criterion="freeat")
    arguments += ["--ddp-backend", "legacy_ddp", "--distributed-backend", "gloo"]
    arguments += ["--distributed-world-size", "2", "--distributed-no-spawn"]
    arguments += ["--distributed-init-method", f"tcp://localhost:{port}"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "fairseq_cli.train", *arguments, "--distributed-rank", str(i)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in (0, 1)
    ]
    said = [worker.communicate(timeout=200)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    return training.state(save_dir)


def test_two_workers_are_one_with_twice_as_many_batches_per_update(
    toy_data: Path, tmp_path: Path
) -> None:
    both = two_workers(toy_data, tmp_path / "two")
    options = (*FREEAT, "--update-freq", "2")
    training.run_training(toy_data, tmp_path / "one", *options, criterion="freeat")
    one = training.state(tmp_path / "one")
    for key in ("num_updates", "lr_scheduler_state"):
        assert both["optimizer_history"][-1][key] == one["optimizer_history"][-1][key]
    for name, parameter in one["model"].items():
        torch.testing.assert_close(both["model"][name], parameter, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_workers_resume_bit_identical(toy_data: Path, tmp_path: Path) -> None:
    """From inside a group of replays: each has the perturbations of its own batches back."""
    whole = two_workers(toy_data, tmp_path / "whole")
    first = two_workers(toy_data, tmp_path / "parts", "--max-update", "5")
    memories = first["extra_state"]["AdversarialTranslationTask"]["memories"]
    (mine,), (others,) = (memory["waiting"] for memory in memories)
    assert mine[0] != others[0], "other sentences"
    parts = two_workers(toy_data, tmp_path / "parts")
    for name, parameter in whole["model"].items():
        assert torch.equal(parts["model"][name], parameter), name
