"""What all tests begin with."""

from __future__ import annotations

import subprocess
import sys

from tests.processes import ROOT


def test_who_only_deals_tests_out_loads_neither_torch_nor_fairseq() -> None:
    """It would take seconds, and fairseq's remarks would come after pytest's last line."""
    program = (
        "import os, sys, tests.conftest; print(os.environ['OMP_NUM_THREADS'], *"
        "{'torch', 'fairseq'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("1\n", "")
