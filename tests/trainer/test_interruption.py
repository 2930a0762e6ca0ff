"""SIGTERM and Ctrl-C: the running update is finished, a checkpoint written, the training left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fairseq_adv.tasks.adversarial_training import AdversarialTraining
from fairseq_adv.trainer.interruption import Interruption
from tests.support import processes, training

SIGNALS = [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
OPTIONS = ("--max-update", "40", "--disable-validation", "--save-interval-updates", "10")


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """fairseq-train."""
    return processes.start("fairseq_cli.train", *arguments)


def wait_for_update(process: subprocess.Popen[str], number: int) -> str:
    """Read what a training says until it has made so many updates."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if f'"num_updates": "{number}"' in line:
            return said
    raise AssertionError(said)


def same(first: Path, second: Path) -> bool:
    ours, theirs = (training.parameters(folder) for folder in (first, second))
    return all(torch.equal(ours[name], parameter) for name, parameter in theirs.items())


@pytest.fixture(scope="module")
def undisturbed(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    training.run_training(toy_data, folder, *OPTIONS)
    return folder


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_all_processes_saves_and_leaves(
    number: signal.Signals, toy_data: Path, tmp_path: Path
) -> None:
    """As a scheduler or a terminal sends it: also to those that load data, which still do."""
    options = (*OPTIONS, "--max-tokens", "9", "--data-buffer-size", "1", "--max-update", "80")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = start(training.arguments(toy_data, broken, *options, "--num-workers", "2"))
    said = wait_for_update(process, 3)
    os.killpg(process.pid, number)
    (rest,) = processes.end(process, statuses=[128 + number])
    assert "Traceback" not in said + rest
    message = [line for line in rest.splitlines() if number.name in line][-1]
    found = re.search(r"the model of update (\d+) is saved as (.*)", message)
    assert found is not None and found[2] == f"{broken}/checkpoint_last.pt"
    state = training.state(broken)
    assert state["optimizer_history"][-1]["num_updates"] == int(found[1]) < 80
    training.run_training(toy_data, broken, *options)
    training.run_training(toy_data, whole, *options)
    assert same(broken, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_who_loads_data_outlives_a_signal(
    number: signal.Signals, toy_data: Path, tmp_path: Path
) -> None:
    """Its death would end the training wherever that is, also where nothing can be saved."""
    options = ("--max-tokens", "9", "--data-buffer-size", "1", "--num-workers", "2")
    process = start(training.arguments(toy_data, tmp_path, *options, "--max-update", "40"))
    wait_for_update(process, 3)
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")  # a thread starts them
    loaders = [int(pid) for children in tasks for pid in children.read_text().split()]
    assert len(loaders) >= 2
    for pid in loaders:
        os.kill(pid, number)
    processes.end(process)
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 40


def at_update(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Send this process SIGTERM inside that update."""
    original = AdversarialTraining.train_step

    def train_step(task: Any, *arguments: Any, **named: Any) -> Any:
        if arguments[4:5] == (number - 1,) or named.get("update_num") == number - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(task, *arguments, **named)

    monkeypatch.setattr(AdversarialTraining, "train_step", train_step)


LATER = [pytest.param(number, marks=pytest.mark.slow) for number in (14, 20)]


@pytest.mark.parametrize("update", [1, *LATER, 39])
def test_whenever_it_comes_the_rest_ends_bit_identical(
    update: int,
    toy_data: Path,
    tmp_path: Path,
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the first update, the last of an epoch (14), one that is saved anyway, and late."""
    with monkeypatch.context() as patches:
        at_update(patches, update)
        with pytest.raises(SystemExit) as left:
            training.run_training(toy_data, tmp_path, *OPTIONS)
    assert left.value.code == 128 + signal.SIGTERM
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == update
    training.run_training(toy_data, tmp_path, *OPTIONS)
    assert same(tmp_path, undisturbed)


def test_where_fairseq_does_not_save_yet_the_signal_does(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tenth update is saved, but not before --validate-after-updates: 10 would not be."""
    at_update(monkeypatch, 10)
    options = ("--validate-after-updates", "30", "--max-tokens", "1000000", "--max-epoch", "30")
    with pytest.raises(SystemExit) as left:
        training.run_training(toy_data, tmp_path, *OPTIONS, *options, "--save-interval", "99")
    assert left.value.code == 128 + signal.SIGTERM
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 10


def test_a_training_that_is_done_is_done(
    toy_data: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_update(monkeypatch, 40)
    training.run_training(toy_data, tmp_path, *OPTIONS)
    assert same(tmp_path, undisturbed)


def test_a_plain_training_under_our_task_too(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_update(monkeypatch, 5)
    with pytest.raises(SystemExit):
        training.run_training(
            toy_data, tmp_path, *OPTIONS, criterion="label_smoothed_cross_entropy"
        )
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 5


def test_a_second_ctrl_c_is_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    interruption = Interruption()
    interruption.listen()
    for now[0] in (100.0, 100.5):  # what the terminal sends, and what a launcher passes on
        signal.raise_signal(signal.SIGINT)
    assert interruption.vote == 1
    now[0] = 110.0
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_is_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    interruption = Interruption()
    interruption.listen()
    for now[0] in (100.0, 105.0):  # a scheduler, and what it started, are in less of a hurry
        signal.raise_signal(signal.SIGTERM)
    now[0] = 120.0
    with pytest.raises(SystemExit) as left:
        signal.raise_signal(signal.SIGTERM)
    assert left.value.code == 128 + signal.SIGTERM


_HANGS = """
import ctypes, signal, sys
from fairseq_adv.trainer import interruption

interruption._SAME = dict.fromkeys(interruption._SAME, 2.0)
interruption._PATIENCE = 1.5
interruption.Interruption().listen()
print("listens", flush=True)
lock = ctypes.create_string_buffer(64)  # a mutex of the system: no handler ends the wait for it
for _ in range(2):
    ctypes.CDLL(None).pthread_mutex_lock(lock)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_what_hangs_in_foreign_code(number: signal.Signals) -> None:
    """Python's handlers run between its own instructions only, and there are no more."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HANGS],
        env=os.environ | {"PYTHONPATH": str(processes.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "listens\n"
        for _ in range(2):  # what a launcher passes on is not the second one
            process.send_signal(number)
        time.sleep(2)
        assert process.poll() is None
        deadline = time.monotonic() + processes.PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(3)  # on a busy machine it may hear late, and take two for one
            process.send_signal(number)
        _, said = process.communicate(timeout=processes.PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 128 + number, said
    assert f"{number.name}: the update hangs: the training ends without a checkpoint" in said


def start_two(toy_data: Path, save_dir: Path, *more: str) -> list[subprocess.Popen[str]]:
    """Two workers of one long training, which has begun."""
    options = ["--max-update", "2000", "--disable-validation", "--distributed-world-size", "2"]
    options += ["--distributed-no-spawn", "--distributed-backend", "gloo", *more]
    options += ["--distributed-init-method", processes.rendezvous(save_dir)]
    arguments = training.arguments(toy_data, save_dir, *options)
    workers = [start([*arguments, "--distributed-rank", str(rank)]) for rank in (0, 1)]
    wait_for_update(workers[0], 3)
    return workers


def test_an_update_that_hangs_ends_after_the_heartbeat_timeout(
    toy_data: Path, tmp_path: Path
) -> None:
    """One worker stops; the other waits for its gradient, and would do so for half an hour."""
    workers = start_two(toy_data, tmp_path, "--heartbeat-timeout", "5")
    try:
        workers[1].send_signal(signal.SIGSTOP)
        said, _ = workers[0].communicate(timeout=processes.PATIENCE)
    finally:
        for worker in workers:
            processes.kill(worker)
    assert workers[0].returncode == -signal.SIGKILL, said
    assert "not making progress in 5 seconds" in said


def test_a_signal_to_one_worker_ends_all_after_the_same_update(
    toy_data: Path, tmp_path: Path
) -> None:
    workers = start_two(toy_data, tmp_path)
    workers[1].send_signal(signal.SIGTERM)
    said = processes.end(*workers, statuses=[143])
    assert "Traceback" not in "".join(said)
    assert "SIGTERM: the training ends here" in said[0]
    updates = training.state(tmp_path)["optimizer_history"][-1]["num_updates"]
    assert f'"num_updates": "{updates + 1}"' not in said[0]
