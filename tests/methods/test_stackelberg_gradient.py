"""The proof of SALT's gradient: it is the derivative of the loss that is reported.

In float64, without dropout and with smooth activations, a directional finite difference of
`Step.objective` in theta must equal the accumulated gradient. The objective depends on theta
through the task loss, both arguments of the divergence (`differentiated`) and the whole ascent.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core.comparison.evaluation import evaluate
from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.core.methods.vat import VAT
from fairseq_adv.core.players.rule import RULES
from fairseq_adv.core.players.stackelberg import Ascent
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.core.two_views import Regularisation
from tests.methods.method_table import noise_by_position  # noqa: F401  (a fixture)
from tests.support import tiny
from tests.support.gradients import directional_derivative, directions, distance
from tests.support.players import follower

RADII = {
    "exact": [1.0],  # not used
    "central": [1e-3, 1e-2, 1e-4, 1e-1, 1e-5],
    "one-sided": [1e-5, 1e-6, 1e-7, 1e-4, 1e-8],
}
TOLERANCE = {"exact": 1e-6, "central": 1e-5, "one-sided": 1e-3}
STEP_SIZE = {"sgd": 2.0, "normalized": 0.3, "sign": 0.02, "adam": 0.02, "rmsprop": 0.005}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


def salt(rule: str = "normalized", norm: str = "l2", **options: Any) -> SALT:
    """SALT in a game where the ball cuts off some sentences and components and not others."""
    player = {
        "sites": ("source", "target"),
        "epsilon": 0.35 if norm == "l2" else 0.05,
        "norm": norm,
        "norm_scope": "sentence",
        "init_std": 0.05,
        "ascent_steps": 1,
        "ascent_step_size": STEP_SIZE[rule],
        "ascent_rule": rule,
    }
    player |= {k: v for k, v in options.items() if k in player}
    regularisation = {
        "divergence": "symmetric-kl",
        "clean_branch": "differentiated",
        "dropout_masks": "independent",
    }
    method = {
        "unroll_steps": player["ascent_steps"],
        "unroll_method": "exact",
        "difference_radius": 1e-2,
    }
    for settings in (regularisation, method):
        settings |= {k: v for k, v in options.items() if k in settings}
    return SALT(
        follower=follower(**player),  # type: ignore[arg-type]
        regularisation=Regularisation(**regularisation),  # type: ignore[arg-type]
        **method,  # type: ignore[arg-type]
    )


def without_interaction(method: SALT) -> VAT:
    return VAT(follower=method.follower, regularisation=method.regularisation)


def gradient(method: SALT | VAT, model: Any, sample: dict[str, Any], seed: int = 7) -> list[Tensor]:
    """What one step accumulates in each parameter."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    method.step(tiny.game(model, sample), tiny.accumulate, weight=0.7)
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def objective(method: SALT | VAT, model: Any, sample: dict[str, Any], seed: int = 7) -> float:
    torch.manual_seed(seed)
    step = method.step(tiny.game(model, sample), tiny.accumulate, weight=0.7)
    return float(step.objective)


class FrozenClimbs:
    """Holds the ascent steps that are not unrolled constant, at their values of the first run.

    With U < K the update is the derivative of the objective with the first K - U steps frozen.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded: list[Any] = []
        self.replayed: Iterator[Any] | None = None
        climb = Ascent.climb

        def patched(ascent: Ascent, masks: Any) -> None:
            if self.replayed is None:
                climb(ascent, masks)
                self.recorded.append((ascent.delta, ascent.state))
            else:
                ascent.delta, ascent.state = next(self.replayed)

        monkeypatch.setattr(Ascent, "climb", patched)

    def replaying(self, value: Callable[[], float]) -> Callable[[], float]:
        def replay() -> float:
            self.replayed = iter(self.recorded)
            return value()

        return replay


def relative_error(
    method: SALT | VAT,
    model: Any,
    sample: dict[str, Any],
    expected: list[float],
    along: list[list[Tensor]],
) -> float:
    gradients = gradient(method, model, sample)
    actual = [
        sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
        for direction in along
    ]
    scale = max(abs(e) for e in expected)
    return max(abs(a - e) for a, e in zip(actual, expected, strict=True)) / scale


def prove(method: SALT, model: Any, sample: dict[str, Any], monkeypatch: Any) -> dict[str, float]:
    """Relative error of each way to the gradient, at its best radius."""
    frozen = FrozenClimbs(monkeypatch)
    objective(method, model, sample)
    value = frozen.replaying(lambda: objective(method, model, sample))
    along = directions(model)
    expected = [directional_derivative(value, model, d) for d in along]
    frozen.replayed = None
    errors = {}
    for way in TOLERANCE:
        for radius in RADII[way]:
            attempt = replace(method, unroll_method=way, difference_radius=radius)  # type: ignore[arg-type]
            error = relative_error(attempt, model, sample, expected, along)
            errors[way] = min(error, errors.get(way, float("inf")))
            if errors[way] <= TOLERANCE[way]:
                break
    return errors


def check(errors: dict[str, float]) -> None:
    assert {way: e for way, e in errors.items() if not e <= TOLERANCE[way]} == {}


def takes_long(rule: str, norm: str, scope: str, _: tuple[int, int], side: str) -> bool:
    """RMSprop has Adam's derivative but for one moment, and each side of words that of both."""
    return side != "both" if (norm, scope) != ("l2", "sentence") else rule == "rmsprop"


