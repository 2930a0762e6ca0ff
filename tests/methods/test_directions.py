"""Perturbations that are combinations of directions: by naive loops that know all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from fairseq import utils
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from fairseq_adv.core.players.directions import OF_SCORES, Directions
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.core.sites import Add
from fairseq_adv.games.sites import UnsupportedModel, directions
from tests.methods import naive
from tests.methods.derivative import check_derivative, differentiated, takes
from tests.methods.method_table import (
    CLEAN_SEED,
    MODELS,
    ROWS,
    Match,
    Row,
    noise_by_position,
    row_named,
)
from tests.methods.test_algorithms import check_algorithm, dropout_of_games
from tests.support import tiny

__all__ = ["dropout_of_games", "noise_by_position"]

K = 3
NEIGHBOURS = {"directions": "neighbours", "direction_words": K}
DIRECTED = [
    replace(row, options=row.options | ({"leader_samples": 1} if row.criterion == "mat" else {}))
    for row in ROWS
    if takes(row, "directions")
]
"""All that have a follower in a ball; FreeAT's neighbours are refused, and MAT's replays."""


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


# ---- What the directions are ---------------------------------------------------------------------


def towards(model: Any, tokens: Tensor, side: str) -> Tensor:
    """Eq. 13's kin for words, by scikit-learn and a loop: 1 x T x K x C."""
    part = model.encoder if side == "source" else model.decoder
    part = getattr(part, "sentence_encoder", part)
    table, words = part.embed_tokens.weight.detach(), part.dictionary
    known = range(words.nspecial, len(words))
    search = NearestNeighbors(n_neighbors=K + 1, metric="cosine", algorithm="brute")
    search.fit(table[list(known)].numpy())
    found = torch.zeros(1, tokens.size(1), K, table.size(1), dtype=table.dtype)
    for t, word in enumerate(tokens[0].tolist()):
        nearest = search.kneighbors(table[[word]].numpy(), return_distance=False)[0] + known[0]
        for k, other in enumerate([n for n in nearest.tolist() if n != word][:K]):
            found[0, t, k] = table[other] - table[word]
            found[0, t, k] /= found[0, t, k].norm()
    return found


def differences(scores: Tensor, unit: bool) -> Tensor:
    """Eqs. 13 and 14 (if unit): of scores, S, the vectors d_t as rows, S x S."""
    found = torch.zeros(len(scores), len(scores), dtype=scores.dtype)
    for t, a_t in enumerate(scores):
        for k, a_k in enumerate(scores):
            found[t, k] = a_t - a_k
        if unit:
            found[t] /= found[t].norm()
    return found


class Scores:
    """Those of the first pass that a model makes, one query after another: N x S each layer."""

    def __init__(self, model: Any) -> None:
        self.layers: list[Tensor] = []
        self.model = model

    def watch(self, play: Callable[[], Tensor]) -> Tensor:
        """Play, and look: at the softmax of a decoder, at an additive attention's last matrix."""
        additive = getattr(self.model.encoder, "attention", None)
        softmax = utils.softmax

        def looked(x: Tensor, dim: int, **more: Any) -> Tensor:
            self.layers.append(x.detach())  # H x T x S
            return softmax(x, dim, **more)

        hook = additive and additive.score.register_forward_hook(
            lambda module, inputs, output: self.layers.append(output.detach().mT)  # 1 x 1 x S
        )
        if additive is None:
            utils.softmax = looked
        try:
            return play()
        finally:
            utils.softmax = softmax
            if hook:
                hook.remove()

    def lengths(self, mask: Tensor, unit: bool) -> Tensor:
        """||d_t|| of every score, as a site has them: 1 x T x layers * heads * S."""
        found = torch.zeros(mask.shape, dtype=torch.float64)
        size = self.layers[0].size(-1)
        for number, row in enumerate(torch.cat(self.layers).transpose(0, 1)):  # L * H x S of each
            for layer, scores in enumerate(row):
                columns = slice(layer * size, (layer + 1) * size)
                there = mask[0, number, columns]
                known = differences(scores[there], unit).norm(dim=1)
                found[0, number, columns][there] = known
        return found


