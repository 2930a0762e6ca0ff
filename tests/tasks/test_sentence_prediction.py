"""`--task adversarial_sentence_prediction` beside fairseq's own task and criterion."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import training
from tests.support.training import SENTENCES
from tests.tasks.test_method_trainings import same

REPORTS = {
    "toy_sentences": ["--report-acc-and-f1", "--report-mcc"],
    "toy_scores": ["--regression-target", "--report-pearson-and-spearman", "--num-classes", "1"],
}
every_data = pytest.mark.parametrize("data", REPORTS)


@pytest.fixture
def folder(data: str, request: pytest.FixtureRequest) -> Path:
    """The data of that name."""
    return Path(request.getfixturevalue(data))


def options_of(data: str, task: str = "adversarial_sentence_prediction") -> list[str]:
    return [*SENTENCES, "--task", task, *REPORTS[data]]


@every_data
def test_without_weight_it_is_fairseq_s_own_to_the_last_digit(
    data: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Parameters, and all that training and validation log, whoever trains."""
    caplog.set_level(logging.INFO)
    found: list[tuple[Any, list[dict[str, Any]]]] = []
    for name, task, criterion, more in (
        ("stock", "sentence_prediction", "sentence_prediction", []),
        ("ours", "adversarial_sentence_prediction", "sentence_prediction", []),
        ("zero", "adversarial_sentence_prediction", "salt", ["--adv-weight", "0"]),
    ):
        caplog.clear()
        options = [*options_of(data, task), *more, "--validate-interval-updates", "2"]
        training.run_training(folder, tmp_path / name, *options, criterion=criterion)
        lines = [
            {key: value for key, value in line.items() if key not in CLOCK}
            for logger in ("train_inner", "valid")
            for line in training.log_of(caplog.records, logger)
        ]
        found.append((training.parameters(tmp_path / name), lines))
    (expected, lines), *others = found
    measured = {key.removeprefix("valid_") for line in lines for key in line}
    assert measured >= MEASURED[data]
    for parameters, logged in others:
        assert same(parameters, expected)
        assert logged == lines


CLOCK = {"wps", "ups", "wall", "train_wall", "valid_wps", "gb_free", "valid_best_loss"}
MEASURED = {
    "toy_sentences": {"loss", "accuracy", "acc_and_f1", "f1", "mcc"},
    "toy_scores": {"loss", "pearson", "spearman", "pearson_and_spearman"},
}


