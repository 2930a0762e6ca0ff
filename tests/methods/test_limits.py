"""The limits in which a method is the plain step, or another method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from torch import Tensor

from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.start import Uniform
from fairseq_adv.trainer.replay import Memory
from tests.methods.derivative import takes
from tests.methods.method_table import (
    CLEAN_SEED,
    MODELS,
    Match,
    Row,
    every_method_on,
    row_named,
)
from tests.support import tiny
from tests.support.gradients import distance, gradients


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


def plain_gradient(match: Match, sample: dict[str, Any]) -> list[Tensor]:
    match.model.zero_grad(set_to_none=True)
    torch.manual_seed(CLEAN_SEED)
    match.family.stock()(match.model, sample)[0].backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in match.model.parameters()]


def plain_size(match: Match, sample: dict[str, Any]) -> int:
    """The sample size of a plain update."""
    return int(match.family.stock()(match.model, sample)[1])


@every_method_on(MODELS)
def test_with_weight_zero_it_is_the_plain_step_to_the_last_bit(row: Row, model: str) -> None:
    nothing = {"proximal_weight": 0.0} if takes(row, "proximal_weight") else {}
    match = Match(row, MODELS[model], dropout=0.3, adv_weight=0.0, **nothing)
    sample = match.batch()
    expected = plain_gradient(match, sample)
    match.model.zero_grad(set_to_none=True)
    torch.manual_seed(CLEAN_SEED)
    _, size, _ = match.criterion.play(match.model, sample, 0, tiny.accumulate)
    assert size == plain_size(match, sample)
    assert all(map(torch.equal, gradients(match.model), expected))


@every_method_on(MODELS)
def test_at_rest_it_is_the_plain_step(row: Row, model: str) -> None:
    """Nothing is perturbed, nothing dropped out: the plain gradient, as often as it is in the sum.

    In a perturbed pass a convolutional encoder's embeddings get their true gradient, as
    `encoder_gradient.py` says, which in a plain one they do not.
    """
    match = Match(row, MODELS[model], **row.at_rest)
    sample = match.batch()
    expected = plain_gradient(match, sample)
    match.model.zero_grad(set_to_none=True)
    _, size, log = match.criterion.play(
        match.model, sample, 0, tiny.accumulate, reference_model=match.reference
    )
    compared = [
        (g / size, row.factor * plain / plain_size(match, sample))
        for (name, _), g, plain in zip(
            match.model.named_parameters(), gradients(match.model), expected, strict=True
        )
        if not (model == "convolutional" and name.startswith("encoder.embed_"))
    ]
    assert distance(*map(list, zip(*compared, strict=True))) < 1e-12  # type: ignore[arg-type]
    if match.criterion.method.raises != "task-loss":
        assert abs(float(log["adv_loss"])) < 1e-10


def test_salt_without_unrolled_steps_is_vat() -> None:
    sample = tiny.batch()
    options = {"divergence": "kl", "clean_branch": "detached"}
    salt = Match(row_named("salt"), dropout=0.2, unroll_steps=0, **options)
    vat = Match(row_named("vat"), dropout=0.2)
    first, second = salt.play(sample), vat.play(sample)
    assert type(salt.criterion.method) is type(vat.criterion.method)
    assert torch.equal(first.objective, second.objective)
    assert all(map(torch.equal, salt.gradient, vat.gradient))


def test_r3f_is_smart_without_steps_and_proximal_term() -> None:
    """Of the same noise."""
    sample = tiny.batch()
    r3f = Match(row_named("r3f"), dropout=0.2, noise_size=0.05)
    smart = Match(
        row_named("smart"),
        dropout=0.2,
        init_std=0.05,
        ascent_steps=0,
        epsilon=float("inf"),
        proximal_weight=0.0,
    )
    first, second = r3f.play(sample), smart.play(sample)
    assert all(d.any() for d in first.delta.values())
    torch.testing.assert_close(first.objective, second.objective)
    assert distance(r3f.gradient, smart.gradient) < 1e-12


def test_freelb_of_one_step_from_zero_is_one_adversarial_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One pass from zero serves both players: the plain gradient, and Adv's perturbation.

    With a second pass, the average is that of Adv's two terms.
    """
    sample = tiny.batch()
    monkeypatch.setattr(Uniform, "draw", lambda start, site, ball: site.zero)
    step_size = 0.3
    row = row_named("freelb-task-loss")
    options = {"adv_weight": 1.0, "ascent_step_size": step_size}
    one = Match(row, ascent_steps=1, **options)
    one.play(sample)
    assert distance(one.gradient, plain_gradient(one, sample)) < 1e-12

    moves = []
    move = Follower.move
    monkeypatch.setattr(
        Follower, "move", lambda *arguments: moves.append(move(*arguments)) or moves[-1]
    )
    freeat = Match(row_named("freeat-task-loss"), ascent_step_size=step_size)
    memory = Memory(2)
    freeat.play(sample, memory=memory)
    assert all(map(torch.equal, one.gradient, freeat.gradient))
    adv = Match(row_named("adv"), adv_weight=1.0, epsilon=step_size)
    adv.play(sample)
    for side, delta in moves[-1][0].items():
        torch.testing.assert_close(memory.recall(sample)[side], delta)  # type: ignore[index]

    two = Match(row, ascent_steps=2, **options)
    two.play(sample)
    assert distance([2 * g for g in two.gradient], adv.gradient) < 1e-12


def test_rdrop_without_dropout_is_plain_training_on_a_doubled_batch() -> None:
    match, sample = Match(row_named("rdrop")), tiny.batch()
    doubled = tiny.batch()
    doubled["net_input"] = {k: torch.cat([v, v]) for k, v in doubled["net_input"].items()}
    doubled["target"] = torch.cat([doubled["target"], doubled["target"]])
    doubled["ntokens"] *= 2
    expected = plain_gradient(match, doubled)
    match.model.zero_grad(set_to_none=True)
    loss, size, _ = match.criterion.play(match.model, sample, 0, tiny.accumulate)
    assert size == doubled["ntokens"]
    assert distance([p.grad for p in match.model.parameters()], expected) < 1e-12
    stock = LabelSmoothedCrossEntropyCriterion(tiny.task(), False, 0.1)
    torch.testing.assert_close(loss, stock(match.model, doubled)[0].detach())
