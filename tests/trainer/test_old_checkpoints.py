"""Checkpoints that fairseq 0.10 and 0.12 have written, used for all that checkpoints are for."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate

from recipes.evaluation.calibration import calibrate
from recipes.evaluation.evaluate import evaluate
from recipes.evaluation.robustness import robustness
from recipes.models.averaging import average, choose
from recipes.models.checkpoint import read_checkpoint, updates_of
from recipes.models.generation import undo_bpe
from recipes.serving.export import export
from recipes.serving.translate import load_translator
from recipes.support.files import read_table
from tests.support import training
from tests.trainer import old_fairseq

versions = pytest.mark.parametrize("version", old_fairseq.VERSIONS)
FIRST, *LATER = old_fairseq.VERSIONS
later_is_slow = pytest.mark.parametrize(
    "version", [FIRST, *(pytest.param(version, marks=pytest.mark.slow) for version in LATER)]
)
architectures = pytest.mark.parametrize("architecture", old_fairseq.ARCHITECTURES)


# Used nowhere (`_float_tensor`), or copies, such as what fairseq 0.12.0 to 0.12.2 calls `fc1_bias`.
UNUSED = re.compile(r".*_float_tensor|.*layers\.\d+\.\w+_(weight|bias)")


def weights(path: Path) -> dict[str, torch.Tensor]:
    """As they are in the file."""
    model = torch.load(path)["model"]
    return {name: value for name, value in model.items() if not UNUSED.fullmatch(name)}


@versions
@architectures
def test_the_translations_are_the_old_versions_own(
    old_data: Path, version: str, architecture: str
) -> None:
    """Word for word, and with the same scores."""
    path = old_fairseq.checkpoint(version, architecture)
    args = options.parse_args_and_arch(
        options.get_generation_parser(),
        [
            *(str(old_data / "bin"), "--path", str(path), "--user-dir", training.USER_DIR, "--cpu"),
            *("--beam", "3", "--max-len-b", "8", "--num-workers", "0"),
        ],
    )
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        generate.main(convert_namespace_to_omegaconf(args))
    found = [line.split("\t") for line in output.getvalue().splitlines() if line[:2] == "H-"]
    expected = old_fairseq.translations(version, architecture)
    assert {int(name[2:]): text for name, _, text in found} == {
        number: text for number, (_, text) in expected.items()
    }
    for name, score, _ in found:
        assert float(score) == pytest.approx(expected[int(name[2:])][0], abs=1e-5)


@versions
@pytest.mark.parametrize("how", ["finetune", "restore"])
def test_a_training_starts_from_one(old_data: Path, tmp_path: Path, version: str, how: str) -> None:
    """With a learning rate of nearly nothing the weights stay what they were."""
    path = old_fairseq.checkpoint(version)
    start = ["--finetune-from-model", str(path)]
    if how == "restore":
        resets = ("optimizer", "lr-scheduler", "dataloader", "meters")
        start = ["--restore-file", str(path), *(f"--reset-{name}" for name in resets)]
        start += ["--max-update", "28"]  # the old training ended after 27
    training.run_training(
        *(old_data / "bin", tmp_path, "--arch", "transformer", *old_fairseq.MODEL),
        *("--lr", "1e-12", "--max-update", "2", *start),
    )
    trained, before = training.parameters(tmp_path), weights(path)
    assert trained.keys() == before.keys() and len(before) == 47
    for name, value in before.items():
        torch.testing.assert_close(trained[name], value, rtol=0, atol=1e-8)
    if how == "restore":
        assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 28


@versions
@pytest.mark.parametrize("choice", ["last-2", "best-2"])
def test_they_are_averaged(old_data: Path, tmp_path: Path, version: str, choice: str) -> None:
    paths = [old_fairseq.checkpoint(version, name=name) for name in ("3_13", "last")]
    chosen = choose(paths[0].parent, choice)
    assert [(saved.path, saved.updates) for saved in chosen] == [(paths[0], 13), (paths[1], 27)]
    average(chosen, tmp_path / "mean.pt")
    first, second = map(weights, paths)
    mean = weights(tmp_path / "mean.pt")
    for name, value in first.items():
        torch.testing.assert_close(mean[name], (value + second[name]) / 2)
    assert len(training.translations(old_data / "bin", tmp_path / "mean.pt")) == 8


@later_is_slow
def test_they_are_evaluated(old_data: Path, tmp_path: Path, version: str) -> None:
    path = old_fairseq.checkpoint(version)
    evaluate(old_data, path, tmp_path, beam=3, cpu=True, workers=1)
    expected = old_fairseq.translations(version, "transformer")
    rows = read_table(tmp_path / "translations.tsv")
    words = [undo_bpe(expected[number][1]).removesuffix(" .") for number in range(len(rows))]
    assert [row["translation"].removesuffix(".") for row in rows] == [
        word.removesuffix(".") for word in words
    ]
    scores = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert scores["sentences"] == 8
    assert updates_of(path) == 27


@versions
def test_their_calibration_is_measured(old_data: Path, tmp_path: Path, version: str) -> None:
    calibrate(old_data, {"old": old_fairseq.checkpoint(version)}, tmp_path, cpu=True)
    measured = json.loads((tmp_path / "calibration.json").read_text("utf-8"))
    assert "old" in str(measured)


@pytest.mark.slow
@versions
def test_their_robustness_is_measured(old_data: Path, tmp_path: Path, version: str) -> None:
    models = {"old": old_fairseq.checkpoint(version)}
    robustness(old_data, models, tmp_path, rates=[0.5], radii=[0.1], beam=1, cpu=True)
    assert (tmp_path / "robustness.png").exists()


@later_is_slow
@architectures
def test_they_are_exported(old_data: Path, tmp_path: Path, version: str, architecture: str) -> None:
    """And translate as they did, with either engine."""
    path = old_fairseq.checkpoint(version, architecture)
    assert export(old_data, path, tmp_path / "model", beam=3) is None
    source = (old_fairseq.FOLDER / "text" / "test.de").read_bytes().splitlines(keepends=True)
    expected = old_fairseq.translations(version, architecture)
    for engine in ("fairseq", "ctranslate2"):
        translator = load_translator(
            tmp_path / "model", engine=engine, threads=1, cpu=True, warn=pytest.fail
        )
        found = list(translator.translate(source))
        for number, (_, text) in expected.items():
            assert found[number].replace(" ", "") == undo_bpe(text).replace(" ", "")


@versions
def test_what_is_read_of_one(old_data: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old_data.parent)  # its options name the data `data/bin`
    trained = read_checkpoint(old_fairseq.checkpoint(version))
    assert (trained.method, trained.updates) == ("label_smoothed_cross_entropy", 27)
    assert trained.options["label_smoothing"] == 0.1
    counted = weights(old_fairseq.checkpoint(version))
    assert trained.parameters == sum(
        value.numel() for name, value in counted.items() if not name.endswith("version")
    )
