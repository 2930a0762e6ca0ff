"""Fixtures that several test files share."""

from __future__ import annotations

import os

# The models here are too small for a second thread to help. Before torch is imported:
os.environ["OMP_NUM_THREADS"] = "1"

import signal
from pathlib import Path

import pytest

from recipes.export import export
from tests import training, translators
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


@pytest.fixture(scope="session")
def clauses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory made by data_prep, with 60 test sentences."""
    return translators.make_corpus(tmp_path_factory.mktemp("clauses"))


@pytest.fixture(scope="session")
def trained(clauses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a Transformer that has learnt something of that corpus."""
    return translators.train(clauses, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def exported(clauses: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That checkpoint as a folder for translating."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    assert export(clauses, trained, folder) is None
    return folder


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
