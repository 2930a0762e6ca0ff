"""Games under other tasks: the multilingual one that is shipped, and a user's own by the mixin."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks import TASK_REGISTRY, register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.tasks.adversarial_translation import AdversarialTranslationConfig
from fairseq_adv.tasks.translation_training import TranslationTraining
from tests.support import tiny, training
from tests.support.gradients import directional_derivative, directions
from tests.support.processes import ROOT
from tests.tasks.test_method_trainings import same

MULTILINGUAL = "adversarial_translation_multi_simple_epoch"
PAIRS = ["--lang-pairs", "a-b,b-a", "--langs", "a,b", "--encoder-langtok", "tgt"]
PAIRS += ["--decoder-langtok"]
SAMPLED = ["--sampling-method", "temperature", "--sampling-temperature", "2"]


@register_task("short_translation", dataclass=TranslationConfig)
class ShortTranslationTask(TranslationTask):
    """A task of a user's own: sentences of at most five tokens."""

    def max_positions(self) -> tuple[int, int]:
        """The longest sentence that is trained on, of each side."""
        return 5, 5


@register_task("adversarial_short_translation", dataclass=AdversarialTranslationConfig)
class AdversarialShortTranslationTask(TranslationTraining, ShortTranslationTask):
    """All that it takes to play games there."""


OURS = [MULTILINGUAL, "adversarial_short_translation"]


def train(
    data: Path, save_dir: Path, *more: str, task: str = MULTILINGUAL, criterion: str = "salt"
) -> dict[str, Any]:
    """The state at the end of a training on both language pairs."""
    pairs = PAIRS if "multi" in task else ["--skip-invalid-size-inputs-valid-test"]
    options = ["--task", task, "--label-smoothing", "0.1", *pairs, *more]
    training.run_training(data, save_dir, *options, criterion=criterion)
    return training.state(save_dir)


@pytest.mark.parametrize("task", OURS)
def test_without_weight_it_is_the_stock_task_to_the_last_bit(
    task: str, toy_data: Path, tmp_path: Path
) -> None:
    run = partial(train, toy_data)
    stock = task.removeprefix("adversarial_")
    plain = run(tmp_path / "stock", task=stock, criterion="label_smoothed_cross_entropy")["model"]
    assert same(run(tmp_path / "zero", "--adv-weight", "0", task=task)["model"], plain)
    under_ours = run(tmp_path / "ours", task=task, criterion="label_smoothed_cross_entropy")
    assert same(under_ours["model"], plain)
    for criterion in ("salt", "freeat"):
        played = run(tmp_path / criterion, task=task, criterion=criterion)["model"]
        assert not same(played, plain)


