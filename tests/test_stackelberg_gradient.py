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

from fairseq_adv.core.follower import RULES, Follower
from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.core.stackelberg import Ascent
from tests import tiny

RADII = [10.0**-k for k in range(1, 8)]
TOLERANCE = {"exact": 1e-6, "central": 1e-5, "one-sided": 1e-3}
STEP_SIZE = {"sgd": 2.0, "normalized": 0.3, "sign": 0.02, "adam": 0.02}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


def salt(rule: str = "normalized", norm: str = "l2", **options: Any) -> SALT:
    """SALT in a game where the ball cuts off some sentences and components and not others."""
    names = {f.name for f in Follower.__dataclass_fields__.values()}
    follower = {
        "perturb": "both",
        "epsilon": 0.35 if norm == "l2" else 0.05,
        "norm": norm,
        "norm_scope": "sentence",
        "init_std": 0.05,
        "ascent_steps": 1,
        "ascent_step_size": STEP_SIZE[rule],
        "ascent_rule": rule,
    } | {k: v for k, v in options.items() if k in names}
    method = {
        "divergence": "symmetric-kl",
        "clean_branch": "differentiated",
        "dropout_masks": "independent",
        "unroll_steps": follower["ascent_steps"],
        "unroll_method": "exact",
    } | {k: v for k, v in options.items() if k not in names}
    return SALT(follower=Follower(**follower), **method)  # type: ignore[arg-type]


def gradient(method: SALT, model: Any, sample: dict[str, Any], seed: int = 7) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    step = method.step(tiny.game(model, sample), tiny.accumulate, weight=0.7)
    tiny.accumulate(step.last)
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def objective(method: SALT, model: Any, sample: dict[str, Any], seed: int = 7) -> float:
    torch.manual_seed(seed)
    step = method.step(tiny.game(model, sample), tiny.accumulate, weight=0.7)
    return float(step.objective)


def directions(model: Any, count: int = 2) -> list[list[Tensor]]:
    """Random unit directions in theta; 0 in the embeddings of padding, which have no gradient."""
    pads = {
        id(m.weight): m.padding_idx
        for m in model.modules()
        if isinstance(m, torch.nn.Embedding) and m.padding_idx is not None
    }
    generator = torch.Generator().manual_seed(5)
    result = []
    for _ in range(count):
        direction = []
        for p in model.parameters():
            d = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            if id(p) in pads:
                d[pads[id(p)]] = 0.0
            direction.append(d)
        length = float(torch.stack([d.norm() for d in direction]).norm())
        result.append([d / length for d in direction])
    return result


def directional_derivative(
    value: Callable[[], float], model: Any, direction: list[Tensor], h: float = 2e-5
) -> float:
    """Five-point stencil: error O(h^4)."""

    def at(t: float) -> float:
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction, strict=True):
                p.add_(d, alpha=t)
        try:
            return value()
        finally:
            with torch.no_grad():
                for p, d in zip(model.parameters(), direction, strict=True):
                    p.add_(d, alpha=-t)

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


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
    method: SALT,
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
        for radius in RADII if way != "exact" else RADII[:1]:
            attempt = replace(method, unroll_method=way, difference_radius=radius)  # type: ignore[arg-type]
            error = relative_error(attempt, model, sample, expected, along)
            errors[way] = min(error, errors.get(way, float("inf")))
            if errors[way] <= TOLERANCE[way]:
                break
    return errors


def check(errors: dict[str, float]) -> None:
    assert {way: e for way, e in errors.items() if not e <= TOLERANCE[way]} == {}


GRID = list(
    itertools.product(
        RULES,
        ("l2", "linf"),
        ("sentence", "token"),
        ((1, 1), (2, 1), (2, 2), (3, 2)),
        ("source", "target", "both"),
    )
)


@pytest.mark.parametrize(("rule", "norm", "scope", "steps", "side"), GRID)
def test_gradient_is_the_derivative_of_the_reported_objective(
    rule: str, norm: str, scope: str, steps: tuple[int, int], side: str, monkeypatch: Any
) -> None:
    model = tiny.transformer().double()
    method = salt(
        rule,
        norm,
        norm_scope=scope,
        perturb=side,
        ascent_steps=steps[0],
        unroll_steps=steps[1],
    )
    check(prove(method, model, tiny.batch(), monkeypatch))
