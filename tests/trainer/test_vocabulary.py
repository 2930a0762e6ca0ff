"""Dictionaries and languages in a checkpoint: other data are refused, the other way is followed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from fairseq.tasks.translation import TranslationTask

from data_prep.support.lines import read_lines
from fairseq_adv.trainer.safe_loading import CheckpointRefused
from recipes.evaluation.calibration import calibrate, measure
from recipes.evaluation.evaluate import evaluate
from recipes.evaluation.robustness import robustness
from recipes.models.averaging import Saved, average
from recipes.models.checkpoint import direction
from recipes.models.model import load
from recipes.serving.export import export
from recipes.serving.model_folder import read_exported
from recipes.serving.translate import load_translator
from recipes.support.errors import RecipeError
from recipes.support.files import read_table
from tests.support import training, translators


@pytest.fixture(scope="module")
def renamed(clauses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same corpus with two words of its joined dictionary exchanged: of the same size."""
    data = tmp_path_factory.mktemp("renamed") / "data"
    shutil.copytree(clauses, data)
    for lang in ("de", "en"):
        path = data / "bin" / f"dict.{lang}.txt"
        first, second, *rest = path.read_text("utf-8").splitlines()
        path.write_text("\n".join([second, first, *rest]) + "\n", encoding="utf-8")
    return data


