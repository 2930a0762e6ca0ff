"""Every method of the table, with all its options, against its paper's algorithm in `naive.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fairseq_adv.core.players.rule import REMEMBERS
from fairseq_adv.criterions.common.options import sites
from fairseq_adv.games.dropout import fast_dropout
from fairseq_adv.trainer.replay import Memory
from tests.methods import naive
from tests.methods.derivative import takes
from tests.methods.method_table import (
    CLEAN_SEED,
    MODELS,
    PLAINEST,
    ROWS,
    Kind,
    Masks,
    Match,
    Row,
    is_tried,
    noise_by_position,
    row_named,
)
from tests.support import tiny
from tests.support.gradients import distance

__all__ = ["noise_by_position"]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


@pytest.fixture
def dropout_of_games() -> Iterator[None]:
    """All passes drop out as a training's games do, those of the naive loops as well."""
    with fast_dropout():
        yield


def at_scores(row: Row, model: str) -> bool:
    """Whether attention is perturbed here.

    Where there is no dropout, a divergence that starts at rest has no gradient but rounding.
    """
    return row.ball and (model == "transformer" or row.name != "freeat-divergence")


@pytest.mark.parametrize(
    ("row", "model", "perturb", "dropout_masks"),
    [
        pytest.param(row, model, perturb, masks, id=f"{row.name}-{model}-{perturb}-{masks}")
        for row in ROWS
        for model in ("transformer", "two-classes", "three-classes", "numbers", "attended-pairs")
        if is_tried(row, model)
        for perturb in (
            (None,)
            if model != "transformer" or not takes(row, "perturb")
            else ("both", "source", "target")
        )
        + (("source,attention",) if at_scores(row, model) else ())
        for masks in (
            ("independent", "shared") if takes(row, "dropout_masks") else ("independent",)
        )
        if model != "attended-pairs" or perturb or not row.ball  # words are attacked there, too
    ],
)
@pytest.mark.parametrize("sentence", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_it_is_the_papers_algorithm(
    row: Row,
    model: str,
    perturb: str | None,
    dropout_masks: str,
    sentence: int,
    noise_by_position: None,
    dropout_of_games: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With dropout: each pass has the masks that the algorithm gives it."""
    options = {"perturb": perturb} if perturb else {}
    if takes(row, "dropout_masks"):
        options["dropout_masks"] = dropout_masks
    check_algorithm(row, MODELS[model], options, sentence, monkeypatch)


RULES = {
    # Of a size that leaves the ball for one side and not for the other.
    "sgd": {"ascent_step_size": 0.05},
    "normalized": {},
    "sign": {"ascent_step_size": 0.04},
    "adam": {"ascent_step_size": 0.04},
    "rmsprop": {"ascent_step_size": 0.01},
}


@pytest.mark.parametrize(
    ("row", "model", "rule", "norm", "scope"),
    [
        pytest.param(row, model, rule, norm, scope, id=f"{row.name}-{model}-{rule}-{norm}-{scope}")
        for row in ROWS
        if row.ball
        for model in ("transformer", "two-classes")[: 1 if row.name in PLAINEST else 2]
        for rule in (RULES if takes(row, "ascent_rule") else ["normalized"])
        for norm, scope in (("l2", "sentence"), ("l2", "token"), ("linf", "token"))
        if row.criterion != "freeat" or rule not in REMEMBERS  # refused
    ],
)
def test_every_rule_and_norm_is_the_papers(
    row: Row,
    model: str,
    rule: str,
    norm: str,
    scope: str,
    noise_by_position: None,
    dropout_of_games: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = {"norm": norm, "norm_scope": scope}
    if takes(row, "ascent_rule"):
        options |= {"ascent_rule": rule, **RULES[rule]}
    if norm == "linf":
        options |= {"epsilon": 0.05}
    check_algorithm(row, MODELS[model], options, 0, monkeypatch)


def check_algorithm(
    row: Row, kind: Kind, options: dict[str, Any], sentence: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, beside the naive loop: the objective, and the gradient."""
    dropout_masks = options.get("dropout_masks", "independent")
    settings = row.options | options
    # Fused attention, which the naive loop keeps, has masks of its own.
    is_fused = "attention" in options.get("perturb", "") and kind.family is not tiny.TRANSLATION
    match = Match(row, kind, dropout=0.0 if is_fused else 0.2, **options)
    sample = match.batch([((5, 4), (3, 6))[sentence]], seed=3 + sentence)
    cfg = match.criterion.cfg
    game = match.game_on(sample)
    ball = {"epsilon", "ascent_step_size"} & set(row.options)
    noise = {}
    follower = match.criterion.method.follower
    if follower is not None:
        for side in follower.sites:
            noise[side] = follower.start.draw(game.sites[side], follower.ball_of(side))
    keep = {}
    if row.criterion == "simcut":
        from fairseq_adv.core.methods import simcut

        for side in match.family.words:
            keep[side] = simcut.kept_words(game.sites[side], cfg.cutoff_rate).squeeze(-1)
        assert not all(k.all() for k in keep.values())
    replays = row.options.get("replays", 1)
    setup = naive.Settings(
        weight=match.weight,
        sides=sites(cfg, match.family.words) if takes(row, "perturb") else match.family.words,
        epsilon=settings.get("epsilon", 0.0),
        step_size=settings.get("ascent_step_size", settings.get("epsilon", 0.0)),
        steps=settings.get("ascent_steps", settings.get("follower_samples", 1)),
        mean_decay=settings.get("follower_mean_decay", 0.0),
        rule=settings.get("ascent_rule", "normalized"),
        norm=settings.get("norm", "l2"),
        scope=settings.get("norm_scope", "sentence"),
        noise=noise,
        keep=keep,
        proximal_weight=row.options.get("proximal_weight", 0.0),
        reference=match.reference,
        replays=replays,
        learning_rate=0.01,
    )
    assert not ball or setup.epsilon > 0
    before = [p.detach().clone() for p in match.model.parameters()]
    masks = Masks(monkeypatch)
    shared = dropout_masks == "shared"
    seeds = [CLEAN_SEED] * 20 if shared else [CLEAN_SEED, *range(100, 120)]
    if row.name == "freeat-task-loss":  # has no clean pass to share masks with
        seeds = list(range(100, 120))
    elif replays > 1:
        seeds = []
        for i in range(replays):
            seeds += [CLEAN_SEED, CLEAN_SEED if shared else 100 + i]
    expected, gradient = row.naive(match.model, sample, setup, seeds)
    with torch.no_grad():
        for parameter, value in zip(match.model.parameters(), before, strict=True):
            parameter.copy_(value)

    memory = Memory(replays)
    match.reference.train()  # the naive loop left it in evaluation mode
    for i in range(replays):
        masks.seeds = iter(range(100 + i, 120))
        step = match.play(sample, memory=memory)
        if i < replays - 1:
            naive._update(match.model, match.gradient, setup.learning_rate)
    torch.testing.assert_close(step.objective, expected.detach(), rtol=1e-10, atol=1e-10)
    assert distance(match.gradient, gradient) < 1e-9


def test_smart_without_an_adversary_keeps_its_proximal_term(dropout_of_games: None) -> None:
    """L + mu D, naively: no part of it is lost with the other's weight."""
    match, sample = Match(row_named("smart"), dropout=0.2, adv_weight=0.0), tiny.batch([(5, 4)])
    mu = match.criterion.cfg.proximal_weight
    clean = naive.log_probs(match.model, sample, CLEAN_SEED)
    with torch.no_grad():
        reference = naive.log_probs(match.reference.eval(), sample, 0)
    proximal = naive.half_symmetric(clean, reference)
    objective = naive.task_loss(clean, sample) + mu * proximal
    expected = naive.gradient(objective, match.model)
    match.model.zero_grad(set_to_none=True)
    torch.manual_seed(CLEAN_SEED)
    found, _, log = match.criterion.play(
        match.model, sample, 0, tiny.accumulate, reference_model=match.reference
    )
    torch.testing.assert_close(found, objective.detach())
    torch.testing.assert_close(log["proximal_loss"], proximal.detach())
    assert log["adv_loss_of"] == log["delta_norm_of"] == 0
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in match.model.parameters()]
    assert distance(gradient, expected) < 1e-9
