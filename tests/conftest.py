"""Fixtures that several test files share."""

from __future__ import annotations

import os

# The models here are too small for a second thread to help. Before torch is imported:
os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path

import pytest

from tests import training


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binarised toy corpus with 100 test sentences."""
    return training.make_data(
        tmp_path_factory.mktemp("toy"), {"train": 120, "valid": 20, "test": 100}
    )
