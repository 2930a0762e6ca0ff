"""SALT inside fairseq's trainer: whole (if tiny) trainings through fairseq's own entry points."""

from __future__ import annotations

import logging
import math
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.criterions.salt import SALTConfig, SALTCriterion
from fairseq_adv.tasks import workers
from tests.methods.method_table import place_noise
from tests.support import tiny, training


def test_the_log_tells_the_game(
    toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = ("--gauge-interval", "2", "--epsilon", "0.2", "--ascent-step-size", "5")
    training.run_training(toy_data, tmp_path, *options)
    lines = training.log_of(caplog.records)
    assert len(lines) == 4
    for line in lines:
        clean = float(line["loss"]) - float(line["adv_loss"])  # the weight is 1
        assert 0 < float(line["nll_loss"]) < clean + 1.0
        assert float(line["delta_norm"]) == pytest.approx(0.2, rel=1e-3), "the ball is in the way"
    gauged = [line for line in lines if line.get("interaction") is not None]
    assert [int(line["num_updates"]) for line in gauged] == [1, 3]
    for line in gauged:
        assert 0 < float(line["interaction"]) < 1
        assert float(line["adv_gain"]) <= float(line["adv_loss"])
    (valid,) = training.log_of(caplog.records, "valid")
    assert not any("adv" in key for key in valid), "validation must be plain"


def test_each_site_has_a_ball_of_its_own_and_a_gauge(
    toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lengths = {"--epsilon": "0.2", "--attention-epsilon": "3", "--attention-step-size": "20"}
    options = ("--perturb", "source,attention", "--ascent-step-size", "5")
    training.run_training(
        toy_data, tmp_path, *options, *(x for pair in lengths.items() for x in pair)
    )
    for line in training.log_of(caplog.records):
        assert float(line["delta_norm"]) == pytest.approx(0.2, rel=1e-3)
        assert float(line["attention_delta_norm"]) == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--perturb source,source", "--perturb source,source: allowed is one or several of"),
        ("--perturb words", "--perturb words: allowed is one or several of"),
        ("--attention-epsilon -1", "--attention-epsilon -1.0: allowed is a number from 0 up"),
    ],
)
def test_sites_that_are_none(option: str, message: str, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=message):
        training.run_training(toy_data, tmp_path, *option.split())


def test_validation_is_the_stock_loss() -> None:
    model, sample = tiny.transformer().eval(), tiny.batch()
    ours, _, _ = tiny.criterion()(model, sample)
    stock, _, _ = LabelSmoothedCrossEntropyCriterion(tiny.task(), False, 0.1)(model, sample)
    assert torch.equal(ours, stock)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_validation_is_of_the_model_and_not_of_its_average() -> None:
    from tests.methods.method_table import ROWS
    from tests.support.updates import trainer, update

    (smart,) = (row for row in ROWS if row.criterion == "smart")
    model, sample = tiny.transformer(dropout=0.1), tiny.batch()
    made = trainer(smart, model, "--ema-decay=0.999", "--lr=5")
    for _ in range(3):
        update(made, [tiny.batch()])

    def loss(model: Any) -> float:
        with torch.no_grad():
            return float(made.criterion(model.eval(), sample)[2]["loss"]) / sample["ntokens"]

    found = float(made.valid_step(sample)["loss"]) * math.log(2)
    assert found == pytest.approx(loss(model), abs=1e-3)
    assert abs(found - loss(made.ema.get_model())) > 0.1


def test_weight_zero_is_plain_training_to_the_last_bit(toy_data: Path, tmp_path: Path) -> None:
    plain = "label_smoothed_cross_entropy"
    training.run_training(toy_data, tmp_path / "plain", criterion=plain)
    training.run_training(toy_data, tmp_path / "salt", "--adv-weight", "0")
    assert same(training.parameters(tmp_path / "plain"), training.parameters(tmp_path / "salt"))
    training.run_training(toy_data, tmp_path / "game")
    assert not same(training.parameters(tmp_path / "plain"), training.parameters(tmp_path / "game"))


def test_gauges_do_not_change_the_training(toy_data: Path, tmp_path: Path) -> None:
    for interval in ("0", "2"):
        training.run_training(toy_data, tmp_path / interval, "--gauge-interval", interval)
    assert same(training.parameters(tmp_path / "0"), training.parameters(tmp_path / "2"))