GRID = [
    pytest.param(*point, marks=pytest.mark.slow if takes_long(*point) else [])
    for point in itertools.product(
        RULES,
        ("l2", "linf"),
        ("sentence", "token"),
        ((1, 1), (2, 1), (2, 2), (3, 2)),
        ("source", "target", "both"),
    )
]


@pytest.mark.parametrize(("rule", "norm", "scope", "steps", "side"), GRID)
def test_gradient_is_the_derivative_of_the_reported_objective(
    rule: str, norm: str, scope: str, steps: tuple[int, int], side: str, monkeypatch: Any
) -> None:
    model = tiny.transformer().double()
    method = salt(
        rule,
        norm,
        norm_scope=scope,
        sites=("source", "target") if side == "both" else (side,),
        ascent_steps=steps[0],
        unroll_steps=steps[1],
    )
    check(prove(method, model, tiny.batch(), monkeypatch))


@pytest.mark.parametrize("kind", ["kl", "symmetric-kl"])
@pytest.mark.parametrize("build", [tiny.shared_transformer, tiny.lstm])
def test_gradient_of_other_models(build: Any, kind: str, monkeypatch: Any) -> None:
    method = salt("sgd", divergence=kind, ascent_steps=2, unroll_steps=2)
    check(prove(method, build().double(), tiny.batch(), monkeypatch))


@pytest.mark.parametrize("rule", RULES)
def test_without_unrolling_it_is_the_derivative_with_delta_frozen(
    rule: str, monkeypatch: Any
) -> None:
    """That is, VAT's is, by any rule."""
    model, sample = tiny.transformer().double(), tiny.batch()
    method = without_interaction(salt(rule, ascent_steps=2))
    frozen = FrozenClimbs(monkeypatch)
    objective(method, model, sample)
    value = frozen.replaying(lambda: objective(method, model, sample))
    along = directions(model)
    expected = [directional_derivative(value, model, d) for d in along]
    frozen.replayed = None
    assert relative_error(method, model, sample, expected, along) < 1e-6


