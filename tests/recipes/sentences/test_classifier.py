"""Exported classifiers, and raw text in, labels out: every kind of line."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recipes.models.model import load, outputs
from recipes.sentences.classifier import Classifier, Described, load_classifier, load_folder
from recipes.sentences.evaluate import evaluate
from recipes.sentences.export import export
from recipes.sentences.predictions import predict
from recipes.support.errors import RecipeError
from tests.support import classifiers
from tests.support.processes import PATIENCE, ROOT


@pytest.fixture(scope="module")
def folder(opinions: Path, opinion_model: Path, bert: Path) -> Path:
    """The classifier of opinions."""
    out = opinions.parent / "classifier"
    export(opinions, opinion_model, bert, out)
    return out


@pytest.fixture(scope="module")
def pair_folder(scored: Path, score_model: Path, bert: Path) -> Path:
    """What scores pairs."""
    out = scored.parent / "classifier"
    export(scored, score_model, bert, out)
    return out


def texts(data: Path, split: str = "test") -> list[bytes]:
    """The texts of a split, as they are typed."""
    lines = (data / "raw" / f"{split}.tsv").read_bytes().splitlines(keepends=True)
    return [line.split(b"\t", 1)[1] for line in lines]


def opened(folder: Path, warnings: list[str] | None = None) -> Classifier:
    heard: list[str] = [] if warnings is None else warnings
    return load_classifier(folder, cpu=True, threads=1, warn=heard.append)


def test_the_weights_are_the_checkpoints_to_the_last_bit(
    opinions: Path, opinion_model: Path, folder: Path, tmp_path: Path
) -> None:
    """And the folder is whole: it is used elsewhere, with neither data nor encoder."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    theirs, ours = load(opinions, opinion_model, cpu=True), load_folder(elsewhere, cpu=True)
    weights = theirs.model.state_dict()
    assert weights.keys() == ours.model.state_dict().keys()
    for name, weight in ours.model.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    theirs.task.load_dataset("test")
    dataset = theirs.task.dataset("test")
    batch = dataset.collater([dataset[number] for number in range(20)])["net_input"]
    assert torch.equal(outputs(ours, batch), outputs(theirs, batch))
    held = torch.load(elsewhere / "model.pt", weights_only=True)
    assert "last_optimizer_state" not in held
    assert str(opinions.parent) not in (elsewhere / "model.json").read_text("utf-8")


