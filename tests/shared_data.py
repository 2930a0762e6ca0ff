"""Real corpora that are not part of the project; tests that need them skip without."""

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def shared(corpus: str) -> Path:
    """Return the folder of a corpus, or skip the test."""
    folder = Path(os.environ.get("SHARED_DATA", _DEFAULT)) / corpus
    if not folder.is_dir():
        pytest.skip(f"needs the real corpus {corpus}: SHARED_DATA=FOLDER, with {corpus}/ in it")
    return folder
