"""The table of methods: a row each, and what the tests of `test_methods.py` need to know of it.

A new method gets all of those tests by a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core.follower import sides_of
from fairseq_adv.core.game import Side, Step
from fairseq_adv.core.perturbation import WordPlace
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.games.fairseq_game import FairseqGame
from tests.methods import naive
from tests.support import tiny


@dataclass(frozen=True)
class Row:
    """One method, or one way to play it.

    :param criterion: its name in fairseq.
    :param naive: the paper's algorithm, in `tests/methods/naive.py`.
    :param options: of the criterion, for small and lively games: steps that leave the ball for some
        sentences and not for others. Both arguments of divergences are differentiated.
    :param total: whether its update is the objective's total derivative; else it is the derivative
        with the follower's answers held constant.
    :param passes: forward passes whose dropout masks are drawn, beside the clean one.
    :param at_rest: options with which nothing is perturbed.
    :param factor: how many times the plain gradient, per token, the method then gives.
    :param ball: whether it has perturbations, in a ball.
    :param training: options of fairseq-train that it needs.
    """

    criterion: str
    naive: Callable[..., tuple[Tensor, list[Tensor]]]
    options: dict[str, Any] = field(default_factory=dict)
    total: bool = False
    passes: int = 1
    at_rest: dict[str, Any] = field(default_factory=lambda: {"epsilon": 0.0})
    factor: float = 1.0
    ball: bool = True
    training: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        objective = self.options.get("adv_objective")
        return self.criterion if objective is None else f"{self.criterion}-{objective}"


WEIGHT = 0.7
BALL = {"adv_weight": WEIGHT, "epsilon": 0.35}
STEP = {**BALL, "ascent_step_size": 0.3}
ASCENT = {**STEP, "init_std": 0.05, "ascent_steps": 2}
DIVERGENCE = {"adv_objective": "divergence"}
TASK_LOSS = {"adv_objective": "task-loss"}
DIFFERENTIATED = {"clean_branch": "differentiated"}

ROWS = [
    Row("salt", naive.salt, ASCENT, total=True, passes=3),
    Row("vat", naive.vat, ASCENT, passes=3),
    Row(
        "smart",
        naive.smart,
        {**ASCENT, "proximal_weight": 0.4},
        passes=3,
        at_rest={"epsilon": 0.0, "proximal_weight": 0.0},
        training=("--store-ema", "--ema-decay", "0.9"),
    ),
    Row("adv", naive.adv, BALL, factor=1 + WEIGHT),
    Row("freelb", naive.freelb, {**STEP, **DIVERGENCE, "ascent_steps": 3}, passes=3),
    Row("freelb", naive.freelb_task_loss, {**STEP, **TASK_LOSS, "ascent_steps": 3}, passes=3),
    Row("freeat", naive.freeat, {**STEP, **TASK_LOSS, "adv_weight": 1.0, "replays": 3}),
    Row("freeat", naive.freeat_divergence, {**STEP, **DIVERGENCE, "replays": 3}),
    Row("rdrop", naive.rdrop, {"adv_weight": WEIGHT}, total=True, at_rest={}, ball=False),
    Row(
        "simcut",
        naive.simcut,
        {"adv_weight": WEIGHT, "cutoff_rate": 0.4},
        total=True,
        at_rest={"cutoff_rate": 0.0},
        ball=False,
    ),
]

every_method = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


NOISE = torch.randn(64, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture
def noise_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random starts and cut-offs that depend on a word's position in its sentence only."""
    place_noise(monkeypatch)


def place_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """See the fixture."""

    def start(zero: Tensor, non_pad: Tensor, scale: float, *ball: Any) -> Tensor:
        size = 0.05 if ball else scale
        noise = NOISE[non_pad.cumsum(1), : zero.size(2)]
        return (noise * size * non_pad.unsqueeze(-1)).to(zero.dtype)

    def kept(non_pad: Tensor, rate: float, spared: WordPlace) -> Tensor:
        number = non_pad.cumsum(1)
        spare = number == (1 if spared == "first" else number[:, -1:])
        uniform = NOISE[number, 0].abs() % 1
        return (uniform >= rate) | spare | ~non_pad

    monkeypatch.setattr("fairseq_adv.core.follower.gaussian", start)
    monkeypatch.setattr("fairseq_adv.core.follower.uniform", start)
    monkeypatch.setattr("fairseq_adv.core.methods.simcut.kept_words", kept)


class Masks:
    """Replaces the drawing of dropout masks by states of known seeds, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seeds: Iterator[int] = iter(())
        monkeypatch.setattr(RandomState, "draw", self._draw)

    def _draw(self) -> RandomState:
        with RandomState.capture().replay():
            torch.manual_seed(next(self.seeds))
            return RandomState.capture()


class Waiting:
    """A memory as of a batch that was played before: small perturbations wait in it."""

    def __init__(self, game: FairseqGame, perturb: str) -> None:
        self.game = game
        self.sides: tuple[Side, ...] = sides_of(perturb)  # type: ignore[arg-type]

    def recall(self, sample: dict[str, Any]) -> dict[Side, Tensor]:
        found = {}
        for side in self.sides:
            non_pad = self.game.non_pad(side)
            places = non_pad.cumsum(1) + (20 if side == "source" else 0)
            noise = NOISE[places, : self.game.zero_delta(side).size(2)]
            found[side] = 0.02 * noise * non_pad.unsqueeze(-1)
        return found

    def remember(self, sample: dict[str, Any], delta: dict[Side, Tensor]) -> None:
        pass


class Match:
    """A row's method, and a model that it is played on, in float64.

    :param options: in addition to the row's.
    """

    def __init__(
        self, row: Row, build: Callable[..., Any] = tiny.transformer, **options: Any
    ) -> None:
        dropout = options.pop("dropout", 0.0)
        torch.manual_seed(1)  # fairseq's initial biases are random
        self.row = row
        self.criterion = tiny.criterion(row.criterion, **{**row.options, **options})
        self.model = build(dropout=dropout).double()
        self.reference = build(dropout=dropout).double()
        with torch.no_grad():
            for parameter in self.reference.parameters():
                parameter *= 0.9

    @property
    def weight(self) -> float:
        return float(self.criterion.cfg.adv_weight)

    def play(self, sample: dict[str, Any], *, memory: Any = None, gauges: bool = False) -> Step:
        """One game from a known random state. The gradient is in `gradient`, the game in `game`."""
        self.model.zero_grad(set_to_none=True)
        torch.manual_seed(CLEAN_SEED)
        self.game = FairseqGame(
            self.model, sample, self.criterion, reference_model=self.reference, memory=memory
        )
        if memory is None and self.row.criterion == "freeat":
            perturb = str(self.criterion.cfg.perturb)
            self.game.memory = Waiting(self.game, perturb)  # type: ignore[assignment]
        step = self.criterion.method.step(
            self.game, tiny.accumulate, weight=self.weight, gauges=gauges
        )
        step.finish(tiny.accumulate)
        if memory is not None:
            memory.end_update()
        self.gradient = [
            torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for p in self.model.parameters()
        ]
        return step


CLEAN_SEED = 7