def test_both_language_pairs_are_trained_and_validation_is_plain(
    toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(toy_data, tmp_path, "--gauge-interval", "2")
    lines = training.log_of(caplog.records)
    assert [line["num_updates"] for line in lines] == ["1", "2", "3", "4"]
    assert all(float(line["adv_loss"]) > 0 for line in lines)
    assert 0 < float(lines[0]["interaction"]) < 1
    (valid,) = training.log_of(caplog.records, "valid")
    assert not any("adv" in key or "delta" in key for key in valid)
    sizes = [r.getMessage() for r in caplog.records if "Raw sizes" in r.getMessage()]
    assert any("'main:a-b': 120, 'main:b-a': 120" in line for line in sizes)


@pytest.mark.parametrize(
    ("criterion", "sampling", "cut"),
    [
        pytest.param(criterion, sampling, cut, marks=[] if quick else pytest.mark.slow)
        for criterion, sampling, cut, quick in (
            ("freeat", SAMPLED, 23, True),
            ("salt", SAMPLED, 23, False),
            ("freeat", [], 5, False),
            ("salt", [], 5, False),
        )
    ],
)
def test_a_resumed_run_ends_bit_identical(
    criterion: str, sampling: list[str], cut: int, toy_data: Path, tmp_path: Path
) -> None:
    """Cut inside a group of replays, in the first epoch and in a later one."""
    replays = ["--replays", "3"] if criterion == "freeat" else []
    accumulated = ("--max-tokens", "120", "--update-freq", "2", "--disable-validation")

    def run(save_dir: Path, updates: int) -> dict[str, Any]:
        more = (*sampling, *replays, *accumulated, "--max-update", str(updates))
        return train(toy_data, save_dir, *more, criterion=criterion)

    whole = run(tmp_path / "whole", 30)
    for updates in (cut, 30):
        parts = run(tmp_path / "parts", updates)
    assert whole["extra_state"]["train_iterator"]["epoch"] > 1
    assert same(parts["model"], whole["model"])


@pytest.mark.parametrize("sampling", [[], SAMPLED], ids=["concatenated", "sampled"])
def test_freeat_replays_each_group_of_an_epoch(
    sampling: list[str], toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each epoch has batches of its own; delta lives from replay to replay."""
    played: list[tuple[int, Any]] = []
    recalled: list[bool] = []
    play = AdversarialCriterion.play

    def spy(self: Any, model: Any, sample: Any, update_num: int, *args: Any, **kwargs: Any) -> Any:
        played.append((update_num, sample["net_input"]["src_tokens"].tolist()))
        recalled.append(kwargs["memory"].recall(sample) is not None)
        return play(self, model, sample, update_num, *args, **kwargs)

    monkeypatch.setattr(AdversarialCriterion, "play", spy)
    more = ("--replays", "3", "--update-freq", "2", "--max-tokens", "120", "--disable-validation")
    state = train(toy_data, tmp_path, *sampling, *more, "--max-update", "36", criterion="freeat")
    assert state["extra_state"]["train_iterator"]["epoch"] == 2
    updates = [[tokens for n, tokens in played if n == update] for update in range(36)]
    groups = updates[::3]
    assert updates == [group for group in groups for _ in range(3)]
    assert [update % 3 > 0 for update, _ in played] == recalled
    first_words = [tokens[0] for group in groups for tokens in group]
    assert len(set(map(tuple, first_words))) > len(groups), "both halves are of many batches"


class Counting:
    """An optimizer that only runs backward passes, as fairseq's do."""

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()


def made(data: Path, *more: str) -> tuple[Any, Any, Any]:
    """Task, model and criterion, as fairseq-train makes them."""
    arguments = training.arguments(data, Path("nowhere"), "--task", MULTILINGUAL, *PAIRS, *more)
    parsed = options.parse_args_and_arch(options.get_training_parser(), arguments)
    cfg = convert_namespace_to_omegaconf(parsed)
    task = TASK_REGISTRY[MULTILINGUAL].setup_task(cfg.task)
    return task, task.build_model(cfg.model), task.build_criterion(cfg.criterion)


def test_the_gradient_is_the_derivative_on_a_batch_of_both_pairs(toy_data: Path) -> None:
    """SALT's, with language tokens that are perturbed like words and not counted as predictions."""
    smooth = ("--activation-fn", "tanh", "--dropout", "0", "--ignore-prefix-size", "1")
    task, model, criterion = made(toy_data, *smooth, "--ascent-steps", "2", "--init-std", "0.05")
    task.load_dataset("train")
    batches = task.get_batch_iterator(task.dataset("train"), max_tokens=80, max_positions=(64, 64))
    sample = next(iter(batches.next_epoch_itr()))
    dictionary = task.source_dictionary
    langtoks = {dictionary.index(f"__{lang}__") for lang in ("a", "b")}
    assert langtoks == set(sample["target"][:, 0].tolist()), "it is of both pairs"
    with tiny.float64_throughout():
        model.double()

        def objective() -> float:
            model.zero_grad()
            torch.manual_seed(7)
            optimizer: Any = Counting()
            _, _, log = task.train_step(sample, model, criterion, optimizer, 0)
            return float(log["loss"])

        objective()
        gradient = [p.grad.clone() for p in model.parameters()]
        for direction in directions(model):
            expected = directional_derivative(objective, model, direction)
            ours = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
            assert ours == pytest.approx(expected, rel=1e-6)


def test_it_translates_as_the_stock_task_does(toy_data: Path, tmp_path: Path) -> None:
    """In either direction, of the same checkpoint."""
    train(toy_data, tmp_path)
    checkpoint = tmp_path / "checkpoint_last.pt"
    for source, target in ("ab", "ba"):
        found = [
            training.translations(
                *(toy_data, checkpoint, "--task", task, *PAIRS, "--gen-subset", "valid"),
                *("--source-lang", source, "--target-lang", target),
                *("--user-dir", training.USER_DIR),
            )
            for task in (MULTILINGUAL, "translation_multi_simple_epoch")
        ]
        assert sorted(found[0]) == list(range(20))
        assert found[0] == found[1]


def test_sharding_is_refused_before_the_model_is_built(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--ddp-backend fully_sharded"):
        train(toy_data, tmp_path, "--ddp-backend", "fully_sharded")


@pytest.mark.parametrize("task", OURS)
def test_a_stock_task_is_told_its_counterpart(task: str, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"--criterion salt needs --task {task}: "):
        train(toy_data, tmp_path, task=task.removeprefix("adversarial_"))


@pytest.mark.slow
def test_the_user_dir_of_the_docs_works(toy_data: Path, tmp_path: Path) -> None:
    """The lines of docs/methods.md, over fairseq's translation, by the real command."""
    root = ROOT
    card = (root / "docs" / "methods.md").read_text(encoding="utf-8").split("**Your own task**")[1]
    lines = [line.strip(" ") for line in card.splitlines() if line.startswith("    ")]
    lines = ["    " + line if line.startswith('"""') else line for line in lines]
    code = "\n".join(lines).replace("MyConfig", "TranslationConfig").replace("MyTask)", "Task)")
    imports = "from fairseq.tasks.translation import TranslationConfig, TranslationTask as Task\n"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "__init__.py").write_text(imports + code, encoding="utf-8")
    options = ("--user-dir", str(mine), "--task", "adversarial_mine", "--save-dir", str(tmp_path))
    result = subprocess.run(
        [
            *(sys.executable, "-m", "fairseq_cli.train"),
            *training.arguments(toy_data, tmp_path, *options),
        ],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert training.parameters(tmp_path)
