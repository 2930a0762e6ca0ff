"""The gauges against what they say they are, computed another way: of every method, by its row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fairseq.logging import metrics
from torch import Tensor

from fairseq_adv.core.gauges import delta_norm
from fairseq_adv.core.methods.simcut import SimCut
from fairseq_adv.core.players.ball import Ball
from fairseq_adv.core.sites import Add, Keep
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.games.dropout import fast_dropout
from fairseq_adv.games.game import FairseqGame
from tests.methods import naive
from tests.methods.derivative import takes
from tests.methods.method_table import (  # noqa: F401  (a fixture)
    CLEAN_SEED,
    MODELS,
    ROWS,
    Masks,
    Match,
    Row,
    every_family,
    every_method,
    noise_by_position,
    row_named,
    trained,
)
from tests.support import tiny
from tests.support.updates import trainer, update

MASK_SEEDS = range(100, 120)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout(), fast_dropout():
        yield


def compared(row: Row, p: Tensor, q: Tensor, sample: Any) -> Tensor:
    """What the row's adversary raises, of clean and perturbed log-probabilities."""
    if row.criterion == "adv" or "task-loss" in row.name:
        return naive.task_loss(q, sample)
    return naive.kl(p, q) if row.criterion in ("vat", "simcut") else naive.half_symmetric(p, q)


