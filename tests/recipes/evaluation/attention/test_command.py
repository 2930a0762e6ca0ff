"""`python -m recipes.attention`, on models that have learnt something."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from recipes.attention import __main__ as command
from recipes.attention.__main__ import PAGE, PICTURE, TABLE, measure
from recipes.attention.importance import explain
from recipes.models.model import load
from recipes.support.errors import RecipeError
from recipes.support.files import ATTENTION, read_json


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["recipes.attention", *map(str, arguments), "--cpu"])
    command._main()


def test_translations(
    word_data: Path,
    word_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Words are in the same order in both languages: the right alignment is known."""
    lines = (word_data / "tok" / "test.de").read_text("utf-8").splitlines()
    links = tmp_path / "links"
    links.write_text(
        "".join(" ".join(f"{n}-{n}" for n in range(len(line.split()))) + "\n" for line in lines)
    )
    arguments = [word_data, "--checkpoint", word_model, word_model, "--label", "A", "B"]
    run(monkeypatch, *arguments, "--out", tmp_path / "out", "--alignments", links)
    written = read_json(tmp_path / "out" / ATTENTION, "")
    first, second = written["models"]
    assert {**first, "label": "B"} == second
    words = sum(len(line.split()) for line in lines)
    assert (written["split"], written["attention_held"]) == ("test", "constant")
    assert (first["unit"], first["sentences"], first["units"]) == ("target word", 30, words)
    assert sum(first["undefined"].values()) == 0
    assert (first["alignment"]["found"], first["alignment"]["right"]) == (words, words)
    assert first["alignment"]["error_rate"] < 0.5  # of a guess it would be 0.8
    assert 0.3 < first["correlation"] < 1
    said = capsys.readouterr().out
    table = (tmp_path / "out" / TABLE).read_text("utf-8")
    assert f"{first['correlation']:.3f}" in said
    assert f"{first['alignment']['error_rate']:.3f}" in table
    assert all(line in table for line in written["definition"])
    assert (tmp_path / "out" / PAGE).stat().st_size > 10_000
    assert (tmp_path / "out" / PICTURE).read_bytes()[:4] == b"\x89PNG"


def test_a_translation_is_in_the_words_of_the_text(word_data: Path, word_model: Path) -> None:
    """In the order of the corpus, subwords put together."""
    found = explain(load(word_data, word_model, cpu=True), "valid", "x", held=True)
    for lang, words in (("de", [of.words for of in found]), ("en", [of.said for of in found])):
        lines = (word_data / "tok" / f"valid.{lang}").read_text("utf-8").splitlines()
        assert words == [line.split(" ") for line in lines]


def test_classes(opinions: Path, opinion_model: Path, tmp_path: Path) -> None:
    tables = {
        held: measure(opinions, {"x": opinion_model}, tmp_path / held, held=held, cpu=True)
        for held in ("constant", "free")
    }
    assert tables["constant"] != tables["free"]
    written = read_json(tmp_path / "free" / ATTENTION, "")
    (model,) = written["models"]
    assert (written["split"], model["unit"], model["sentences"]) == ("test", "sentence", 60)
    assert model["alignment"] is None
    assert "--attention-held free" in " ".join(written["definition"])
    page = (tmp_path / "free" / PAGE).read_text("utf-8")
    assert "predicted positive" in page and "brilliant" in page
    unlabelled = explain(load(opinions, opinion_model, cpu=True), "test1", "x", held=True)
    assert [of.label for of in unlabelled] == ["", ""]
    assert all(of.words[-1] == "." for of in unlabelled)


def test_without_a_test_split_it_is_valid(
    word_data: Path, word_model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(word_data, data)
    report = json.loads((data / "report.json").read_text("utf-8"))
    del report["raw"]["kept"]["test"]
    (data / "report.json").write_text(json.dumps(report), "utf-8")
    measure(data, {"x": word_model}, tmp_path / "out", cpu=True)
    assert read_json(tmp_path / "out" / ATTENTION, "")["split"] == "valid"


def test_what_cannot_be_explained(
    word_data: Path, word_model: Path, opinions: Path, scored: Path, tmp_path: Path
) -> None:
    broken, out = tmp_path / "broken.pt", tmp_path / "out"
    broken.write_bytes(b"nonsense")
    links = tmp_path / "links"
    links.write_text("0-0\n")
    model = {"x": word_model}
    with pytest.raises(RecipeError, match=r"broken\.pt: no checkpoint of fairseq"):
        measure(word_data, {"x": broken}, out, cpu=True)
    with pytest.raises(RecipeError, match=r"predicts no labels of sentences, and .* has such"):
        measure(opinions, model, out, cpu=True)
    with pytest.raises(RecipeError, match=r"data has scores: importance is of the prob"):
        measure(scored, model, out, cpu=True)
    with pytest.raises(RecipeError, match=r"--alignments: .*data has no translations"):
        measure(opinions, model, out, alignments=links, cpu=True)
    with pytest.raises(RecipeError, match=r"--split nowhere: .* no such binarised split"):
        measure(word_data, model, out, split="nowhere", cpu=True)
    with pytest.raises(RecipeError, match=r"links: has 1 lines, and the split 30 sentences"):
        measure(word_data, model, out, alignments=links, cpu=True)
    assert not out.exists()


def test_a_model_that_has_diverged(word_data: Path, word_model: Path) -> None:
    loaded = load(word_data, word_model, cpu=True)
    with torch.no_grad():
        next(loaded.model.parameters()).fill_(float("nan"))
    with pytest.raises(RecipeError, match=r"^x: gives gradients that are not numbers"):
        explain(loaded, "valid", "x", held=True)
