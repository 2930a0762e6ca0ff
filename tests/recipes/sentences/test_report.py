"""Summary, picture and last screen of a demo of sentences."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import pytest

from recipes.sentences.evaluate import evaluate
from recipes.sentences.report import representative, screen
from recipes.sentences.summary import summarize
from recipes.support.errors import RecipeError
from recipes.support.files import read_json


@pytest.mark.parametrize("game", [True, False])
def test_what_a_demo_ends_with(
    game: bool, opinions: Path, opinion_model: Path, tmp_path: Path
) -> None:
    scores = evaluate(opinions, opinion_model, tmp_path, trivial=True, cpu=True)
    lines = []
    last = scores["updates"]
    for update in range(1, last, 10):
        line = {"num_updates": str(update), "loss": "1.5", "nll_loss": "0.03", "accuracy": "50"}
        lines.append(line | ({"clean_loss": "1.0", "adv_loss": "0.5"} if game else {}))
    accuracy = {"valid_num_updates": str(last), "valid_loss": "0.9", "valid_accuracy": "61.5"}
    lines.append(accuracy)
    (tmp_path / "training.log").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    summarize(opinions, tmp_path, opinion_model, 725, 60)
    summary = read_json(tmp_path / "summary.json", "")
    test = scores["splits"]["test"]
    assert summary["accuracy"] == test["metrics"]["accuracy"]["value"]
    assert summary["accuracy_majority"] == test["trivial"]["majority"]["accuracy"]["value"]
    assert summary["accuracy_bag_of_words"] == test["trivial"]["bag_of_words"]["accuracy"]["value"]
    assert (summary["method"], summary["encoder"], summary["corpus"]) == (
        "sentence_prediction",
        "bert",
        "sentences",
    )
    assert (summary["dev_accuracy"], summary["updates_of_checkpoint"]) == (61.5, last)
    assert (summary["updates"], summary["examples"], summary["seconds_total"]) == (last, 120, 725)
    height, width, _ = matplotlib.image.imread(tmp_path / "training.png").shape
    assert (width, height) == (1430, 936 if game else 468)
    shown = screen(tmp_path)
    assert f"Plain, bert: per cent, with 95 % intervals\n{'':26} sentences" in shown
    assert shown.count("  label      ") == 3
    assert "Time: 12 min 5 s, of which training 1 min 0 s" in shown
    assert "make classify MODEL=" in shown


def test_representative_sentences_are_from_the_surely_wrong_to_the_surely_right() -> None:
    rows = [
        {"label": "good", "predicted": said, "probability": f"{share:.4f}", "text": ""}
        for said in ("good", "bad")
        for share in (0.5, 0.6, 0.7, 0.8, 0.9)
    ]
    chosen = [(row["predicted"], row["probability"]) for row in representative(rows)]
    # In order: bad 0.9 ... 0.5, good 0.5 ... 0.9; at 10, 50 and 90 % of nine steps.
    assert chosen == [("bad", "0.8000"), ("bad", "0.5000"), ("good", "0.8000")]


def test_the_screen_before_there_is_anything(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"summary\.json: not there; recipes/demo\.sh makes it"):
        screen(tmp_path)
