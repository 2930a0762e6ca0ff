"""The gauge `interaction`: the share of SALT's gradient that VAT's lacks, computed another way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fairseq_adv.core.gauges import PartOfGradient
from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.games.dropout import fast_dropout
from tests.methods.method_table import (  # noqa: F401  (a fixture)
    CLEAN_SEED,
    Match,
    noise_by_position,
    row_named,
)
from tests.support import tiny
from tests.support.gradients import distance
from tests.support.updates import trainer, update


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout(), fast_dropout():
        yield


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("clean_branch", ["differentiated", "detached"])
@pytest.mark.parametrize("way", ["exact", "central", "one-sided"])
def test_the_interaction_is_the_part_of_the_gradient_that_vat_lacks(
    masks: str, clean_branch: str, way: str
) -> None:
    options = {"dropout_masks": masks, "clean_branch": clean_branch, "unroll_method": way}
    match, sample = Match(row_named("salt"), dropout=0.2, **options), tiny.batch()
    method = match.criterion.method
    match.play(sample)
    whole = match.gradient
    match.criterion.method = VAT(follower=method.follower, regularisation=method.regularisation)  # type: ignore[attr-defined]
    match.play(sample)
    expected = [w - f for w, f in zip(whole, match.gradient, strict=True)]

    match.model.zero_grad(set_to_none=True)
    torch.manual_seed(CLEAN_SEED)
    method.interaction(match.game, tiny.accumulate, weight=match.weight)  # type: ignore[attr-defined]
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in match.model.parameters()]
    assert distance(found, expected) < 1e-8
    assert distance(whole, match.gradient) > 0.01


SALT = row_named("salt")


def share(batches: list[dict[str, Any]], *options: str) -> float:
    """The `interaction` that the trainer logs of one update with these batches."""
    torch.manual_seed(1)
    made = trainer(SALT, tiny.transformer().double(), "--gauge-interval=1", *options)
    return float(update(made, batches)["interaction"])


def test_the_share_is_that_of_the_update_however_it_is_cut(noise_by_position: None) -> None:  # noqa: F811
    """In one batch, in parts of it, in several batches; and beside a gradient taken by hand."""
    lengths = ((5, 4), (4, 3), (3, 6), (2, 3))
    match, sample = Match(SALT), tiny.batch(lengths)
    method = match.criterion.method
    match.play(sample)
    whole = match.gradient
    match.criterion.method = VAT(follower=method.follower, regularisation=method.regularisation)  # type: ignore[attr-defined]
    match.play(sample)
    expected = distance(match.gradient, whole)
    cuts = (
        share([sample]),
        share([sample], "--adv-parts=3"),
        share([tiny.batch(lengths[:2]), tiny.batch(lengths[2:], seed=5)]),
        share([tiny.batch(lengths[i : i + 1], seed=3 + i) for i in range(4)]),
    )
    assert cuts == pytest.approx([expected] * 4, abs=1e-6)
    assert expected > 0.05


PRECISIONS = {
    "bf16": ["--bf16"],
    "fp16": ["--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale=128"],
    "amp": ["--amp"],
}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_small_share_is_seen_in_every_precision(
    precision: str,
    noise_by_position: None,  # noqa: F811
) -> None:
    """As of the paper's settings, where a difference of two gradients is lost in 16 bits."""
    # Dropout's masks do not depend on the precision.
    small = ["--ascent-rule=sgd", "--ascent-step-size=1e-5", "--ascent-steps=1"]
    types = {"bf16": torch.bfloat16, "fp16": torch.float16, "amp": torch.float32}
    found = {}
    for name, options, kind in (
        ("fp32", [], torch.float32),
        (precision, PRECISIONS[precision], types[precision]),
    ):
        torch.manual_seed(1)
        model = tiny.transformer(dropout=0.2, attention_dropout=0.0).to(kind)
        made = trainer(SALT, model, "--gauge-interval=1", *small, *options)
        found[name] = float(update(made, [tiny.batch()])["interaction"])
    assert 1e-5 < found["fp32"] < 2e-3
    assert found[precision] == pytest.approx(found["fp32"], rel=0.2)


def test_a_part_of_a_gradient_leaves_gradients_alone() -> None:
    used, unused, fresh = (torch.ones(2, requires_grad=True) for _ in range(3))
    used.grad = torch.tensor([5.0, 6.0])
    before = used.grad
    part = PartOfGradient([used, unused, fresh])
    part.add(lambda: (3 * used.sum() + fresh.prod()).backward(), scale=2.0)
    part.add(lambda: used.prod().backward())
    assert used.grad is before and before.tolist() == [5.0, 6.0]
    assert unused.grad is None and fresh.grad is None
    assert part.total.tolist() == [2.5, 2.5, 0.0, 0.0, 0.5, 0.5]

    def broken() -> None:
        used.sum().backward()
        raise KeyError

    with pytest.raises(KeyError):
        part.add(broken)
    assert used.grad is before
