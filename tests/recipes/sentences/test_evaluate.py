"""Scores of predicted labels, against fairseq's validation, naive loops and scipy."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

import recipes.models.model
from recipes.evaluation import calibration
from recipes.evaluation.calibration import calibrate, measure
from recipes.models.checkpoint import direction
from recipes.models.model import load
from recipes.sentences import evaluate as program
from recipes.sentences import metrics
from recipes.sentences.evaluate import evaluate
from recipes.sentences.predictions import predict, probabilities_of
from recipes.sentences.trivial import BagOfWords, majority
from recipes.support.errors import RecipeError
from recipes.support.files import read_table
from tests.support import classifiers

METRICS = ["pearson", "spearman", "pearson_and_spearman"]


@pytest.fixture(scope="module")
def results(opinions: Path, opinion_model: Path) -> Path:
    """Of all splits."""
    out = opinions.parent / "results"
    evaluate(opinions, opinion_model, out, trivial=True, cpu=True)
    return out


def scores_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "scores.json").read_text("utf-8"))
    return found


def test_classes_are_scored_as_in_fairseqs_validation(
    opinions: Path, opinion_model: Path, tmp_path: Path
) -> None:
    """To the last digit that it prints; the corpus itself asks for accuracy alone."""
    data = tmp_path / "data"
    shutil.copytree(opinions, data)
    report = json.loads((data / "report.json").read_text("utf-8"))
    report["metrics"] = ["--report-mcc", "--report-acc-and-f1"]
    (data / "report.json").write_text(json.dumps(report), "utf-8")
    scores = evaluate(data, opinion_model, tmp_path / "out", split="valid", cpu=True)
    theirs = classifiers.validated(opinion_model)
    ours = scores["splits"]["valid"]["metrics"]
    assert set(ours) == {"accuracy", "mcc", "f1", "acc_and_f1"}
    for name, found in ours.items():
        assert round(found["value"], 1) == float(theirs[f"valid_{name}"]), name
    assert 60 < ours["accuracy"]["value"] < 100


def test_scores_are_scored_as_in_fairseqs_validation(
    scored: Path, score_model: Path, tmp_path: Path
) -> None:
    scores = evaluate(scored, score_model, tmp_path, split="valid", cpu=True)
    theirs = classifiers.validated(score_model)
    ours = scores["splits"]["valid"]["metrics"]
    assert list(ours) == ["pearson", "spearman", "pearson_and_spearman"]
    for name, found in ours.items():
        assert round(found["value"], 1) == float(theirs[f"valid_{name}"]), name
        assert found["low"] <= found["value"] <= found["high"]
    rows = read_table(tmp_path / "predictions.tsv")
    assert list(rows[0]) == ["split", "number", "label", "predicted", "text", "text2"]
    found = scipy.stats.pearsonr(
        [float(row["label"]) for row in rows], [float(row["predicted"]) for row in rows]
    )
    assert 100 * found[0] == pytest.approx(ours["pearson"]["value"], abs=0.1)


@pytest.mark.parametrize(
    ("data", "model"), [("opinions", "opinion_model"), ("scored", "score_model")]
)
def test_batches_make_no_difference(
    data: str, model: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against sentence by sentence, without padding."""
    loaded = load(request.getfixturevalue(data), request.getfixturevalue(model), cpu=True)
    found = predict(loaded, "test", "")
    monkeypatch.setattr(recipes.models.model, "MAX_TOKENS", 100)
    np.testing.assert_allclose(predict(loaded, "test", "").outputs, found.outputs, atol=2e-6)
    dataset = loaded.task.dataset("test")
    assert len(found.outputs) == len(dataset) == classifiers.SIZES["test"]
    for number in range(len(dataset)):
        sample = dataset.collater([dataset[number]])
        with torch.no_grad():
            alone, _ = loaded.model(
                **sample["net_input"],
                features_only=True,
                classification_head_name="sentence_classification_head",
            )
        np.testing.assert_allclose(found.outputs[number], alone[0].numpy(), atol=2e-6)
        assert found.true is not None and found.true[number] == sample["target"].item()


