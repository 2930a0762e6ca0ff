"""Small corpora of labelled sentences, and models fine-tuned on them."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any

from data_prep.__main__ import main as data_prep
from tests.data_prep.sentences.made import examples, write
from tests.support import training

SIZES = {"train": 120, "valid": 45, "test": 60}
LOG = "valid.json"


def prepare(encoder: Path, directory: Path, *, scores: bool = False) -> Path:
    """Prepare sentences of two classes, or pairs with scores; return the directory of the data."""
    directory.mkdir(exist_ok=True)
    rows = examples(sum(SIZES.values()), pairs=scores)
    if scores:
        rows = [[f"{len(row[1]) % 11 / 2}", *row[1:]] for row in rows]
    else:
        for row in rows[::9]:  # nobody can be right about all of them
            row[0] = {"positive": "negative", "negative": "positive"}[row[0]]
    given = []
    for split, size in SIZES.items():
        given += [f"--{split}", str(write(directory / f"{split}.tsv", rows[:size]))]
        rows = rows[size:]
    unlabelled = [["", *row[1:]] for row in examples(9, pairs=scores)[:2]]
    given.append(str(write(directory / "test1.tsv", unlabelled)))
    out = directory / "data"
    command = ["sentences", "--encoder", str(encoder), "--out", str(out), *given]
    assert data_prep([*command, *(["--scores"] if scores else [])]) == 0
    return out


def train(data: Path, encoder: Path, *more: str) -> Path:
    """Fine-tune for a few epochs, by fairseq-train; return the checkpoint."""
    report = json.loads((data / "report.json").read_text("utf-8"))
    kind = ["--report-mcc", "--report-acc-and-f1"]
    if report["task"] == "regression":
        kind = ["--regression-target", "--report-pearson-and-spearman"]
    save_dir = data.parent / "checkpoints"
    heard = Heard()
    logger = logging.getLogger("fairseq.logging.progress_bar")
    logger.addHandler(heard)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        training.run_training(
            data / "bin",
            save_dir,
            *("--task", "adversarial_sentence_prediction", *kind),
            *("--num-classes", str(report["num_classes"])),
            *("--restore-file", str(encoder / "model.pt")),
            *shlex.split((encoder / "options.txt").read_text("utf-8")),
            *("--lr", "2e-3", "--batch-size", "6", "--update-freq", "2"),
            *("--max-epoch", "5", "--max-update", "0"),
            *more,
            criterion="sentence_prediction",
        )
    finally:
        logger.removeHandler(heard)
        logger.setLevel(level)
    (save_dir.parent / LOG).write_text(heard.lines[-1], "utf-8")
    return save_dir / "checkpoint_last.pt"


class Heard(logging.Handler):
    """What fairseq says of validations."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "valid":
            self.lines.append(record.getMessage())


def validated(checkpoint: Path) -> dict[str, Any]:
    """What fairseq's validation of that checkpoint said."""
    found: dict[str, Any] = json.loads((checkpoint.parents[1] / LOG).read_text("utf-8"))
    return found
