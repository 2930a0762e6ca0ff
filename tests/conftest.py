"""Fixtures that several test files share."""

from __future__ import annotations

import os

# The models here are too small for a second thread to help. Before torch is imported:
os.environ["OMP_NUM_THREADS"] = "1"

import signal
from pathlib import Path

import pytest

from tests import training
from tests.data_prep_fixtures import without_fairseq, write_texts

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background of a shell: what the tests start would not hear of Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binarised toy corpus with 100 test sentences."""
    return training.make_data(
        tmp_path_factory.mktemp("toy"), {"train": 120, "valid": 20, "test": 100}
    )


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A small parallel corpus as plain text files."""
    directory = tmp_path / "texts"
    directory.mkdir()
    return write_texts(directory)


@pytest.fixture
def no_fairseq(monkeypatch: pytest.MonkeyPatch) -> None:
    """data_prep without its slowest stage."""
    without_fairseq(monkeypatch)