@pytest.mark.parametrize("way", ["exact", "central", "one-sided"])
def test_a_resumed_run_ends_bit_identical(toy_data: Path, tmp_path: Path, way: str) -> None:
    options = ("--unroll-method", way, "--gauge-interval", "1")
    training.run_training(toy_data, tmp_path / "whole", *options, "--max-update", "12")
    for updates in ("5", "12"):  # the first ends inside an epoch
        training.run_training(toy_data, tmp_path / "parts", *options, "--max-update", updates)
    assert same(training.parameters(tmp_path / "whole"), training.parameters(tmp_path / "parts"))


def test_schedule() -> None:
    criterion = tiny.criterion(adv_weight=0.5, adv_interval=3, adv_warmup_updates=12)
    weights = [criterion.weight(update) for update in range(16)]
    assert weights == [0, 0, 0, 0.375, 0, 0, 0.75, 0, 0, 1.125, 0, 0, 1.5, 0, 0, 1.5]
    criterion = tiny.criterion(adv_interval=3, gauge_interval=2)
    assert [n for n in range(19) if criterion.weight(n) and criterion.gauged(n)] == [0, 6, 12, 18]
    assert not tiny.criterion(gauge_interval=0).gauged(0)


@pytest.mark.parametrize("name", ["freelb", "salt"])
def test_a_weight_that_is_moved_from_the_clean_loss_is_not_multiplied(name: str) -> None:
    """(1 - alpha) of the clean loss and alpha of the other one: together the whole of it."""
    objective = {"adv_objective": "task-loss"} if name == "freelb" else {}
    criterion = tiny.criterion(name, adv_weight=0.5, adv_interval=3, **objective)
    expected = 0.5 if objective else 1.5
    assert [criterion.weight(n) for n in range(4)] == [expected, 0, 0, expected]
    assert [criterion.plays(n) for n in range(4)] == [True, False, False, True]