@pytest.fixture(scope="module")
def reverse(clauses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that translates the corpus the other way, by options of fairseq."""
    folder = tmp_path_factory.mktemp("reverse")
    return translators.train(clauses, folder, "-s", "en", "-t", "de")


def test_a_checkpoint_tells_of_its_words(clauses: Path, trained: Path) -> None:
    """The digest is sha256sum's of the dictionary's first column, after fairseq's own symbols."""
    state = torch.load(trained)["task_state"]
    assert state["languages"] == ["de", "en"]  # which nobody named
    for side, lang in (("source", "de"), ("target", "en")):
        lines = (clauses / "bin" / f"dict.{lang}.txt").read_text("utf-8").splitlines()
        symbols = ["<s>", "<pad>", "</s>", "<unk>", *(line.rsplit(" ", 1)[0] for line in lines)]
        expected = hashlib.sha256("\n".join(symbols).encode()).hexdigest()
        assert state["dictionaries"][side] == expected


@pytest.mark.parametrize("how", ["--finetune-from-model", "--restore-file", "resumed"])
def test_no_training_starts_with_another_dictionary(
    how: str, renamed: Path, trained: Path, tmp_path: Path
) -> None:
    start = [how, str(trained)]
    if how == "resumed":
        shutil.copy(trained, tmp_path / "checkpoint_last.pt")
        start = []
    with pytest.raises(CheckpointRefused) as refused:
        translators.train(renamed, tmp_path, *start, updates=151)
    message = str(refused.value)
    assert (
        "checkpoint_last.pt: trained with another source and another target dictionary" in message
    )
    assert message.count("\n") == 0


def test_a_training_starts_with_the_same_dictionary_wherever_it_is(
    clauses: Path, trained: Path, tmp_path: Path
) -> None:
    data = tmp_path / "elsewhere"
    shutil.copytree(clauses, data)
    start = ["--finetune-from-model", str(trained)]
    translators.train(data, tmp_path / "checkpoints", *start, updates=1)
    assert (tmp_path / "checkpoints" / "checkpoint_last.pt").exists()


def test_fairseq_generate_refuses_another_dictionary(renamed: Path, trained: Path) -> None:
    """Also by fairseq's own task, its default."""
    for task in ("adversarial_translation", "translation"):
        options = ("--user-dir", training.USER_DIR, "--task", task)
        with pytest.raises(CheckpointRefused, match="trained with another source and"):
            training.translations(renamed / "bin", trained, *options)


@pytest.mark.parametrize("tool", ["evaluate", "calibrate", "robustness", "export"])
def test_no_tool_takes_another_dictionary(
    tool: str, renamed: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match=r"was not trained on .*: their dictionaries differ"):
        if tool == "evaluate":
            evaluate(renamed, trained, out, cpu=True)
        elif tool == "calibrate":
            calibrate(renamed, {"it": trained}, out, cpu=True)
        elif tool == "robustness":
            robustness(renamed, {"it": trained}, out, cpu=True)
        else:
            export(renamed, trained, out)
    assert not out.exists()


def without_words(checkpoint: Path, path: Path) -> Path:
    """A checkpoint as stock fairseq, and we before, would have written it."""
    state = torch.load(checkpoint)
    state["task_state"] = {}
    torch.save(state, path)
    return path


def test_what_does_not_tell_is_taken(clauses: Path, trained: Path, tmp_path: Path) -> None:
    silent = without_words(trained, tmp_path / "silent.pt")
    assert direction(clauses, [silent]) == ("de", "en")
    start = ["--finetune-from-model", str(silent)]
    translators.train(clauses, tmp_path / "checkpoints", *start, updates=1)
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_last.pt")
    assert state["task_state"] == torch.load(trained)["task_state"]


def test_stock_fairseq_takes_no_notice(clauses: Path, trained: Path) -> None:
    config = load(clauses, trained, cpu=True).task.cfg
    stock = TranslationTask.setup_task(config)
    stock.load_state_dict(torch.load(trained)["task_state"])


def test_the_tools_follow_the_direction_of_the_model(
    clauses: Path, reverse: Path, tmp_path: Path
) -> None:
    scores = evaluate(clauses, reverse, tmp_path / "scores", beam=2, cpu=True, workers=1)
    rows = read_table(tmp_path / "scores" / "translations.tsv")
    english, german = (list(read_lines(clauses / "raw" / f"test.{lang}")) for lang in ("en", "de"))
    assert [row["source"] for row in rows] == english
    assert [row["reference"] for row in rows] == german
    assert scores["systems"]["model"]["bleu"] > 8  # the wrong way it is below 2
    forward = measure(load(clauses, reverse, cpu=True), "test", "it")
    assert forward.accuracy > 0.5
    assert export(clauses, reverse, tmp_path / "model") is None
    exported = read_exported(tmp_path / "model")
    assert exported.languages == ("en", "de")
    translator = load_translator(tmp_path / "model", threads=1, cpu=True, warn=pytest.fail)
    text = [line.encode() + b"\n" for line in english[:20]]
    found = list(translator.translate(text))
    assert sum(line.startswith("Die ") for line in found) > 15


def test_an_older_checkpoint_whose_options_name_the_direction_is_followed(
    clauses: Path, reverse: Path, tmp_path: Path
) -> None:
    silent = without_words(reverse, tmp_path / "silent.pt")
    assert direction(clauses, [silent]) == ("en", "de")


def test_models_of_two_directions_are_not_compared(
    clauses: Path, trained: Path, reverse: Path, tmp_path: Path
) -> None:
    both = {"there": trained, "back": reverse}
    for compare in (calibrate, robustness):
        with pytest.raises(RecipeError, match=r"translates de to en, .* en to de: compare models"):
            compare(clauses, both, tmp_path / "out", cpu=True)
    chosen = [Saved(trained, 1, None), Saved(reverse, 2, None)]
    with pytest.raises(RecipeError, match="is of another model than"):
        average(chosen, tmp_path / "mean.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_other_languages_is_refused(
    clauses: Path, trained: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "report.json").write_text(json.dumps({"languages": ["fr", "en"]}))
    with pytest.raises(RecipeError, match=r"translates de to en, and .* has fr and en"):
        direction(data, [trained])


def test_fairseq_s_own_programs_do_not_translate_the_other_way(
    toy_data: Path, tmp_path: Path
) -> None:
    """With one dictionary for both languages nothing else tells that it is the wrong way."""
    training.run_training(toy_data, tmp_path, "-s", "b", "-t", "a")
    last = tmp_path / "checkpoint_last.pt"
    with pytest.raises(CheckpointRefused) as refused:
        training.translations(toy_data, last, "--user-dir", training.USER_DIR)  # a to b, as found
    message = str(refused.value)
    assert str(last) in message and "\n" not in message
    assert "trained to translate b to a, and this is a to b: give -s b -t a" in message
    there = ("-s", "b", "-t", "a", "--user-dir", training.USER_DIR)
    assert len(training.translations(toy_data, last, *there)) == 100
