"""`--store-ema`: the average is one, of all that is trained, begins as asked and goes on."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.models.ema.ema import EMA

from tests.support import sentences, tiny, training

AVERAGE = Namespace(ema_decay=0.5, ema_seed_model=None, ema_fp32=False, ema_update_freq=1)


def test_a_convolutional_model_is_averaged() -> None:
    model, sample = tiny.convolutional(), tiny.batch()
    average = EMA(model, AVERAGE)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    average.step(model)
    for name, parameter in average.get_model().state_dict().items():
        if torch.is_floating_point(parameter) and "version" not in name:
            torch.testing.assert_close(parameter, before[name] + 0.5)
    assert average.get_model()(**sample["net_input"])[0].isfinite().all()


def test_an_average_is_of_all_layers() -> None:
    """The average of a model that stays as it is predicts what the model predicts."""
    options = {"encoder_normalize_before": True, "decoder_normalize_before": True}
    model, sample = tiny.transformer(**options).eval(), tiny.batch()
    average = EMA(model, AVERAGE)
    average.step(model)
    average.restore(average.get_model().state_dict())  # as from a checkpoint
    expected = model(**sample["net_input"])[0]
    torch.testing.assert_close(average.get_model().eval()(**sample["net_input"])[0], expected)
    assert average.get_model().state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    "build",
    [
        sentences.bert,
        sentences.roberta,
        partial(sentences.roberta, encoder_normalize_before=True, layernorm_embedding=False),
    ],
    ids=["bert", "roberta", "pre-norm"],
)
def test_an_average_of_a_classifier_is_one(build: Any) -> None:
    """Heads, pooler and all layers are in it, once; at rest it predicts what the model does."""
    model, sample = build(), sentences.batch()
    average = EMA(model, AVERAGE)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    average.step(model)
    average.restore(average.get_model().state_dict())
    head = {"features_only": True, "classification_head_name": sentences.HEAD}
    models = (model, average.get_model())
    ours, theirs = (each.eval()(**sample["net_input"], **head)[0] for each in models)
    torch.testing.assert_close(theirs, ours)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    average.step(model)
    for name, parameter in average.get_model().state_dict().items():
        if not name.endswith("version"):
            torch.testing.assert_close(parameter, before[name] + 0.5)


@pytest.mark.parametrize("in_float32", [False, True])
def test_shared_embeddings_are_averaged_once(in_float32: bool) -> None:
    model = tiny.shared_transformer()
    average = EMA(model, Namespace(**{**vars(AVERAGE), "ema_fp32": in_float32}))
    before = {name: p.clone() for name, p in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    average.step(model)
    for name, parameter in average.get_model().state_dict().items():
        if not name.endswith(("version", "_float_tensor")):
            torch.testing.assert_close(parameter, before[name] + 0.5)


def test_an_average_of_every_third_update_goes_on(toy_data: Path, tmp_path: Path) -> None:
    """Of a training that was stopped after two updates it is that of one that was not."""
    options = ("--store-ema", "--ema-decay", "0.5", "--ema-update-freq", "3", "--max-update", "7")
    training.run_training(toy_data, tmp_path / "whole", *options)
    training.run_training(toy_data, tmp_path / "parts", *options, "--max-update", "2")
    training.run_training(toy_data, tmp_path / "parts", *options)
    whole, parts = (training.state(tmp_path / name) for name in ("whole", "parts"))
    averages = [state["extra_state"]["ema"] for state in (whole, parts)]
    assert all(torch.equal(averages[1][name], value) for name, value in averages[0].items())
    assert not torch.equal(
        *(a["encoder.embed_tokens.weight"] for a in (averages[0], whole["model"]))
    )


@pytest.mark.parametrize("option", ["--finetune-from-model", "--restore-file"])
@pytest.mark.parametrize("more", [(), ("--bf16", "--ema-fp32")], ids=["fp32", "bf16"])
def test_an_average_begins_with_a_model_that_had_none(
    option: str, more: tuple[str, ...], toy_data: Path, tmp_path: Path
) -> None:
    """SMART fine-tunes: the model that it stays near to is the one that it was given."""
    training.run_training(toy_data, tmp_path / "first", criterion="label_smoothed_cross_entropy")
    first = tmp_path / "first" / "checkpoint_last.pt"
    smart = ("--store-ema", "--ema-decay", "1", "--max-update", "6", "--lr", "0.1", *more)
    reset = ("--reset-optimizer",) if option == "--restore-file" else ()
    training.run_training(
        toy_data, tmp_path / "smart", *smart, *reset, option, str(first), criterion="smart"
    )
    before, after = training.state(tmp_path / "first"), training.state(tmp_path / "smart")
    for name, value in before["model"].items():
        if not name.endswith(("version", "_float_tensor")):
            average = after["extra_state"]["ema"][name]
            given = value.bfloat16().float() if more else value  # fairseq saves it in float32
            torch.testing.assert_close(average, given, rtol=0, atol=0)
            assert not torch.equal(after["model"][name], average)


@pytest.mark.parametrize("precision", ["--bf16", "--fp16"])
def test_smart_asks_for_an_average_in_float32(precision: str) -> None:
    """And with it the average follows a model whose steps 16 bits would round away."""
    name = precision.strip("-")
    with pytest.raises(SystemExit, match=rf"--proximal-weight 1.0 with {precision}: .*--ema-fp32"):
        tiny.criterion("smart", **{name: True})
    tiny.criterion("smart", **{name: True, "proximal_weight": 0.0})
    tiny.criterion("smart", **{name: True, "ema_fp32": True})
    moved = {}
    for kind, in_float32 in (
        (torch.float32, False),
        (torch.bfloat16, False),
        (torch.bfloat16, True),
    ):
        model = tiny.transformer().to(kind)
        slow = Namespace(**{**vars(AVERAGE), "ema_decay": 0.999, "ema_fp32": in_float32})
        average = EMA(model, slow)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.25
        before = [p.double() for p in average.get_model().parameters()]
        for _ in range(300):
            average.step(model)
        after = average.get_model().parameters()
        moved[kind, in_float32] = sum(
            float((b - a).sum()) for a, b in zip(before, after, strict=True)
        )
    expected = moved[torch.float32, False]
    assert moved[torch.bfloat16, True] == pytest.approx(expected, rel=0.02)
    assert abs(moved[torch.bfloat16, False] - expected) > 0.5 * abs(expected)  # why it is asked for
