"""What games are not played with is refused in one line, before anything is trained or written."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.models import FairseqLanguageModel
from fairseq.tasks.fairseq_task import FairseqTask

from tests.methods.method_table import Match, Row, every_method
from tests.support import tiny, training
from tests.support.gradients import distance
from tests.support.updates import options_of


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--ddp-backend fully_sharded", "use --ddp-backend legacy_ddp"),
        ("--ddp-backend slowmo", "use --ddp-backend legacy_ddp"),
        ("--model-parallel-size 2", "cut into pieces"),
        ("--use-bmuf", "workers' models differ"),
        ("--tpu", "use a GPU or --cpu"),
        ("--quantization-config-path noise.yaml", "not the same in every pass"),
        ("--quant-noise-pq 0.1", "weights of its own"),
        ("--quant-noise-scalar 0.1", "weights of its own"),
        ("--checkpoint-activations", "no gradient of the perturbation alone"),
        ("--offload-activations", "no gradient of the perturbation alone"),
        ("--adaptive-softmax-cutoff 10,20", "not one softmax"),
    ],
)
def test_it_is_refused(options: str, reason: str, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as error:
        training.run_training(toy_data, tmp_path / "run", *options.split())
    message = str(error.value)
    assert message.startswith("fairseq_adv: ") and "\n" not in message
    assert options.split()[0] in message and reason in message
    assert not list((tmp_path / "run").glob("*.pt"))


def test_pipelines_are_refused() -> None:
    """fairseq itself ends before that where there is no GPU."""
    with pytest.raises(SystemExit, match=r"--pipeline-model-parallel: .* cut into pieces"):
        tiny.criterion(pipeline_model_parallel=True)


@every_method
@pytest.mark.parametrize(
    "option",
    [
        "--checkpoint-activations",
        pytest.param("--offload-activations", marks=pytest.mark.slow),
    ],
)
def test_checkpointed_activations_change_nothing_or_are_refused(
    row: Row, option: str, toy_data: Path, tmp_path: Path
) -> None:
    """To the last bit, dropout included: the layers that are run again draw the same masks.

    Bits would differ where a backward pass goes through two passes and adds to gradients that are
    there: layers that are run again add what each pass sends one after the other.
    """
    one_by_one = ("--clean-branch", "detached") if row.name == "freelb-divergence" else ()
    arguments = (*options_of(row), "--max-update", "3", *one_by_one)
    train = partial(training.run_training, toy_data, criterion=row.criterion)
    if tiny.criterion(row.criterion).method.ascends_apart:
        with pytest.raises(SystemExit, match=rf"--criterion {row.criterion}: .*--criterion adv"):
            train(tmp_path / "with", *arguments, option)
        return
    train(tmp_path / "with", *arguments, option)
    train(tmp_path / "without", *arguments)
    with_it, without = (training.parameters(tmp_path / name) for name in ("with", "without"))
    assert with_it.keys() == without.keys()
    assert all(torch.equal(with_it[name], without[name]) for name in without)


@every_method
def test_checkpointed_activations_are_refused_where_they_do_not_work(row: Row) -> None:
    """No more methods than that. The layers are those of fairseq's checkpoint_wrapper."""
    match = Match(row, partial(tiny.transformer, checkpoint_activations=True))
    if match.criterion.method.ascends_apart:
        with pytest.raises(RuntimeError, match="Checkpointing is not compatible"):
            match.play(tiny.batch())
    else:
        without = Match(row)
        for each in (match, without):
            with tiny.float64_throughout():
                each.play(tiny.batch())
        assert distance(match.gradient, without.gradient) < 1e-12


@pytest.mark.parametrize("name", ["adv", "salt"])
def test_checkpointed_attention_is_not_perturbed(name: str) -> None:
    """Run again in the backward pass it would be without its perturbation."""
    criterion = tiny.criterion(name, perturb="attention")
    criterion.check_model(tiny.transformer())
    model = tiny.transformer(checkpoint_activations=True)
    with pytest.raises(SystemExit, match=r"--checkpoint-activations.*with --perturb attention"):
        criterion.check_model(model)


def test_quantisation_noise_changes_the_weights_between_passes() -> None:
    """The reason that is given for refusing it."""
    model = tiny.transformer(quant_noise_pq=0.3, quant_noise_pq_block_size=2)
    inputs: dict[str, Any] = tiny.batch()["net_input"]
    first, second = (model(**inputs)[0] for _ in range(2))
    assert not torch.equal(first, second), "there is no dropout"


