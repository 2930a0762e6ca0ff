"""Encoders that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights, in its directory."""
    from tests.support import encoders

    folder = tmp_path_factory.mktemp("small")
    encoders.save_encoder(folder / "files", "BertModel")
    return encoders.prepared(folder / "files", folder / "bert")


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RoBERTa."""
    from tests.support import encoders

    folder = tmp_path_factory.mktemp("small")
    encoders.save_encoder(folder / "files", "RobertaModel")
    return encoders.prepared(folder / "files", folder / "roberta")
