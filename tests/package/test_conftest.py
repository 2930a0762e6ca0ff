"""What all tests begin with."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import SEED
from tests.support import processes
from tests.support.processes import ROOT


@pytest.mark.parametrize("test", [1, 2])
def test_no_test_has_the_random_numbers_that_others_left(test: int) -> None:
    fresh = torch.Generator().manual_seed(SEED)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=fresh))


def test_who_only_deals_tests_out_loads_neither_torch_nor_fairseq() -> None:
    """It would take seconds, and fairseq's remarks would come after pytest's last line."""
    program = (
        "import os, sys, tests.conftest; print(os.environ['OMP_NUM_THREADS'], *"
        "{'torch', 'fairseq'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("1\n", "")


def test_no_process_outlives_its_test() -> None:
    process = processes.start("http.server", "0")
    processes.kill_what_is_left()
    assert process.wait(processes.PATIENCE) == -signal.SIGKILL
    process.communicate()


def test_workers_meet_at_files_and_nobody_chooses_a_port() -> None:
    """One that was free a moment ago is another process's when the workers want it."""
    texts = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    here = Path(__file__).resolve()
    found = [p for p, text in texts.items() if p != here and re.search(r"tcp://|:\d{5}\b", text)]
    assert found == []
    binding = [path.name for path, text in texts.items() if path != here and ".bind((" in text]
    assert binding == ["processes.py"]  # which holds it meanwhile


def test_the_tests_run_on_all_cores() -> None:
    command = ["make", "--dry-run", "test"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "pytest -n auto" in said
