"""Checkpoints of earlier versions of fairseq: see tests/fixtures/README.md."""

from __future__ import annotations

from pathlib import Path

from data_prep.__main__ import main
from tests.support.processes import ROOT

FOLDER = ROOT / "tests" / "fixtures" / "old_fairseq"
VERSIONS = ("0.10.2", "0.12.2")
ARCHITECTURES = ("transformer", "transformer_iwslt_de_en")

MODEL = [
    *["--encoder-layers", "1", "--decoder-layers", "1"],
    *["--encoder-embed-dim", "8", "--decoder-embed-dim", "8"],
    *["--encoder-ffn-embed-dim", "8", "--decoder-ffn-embed-dim", "8"],
    *["--encoder-attention-heads", "2", "--decoder-attention-heads", "2"],
]
"""Their options, for fairseq-train."""


def checkpoint(version: str, architecture: str = "transformer", name: str = "last") -> Path:
    """One of the fixtures."""
    return FOLDER / version / architecture / f"checkpoint_{name}.pt"


def translations(version: str, architecture: str) -> dict[int, tuple[float, str]]:
    """What the old version made of the test set: score and subwords by sentence id."""
    path = FOLDER / version / architecture / "translations.txt"
    lines = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return {int(name[2:]): (float(score), text) for name, score, text in lines}


def prepare(out: Path) -> Path:
    """Make the data that they were trained on."""
    splits = [f"--{split}={FOLDER / 'text' / split}" for split in ("train", "valid", "test")]
    languages = ["--source-lang=de", "--target-lang=en"]
    options = ["--bpe-merges=20", "--workers=1", f"--out={out}"]
    assert main(["files", *languages, *splits, *options]) == 0
    for lang in ("de", "en"):
        dictionary = f"dict.{lang}.txt"
        assert (out / "bin" / dictionary).read_bytes() == (FOLDER / dictionary).read_bytes()
    return out
