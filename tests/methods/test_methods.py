"""Every method of the table, against finite differences, its paper's algorithm, and its limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.start import Uniform
from fairseq_adv.games.dropout import fast_dropout
from fairseq_adv.games.sites.embeddings import Embeddings
from fairseq_adv.games.translation import TranslationGame
from fairseq_adv.trainer.replay import Memory
from tests.methods import naive
from tests.methods.derivative import check_derivative, differentiated, takes
from tests.methods.method_table import (
    CLEAN_SEED,
    ROWS,
    Masks,
    Match,
    Row,
    every_method,
    noise_by_position,
)
from tests.support import tiny
from tests.support.gradients import distance

__all__ = ["noise_by_position"]

MODELS = {
    "transformer": tiny.transformer,
    "decoder-shared": partial(tiny.transformer, share_decoder_input_output_embed=True),
    "all-shared": tiny.shared_transformer,
    "lstm": tiny.lstm,
    "convolutional": tiny.convolutional,
}
every_model = pytest.mark.parametrize("model", MODELS)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


@pytest.fixture
def dropout_of_games() -> Iterator[None]:
    """All passes drop out as a training's games do, those of the naive loops as well."""
    with fast_dropout():
        yield


@every_method
@pytest.mark.parametrize("model", [name for name in MODELS if name != "convolutional"])
def test_the_gradient_is_the_derivative_of_the_reported_objective(
    row: Row, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Total, or with the follower's moves and what is detached held constant.

    fairseq's convolutional encoder scales gradients on purpose: it has no such proof.
    """
    check_derivative(Match(row, MODELS[model], **differentiated(row)), tiny.batch(), monkeypatch)


@pytest.mark.parametrize(
    ("row", "perturb", "dropout_masks"),
    [
        pytest.param(row, perturb, masks, id=f"{row.name}-{perturb}-{masks}")
        for row in ROWS
        for perturb in (("both", "source", "target") if takes(row, "perturb") else ("both",))
        for masks in (
            ("independent", "shared") if takes(row, "dropout_masks") else ("independent",)
        )
    ],
)
@pytest.mark.parametrize("sentence", [0, 1])
def test_it_is_the_papers_algorithm(
    row: Row,
    perturb: str,
    dropout_masks: str,
    sentence: int,
    noise_by_position: None,
    dropout_of_games: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With dropout: each pass has the masks that the algorithm gives it."""
    options = {"perturb": perturb} if takes(row, "perturb") else {}
    if takes(row, "dropout_masks"):
        options["dropout_masks"] = dropout_masks
    check_algorithm(row, options, sentence, monkeypatch)


RULES = {
    # Of a size that leaves the ball for one side and not for the other.
    "sgd": {"ascent_step_size": 0.05},
    "normalized": {},
    "sign": {"ascent_step_size": 0.04},
    "adam": {"ascent_step_size": 0.04},
}


@pytest.mark.parametrize(
    ("row", "rule", "norm", "scope"),
    [
        pytest.param(row, rule, norm, scope, id=f"{row.name}-{rule}-{norm}-{scope}")
        for row in ROWS
        if row.ball
        for rule in (RULES if takes(row, "ascent_rule") else ["normalized"])
        for norm, scope in (("l2", "sentence"), ("l2", "token"), ("linf", "token"))
        if (row.criterion, rule) != ("freeat", "adam")  # refused
    ],
)
def test_every_rule_and_norm_is_the_papers(
    row: Row,
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
    check_algorithm(row, options, 0, monkeypatch)


def check_algorithm(
    row: Row, options: dict[str, Any], sentence: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, beside the naive loop: the objective, and the gradient."""
    perturb = options.get("perturb", "both")
    dropout_masks = options.get("dropout_masks", "independent")
    settings = row.options | options
    match = Match(row, dropout=0.2, **options)
    sample = tiny.batch([((5, 4), (3, 6))[sentence]], seed=3 + sentence)
    cfg = match.criterion.cfg
    game = TranslationGame(match.model, sample, match.criterion.plain)
    ball = {"epsilon", "ascent_step_size"} & set(row.options)
    noise = {}
    for side in ("source", "target"):
        if row.ball:
            assert match.criterion.method.follower is not None
            noise[side] = match.criterion.method.follower.start.draw(game.sites[side])
    keep = {}
    if row.criterion == "simcut":
        from fairseq_adv.core.methods import simcut

        for side, spared in (("source", "last"), ("target", "first")):
            mask = game.sites[side].mask
            keep[side] = simcut.kept_words(mask, cfg.cutoff_rate, spared).squeeze(-1)  # type: ignore[arg-type]
        assert not all(k.all() for k in keep.values())
    replays = row.options.get("replays", 1)
    setup = naive.Settings(
        weight=match.weight,
        sides=("source", "target") if perturb == "both" else (perturb,),
        epsilon=settings.get("epsilon", 0.0),
        step_size=settings.get("ascent_step_size", settings.get("epsilon", 0.0)),
        steps=settings.get("ascent_steps", 1),
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


@every_method
@every_model
def test_padding_changes_nothing(row: Row, model: str, noise_by_position: None) -> None:
    """Sentences one by one, and padded in a batch: the same moves, and the same gradient in sum."""
    match = Match(row, MODELS[model])
    lengths = ((6, 3), (4, 7), (2, 5))
    step = match.play(tiny.batch(lengths))
    game, together = match.game, match.gradient
    objective = torch.zeros_like(step.objective)
    total = [torch.zeros_like(g) for g in together]
    for i, length in enumerate(lengths):
        alone = match.play(tiny.batch([length], seed=3 + i))
        objective += alone.objective
        total = [t + g for t, g in zip(total, match.gradient, strict=True)]
        for side, delta in step.delta.items():
            words = delta[i][game.sites[side].mask[i].squeeze(-1)]
            torch.testing.assert_close(alone.delta[side][0], words, rtol=1e-9, atol=1e-12)
    for side, delta in step.delta.items():
        assert not (delta * ~game.sites[side].mask).any(), "padding was perturbed"
    torch.testing.assert_close(objective, step.objective)
    assert distance(total, together) < 1e-9


def plain_gradient(match: Match, sample: dict[str, Any]) -> list[Tensor]:
    match.model.zero_grad(set_to_none=True)
    torch.manual_seed(CLEAN_SEED)
    stock = LabelSmoothedCrossEntropyCriterion(tiny.task(), False, 0.1)
    stock(match.model, sample)[0].backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in match.model.parameters()]


@every_method
@every_model
def test_with_weight_zero_it_is_the_plain_step_to_the_last_bit(row: Row, model: str) -> None:
    nothing = {"proximal_weight": 0.0} if takes(row, "proximal_weight") else {}
    match = Match(row, MODELS[model], dropout=0.3, adv_weight=0.0, **nothing)
    sample = tiny.batch()
    expected = plain_gradient(match, sample)
    match.model.zero_grad(set_to_none=True)
    torch.manual_seed(CLEAN_SEED)
    _, size, _ = match.criterion.play(match.model, sample, 0, tiny.accumulate)
    assert size == sample["ntokens"]
    for parameter, plain in zip(match.model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, plain)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name != "freeat-task-loss"], ids=lambda row: row.name
)
def test_the_logged_nll_is_that_of_the_clean_pass(row: Row) -> None:
    match, sample = Match(row, dropout=0.3), tiny.batch()
    stock = LabelSmoothedCrossEntropyCriterion(tiny.task(), False, 0.1)
    torch.manual_seed(CLEAN_SEED)
    with fast_dropout():
        _, _, expected = stock(match.model, sample)
    torch.manual_seed(CLEAN_SEED)
    _, _, log = match.criterion.play(
        match.model, sample, 0, tiny.accumulate, reference_model=match.reference
    )
    torch.testing.assert_close(log["nll_loss"], expected["nll_loss"], rtol=1e-13, atol=0)


@every_method
@every_model
def test_at_rest_it_is_the_plain_step(row: Row, model: str) -> None:
    """Nothing is perturbed, nothing dropped out: the plain gradient, as often as it is in the sum.

    In a perturbed pass a convolutional encoder's embeddings get their true gradient, as
    `encoder_gradient.py` says, which in a plain one they do not.
    """
    match, sample = Match(row, MODELS[model], **row.at_rest), tiny.batch()
    expected = plain_gradient(match, sample)
    match.model.zero_grad(set_to_none=True)
    _, size, log = match.criterion.play(
        match.model, sample, 0, tiny.accumulate, reference_model=match.reference
    )
    compared = [
        (p.grad / size, row.factor * plain / sample["ntokens"])
        for (name, p), plain in zip(match.model.named_parameters(), expected, strict=True)
        if not (model == "convolutional" and name.startswith("encoder.embed_"))
    ]
    assert distance(*map(list, zip(*compared, strict=True))) < 1e-12  # type: ignore[arg-type]
    if row.name not in ("adv", "freelb-task-loss", "freeat-task-loss"):
        assert abs(float(log["adv_loss"])) < 1e-10


def row_named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def test_salt_without_unrolled_steps_is_vat() -> None:
    sample = tiny.batch()
    options = {"divergence": "kl", "clean_branch": "detached"}
    salt = Match(row_named("salt"), dropout=0.2, unroll_steps=0, **options)
    vat = Match(row_named("vat"), dropout=0.2)
    first, second = salt.play(sample), vat.play(sample)
    assert type(salt.criterion.method) is type(vat.criterion.method)
    assert torch.equal(first.objective, second.objective)
    assert all(map(torch.equal, salt.gradient, vat.gradient))


def test_freelb_of_one_step_from_zero_is_one_adversarial_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One pass from zero serves both players: the plain gradient, and Adv's perturbation.

    With a second pass, the average is that of Adv's two terms.
    """
    sample = tiny.batch()
    monkeypatch.setattr(Uniform, "draw", lambda start, site: site.zero)
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


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("row", [r for r in ROWS if r.name != "rdrop"], ids=lambda row: row.name)
@every_model
def test_one_sided_perturbation_touches_one_side_only(
    row: Row, side: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each embedding gave to the model, in every pass, is compared with what it holds."""
    match, sample = Match(row, MODELS[model], perturb=side), tiny.batch()
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
        if takes(row, name):
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
@pytest.mark.parametrize("gauge_interval", [0, 1])
def test_two_accumulated_batches_are_one_doubled_batch(
    row: Row, gauge_interval: int, noise_by_position: None
) -> None:
    """As with --update-freq 2; also the sums that the log is made of."""
    match = Match(row, gauge_interval=gauge_interval)
    task = tiny.task()
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
        return [p.grad.clone() for p in match.model.parameters()], total

    expected, doubled = update([tiny.batch(lengths)])
    gradient, log = update([tiny.batch(lengths[:2]), tiny.batch(lengths[2:], seed=5)])
    assert distance(gradient, expected) < 1e-9
    assert log.keys() == doubled.keys()
    for key, value in log.items():
        if key in ("interaction", "interaction_games"):
            continue  # per batch, not per token
        assert float(value) == pytest.approx(float(doubled[key]), rel=1e-9, abs=1e-12), key
    assert log.get("interaction_games", 0) == 2 * doubled.get("interaction_games", 0)


@every_method
def test_gauges_change_nothing(row: Row) -> None:
    sample = tiny.batch()
    match = Match(row, dropout=0.2)
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
    assert log["adv_ntokens"] == log["perturbed_sentences"] == 0
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in match.model.parameters()]
    assert distance(gradient, expected) < 1e-9


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
