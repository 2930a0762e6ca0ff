"""demo.sh with a stand-in for python: what it calls, what it reuses, how it is interrupted."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "recipes" / "demo.sh"

# Stands for the modules that demo.sh calls, each reduced to the files it leaves behind.
STAND_IN = """#!/bin/bash
echo "$2 $*" >>calls
case $2 in
  data_prep) mkdir -p data/demo/bin && echo "${STAMP:-1}" >data/demo/bin/stage.json ;;
  recipes.watch)
    mkdir -p results/demo/checkpoints
    [[ -z ${FAIL:-} ]] || exit 1
    touch results/demo/checkpoints/checkpoint_{best,last}.pt
    echo "log" >>results/demo/training.log
    trap 'echo stopped >>calls; exit 130' TERM
    for _ in {1..100}; do [[ -z ${SLOW:-} ]] || sleep 0.1; done
    echo "x | done training in 3.5 seconds" >>results/demo/training.log ;;
  recipes.summary) echo "{}" >results/demo/summary.json ;;
esac
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that looks like the repository's root."""
    for name in ("fairseq_adv", "recipes"):
        (tmp_path / name).mkdir()
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return tmp_path


def start(root: Path, **variables: str) -> "subprocess.Popen[str]":
    inherited = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return subprocess.Popen(
        ["bash", SCRIPT],
        cwd=root,
        env=inherited | {"PYTHON": str(root / "python")} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def demo(root: Path, **variables: str) -> tuple[int, str]:
    """Run the script; return exit status and what it said."""
    process = start(root, **variables)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def calls(root: Path) -> list[str]:
    """Return the modules called since the last time."""
    file = root / "calls"
    modules = [line.split()[0] for line in file.read_text().splitlines()]
    file.unlink()
    return modules


def test_all_stages_once_and_then_nothing_again(root: Path) -> None:
    status, said = demo(root)
    assert status == 0, said
    stages = ["data_prep", "recipes.watch", "recipes.evaluate", "recipes.summary", "recipes.report"]
    assert calls(root) == stages
    status, said = demo(root)
    assert status == 0, said
    assert calls(root) == ["data_prep", "recipes.report"]
    assert said.count("already there") == 3


def test_a_failed_training_fails_the_demo_and_can_be_mended(root: Path) -> None:
    status, _ = demo(root, FAIL="yes")
    assert status == 1
    assert calls(root) == ["data_prep", "recipes.watch"]
    assert demo(root)[0] == 0


def interrupt(root: Path, number: int) -> tuple[int, str]:
    process = start(root, SLOW="yes")
    checkpoint = root / "results/demo/checkpoints/checkpoint_last.pt"
    deadline = time.monotonic() + 30
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.1)
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_stops_at_once_and_continues(
    root: Path, number: int, status: int
) -> None:
    returned, said = interrupt(root, number)
    assert returned == status, said
    assert "the same command continues" in said
    assert "stopped" in calls(root)
    seconds = (root / "results/demo/.seconds").read_text().split()
    assert seconds[0::2] == ["training", "total"]
    assert all(int(number) >= 1 for number in seconds[1::2])
    returned, said = demo(root)
    assert returned == 0
    assert "training: continues from" in said


def test_the_seconds_of_all_runs_add_up(root: Path) -> None:
    (root / "results/demo").mkdir(parents=True)
    (root / "results/demo/.seconds").write_text("training 100\ntotal 200\ntraining 20\ntotal 40\n")
    assert demo(root)[0] == 0
    call = next(c for c in (root / "calls").read_text().splitlines() if "--seconds-total" in c)
    words = call.split()
    assert 240 <= int(words[words.index("--seconds-total") + 1]) < 260
    assert 120 <= int(words[words.index("--seconds-training") + 1]) < 140


def test_results_of_other_data_are_not_mixed(root: Path) -> None:
    assert demo(root)[0] == 0
    status, said = demo(root, STAMP="2")
    assert status == 1
    assert "results/demo holds a training with other data or hyper-parameters" in said


def test_two_runs_at_a_time(root: Path) -> None:
    first = start(root, SLOW="yes")
    try:
        time.sleep(0.5)
        status, said = demo(root)
        assert (status, said) == (1, "demo: error: another run is at work in results/demo\n")
    finally:
        first.terminate()
        first.communicate(timeout=30)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CORPUS": "en-de"}, "CORPUS=en-de: allowed is de-en, fr-en, vi-en"),
        ({"PYTHON": "no-such-python"}, "PYTHON=no-such-python: no such command"),
    ],
)
def test_wrong_variables(root: Path, variables: dict[str, str], message: str) -> None:
    assert demo(root, **variables) == (1, f"demo: error: {message}\n")
    assert not (root / "results").exists()


@pytest.mark.parametrize("corpus", ["vi-en", "libreoffice-help-vi-en"])
def test_packages_and_corpus_are_passed_on(root: Path, corpus: str) -> None:
    demo(root, CORPUS=corpus, DEB="a.deb b%3a.deb")
    call = (root / "calls").read_text().splitlines()[0]
    assert "libreoffice-help-vi-en --out data/demo-vi-en" in call
    assert call.endswith("--deb a.deb --deb b%3a.deb")