def test_what_is_written(opinions: Path, results: Path) -> None:
    scores, rows = scores_of(results), read_table(results / "predictions.tsv")
    assert list(scores["splits"]) == ["valid", "test", "test1"]
    assert "metrics" not in scores["splits"]["test1"]
    assert (scores["method"], scores["corpus"], scores["seed"]) == (
        "sentence_prediction",
        "sentences",
        5,
    )
    assert scores["chosen_by"]["metric"] == "loss"
    assert scores["batch_size"] == 12  # in two passes
    for split in ("valid", "test"):
        lines = (opinions / "raw" / f"{split}.tsv").read_text("utf-8").splitlines()
        ours = [row for row in rows if row["split"] == split]
        assert [f"{row['label']}\t{row['text']}" for row in ours] == lines
        assert [int(row["number"]) for row in ours] == list(range(len(lines)))
        right = [row["label"] == row["predicted"] for row in ours]
        accuracy = scores["splits"][split]["metrics"]["accuracy"]["value"]
        assert accuracy == pytest.approx(100 * sum(right) / len(right))
        assert all(0.5 <= float(row["probability"]) <= 1 for row in ours)
    unlabelled = [row for row in rows if row["split"] == "test1"]
    assert [row["label"] for row in unlabelled] == ["", ""]
    assert {row["predicted"] for row in unlabelled} <= {"negative", "positive"}


def test_trivial_predictors(opinions: Path, results: Path) -> None:
    """The majority's figure is data_prep's."""
    share = json.loads((opinions / "report.json").read_text("utf-8"))["majority_share"]["test"]
    trivial = scores_of(results)["splits"]["test"]["trivial"]
    assert trivial["majority"]["accuracy"]["value"] == pytest.approx(100 * share, abs=1e-4)
    assert trivial["bag_of_words"]["accuracy"]["value"] > 100 * share
    assert majority(np.array([1.0, 2.0, 2.0, 1.0])) == 1


def test_a_bag_of_words_knows_the_first_text_of_a_pair_from_the_second() -> None:
    texts = [["yes", "no"], ["no", "yes"]] * 5
    bag = BagOfWords(texts, np.array([1.0, 0.0] * 5), classes=True)
    assert bag.predict([["yes", "no"], ["no", "yes"]]).tolist() == [1, 0]


def test_metrics_worked_out_by_hand() -> None:
    """Three true positives, one false, two false negatives, four true negatives."""
    predicted = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    true = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
    found = metrics.metrics_of(["accuracy", "mcc", "f1", "acc_and_f1"], predicted, true)
    f1 = 2 * 3 / (2 * 3 + 1 + 2)
    assert found["accuracy"] == pytest.approx(70)
    assert found["f1"] == pytest.approx(100 * f1)
    assert found["acc_and_f1"] == pytest.approx((70 + 100 * f1) / 2)
    mcc = (3 * 4 - 1 * 2) / math.sqrt((3 + 1) * (3 + 2) * (4 + 1) * (4 + 2))
    assert found["mcc"] == pytest.approx(100 * mcc)


def test_intervals_are_those_of_scipy() -> None:
    generator = np.random.default_rng(3)
    true = generator.integers(2, size=200)
    predicted = np.where(generator.random(200) < 0.8, true, 1 - true)
    found = metrics.measure(["accuracy"], predicted, true)["accuracy"]
    theirs = scipy.stats.bootstrap(
        (predicted == true,), np.mean, method="percentile", n_resamples=5000, rng=generator
    ).confidence_interval
    assert found.low == pytest.approx(100 * theirs.low, abs=1.0)
    assert found.high == pytest.approx(100 * theirs.high, abs=1.0)
    assert metrics.measure(["accuracy"], predicted, true)["accuracy"] == found