class Seen:
    """The last perturbed pass of a game: what it was perturbed with, and the seed of its masks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.masks = Masks(monkeypatch)
        self.drawn = 0
        self.seed = CLEAN_SEED
        self.delta: dict[str, Tensor] = {}
        self.keep: dict[str, Tensor] = {}
        draw, perturbed = self.masks._draw, FairseqGame.perturbed
        seeds: dict[int, int] = {}

        def drawing() -> Any:
            state = draw()
            seeds[id(state)] = MASK_SEEDS[self.drawn]
            self.states.append(state)
            self.drawn += 1
            return state

        def perturbing(game: Any, edits: Any, masks: Any) -> Any:
            if edits or not (self.delta or self.keep):  # else it is the pass at rest, for the gain
                pairs = edits.items()
                self.delta = {s: e.values.detach() for s, e in pairs if isinstance(e, Add)}
                self.keep = {s: e.where.squeeze(-1) for s, e in pairs if isinstance(e, Keep)}
                self.seed = seeds.get(id(masks), CLEAN_SEED)
            return perturbed(game, edits, masks)

        self.states: list[Any] = []
        monkeypatch.setattr("fairseq_adv.core.random_state.RandomState.draw", drawing)
        monkeypatch.setattr(FairseqGame, "perturbed", perturbing)


@pytest.mark.parametrize(
    ("row", "model", "dropout_masks"),
    [
        pytest.param(row, model, masks, id=f"{row.name}-{model}-{masks}")
        for row in ROWS
        for model in ("transformer", "two-classes", "numbers")
        for masks in ("independent", "shared")
        if masks == "independent" or takes(row, "dropout_masks")
    ],
)
def test_they_are_what_the_last_move_makes(
    row: Row,
    model: str,
    dropout_masks: str,
    noise_by_position: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """adv_loss, adv_gain, clean and proximal loss: naively, of one sentence, from what is seen.

    The move and the pass without it have the same dropout masks.
    """
    options = {"dropout_masks": dropout_masks} if takes(row, "dropout_masks") else {}
    match = Match(row, MODELS[model], dropout=0.3, **options)
    sample = match.batch([(5, 4)])
    seen = Seen(monkeypatch)
    seen.masks.seeds = iter(MASK_SEEDS)
    step = match.play(sample, gauges=True)

    def log_p(seed: int, **changed: Any) -> Tensor:
        with torch.no_grad():
            return naive.log_probs(match.model, sample, seed, **changed)

    clean, rest = log_p(CLEAN_SEED), log_p(seen.seed)
    last = log_p(seen.seed, delta=seen.delta, keep=seen.keep)
    value = compared(row, clean, last, sample)
    assert step.adv_loss is not None
    torch.testing.assert_close(step.adv_loss, value)
    if row.criterion != "rdrop":
        assert step.adv_gain is not None
        gain = value - compared(row, clean, rest, sample)
        torch.testing.assert_close(step.adv_gain, gain, rtol=1e-7, atol=1e-12)
        assert abs(float(step.adv_gain)) > (1e-4 if model == "transformer" else 1e-6)
    assert step.clean_loss is not None
    with_clean_pass = row.name != "freeat-task-loss"
    expected = naive.task_loss(clean if with_clean_pass else rest, sample)
    torch.testing.assert_close(step.clean_loss.value, expected)
    if row.criterion == "smart":
        with torch.no_grad():
            reference = naive.log_probs(match.reference.eval(), sample, 0)
        assert step.proximal_loss is not None
        torch.testing.assert_close(step.proximal_loss, naive.half_symmetric(clean, reference))


DIVERGING = [r for r in ROWS if r.criterion not in ("adv", "rdrop") and "task" not in r.name]


@pytest.mark.parametrize("row", DIVERGING, ids=lambda row: row.name)
@every_family
def test_without_dropout_all_of_a_divergence_is_gained(row: Row, model: str) -> None:
    match = Match(row, MODELS[model])
    step = match.play(match.batch(), gauges=True)
    assert step.adv_loss is not None and step.adv_gain is not None
    assert step.adv_loss > (1e-3 if model == "transformer" else 1e-4)
    torch.testing.assert_close(step.adv_gain, step.adv_loss, rtol=1e-7, atol=1e-12)


def reduced(criterion: Any, *logs: dict[str, Any]) -> dict[str, float]:
    """What comes into the log, of the batches of one update."""
    with metrics.aggregate(new_root=True) as found:
        type(criterion).reduce_metrics(list(logs))
    return {name: float(value) for name, value in found.get_smoothed_values().items()}


@every_method
@every_family
def test_the_log_has_them_per_prediction_and_without_weights(
    row: Row,
    model: str,
    noise_by_position: None,  # noqa: F811
) -> None:
    """`loss` is the whole objective, as the paper writes it; the others are unweighted."""
    match = Match(row, MODELS[model], dropout=0.3)
    samples = [match.batch(), match.batch(((4, 3),), seed=9)]
    steps, logs = [], []
    for sample in samples:
        steps.append(match.play(sample, gauges=True))
        torch.manual_seed(CLEAN_SEED)
        match.model.zero_grad(set_to_none=True)
        *_, log = match.criterion.play(
            match.model,
            sample,
            match.criterion.cfg.gauge_interval * match.criterion.method.replays,
            tiny.accumulate,
            reference_model=match.reference,
            memory=match.memory,  # type: ignore[arg-type]
            replay=match.criterion.method.replays - 1,
        )
        logs.append(log)
    found = reduced(match.criterion, *logs)
    counted = "ntokens" if model == "transformer" else "nsentences"
    number = sum(sample[counted] for sample in samples)

    def bits(values: list[Any]) -> float:
        return float(sum(values)) / number / math.log(2)

    assert found["loss"] == pytest.approx(bits([s.objective for s in steps]), abs=1e-3)
    for name in ("adv_loss", "adv_gain", "proximal_loss"):
        values = [getattr(step, name) for step in steps]
        if values[0] is None:
            assert name not in found
        else:
            assert found[name] == pytest.approx(bits(values), abs=2e-6)
    assert ("adv_gain" in found) == (row.criterion != "rdrop")
    assert ("proximal_loss" in found) == (row.criterion == "smart")
    of_clean = "nll" if model == "transformer" else "value"  # without smoothing
    clean = [getattr(step.clean_loss, of_clean) for step in steps]
    assert found[match.family.clean_loss] == pytest.approx(bits(clean), abs=1e-3)
    assert ("accuracy" in found) == (model == "two-classes")
    if model == "two-classes":
        right = sum(int(step.clean_loss.correct) for step in steps)  # type: ignore[union-attr]
        assert found["accuracy"] == pytest.approx(100 * right / number, abs=0.1)
    follower = match.criterion.method.follower
    if follower is not None:
        weighted = [
            delta_norm(step.delta, follower.ball) * sample["nsentences"]
            for step, sample in zip(steps, samples, strict=True)
        ]
        assert found["delta_norm"] == pytest.approx(float(sum(weighted)) / 4, abs=2e-6)
    else:
        assert "delta_norm" not in found


def test_where_no_pass_is_clean_there_is_no_nll() -> None:
    """FreeLB's passes are all perturbed; where gauges are measured, one is not."""
    match, sample = (
        Match(row_named("freelb-task-loss"), adv_weight=1.0, gauge_interval=2),
        tiny.batch(),
    )
    for number, known in ((0, True), (1, False)):
        *_, log = match.criterion.play(match.model, sample, number, tiny.accumulate)
        found = reduced(match.criterion, log)
        assert ("nll_loss" in found) == ("ppl" in found) == known
    with torch.no_grad():
        plain = match.criterion(match.model, sample)[2]["nll_loss"]
    *_, log = match.criterion.play(match.model, sample, 0, tiny.accumulate)
    expected = float(plain) / sample["ntokens"] / math.log(2)
    assert reduced(match.criterion, log)["nll_loss"] == pytest.approx(expected, abs=1e-3)