@every_data
def test_games_change_the_training_and_not_what_validation_says(
    data: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same weights, validated by fairseq's own task, measure the same."""
    caplog.set_level(logging.INFO)
    options = [*options_of(data), "--adv-interval", "2", "--gauge-interval", "1"]
    training.run_training(folder, tmp_path / "salt", *options)
    lines = training.log_of(caplog.records)
    games = [line for line in lines if line.get("adv_loss") is not None]
    assert 0 < len(games) < len(lines)
    for line in games:
        assert float(line["delta_norm"]) > 0 and "interaction" in line
        assert ("accuracy" in line) == (data == "toy_sentences")
        loss = float(line["clean_loss"]) + 2 * float(line["adv_loss"])
        assert float(line["loss"]) == pytest.approx(loss, abs=2e-3)
    (ours,) = training.log_of(caplog.records, "valid")

    caplog.clear()
    state = training.state(tmp_path / "salt")
    weights = tmp_path / "weights.pt"
    torch.save(state, weights)
    more = ["--finetune-from-model", str(weights), "--lr", "0", "--max-update", "1"]
    stock = [*options_of(data, "sentence_prediction"), *more]
    training.run_training(folder, tmp_path / "stock", *stock, criterion="sentence_prediction")
    (theirs,) = training.log_of(caplog.records, "valid")
    for key in MEASURED[data]:
        assert ours[f"valid_{key}"] == theirs[f"valid_{key}"], key


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--num-classes 1", "--num-classes 1: give 2 or more; scores are --regression-target"),
        ("--num-classes -1", "--num-classes -1: give 2 or more"),
        ("--regression-target --num-classes 0", "--num-classes 0: give 1 or more"),
        ("--regression-target --report-mcc", "it is of classes"),
        ("--perturb target", "no decoder.embed_tokens"),
        ("--perturb both", "no decoder.embed_tokens"),
        ("--spectral-norm-classification-head", "its weight changes in every pass"),
        ("--mha-reg-scale-factor 0.1", "--mha-reg-scale-factor: a term of the loss"),
        ("--ffn-reg-scale-factor 0.1", "--ffn-reg-scale-factor: a term of the loss"),
        ("--quant-noise-pq 0.1", "weights of its own"),
        ("--ddp-backend fully_sharded", "use --ddp-backend legacy_ddp"),
        ("--best-checkpoint-metric bleu", "validation measures accuracy, loss, nll_loss"),
        ("--best-checkpoint-metric mcc", "add --report-mcc, or choose another"),
    ],
)
def test_what_cannot_be_played_is_refused(
    options: str, reason: str, toy_sentences: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as error:
        training.run_training(toy_sentences, tmp_path / "run", *SENTENCES, *options.split())
    message = str(error.value)
    assert message.startswith("fairseq_adv: ") and "\n" not in message
    assert reason in message
    assert not list((tmp_path / "run").glob("*.pt"))


def test_labels_that_have_no_output_are_named(tmp_path: Path) -> None:
    """fairseq would end in the first batch that has one."""
    data = training.make_sentences(tmp_path, {"train": 20, "valid": 4})
    with (data / "label" / "dict.txt").open("a", encoding="utf-8") as labels:
        labels.write("neutral 1\n")
    with pytest.raises(SystemExit, match=r"are of 3 classes: \w, \w, neutral$"):
        training.run_training(data, tmp_path / "run", *SENTENCES)
    more = ["--num-classes=3", "--report-acc-and-f1"]
    with pytest.raises(SystemExit, match=r"--report-acc-and-f1: it is of two classes, and there"):
        training.run_training(data, tmp_path / "run", *SENTENCES, *more)
    with pytest.raises(SystemExit, match=r"no input0/dict.txt there: give a directory"):
        training.run_training(tmp_path, tmp_path / "run", *SENTENCES)


@pytest.mark.parametrize("criterion", ["salt", "sentence_prediction"])
def test_classes_may_have_names(
    criterion: str, toy_sentences: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """MCC and F1 are those of the same classes called by their numbers, which fairseq wants."""
    caplog.set_level(logging.INFO)
    found = []
    for names in (("0", "1"), ("bad", "good")):
        data = tmp_path / names[0] / "data"
        shutil.copytree(toy_sentences, data)
        text = "".join(f"{name} 1\n" for name in names)
        (data / "label" / "dict.txt").write_text(text, "utf-8")
        caplog.clear()
        options = [*SENTENCES, *REPORTS["toy_sentences"]]
        training.run_training(data, data.parent / "run", *options, criterion=criterion)
        (line,) = training.log_of(caplog.records, "valid")
        found.append({key: line[f"valid_{key}"] for key in MEASURED["toy_sentences"]})
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("sentence_prediction", SENTENCES[2:]),
        ("translation", ["--label-smoothing", "0.1", *training.MODEL]),
    ],
)
def test_the_task_is_refused_and_not_an_option_of_another(
    task: str, options: list[str], toy_sentences: Path, toy_data: Path, tmp_path: Path
) -> None:
    """Whoever forgets the task has options of the one that is meant."""
    data = toy_data if task == "translation" else toy_sentences
    more = ["--report-mcc"] if task != "translation" else []
    with pytest.raises(SystemExit, match=rf"--criterion salt needs --task adversarial_{task}: "):
        training.run_training(data, tmp_path, "--task", task, *options, *more)


def test_a_single_sentence_has_no_correlation(toy_scores: Path, tmp_path: Path) -> None:
    """Validation goes batch by batch, and the last one may have a single sentence."""
    options = [*options_of("toy_scores"), "--batch-size-valid", "1"]
    training.run_training(toy_scores, tmp_path, *options)
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 4