def place_directions(
    monkeypatch: pytest.MonkeyPatch, combined: Callable[[Any, Any, Scores, str, Tensor], Tensor]
) -> None:
    """Let the naive loops move coordinates, of which `combined` makes what is added."""
    log_probs, seen = naive.log_probs, dict[int, Scores]()

    def in_directions(
        model: Any, sample: Any, seed: int, delta: dict[str, Tensor] | None = None, *more: Any
    ) -> Tensor:
        def play() -> Tensor:
            moved = {} if first else {s: combined(model, sample, scores, s, d) for s, d in given}
            return log_probs(model, sample, seed, moved, *more)

        given = (delta or {}).items()
        first = id(model) not in seen
        scores = seen.setdefault(id(model), Scores(model))
        if not first:
            return play()
        found = scores.watch(play)  # the clean pass: with perturbations, if any, of zero
        if delta and delta[next(iter(delta))].requires_grad:
            first = False
            return play()
        return found

    monkeypatch.setattr(naive, "log_probs", in_directions)


# ---- The methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["transformer", "two-classes", "attended-pairs"])
@pytest.mark.parametrize(
    "row", [row for row in DIRECTED if row.criterion != "freeat"], ids=lambda row: row.name
)
def test_words_move_towards_their_neighbours(
    row: Row,
    model: str,
    noise_by_position: None,
    dropout_of_games: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each method's own algorithm, on alpha."""

    def combined(model: Any, sample: Any, _: Any, side: str, alpha: Tensor) -> Tensor:
        name = "src_tokens" if side == "source" else "prev_output_tokens"
        d = towards(model, sample["net_input"][name], side)
        return (alpha.unsqueeze(-1) * d).sum(2)

    place_directions(monkeypatch, combined)
    check_algorithm(row, MODELS[model], dict(NEIGHBOURS), 0, monkeypatch)


@pytest.mark.parametrize("kind", OF_SCORES)
@pytest.mark.parametrize("model", ["transformer", "attended-texts", "attended-pairs"])
@pytest.mark.parametrize(
    "row", [row for row in DIRECTED if row.criterion != "freeat"], ids=lambda row: row.name
)
def test_scores_move_by_their_differences(
    row: Row,
    model: str,
    kind: str,
    noise_by_position: None,
    dropout_of_games: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each method's own algorithm, on gamma; the differences are those of the clean pass."""
    mask: list[Tensor] = []

    def combined(model: Any, sample: Any, scores: Scores, side: str, gamma: Tensor) -> Tensor:
        if not mask:
            mask.append(match.game_on(sample).sites[side].mask)
        return gamma * scores.lengths(mask[0], unit=kind == "differences")

    options = {"perturb": "attention", "directions": kind}
    match = Match(row, MODELS[model], **options)
    place_directions(monkeypatch, combined)
    check_algorithm(row, MODELS[model], options, 1, monkeypatch)


def all_weights(match: Match, sample: Any, *, unit: bool, steps: int, rule: str) -> Tensor:
    """r by Eqs. 13 to 19 as they stand, with T x T weights alpha, for the one query of a text.

    :param steps: of the rule; the paper has one, `normalized`, from zero.
    """
    scores = Scores(match.model)
    torch.manual_seed(CLEAN_SEED)
    scores.watch(lambda: naive.log_probs(match.model, sample, CLEAN_SEED))
    there = match.game_on(sample).sites["attention"].mask[0, 0]
    d = differences(scores.layers[0][0, 0][there], unit)
    alpha = torch.zeros_like(d)
    epsilon = match.criterion.cfg.epsilon

    def r(alpha: Tensor) -> Tensor:
        found = torch.zeros(1, 1, len(there), dtype=d.dtype)
        found[0, 0, there] = (alpha * d).sum(1)  # Eq. 15
        return found

    for _ in range(steps):
        leaf = alpha.requires_grad_()
        log_p = naive.log_probs(match.model, sample, CLEAN_SEED, {"attention": r(leaf)})
        (g,) = torch.autograd.grad(naive.task_loss(log_p, sample), leaf)
        step = epsilon * g / g.norm() if rule == "normalized" else 2.0 * g  # Eq. 18
        alpha = (alpha + step).detach()
        alpha = alpha * min(1.0, epsilon / float(alpha.norm()))
    return r(alpha)


@pytest.mark.parametrize("model", ["attended-texts", "attended-pairs"])
def test_attention_iat_is_attention_at(model: str) -> None:
    """Eqs. 13 to 19 give r_t = epsilon g_t / ||g||, which is Eq. 11: d~_t has unit length."""
    of = {
        kind: Match(row_named("adv"), MODELS[model], perturb="attention", directions=kind)
        for kind in ("free", "differences", "raw-differences")
    }
    sample = of["free"].batch([(7, 4)])
    moved = {}
    for kind, match in of.items():
        delta = match.play(sample).delta["attention"]
        assert float(delta.norm()) == pytest.approx(match.criterion.cfg.epsilon)
        site: Any = match.game.sites["attention"]
        moved[kind] = delta if kind == "free" else delta * site.lengths
    paper = all_weights(of["differences"], sample, unit=True, steps=1, rule="normalized")
    torch.testing.assert_close(moved["differences"], paper)
    torch.testing.assert_close(moved["free"], paper)
    raw = all_weights(of["raw-differences"], sample, unit=False, steps=1, rule="normalized")
    torch.testing.assert_close(moved["raw-differences"], raw)
    assert not torch.allclose(raw / raw.norm(), paper / paper.norm(), atol=0.1), "ours differs"


@pytest.mark.parametrize("rule", ["sgd", "normalized"])
@pytest.mark.parametrize("unit", [True, False])
def test_steps_on_all_weights_stay_along_differences(rule: str, unit: bool) -> None:
    """Of more than one step, in and out of the ball: what `Differences` says of its gamma."""
    kind = "differences" if unit else "raw-differences"
    options = {"ascent_rule": rule, "ascent_step_size": 2.0 if rule == "sgd" else 0.35}
    match = Match(
        row_named("freeat-task-loss"),
        MODELS["attended-texts"],
        perturb="attention",
        directions=kind,
        **options,
    )
    sample = match.batch([(7, 4)])
    game, follower = match.game_on(sample), match.criterion.method.follower
    assert follower is not None
    site: Any = game.sites["attention"]
    gamma, state = follower.begin(game)
    for _ in range(3):
        leaf = {"attention": gamma["attention"].detach().requires_grad_()}
        torch.manual_seed(CLEAN_SEED)
        edits = {"attention": Add(leaf["attention"])}
        predicted = game.perturbed(edits, RandomState.capture())
        log_p = torch.log_softmax(predicted.vectors, -1)
        g = torch.autograd.grad(naive.task_loss(log_p, sample), leaf["attention"])
        gamma, state = follower.move(game, gamma, {"attention": g[0]}, state)
    found = (gamma["attention"] * site.lengths).detach()
    torch.testing.assert_close(found, all_weights(match, sample, unit=unit, steps=3, rule=rule))


class KnownLengths:
    """Holds directions constant, at those of the first game on a batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept: dict[int, Any] = {}

        def first(name: str) -> Callable[[Any], Any]:
            made = getattr(directions, name.split(".")[0]).__dict__[name.split(".")[1]].func

            def known(site: Any) -> Any:
                return kept.setdefault((id(site.sample), type(site).__name__), made(site))

            return known

        look = directions.Differences._look

        def looked(site: Any, layer: int, scores: Tensor, at: int) -> Tensor:
            place = (id(site.lengths), layer, at)
            if place not in kept:
                kept[place] = look(site, layer, scores, at)
            return kept[place]

        monkeypatch.setattr(directions.Neighbours, "towards", property(first("Neighbours.towards")))
        monkeypatch.setattr(
            directions.Differences, "lengths", property(first("Differences.lengths"))
        )
        monkeypatch.setattr(directions.Differences, "_look", looked)


@pytest.mark.parametrize(
    ("row", "model", "options"),
    [
        pytest.param(row, model, options, id=f"{row.name}-{model}-{options['directions']}")
        for row in DIRECTED
        for model, options in (
            ("transformer", NEIGHBOURS),
            ("transformer", {"perturb": "attention", "directions": "raw-differences"}),
            ("lstm", {"perturb": "attention", "directions": "differences"}),
            ("two-classes", {"perturb": "attention", "directions": "raw-differences"}),
            ("attended-pairs", {"perturb": "attention", "directions": "raw-differences"}),
            ("numbers", NEIGHBOURS),
        )
        if (row.criterion, options["directions"]) != ("freeat", "neighbours")
    ],
)
def test_the_gradient_is_the_derivative_with_directions_as_constants(
    row: Row, model: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    match = Match(row, MODELS[model], **options, **differentiated(row))
    KnownLengths(monkeypatch)
    sample = match.batch()
    check_derivative(match, sample, monkeypatch)


@pytest.mark.parametrize("method", ["exact", "central", "one-sided"])
@pytest.mark.parametrize(
    "options", [NEIGHBOURS, {"perturb": "attention", "directions": "raw-differences"}]
)
def test_all_ways_to_unroll_agree(method: str, options: dict[str, Any]) -> None:
    kind = partial(tiny.transformer, activation_fn="tanh")
    found = []
    for unroll in ("exact", method):
        match = Match(row_named("salt"), kind, unroll_method=unroll, **options)
        match.play(tiny.batch())
        found.append(torch.cat([g.flatten() for g in match.gradient]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.02


# ---- Batches, and what is refused ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["neighbours", *OF_SCORES])
@pytest.mark.parametrize("model", ["transformer", "lstm", "convolutional", "attended-pairs"])
def test_padding_changes_nothing(kind: str, model: str, noise_by_position: None) -> None:
    options = NEIGHBOURS if kind == "neighbours" else {"perturb": "attention", "directions": kind}
    match = Match(row_named("vat"), MODELS[model], **options)
    lengths = ((6, 3), (4, 7), (2, 5))
    together = match.play(match.batch(lengths)).objective
    alone = [
        match.play(match.batch([each], seed=3 + i)).objective for i, each in enumerate(lengths)
    ]
    torch.testing.assert_close(together, torch.stack(alone).sum())


def test_a_game_without_a_clean_pass_looks_at_one() -> None:
    """FreeLB on the task loss alone: the differences are not those of its start."""
    options = {"perturb": "attention", "directions": "raw-differences"}
    kind = partial(tiny.transformer, decoder_layers=2)
    freelb = Match(row_named("freelb-task-loss"), kind, **options, adv_weight=1.0)
    vat = Match(row_named("vat"), kind, **options)
    sample = tiny.batch()
    freelb.play(sample)
    vat.play(sample)
    first, second = (match.game.sites["attention"] for match in (freelb, vat))
    assert first.lengths.any()  # type: ignore[attr-defined]
    torch.testing.assert_close(first.lengths, second.lengths)  # type: ignore[attr-defined]


def test_where_all_scores_are_the_same_there_is_no_difference() -> None:
    """And of a single word there is none to others; both are 0, and not 0 / 0."""
    match = Match(
        row_named("adv"), MODELS["attended-texts"], perturb="attention", directions="differences"
    )
    with torch.no_grad():
        match.model.encoder.attention.score.weight.zero_()
    step = match.play(match.batch([(5, 4), (1, 1)]))
    site: Any = match.game.sites["attention"]
    assert not site.lengths.any() and not step.delta["attention"].any()
    assert all(g.isfinite().all() for g in match.gradient)


@pytest.mark.parametrize(
    ("criterion", "options", "allowed"),
    [
        ("salt", {"directions": "differences"}, "free, neighbours for words"),
        ("adv", {"directions": "raw-differences", "perturb": "source,attention"}, "neighbours for"),
        ("vat", {"directions": "neighbours", "perturb": "attention"}, "raw-differences for atten"),
        ("freeat", {"directions": "neighbours"}, "free; differences, raw-differences for atten"),
        ("smart", {"direction_words": 0}, "a number from 1 up"),
    ],
)
def test_directions_that_a_site_has_not(
    criterion: str, options: dict[str, Any], allowed: str
) -> None:
    with pytest.raises(SystemExit, match=allowed) as error:
        tiny.criterion(criterion, **options)
    assert "--direction" in str(error.value) and "\n" not in str(error.value)


def test_more_neighbours_than_words() -> None:
    criterion = tiny.criterion("adv", directions="neighbours", direction_words=500)
    with pytest.raises(SystemExit, match=r"--direction-words 500: the vocabulary has \d+ words"):
        criterion.check_model(tiny.transformer())
    with pytest.raises(UnsupportedModel, match="no table"):
        model = tiny.transformer()
        model.encoder.embed_tokens = torch.nn.Linear(1, 1)
        criterion.task.game.check(model, ("source",), criterion.method.directions)


def test_there_are_no_others() -> None:
    with pytest.raises(InvalidSetting, match="directions is 'up'"):
        Directions(directions="up", direction_words=1)  # type: ignore[arg-type]