@pytest.mark.parametrize("kind", ["opinions", "scored"])
def test_raw_text_is_answered_as_the_binary_data_are(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Single texts and pairs: the same pieces, special symbols and segments, the same outputs."""
    data = request.getfixturevalue(kind)
    model = request.getfixturevalue({"opinions": "opinion_model", "scored": "score_model"}[kind])
    ours = opened(request.getfixturevalue({"opinions": "folder", "scored": "pair_folder"}[kind]))
    expected = predict(load(data, model, cpu=True), "test", "").outputs
    found: list[np.ndarray] = []
    keep = ours.outputs

    def keeping(inputs: Any) -> list[Any]:
        found.extend(keep(inputs))
        return found

    object.__setattr__(ours, "outputs", keeping)
    answers = list(ours.classify(texts(data)))
    np.testing.assert_allclose(np.array(found), expected, atol=2e-6)
    for answer, row in zip(answers, expected, strict=True):
        if kind == "scored":
            assert float(answer) == pytest.approx(float(row[0]), abs=1e-5)
        else:
            label, probability = answer.split("\t")
            assert label == ["negative", "positive"][int(row.argmax())]
            wanted = torch.tensor(row).softmax(0).max().item()
            assert float(probability) == pytest.approx(wanted, abs=1e-4)


def test_a_line_out_for_each_line_in_and_in_order(folder: Path) -> None:
    warnings: list[str] = []
    ours = opened(folder, warnings)
    lines = [b"a good film\n", b"\n", b"one\ttwo\n", b" \n", b"b\xffd\r\n", b"the plot is bad"]
    found = list(ours.classify(lines))
    assert [bool(line) for line in found] == [True, False, False, False, True, True]
    assert list(ours.classify(lines, at_a_time=2)) == found
    assert warnings[:2] == [
        "line 5 is not UTF-8 (byte 0xff, number 2 of the line): such bytes become U+FFFD",
        "line 3 has 2 columns, the model reads 1: it is not answered",
    ]
    assert list(ours.classify([])) == []


def test_data_may_be_elsewhere_than_in_the_training(
    opinions: Path, opinion_model: Path, bert: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(opinions, moved)
    opinions.rename(opinions.with_name("away"))
    try:
        scores = evaluate(moved, opinion_model, tmp_path / "out", split="valid", cpu=True)
        export(moved, opinion_model, bert, tmp_path / "model")
    finally:
        opinions.with_name("away").rename(opinions)
    assert scores["splits"]["valid"]["sentences"] == 45
    assert (tmp_path / "model" / "model.pt").is_file()


def test_pairs_want_a_tab(pair_folder: Path) -> None:
    warnings: list[str] = []
    found = list(opened(pair_folder, warnings).classify([b"one\n", b"\t\n", b"one\ttwo\n"]))
    assert found[:2] == ["", ""] and float(found[2]) is not None
    assert warnings == ["line 1 has 1 columns, the model reads 2: it is not answered"]


def test_long_texts_are_cut_and_named(folder: Path) -> None:
    """As data_prep cuts them: after so many pieces."""
    warnings: list[str] = []
    ours = opened(folder, warnings)
    most = ours.described.max_pieces
    long, cut = " ".join(["good"] * 200), " ".join(["good"] * (most - 2))
    assert len(set(ours.classify([long.encode(), cut.encode()]))) == 1
    assert warnings == [f"line 1 has 200 pieces, the model takes {most - 2}: the rest is left out"]


def test_the_command(opinions: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "recipes.sentences.classify", str(folder), "--threads=1"]
    done = subprocess.run(
        [*command, "--cpu"], cwd=ROOT, input=b"".join(texts(opinions)), capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == list(opened(folder).classify(texts(opinions)))


def test_a_roberta_is_for_stock_fairseq(
    roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that has nothing of ours, its task and its model give the same logits."""
    data = classifiers.prepare(roberta, tmp_path / "r")
    model = classifiers.train(data, roberta, "--max-epoch", "1")
    export(data, model, roberta, tmp_path / "classifier")
    program = """
import sys, torch
from fairseq.checkpoint_utils import load_model_ensemble_and_task
folder, data, out = sys.argv[1:]
(model,), _, task = load_model_ensemble_and_task(
    [folder + "/model.pt"], arg_overrides={"data": folder})
assert type(task).__module__ == "fairseq.tasks.sentence_prediction", type(task)
task.cfg.data = data
task.load_dataset("test")
dataset = task.dataset("test")
batch = dataset.collater([dataset[n] for n in range(10)])
with torch.no_grad():
    logits, _ = model.eval()(**batch["net_input"], features_only=True,
                             classification_head_name="sentence_classification_head")
torch.save(logits, out)
"""
    arguments = [str(tmp_path / "classifier"), str(data / "bin"), str(tmp_path / "logits.pt")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, cwd=tmp_path)
    loaded = load(data, model, cpu=True)
    found = predict(loaded, "test", "").outputs
    theirs = torch.load(tmp_path / "logits.pt").numpy()
    np.testing.assert_allclose(theirs, found[:10], atol=2e-6)


def test_mistakes(
    opinions: Path, opinion_model: Path, folder: Path, roberta: Path, bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"model\.json: not there; python -m recipes\.sentences"):
        opened(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"model\.json: does not describe a classifier"):
        opened(tmp_path)
    (tmp_path / "model.json").write_bytes((folder / "model.json").read_bytes())
    with pytest.raises(RecipeError, match=r"model\.pt: not there; export"):
        opened(tmp_path)
    with pytest.raises(RecipeError, match="were cut by another tokeniser: give the encoder bert"):
        export(opinions, opinion_model, roberta, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    with pytest.raises(RecipeError, match=r"mine: not made by recipes\.sentences\.export"):
        export(opinions, opinion_model, bert, tmp_path / "mine")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("classes", value) for value in ("good", [1, 2], 3)),
        *(("texts", value) for value in (0, 3, None)),
        *(("max_pieces", value) for value in (None, "512", 0)),
        ("scores_divided_by", "5"),
        ("more", 1),
    ],
)
def test_a_description_of_something_else(
    folder: Path, tmp_path: Path, name: str, value: Any
) -> None:
    described = json.loads((folder / "model.json").read_text("utf-8"))
    (tmp_path / "model.json").write_text(json.dumps(described | {name: value}), "utf-8")
    with pytest.raises(RecipeError, match="does not describe a classifier") as caught:
        Described.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_line_typed_is_answered_at_once(folder: Path) -> None:
    terminal, ours = pty.openpty()
    command = [sys.executable, "-m", "recipes.sentences.classify", str(folder), "--threads=1"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=ours, stdout=subprocess.PIPE)
    os.close(ours)
    os.write(terminal, b"it was good\n")
    assert process.stdout is not None
    assert process.stdout.readline().startswith((b"positive\t", b"negative\t"))
    process.terminate()
    process.communicate(timeout=PATIENCE)
    os.close(terminal)
