"""Every method of the table: its gradient, and what it is not to depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fairseq_adv.games.dropout import fast_dropout
from fairseq_adv.games.sites.embeddings import Embeddings
from fairseq_adv.trainer.replay import Memory
from tests.methods.derivative import check_derivative, differentiated, takes
from tests.methods.method_table import (
    CLEAN_SEED,
    MODELS,
    ROWS,
    Match,
    Row,
    every_family,
    every_method,
    is_tried,
    noise_by_position,
)
from tests.support import tiny
from tests.support.gradients import distance, gradients

__all__ = ["noise_by_position"]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


def at_places(models: Iterable[str]) -> Any:
    """Each method on each model: words perturbed; words and attention, if none are shared."""
    return pytest.mark.parametrize(
        ("row", "model", "place"),
        [
            pytest.param(row, model, place, id=f"{row.name}-{model}-{place or 'words'}")
            for row in ROWS
            for model in models
            for place in (None, "source,attention")
            if is_tried(row, model) and (place is None or (row.ball and "shared" not in model))
        ],
    )


def at(place: str | None, row: Row) -> dict[str, Any]:
    """Options, for methods that have them; attention in a ball of its own."""
    if place is None:
        return {}
    step = {"attention_step_size": 0.4} if takes(row, "attention_step_size") else {}
    return {"perturb": place, "attention_epsilon": 0.5, **step}


@at_places(name for name in MODELS if name != "convolutional")
def test_the_gradient_is_the_derivative_of_the_reported_objective(
    row: Row, model: str, place: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Total, or with the follower's moves and what is detached held constant.

    fairseq's convolutional encoder scales gradients on purpose: it has no such proof.
    """
    match = Match(row, MODELS[model], **differentiated(row), **at(place, row))
    check_derivative(match, match.batch(), monkeypatch)


@at_places(MODELS)
def test_padding_changes_nothing(
    row: Row, model: str, place: str | None, noise_by_position: None
) -> None:
    """Sentences one by one, and padded in a batch: the same moves, and the same gradient in sum."""
    match = Match(row, MODELS[model], **at(place, row))
    lengths = ((6, 3), (4, 7), (2, 5))
    step = match.play(match.batch(lengths))
    game, together = match.game, match.gradient
    objective = torch.zeros_like(step.objective)
    total = [torch.zeros_like(g) for g in together]
    for i, length in enumerate(lengths):
        alone = match.play(match.batch([length], seed=3 + i))
        objective += alone.objective
        total = [t + g for t, g in zip(total, match.gradient, strict=True)]
        for side, delta in step.delta.items():
            mask, delta_alone = game.sites[side].mask, alone.delta[side]
            words = delta[i][mask.expand_as(delta)[i]]
            words_alone = delta_alone[match.game.sites[side].mask.expand_as(delta_alone)]
            torch.testing.assert_close(words_alone, words, rtol=1e-9, atol=1e-12)
    for side, delta in step.delta.items():
        assert not (delta * ~game.sites[side].mask).any(), "padding was perturbed"
    torch.testing.assert_close(objective, step.objective)
    assert distance(total, together) < 1e-9


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name != "freeat-task-loss"], ids=lambda row: row.name
)
@every_family
def test_the_logged_clean_loss_is_that_of_the_clean_pass(row: Row, model: str) -> None:
    """Without smoothing. Of sentences also how many of them are predicted right."""
    match = Match(row, MODELS[model], dropout=0.3)
    sample, stock = match.batch(), match.family.stock()
    torch.manual_seed(CLEAN_SEED)
    with fast_dropout():
        _, _, expected = stock(match.model, sample)
    torch.manual_seed(CLEAN_SEED)
    _, _, log = match.criterion.play(
        match.model, sample, 0, tiny.accumulate, reference_model=match.reference
    )
    name = match.family.clean_loss
    clean = expected["nll_loss" if name == "nll_loss" else "loss"]
    torch.testing.assert_close(log[name], clean, rtol=1e-13, atol=0)
    assert ("ncorrect" in log) == ("ncorrect" in expected)
    if "ncorrect" in log:
        assert log["ncorrect"] == expected["ncorrect"]