def test_between_games_an_update_is_plain(
    toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    training.run_training(toy_data, tmp_path, "--adv-interval", "2")
    played = [line.get("adv_loss") is not None for line in training.log_of(caplog.records)]
    assert played == [True, False, True, False]


class Counting:
    """An optimizer that only runs backward passes, as fairseq's do."""

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()


def played(samples: list[dict[str, Any]], model: Any, **options: Any) -> dict[str, Any]:
    """Gradients and summed logs of one update with as many batches."""
    task, criterion = tiny.task(), tiny.criterion(**options)
    model.zero_grad()
    total: dict[str, Any] = {}
    for sample in samples:
        _, _, log = task.train_step(sample, model, criterion, Counting(), 0)  # type: ignore[arg-type]
        total = {key: total.get(key, 0) + value for key, value in log.items()}
    return total


@pytest.mark.parametrize("way", ["exact", "central", "one-sided"])
@pytest.mark.parametrize("gauges", [0, 1])
def test_two_accumulated_batches_are_one_doubled_batch(
    way: str, gauges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with --update-freq 2; also the sums that the log is made of."""
    place_noise(monkeypatch)
    monkeypatch.setattr(SALT, "__init__", partialmethod(SALT.__init__, difference_radius=1e-6))
    options = {"unroll_method": way, "gauge_interval": gauges, "init_std": 0.1}
    lengths = ((5, 4), (4, 3), (3, 6), (2, 3))
    with tiny.float64_throughout():
        model = tiny.transformer().double()
        doubled = played([tiny.batch(lengths)], model, **options)
        expected = [p.grad.clone() for p in model.parameters()]
        halves = [tiny.batch(lengths[:2]), tiny.batch(lengths[2:], seed=5)]
        log = played(halves, model, **options)
    error = sum(
        (p.grad - g).square().sum() for p, g in zip(model.parameters(), expected, strict=True)
    )
    total = sum(g.square().sum() for g in expected)
    assert error / total < (1e-4 if way == "one-sided" else 1e-8) ** 2
    for key in ("loss", "nll_loss", "adv_loss", "ntokens", "nsentences", "sample_size"):
        assert float(log[key]) == pytest.approx(float(doubled[key]), rel=1e-9)
    assert log["delta_norm_of"] == doubled["delta_norm_of"] == 4


def test_a_stand_in_batch_leaves_no_gradient() -> None:
    """A worker that has run out of data goes through the motions with `ignore_grad`."""
    model = tiny.transformer()
    task = tiny.task()
    task.train_step(tiny.batch(), model, tiny.criterion(), Counting(), 0, ignore_grad=True)  # type: ignore[arg-type]
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_gradients_of_leaves_are_free_of_the_loss_scale() -> None:
    from fairseq_adv.tasks.optimizer_backward import OptimizerBackward

    class Scaling:
        class scaler:
            @staticmethod
            def scale(loss: torch.Tensor) -> torch.Tensor:
                return 128.0 * loss

        def backward(self, loss: torch.Tensor) -> None:
            (loss * 128.0).backward()

    theta, leaf = (torch.tensor(2.0, requires_grad=True) for _ in range(2))
    backward = OptimizerBackward(Scaling(), False)  # type: ignore[arg-type]
    (gradient,) = backward(theta * leaf, (leaf,))
    assert gradient == 2.0 and theta.grad == 256.0 and leaf.grad is None


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("epsilon", -1.0, "a number from 0 up"),
        ("init_std", float("nan"), "a number from 0 up"),
        ("ascent_steps", 0, "a number from 1 up"),
        ("ascent_step_size", -0.1, "a number from 0 up"),
        ("unroll_steps", 2, "0 to 1"),
        ("unroll_steps", -1, "0 to 1"),
        ("adv_weight", -1.0, "a number from 0 up"),
        ("adv_interval", 0, "1, 2, 3"),
        ("adv_warmup_updates", -1, "0, 1, 2"),
        ("gauge_interval", -1, "0, 1, 2"),
        ("label_smoothing", 1.0, "0 up to 1"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(SystemExit) as error:
        tiny.criterion(**{name: value})
    message = str(error.value)
    assert f"--{name.replace('_', '-')} {value}" in message and allowed in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "option", ["--norm l1", "--ascent-rule up", "--divergence js", "--epsilon much"]
)
def test_a_wrong_word_is_named(
    option: str, toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        training.run_training(toy_data, tmp_path, *option.split())
    assert error.value.code != 0
    name, value = option.split()
    message = capsys.readouterr().err.splitlines()[-1]
    assert name in message and value in message


def test_another_task_is_told_which_one_can() -> None:
    dictionary = tiny.task().source_dictionary
    config = TranslationConfig(data="nowhere", source_lang="a", target_lang="b")
    stock = TranslationTask(config, dictionary, dictionary)
    with pytest.raises(SystemExit, match="--task adversarial_translation"):
        SALTCriterion(SALTConfig(_name="salt"), stock)


def test_a_launcher_that_fairseq_does_not_see_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(SystemExit, match=r"4 processes.*--distributed-world-size"):
        tiny.task().build_criterion(None)


def test_a_launcher_s_variable_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "")
    assert workers.launched() == 1
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(SystemExit, match="the variable WORLD_SIZE is 'two'"):
        tiny.task().build_criterion(None)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_sentence_that_is_too_long_is_named(split: str, toy_data: Path, tmp_path: Path) -> None:
    """Sentences have up to 7 words and an end: those of more than 6 tokens are too long."""
    limits = ("--max-source-positions", "6", "--max-target-positions", "6")
    # fairseq itself leaves such training sentences out.
    with pytest.raises(SystemExit) as refused:
        if split == "valid":
            training.run_training(toy_data, tmp_path, *limits)
        else:
            training.run_training(toy_data, tmp_path, *limits, "--disable-validation")
            checkpoint = tmp_path / "checkpoint_last.pt"
            training.translations(toy_data, checkpoint, "--user-dir", training.USER_DIR)
    lines = (toy_data.parent / f"{split}.a").read_text().splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line.split()) + 1 > 6]
    message = str(refused.value)
    tokens = len(lines[long[0] - 1].split()) + 1
    assert f"line {long[0]} of {split}, and {len(long) - 1} more: too long" in message
    assert f"it has ({tokens}, {tokens})" in message and "--skip" not in message


def test_a_trained_model_translates_every_sentence_as_a_plain_one_does(
    toy_data: Path, tmp_path: Path
) -> None:
    """100 sentences in, 100 translations out, for any batch size; no trace of the game."""
    training.run_training(toy_data, tmp_path / "salt")
    checkpoint = tmp_path / "salt" / "checkpoint_last.pt"
    user_dir = ("--user-dir", training.USER_DIR)
    runs = [
        training.translations(toy_data, checkpoint, *user_dir, *size)
        for size in ([], ["--batch-size", "7"], ["--batch-size", "100"], ["--max-tokens", "50"])
    ]
    for run in runs:
        assert sorted(run) == list(range(100))
        assert run == runs[0]

    # The same weights in a checkpoint of stock fairseq's task and criterion.
    plain = "label_smoothed_cross_entropy"
    training.run_training(toy_data, tmp_path / "plain", criterion=plain)
    stock = torch.load(tmp_path / "plain" / "checkpoint_last.pt")
    stock["model"] = torch.load(checkpoint)["model"]
    stock["cfg"]["task"]["_name"] = "translation"
    torch.save(stock, tmp_path / "stock.pt")
    assert training.translations(toy_data, tmp_path / "stock.pt") == runs[0]