def test_the_first_replay_of_freeat_is_plain_and_logged_as_such() -> None:
    """Nothing is perturbed yet: its zeros are not averaged with what later replays measure."""
    for name in ("freeat-task-loss", "freeat-divergence"):
        row = row_named(name)
        made = trainer(row, tiny.transformer(dropout=0.1).double(), "--gauge-interval=1")
        lines = [update(made, [tiny.batch()]) for _ in range(6)]
        played = ["adv_loss" in line for line in lines]
        assert played == [False, True, True] * 2
        assert ["delta_norm" in line for line in lines] == played
        assert ["adv_gain" in line for line in lines] == [False, False, True] * 2
        plain = [True, False, False] * 2 if name == "freeat-task-loss" else [True] * 6
        gauged = [False, False, True] * 2
        expected = [a or b for a, b in zip(plain, gauged, strict=True)]
        assert ["nll_loss" in line for line in lines] == expected


@pytest.mark.parametrize("name", ["freeat-task-loss", "freeat-divergence"])
def test_after_a_skipped_update_freeat_s_gauges_are_those_of_the_last_replay(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A skipped replay is one, though the trainer does not count the update."""
    row = row_named(name)
    made = trainer(row, tiny.transformer(dropout=0.1).double(), "--gauge-interval=1")
    play, played = AdversarialCriterion.play, 0

    def spoilt(criterion: Any, model: Any, *more: Any, **named: Any) -> Any:
        nonlocal played
        found = play(criterion, model, *more, **named)
        if played == 1:  # the second replay of the first group
            next(iter(model.parameters())).grad[0, 0] = math.nan
        played += 1
        return found

    monkeypatch.setattr(AdversarialCriterion, "play", spoilt)
    lines = [update(made, [tiny.batch()]) for _ in range(6)]
    assert made.get_num_updates() == 5
    assert ["adv_gain" in line for line in lines] == [False, False, True] * 2


@trained(("salt", "vat", "smart", "freelb-task-loss", "freeat-task-loss", "mat", "r3f"), ROWS)
def test_measuring_changes_no_parameter(row: Row) -> None:
    """Nor moves layers that were dropped: what had no gradient still has none."""
    ends = []
    for interval in (0, 1):
        torch.manual_seed(1)
        model = tiny.transformer(
            dropout=0.1, encoder_layers=3, encoder_layerdrop=0.5, decoder_layerdrop=0.3
        )
        options = ["--optimizer=adam", "--lr=0.01"]
        if takes(row, "dropout_masks"):  # the same layers are dropped in all passes
            options += ["--dropout-masks=shared"]
        made = trainer(row, model, f"--gauge-interval={interval}", *options)
        for number in range(9):
            update(made, [tiny.batch(seed=3 + number // 3)])
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(map(torch.equal, *ends))


def test_delta_norm_is_comparable_with_epsilon() -> None:
    delta = {"source": torch.zeros(2, 2, 2), "target": torch.zeros(2, 1, 2)}
    delta["source"][0] = torch.tensor([[3.0, 4.0], [0.0, 12.0]])  # 13; tokens of 5 and 12
    delta["target"][1, 0, 0] = -7.0
    for norm, scope, largest in (
        ("l2", "sentence", 13),
        ("l2", "token", 12),
        ("linf", "token", 12),
    ):
        ball = Ball(epsilon=1.0, norm=norm, norm_scope=scope)  # type: ignore[arg-type]
        assert float(delta_norm(delta, ball)) == (largest + 0 + 0 + 7) / 4


def test_simcut_gains_from_what_is_cut() -> None:
    """More words cut, more gained: the sign is that of an adversary's."""
    sample = tiny.batch()
    gains = []
    for rate in (0.2, 0.9):
        match = Match(row_named("simcut"), cutoff_rate=rate)
        assert isinstance(match.criterion.method, SimCut)
        gains.append(float(match.play(sample, gauges=True).adv_gain))  # type: ignore[arg-type]
    assert 0 < gains[0] < gains[1]
