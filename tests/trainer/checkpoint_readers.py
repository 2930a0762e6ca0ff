"""All that reads checkpoints, with the error it refuses one with; and a checkpoint to change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fairseq_adv.trainer.safe_loading import CheckpointRefused
from recipes.evaluation.calibration import calibrate
from recipes.evaluation.evaluate import evaluate
from recipes.evaluation.robustness import robustness
from recipes.models.averaging import choose
from recipes.serving.export import export
from recipes.serving.model_folder import MODEL
from recipes.serving.translate import load_translator
from recipes.support.errors import RecipeError
from tests.support import training
from tests.trainer import old_fairseq


def real_state(**changes: Any) -> dict[str, Any]:
    """A checkpoint of fairseq 0.12.2, with changes."""
    return dict(torch.load(old_fairseq.checkpoint("0.12.2"))) | changes


# What reads a checkpoint: data, the checkpoint, a directory.
Reads = Callable[[Path, Path, Path], object]


def _train(*options: str) -> Reads:
    def reads(data: Path, path: Path, out: Path) -> None:
        given = [option.format(path) for option in options]
        training.run_training(
            *(data / "bin", out / "trained", "--arch", "transformer", *old_fairseq.MODEL, *given)
        )

    return reads


def _resume(data: Path, path: Path, out: Path) -> None:
    (out / "trained").mkdir()
    shutil.copyfile(path, out / "trained" / "checkpoint_last.pt")
    _train()(data, path, out)


def _average(data: Path, path: Path, out: Path) -> None:
    (out / "checkpoints").mkdir()
    shutil.copyfile(path, out / "checkpoints" / "checkpoint_last.pt")
    choose(out / "checkpoints", "last-1")


def _translate(data: Path, path: Path, out: Path) -> None:
    export(data, old_fairseq.checkpoint("0.12.2"), out / "model")
    shutil.copyfile(path, out / "model" / MODEL)
    load_translator(out / "model", engine="fairseq", threads=1, cpu=True, warn=pytest.fail)


READERS: dict[str, tuple[Reads, type[BaseException]]] = {
    "resume": (_resume, CheckpointRefused),
    "restore": (_train("--restore-file", "{}"), CheckpointRefused),
    "finetune": (_train("--finetune-from-model", "{}"), CheckpointRefused),
    "generate": (
        lambda data, path, _: training.translations(data / "bin", path),
        CheckpointRefused,
    ),
    "evaluate": (
        lambda data, path, out: evaluate(data, path, out / "out", cpu=True, workers=1),
        RecipeError,
    ),
    "calibrate": (
        lambda data, path, out: calibrate(data, {"a": path}, out / "out", cpu=True),
        RecipeError,
    ),
    "robustness": (
        lambda data, path, out: robustness(
            data, {"a": path}, out / "out", rates=[0.1], radii=[0.1], cpu=True
        ),
        RecipeError,
    ),
    "average": (_average, RecipeError),
    "export": (lambda data, path, out: export(data, path, out / "out"), RecipeError),
    "translate": (_translate, RecipeError),
}