@pytest.mark.parametrize("rule", ["sgd", "normalized"])
def test_the_interaction_is_not_negligible_in_these_proofs(rule: str) -> None:
    """Else the proofs above would pass without it."""
    model, sample = tiny.transformer().double(), tiny.batch()
    method = salt(rule)
    with_it = gradient(method, model, sample)
    without = gradient(without_interaction(method), model, sample)
    assert distance(with_it, without) > 0.05


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("clean", ["detached", "differentiated"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    "build", [tiny.transformer, tiny.shared_transformer, tiny.lstm, tiny.convolutional]
)
def test_the_three_ways_agree(build: Any, dropout: float, clean: str, masks: str) -> None:
    """Also with dropout on: the points of a difference see the masks of their ascent step."""
    model, sample = build(dropout=dropout).double(), tiny.batch()
    method = salt(clean_branch=clean, dropout_masks=masks, ascent_steps=2, unroll_steps=2)
    exact = gradient(method, model, sample)
    for way in ("central", "one-sided"):
        errors = [
            distance(
                gradient(replace(method, unroll_method=way, difference_radius=r), model, sample),
                exact,
            )
            for r in RADII[way]
        ]
        assert min(errors) < TOLERANCE[way], (way, errors)


@pytest.mark.parametrize("way", TOLERANCE)
@pytest.mark.parametrize("build", [tiny.transformer, tiny.lstm, tiny.convolutional])
@pytest.mark.parametrize("rule", ["normalized", "adam"])
def test_padding_changes_nothing(
    build: Any,
    way: str,
    rule: str,
    noise_by_position: None,  # noqa: F811
) -> None:
    """A sentence alone, and padded in a batch, get the same delta and the same gradient.

    Differences are taken over a radius of the whole batch: one-sided ones are off by as much.
    """
    lengths = ((6, 3), (4, 7), (2, 5))
    model = build().double()
    method = salt(rule, unroll_method=way, difference_radius=1e-6, ascent_steps=2, unroll_steps=2)

    def play(sample: dict[str, Any]) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
        game = tiny.game(model, sample)
        model.zero_grad(set_to_none=True)
        step = method.step(game, tiny.accumulate, weight=0.7)
        masks = {side: game.sites[side].mask.squeeze(-1) for side in step.delta}
        words = {
            side: [d[keep] for d, keep in zip(delta, masks[side], strict=True)]
            for side, delta in step.delta.items()
        }
        for side, delta in step.delta.items():
            assert not delta[~masks[side]].any(), "padding was perturbed"
        return words, [
            torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()
        ]

    together, gradient_together = play(tiny.batch(lengths))
    total = [torch.zeros_like(g) for g in gradient_together]
    for i, length in enumerate(lengths):
        alone, gradient_alone = play(tiny.batch([length], seed=3 + i))
        for side in alone:
            torch.testing.assert_close(alone[side][0], together[side][i], rtol=1e-9, atol=1e-12)
        total = [t + g for t, g in zip(total, gradient_alone, strict=True)]
    assert distance(total, gradient_together) < (1e-9 if way == "exact" else 1e-5)


@pytest.mark.parametrize("way", TOLERANCE)
@pytest.mark.parametrize("clean", ["detached", "differentiated"])
@pytest.mark.parametrize("kind", ["kl", "symmetric-kl"])
@pytest.mark.parametrize("build", [tiny.transformer, tiny.lstm, tiny.convolutional])
def test_with_radius_zero_it_is_the_plain_step_exactly(
    build: Any, way: str, clean: str, kind: str
) -> None:
    """Where clean and perturbed pass have the same masks; else they differ by their masks."""
    model, sample = build(dropout=0.3), tiny.batch()
    method = salt(
        epsilon=0.0, unroll_method=way, clean_branch=clean, divergence=kind, dropout_masks="shared"
    )
    game = tiny.game(model, sample)
    torch.manual_seed(7)
    tiny.accumulate(evaluate(game.task_loss(game.clean({}))))
    plain = [p.grad.clone() for p in model.parameters()]
    for ours, theirs in zip(gradient(method, model, sample), plain, strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_add_to_what_was_accumulated_before() -> None:
    """As with --update-freq: two batches, one after the other, give the sum of their gradients."""
    model, samples = tiny.transformer().double(), [tiny.batch(), tiny.batch(seed=20)]
    method = salt()
    first, second = (gradient(method, model, sample) for sample in samples)
    model.zero_grad(set_to_none=True)
    for sample in samples:
        torch.manual_seed(7)
        method.step(tiny.game(model, sample), tiny.accumulate, weight=0.7)
    for p, a, b in zip(model.parameters(), first, second, strict=True):
        torch.testing.assert_close(p.grad, a + b)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_a_difference_over_nothing_is_refused(radius: float) -> None:
    with pytest.raises(InvalidSetting, match="difference_radius"):
        salt(unroll_method="central", difference_radius=radius)


@pytest.mark.parametrize("build", [tiny.transformer, tiny.lstm])
def test_double_backward_works_in_float32(
    build: Any,
    noise_by_position: None,  # noqa: F811
) -> None:
    """The kernels that fused attention and LSTMs use by default have no double backward."""
    model, sample = build(), tiny.batch()
    found = [g.double() for g in gradient(salt(), model, sample)]
    with tiny.float64_throughout():
        expected = gradient(salt(), model.double(), sample)
    assert distance(found, expected) < 3e-4  # 2e-5 where it is most sensitive
