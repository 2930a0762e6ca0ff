"""All readers of foreign bytes, by name: what is promised of each, and inputs to begin from.

A promise (`promises.py`) is asked by random tests (`test_foreign_bytes.py`) and by a fuzzer for as
long as one likes (`__main__.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.fuzzing.data_prep_readers import DATA_PREP
from tests.fuzzing.recipe_readers import RECIPES
from tests.fuzzing.sentence_readers import SENTENCES

READERS = DATA_PREP | SENTENCES | RECIPES


def try_input(reader: str, content: bytes, scratch: Path) -> None:
    """Ask for the reader's promise in ``scratch``, which is emptied before."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    READERS[reader].promise(content, scratch)