def test_a_plain_training_is_not_refused(toy_data: Path, tmp_path: Path) -> None:
    options = ("--checkpoint-activations", "--quant-noise-pq", "0.1", "--max-update", "1")
    plain = "label_smoothed_cross_entropy"
    training.run_training(toy_data, tmp_path, *options, criterion=plain)
    assert training.parameters(tmp_path)


def test_adaptive_input_is_for_models_without_an_encoder() -> None:
    """Of fairseq's models only language models have it: there is no source to perturb."""
    criterion = tiny.criterion()
    decoder = tiny.transformer().decoder
    with pytest.raises(SystemExit, match=r"FairseqLanguageModel has no encoder\.embed_tokens"):
        criterion.check_model(FairseqLanguageModel(decoder))


def test_the_model_is_looked_at_whatever_builds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a user's own that has layers of that kind."""
    from fairseq.modules.checkpoint_activations import checkpoint_wrapper

    task, model = tiny.task(), tiny.transformer()
    checkpoint_wrapper(model.decoder.layers[0])
    monkeypatch.setattr(FairseqTask, "build_model", lambda *_, **__: model)
    task.build_model(None)
    with pytest.raises(SystemExit, match="--checkpoint-activations"):
        monkeypatch.setattr(FairseqTask, "build_criterion", lambda *_, **__: tiny.criterion())
        task.build_criterion(None)


NONE = {
    "vat": ({"init_std": 0.0}, "--init-std 0.0 with .*: use --init-std 0.0001 or more"),
    "salt": ({"init_std": 1e-6}, "--init-std 1e-06 with .* lost in the rounding of float32"),
    "smart": ({"init_std": 0.0}, "--init-std 0.0 with .*"),
    "freeat": ({"adv_objective": "divergence"}, "--adv-objective divergence with .*task-loss, or"),
    "r3f": ({"noise_size": 1e-5}, "--noise-size 1e-05 with .*: use --noise-size 0.0001 or more"),
    "simcut": ({"cutoff_rate": 0.0}, "one and the same"),
    "rdrop": ({}, "no dropout: its two passes are one and the same: use --dropout above 0"),
}


@pytest.mark.parametrize("criterion", NONE)
def test_a_game_that_is_none_is_refused(criterion: str) -> None:
    """In float32, too: equal passes leave a divergence, and its gradient, at 0."""
    options, message = NONE[criterion]
    with pytest.raises(SystemExit, match=rf"--criterion {criterion} .*{message}") as error:
        tiny.criterion(criterion, **options).check_model(tiny.transformer())
    assert "\n" not in str(error.value) and "no dropout" in str(error.value)
    tiny.criterion(criterion, **options).check_model(tiny.transformer(dropout=0.1))
    tiny.criterion(criterion, **options, adv_weight=0.0).check_model(tiny.transformer())
    if criterion != "rdrop":
        shared = tiny.criterion(criterion, **options, dropout_masks="shared")
        with pytest.raises(SystemExit, match=r"the same dropout in both passes.*independent$"):
            shared.check_model(tiny.transformer(dropout=0.1))


def test_fused_attention_shares_no_masks() -> None:
    options = {"perturb": "attention", "explicit_attention": "perturbed"}
    with pytest.raises(SystemExit, match=r"--explicit-attention perturbed: allowed is all with"):
        tiny.criterion("salt", **options, dropout_masks="shared")
    tiny.criterion("salt", **options)


@pytest.mark.parametrize(
    "dropping",
    [
        {"dropout": 0.1},
        {"attention_dropout": 0.1},
        {"activation_dropout": 0.1},
        {"encoder_layerdrop": 0.1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_whatever_tells_two_passes_apart_makes_a_game(dropping: dict[str, float]) -> None:
    none = {f"{kind}dropout": 0.0 for kind in ("", "attention_", "activation_")}
    tiny.criterion("rdrop").check_model(tiny.transformer(**none | dropping))
    with pytest.raises(SystemExit, match="no dropout"):
        tiny.criterion("rdrop").check_model(tiny.transformer(**none))


@pytest.mark.parametrize("criterion", [name for name in NONE if name != "rdrop"])
def test_a_game_is_not_refused_where_passes_differ_by_a_perturbation(criterion: str) -> None:
    """By default; also without dropout."""
    tiny.criterion(criterion).check_model(tiny.transformer())
    for name in ("adv", "freelb"):
        tiny.criterion(name).check_model(tiny.transformer())