@pytest.mark.parametrize(
    ("model", "side"),
    [
        pytest.param(model, side, id=f"{model}-{side}")
        for model, kind in MODELS.items()
        for side in kind.family.words
    ],
)
@pytest.mark.parametrize("row", [r for r in ROWS if r.name != "rdrop"], ids=lambda row: row.name)
def test_one_sided_perturbation_touches_one_side_only(
    row: Row, side: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each embedding gave to the model, in every pass, is compared with what it holds."""
    match = Match(row, MODELS[model], perturb=side)
    sample = match.batch()
    changed: set[str] = set()
    hooked = Embeddings._hooked

    def spying(site: Embeddings, hook: Any) -> Any:
        def spy(tokens: Tensor, embeddings: Tensor) -> Any:
            result = hook(tokens, embeddings)
            if result is not None and not torch.equal(result, embeddings):
                changed.add({"encoder": "source", "decoder": "target"}[site.part])
            return result

        return hooked(site, spy)

    monkeypatch.setattr(Embeddings, "_hooked", spying)
    step = match.play(sample)
    assert changed == {side}
    assert set(step.delta) <= {side}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    epsilon=st.floats(1e-6, 10),
    step_size=st.floats(1e-6, 100),
    std=st.floats(0, 10),
    norm=st.sampled_from(["l2", "linf"]),
    scope=st.sampled_from(["sentence", "token"]),
    steps=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("row", [row for row in ROWS if row.ball], ids=lambda row: row.name)
def test_a_perturbation_never_leaves_its_ball(
    row: Row,
    epsilon: float,
    step_size: float,
    std: float,
    norm: str,
    scope: str,
    steps: int,
    seed: int,
) -> None:
    """Nor does any that the model meets on the way, but for a Gaussian start."""
    options: dict[str, Any] = {"epsilon": epsilon, "norm": norm, "norm_scope": scope}
    for name, value in (
        ("ascent_step_size", step_size),
        ("init_std", std),
        ("ascent_steps", steps),
    ):
        if takes(row, name) and (row.criterion, name) != ("adv", "ascent_steps"):  # it has its own
            options[name] = value
    match = Match(row, **options)
    sample = tiny.batch(((4, 3), (2, 5)), seed=seed)
    memory = Memory(3)
    for _ in range(2):  # the second play of FreeAT is a replay
        step = match.play(sample, memory=memory)
        for side, delta in step.delta.items():
            assert not (delta * ~match.game.sites[side].mask).any()
            assert match.criterion.method.follower is not None
            largest = float(match.criterion.method.follower.ball.norm_of(delta).max())
            assert largest <= epsilon * (1 + 1e-9)


class Counting:
    """An optimizer that only runs backward passes, as fairseq's do."""

    def backward(self, loss: Tensor) -> None:
        loss.backward()


@every_method
@every_family
@pytest.mark.parametrize("gauge_interval", [0, 1])
def test_two_accumulated_batches_are_one_doubled_batch(
    row: Row, model: str, gauge_interval: int, noise_by_position: None
) -> None:
    """As with --update-freq 2; also the sums that the log is made of."""
    match = Match(row, MODELS[model], gauge_interval=gauge_interval)
    task = match.criterion.task
    lengths = ((5, 4), (4, 3), (3, 6), (2, 3))

    def update(samples: list[dict[str, Any]]) -> tuple[list[Tensor], dict[str, Any]]:
        match.model.zero_grad()
        total: dict[str, Any] = {}
        for sample in samples:
            _, size, log = task.train_step(
                sample,
                match.model,
                match.criterion,
                Counting(),  # type: ignore[arg-type]
                0,
                ema_model=match.reference,
            )
            assert size == log["sample_size"]
            total = {key: total.get(key, 0) + value for key, value in log.items()}
        return gradients(match.model), total

    expected, doubled = update([match.batch(lengths)])
    gradient, log = update([match.batch(lengths[:2]), match.batch(lengths[2:], seed=5)])
    assert distance(gradient, expected) < 1e-9
    assert log.keys() == doubled.keys()
    for key, value in log.items():
        if key in ("interaction", "interaction_games"):
            continue  # per batch, not per token
        assert float(value) == pytest.approx(float(doubled[key]), rel=1e-9, abs=1e-12), key
    assert log.get("interaction_games", 0) == 2 * doubled.get("interaction_games", 0)


@every_method
@every_family
def test_gauges_change_nothing(row: Row, model: str) -> None:
    match = Match(row, MODELS[model], dropout=0.2)
    sample = match.batch()
    first = match.play(sample)
    without = match.gradient
    second = match.play(sample, gauges=True)
    assert torch.equal(first.objective, second.objective)
    assert all(map(torch.equal, match.gradient, without))
    assert first.adv_gain is None and (second.adv_gain is None) == (row.name == "rdrop")


def test_freeat_is_gauged_where_delta_is_not_zero() -> None:
    """In the last replay of every n-th group."""
    freeat = tiny.criterion("freeat", replays=4, gauge_interval=2)
    assert [n for n in range(30) if freeat.gauged(n, n % 4)] == [3, 11, 19, 27]
    assert not tiny.criterion("freeat", gauge_interval=0).gauged(3, 3)
    # Two updates were skipped: the trainer is at update 5 in the last replay of the second group.
    assert not freeat.gauged(5, 3) and freeat.gauged(9, 3)


def test_the_proximal_weight_follows_the_schedule() -> None:
    """Played half as often it weighs twice as much; it grows with the other weight."""
    smart = tiny.criterion(
        "smart", adv_weight=0.5, proximal_weight=0.2, adv_interval=2, adv_warmup_updates=8
    )
    weights = [smart.method_in(n).proximal_weight for n in (0, 2, 4, 8, 10)]  # type: ignore[attr-defined]
    assert weights == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.4])


def test_the_table_has_every_method() -> None:
    from fairseq_adv import criterions

    assert {row.criterion for row in ROWS} == set(criterions.__all__)
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert replace(ROWS[0], options={}).name == ROWS[0].criterion