def test_a_correlation_with_what_is_always_the_same_is_not_defined() -> None:
    found = metrics.measure(["pearson"], np.ones(9), np.arange(9.0))["pearson"]
    assert found == metrics.Measured(None, None, None)


def test_a_baseline(opinions: Path, opinion_model: Path, results: Path, tmp_path: Path) -> None:
    """Against itself, and against one that is always wrong where this one is right."""
    same = evaluate(opinions, opinion_model, tmp_path / "a", baseline=results, cpu=True)
    found = same["splits"]["test"]["baseline"]
    assert (found["difference"], found["p"], found["metric"]) == (0, 1, "accuracy")
    assert "baseline" not in same["splits"]["test1"]
    rows = read_table(results / "predictions.tsv")
    other = {"positive": "negative", "negative": "positive"}
    lines = ["\t".join(rows[0])]
    lines += ["\t".join({**row, "predicted": other[row["predicted"]]}.values()) for row in rows]
    (tmp_path / "b").mkdir()
    (tmp_path / "b/predictions.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    better = evaluate(opinions, opinion_model, tmp_path / "c", baseline=tmp_path / "b", cpu=True)
    found = better["splits"]["test"]["baseline"]
    accuracy = better["splits"]["test"]["metrics"]["accuracy"]["value"]
    assert found["difference"] == pytest.approx(2 * accuracy - 100)
    assert found["low"] < found["difference"] < found["high"] and found["p"] < 0.05
    (tmp_path / "b/predictions.tsv").write_text("\n".join(lines[:-9]) + "\n", "utf-8")
    with pytest.raises(RecipeError, match=r"predictions\.tsv has predictions of other sentences"):
        evaluate(opinions, opinion_model, tmp_path / "d", baseline=tmp_path / "b", cpu=True)
    assert not (tmp_path / "d").exists()


def test_the_paired_bootstrap_agrees_with_mcnemar() -> None:
    """scipy's exact binomial test of the sentences on which the two differ."""
    generator = np.random.default_rng(5)
    true = generator.integers(2, size=400)
    ours = np.where(generator.random(400) < 0.85, true, 1 - true)
    theirs = np.where(generator.random(400) < 0.80, true, 1 - true)
    found = metrics.compare("accuracy", ours, theirs, true)
    assert found is not None
    better = int(((ours == true) & (theirs != true)).sum())
    worse = int(((ours != true) & (theirs == true)).sum())
    exact = scipy.stats.binomtest(better, better + worse).pvalue
    assert found.difference == pytest.approx(100 * (better - worse) / 400)
    assert found.p == pytest.approx(exact, abs=0.05)


def test_the_command_line(
    opinions: Path,
    opinion_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(opinions), "--checkpoint", str(opinion_model), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(
        sys, "argv", ["recipes.sentences.evaluate", *arguments, "--trivial", "--cpu"]
    )
    program._main()
    said = capsys.readouterr().out
    assert "  bag of words" in said and "test1: 2 sentences without labels are predicted" in said
    assert (
        f"{scores_of(tmp_path / 'out')['splits']['test']['metrics']['accuracy']['value']:.1f}"
        in said
    )


def test_what_does_not_belong_together(
    opinions: Path,
    opinion_model: Path,
    scored: Path,
    tmp_path: Path,
) -> None:
    out, translations, translator = (tmp_path / name for name in ("out", "texts", "model.pt"))
    translations.mkdir()
    (translations / "report.json").write_text('{"languages": ["de", "en"]}', "utf-8")
    torch.save({"cfg": {"task": {"_name": "translation"}}}, translator)
    with pytest.raises(RecipeError, match=r"--split nowhere: .* has train, valid, test, test1"):
        evaluate(opinions, opinion_model, out, split="nowhere", cpu=True)
    with pytest.raises(RecipeError, match="has translations, and no sentences with labels"):
        evaluate(translations, opinion_model, out, cpu=True)
    with pytest.raises(RecipeError, match="has sentences with labels, and no translations"):
        direction(opinions, [translator])
    with pytest.raises(RecipeError, match="predicts no labels of sentences"):
        evaluate(opinions, translator, out, cpu=True)
    with pytest.raises(
        RecipeError, match=r"predicts 2 classes, negative, positive, and .* has scores"
    ):
        evaluate(scored, opinion_model, out, cpu=True)
    other = tmp_path / "data"
    shutil.copytree(opinions, other)
    text = (other / "report.json").read_text("utf-8")
    (other / "report.json").write_text(text.replace('"positive"', '"neutral"'), "utf-8")
    with pytest.raises(RecipeError, match="has negative, neutral: give the data"):
        evaluate(other, opinion_model, out, cpu=True)
    assert not out.exists()


def test_a_model_that_has_diverged(opinions: Path, opinion_model: Path) -> None:
    loaded = load(opinions, opinion_model, cpu=True)
    with torch.no_grad():
        next(loaded.model.parameters()).fill_(float("nan"))
    with pytest.raises(RecipeError, match=r"^here: predicts what are no numbers: it has diverged$"):
        predict(loaded, "test", "here")


def test_calibration_is_of_sentences(opinions: Path, opinion_model: Path, results: Path) -> None:
    """From what predictions.tsv says, to its four digits."""
    found = measure(load(opinions, opinion_model, cpu=True), "test", "here")
    rows = [row for row in read_table(results / "predictions.tsv") if row["split"] == "test"]
    confidence = np.array([float(row["probability"]) for row in rows])
    right = np.array([row["label"] == row["predicted"] for row in rows])
    assert (found.unit, found.samples) == ("sentence", len(rows))
    assert found.accuracy == pytest.approx(right.mean())
    assert found.confidence == pytest.approx(confidence.mean(), abs=1e-4)
    numbers = np.minimum(np.ceil(confidence * 10).astype(int) - 1, 9)
    ece = sum(abs((right[numbers == n] - confidence[numbers == n]).sum()) for n in range(10))
    assert found.ece == pytest.approx(ece / len(rows), abs=2e-4)


def test_calibration_takes_the_split_that_has_labels(
    opinions: Path, opinion_model: Path, scored: Path, score_model: Path, tmp_path: Path
) -> None:
    models = {"here": opinion_model}
    assert calibrate(opinions, models, tmp_path, cpu=True)["here"].samples == 60
    assert json.loads((tmp_path / calibration.CALIBRATION).read_text())["split"] == "test"
    with pytest.raises(RecipeError, match="--split test1: has no labels; train, valid, test have"):
        calibrate(opinions, models, tmp_path, split="test1", cpu=True)
    with pytest.raises(RecipeError, match="has scores: calibration is of the probabilities"):
        calibrate(scored, {"here": score_model}, tmp_path, cpu=True)


def test_probabilities_of_logits_of_any_size() -> None:
    logits = np.array([[0.0, math.log(3)], [1000.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(probabilities_of(logits), [0.75, 1.0], rtol=1e-7)


@pytest.mark.parametrize(
    "name", ["f1", "acc_and_f1", "pearson", "spearman", "pearson_and_spearman"]
)
def test_a_metric_alone_is_what_it_is_beside_others(name: str) -> None:
    """A mean of two is what models are compared by."""
    generator = np.random.default_rng(3)
    if "f1" in name:
        said, true = generator.integers(2, size=(2, 40))
    else:
        said, true = generator.normal(size=(2, 40))
    together = metrics.metrics_of(["f1", "acc_and_f1"] if "f1" in name else METRICS, said, true)
    alone = metrics.metrics_of([name], said, true)
    assert alone == {name: together[name]} and math.isfinite(together[name])
