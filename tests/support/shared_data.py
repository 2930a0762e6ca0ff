"""Real corpora that are not part of the project; tests that need them skip without."""

import gzip
import lzma
import os
from pathlib import Path

import pytest

from tests.support.processes import ROOT

_DEFAULT = ROOT.parent / "shared" / "data"


def shared(corpus: str) -> Path:
    """Return the folder of a corpus, or skip the test."""
    folder = Path(os.environ.get("SHARED_DATA", _DEFAULT)) / corpus
    if not folder.is_dir():
        pytest.skip(f"needs the real corpus {corpus}: SHARED_DATA=FOLDER, with {corpus}/ in it")
    return folder


def multi30k_archives(directory: Path) -> list[Path]:
    """Write the corpus' archives as its home has them; skip the test without the real text."""
    folder = shared("multi30k")
    archives = []
    for split in ("train", "val", "test_2016_flickr"):
        for lang in ("de", "en"):
            archives.append(directory / f"{split}.{lang}.gz")
            with lzma.open(folder / f"{split}.{lang}.xz") as stream:
                archives[-1].write_bytes(gzip.compress(stream.read(), 1))
    return archives
