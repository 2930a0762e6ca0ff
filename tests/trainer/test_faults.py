"""Trainings that are killed: nothing is lost, and nobody waits for the dead."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.support import processes, training
from tests.support.processes import PATIENCE
from tests.trainer.test_interruption import start, wait_for_update

KILLS = 24


def command(data: Path, save_dir: Path, *more: str) -> list[str]:
    """A training that saves often, and checkpoints that take a while to write: about 5 MB."""
    options = ["--encoder-embed-dim", "64", "--decoder-embed-dim", "64"]
    options += ["--encoder-ffn-embed-dim", "1024", "--decoder-ffn-embed-dim", "1024"]
    options += ["--max-update", "60", "--save-interval-updates", "2", "--keep-interval-updates"]
    options += ["2", "--disable-validation", "--num-workers", "1", *more]
    return training.arguments(data, save_dir, *options)


class Killer:
    """Kills trainings at random: at some moment, or as soon as one writes a checkpoint."""

    def __init__(self, save_dir: Path) -> None:
        self.save_dir = save_dir
        self.rng = random.Random(1)
        self.while_writing = 0
        self.kills = 0

    def kill(self, process: subprocess.Popen[str], number: int) -> bool:
        """Returns whether it was still alive. Every second one dies while it writes."""
        seconds = self.rng.uniform(0.5, 1.5) * 4
        writes = self.rng.randint(1, 6)  # the one in which it dies
        end = time.monotonic() + (PATIENCE if number % 2 else seconds)
        before: set[tuple[str, int]] = set()
        while time.monotonic() < end and process.poll() is None:
            if number % 2:
                before |= {(path.name, _inode(path)) for path in self.save_dir.glob("*.tmp")}
                if len(before) >= writes:
                    break
            time.sleep(0.0005)
        if process.poll() is not None:
            return False
        processes.kill(process)
        process.communicate()
        self.kills += 1
        self.while_writing += any(self.save_dir.glob("*.tmp"))
        return True


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:  # it has got its name meanwhile
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["salt", "freeat"])
def test_killed_again_and_again_a_training_ends_bit_identical(
    criterion: str, toy_data: Path, tmp_path: Path
) -> None:
    more = ("--replays", "3") if criterion == "freeat" else ()

    def arguments(folder: str) -> list[str]:
        found = command(toy_data, tmp_path / folder, *more)
        found[found.index("--criterion") + 1] = criterion
        return found

    whole = start(arguments("whole"))
    processes.end(whole)
    killer, number = Killer(tmp_path / "killed"), 0
    while killer.kills < KILLS:
        number += 1
        assert number < 4 * KILLS, f"only {killer.kills} were killed before they were done"
        if not killer.kill(start(arguments("killed")), number):
            for path in (tmp_path / "killed").glob("*.pt"):  # done: what is left begins anew
                path.unlink()
    processes.end(start(arguments("killed")))
    assert killer.while_writing >= KILLS // 4, killer.while_writing
    expected = training.parameters(tmp_path / "whole")
    found = training.parameters(tmp_path / "killed")
    assert all(torch.equal(found[name], parameter) for name, parameter in expected.items())
    print(f"{criterion}: {killer.kills} kills, {killer.while_writing} while a file was written")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
@pytest.mark.parametrize("world", [2, 4])
def test_when_a_worker_dies_the_others_end(
    world: int, backend: str, toy_data: Path, tmp_path: Path
) -> None:
    """At once, and not when they have waited for it as long as torch does: half an hour."""
    rng = random.Random(f"{world} {backend}")
    for attempt in range(3):
        options = ["--max-update", "100000", "--ddp-backend", backend]
        options += ["--distributed-world-size", str(world), "--distributed-no-spawn"]
        options += ["--distributed-backend", "gloo", "--distributed-init-method"]
        options += [processes.rendezvous(tmp_path), "--save-interval-updates", "1000"]
        arguments = command(toy_data, tmp_path / str(attempt), *options)
        workers = [start([*arguments, "--distributed-rank", str(rank)]) for rank in range(world)]
        wait_for_update(workers[0], 2)
        time.sleep(rng.uniform(0, 3))
        victim = rng.randrange(world)
        processes.kill(workers[victim])
        killed = time.monotonic()
        others = [worker for i, worker in enumerate(workers) if i != victim]
        processes.end(*others, statuses=range(1, 256))
        workers[victim].communicate()
        print(f"worker {victim} of {world}: {time.monotonic() - killed:.1f} s")


@pytest.mark.slow
def test_under_torchrun_a_signal_saves_and_leaves(toy_data: Path, tmp_path: Path) -> None:
    """torchrun passes it on, and kills what does not end; the workers agree and wait."""
    arguments = command(toy_data, tmp_path, "--max-update", "100000", "--ddp-backend")
    arguments += ["legacy_ddp", "--distributed-backend", "gloo"]
    launch = ("torch.distributed.run", "--nproc-per-node", 2, "--standalone", "--no-python")
    process = processes.start(
        *launch, "recipes/training/worker.sh", *arguments, PYTHON=sys.executable
    )
    wait_for_update(process, 5)
    os.killpg(process.pid, signal.SIGINT)  # from the terminal, to all
    (rest,) = processes.end(process, statuses=range(1, 256))
    assert "SIGINT: the training ends here; the model of update" in rest
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] >= 5
