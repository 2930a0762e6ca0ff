"""The table of methods: a row each, and what the tests beside it need to know of it.

A new method gets all of those tests by a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core.method import Step
from fairseq_adv.core.players.ball import Ball
from fairseq_adv.core.players.start import Gaussian, Noise, Sphere, Start, Uniform
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.sites import Delta, Site
from fairseq_adv.criterions.common.options import sites
from fairseq_adv.games.game import FairseqGame
from tests.methods import naive
from tests.support import sentences, tiny


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
    :param variant: of the criterion, for the row's name.
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
    variant: str | None = None

    @property
    def name(self) -> str:
        variant = self.variant or self.options.get("adv_objective")
        return self.criterion if variant is None else f"{self.criterion}-{variant}"


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
    Row(
        "mat",
        naive.mat,
        {
            **STEP,
            "init_std": 0.05,
            "follower_samples": 2,
            "follower_mean_decay": 0.3,
            "leader_samples": 3,
            "leader_mean_decay": 0.4,
            "thermal_noise": 0.0,
        },
        passes=3,
    ),
    Row(
        "adv",
        naive.random_perturbation,
        {**BALL, "ascent_steps": 0},
        total=True,
        factor=1 + WEIGHT,
        variant="random",
    ),
    Row(
        "r3f",
        naive.r3f,
        {"adv_weight": WEIGHT, "noise_size": 0.05},
        total=True,
        at_rest={"noise_size": 0.0},
        ball=False,
    ),
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
PLAINEST = ("adv-random", "r3f")
"""Without ascent or memory: they train as `adv` and `rdrop` do."""


def row_named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def elsewhere(name: str, variant: str, **options: Any) -> Row:
    row = row_named(name)
    return replace(row, options=row.options | options, variant=variant)


TRAINED = [
    *ROWS,
    elsewhere("salt", "on-attention", perturb="source,attention", attention_epsilon=0.5),
    # What waits between its replays is in coordinates of directions.
    elsewhere(
        "freeat-task-loss", "on-differences", perturb="attention", directions="raw-differences"
    ),
]
"""What whole trainings are made of: every method, and other places of attack."""


def trained(quick: Collection[str], rows: Sequence[Row] = TRAINED) -> Any:
    """A training of each; those that are not among the quick ones are slow tests."""
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(row, id=row.name, marks=[] if row.name in quick else pytest.mark.slow)
            for row in rows
        ],
    )


def trained_of_kinds(quick: Mapping[str, Collection[str]], rows: Sequence[Row] = TRAINED) -> Any:
    """The same of each kind of task: of some kinds, other ones are quick."""
    return pytest.mark.parametrize(
        ("row", "kind"),
        [
            pytest.param(
                row,
                kind,
                id=f"{kind}-{row.name}",
                marks=[] if row.name in of_kind else pytest.mark.slow,
            )
            for kind, of_kind in quick.items()
            for row in rows
        ],
        indirect=["kind"],
    )


@dataclass(frozen=True)
class Kind:
    """A kind of model, and of what it predicts. Called, it makes one."""

    build: Callable[..., Any]
    family: tiny.Family = tiny.TRANSLATION

    def __call__(self, **options: Any) -> Any:
        return self.build(**options)


MODELS = {
    "transformer": Kind(tiny.transformer),
    "decoder-shared": Kind(partial(tiny.transformer, share_decoder_input_output_embed=True)),
    "all-shared": Kind(tiny.shared_transformer),
    "lstm": Kind(tiny.lstm),
    "convolutional": Kind(tiny.convolutional),
    "two-classes": Kind(sentences.roberta, sentences.TWO),
    "three-classes": Kind(partial(sentences.bert, outputs=3), sentences.THREE),
    "numbers": Kind(partial(sentences.roberta, outputs=1), sentences.NUMBER),
    "attended-texts": Kind(sentences.attention_classifier, sentences.TEXTS),
    "attended-pairs": Kind(
        partial(sentences.attention_classifier, outputs=3, pairs=True), sentences.PAIRS
    ),
}
TRANSFORMER = MODELS["transformer"]
FEW = ("transformer", "two-classes", "numbers", "attended-pairs")
"""Models that suffice for the plainest methods."""


def is_tried(row: Row, model: str) -> bool:
    return row.name not in PLAINEST or model in FEW


def every_method_on(models: Iterable[str]) -> Any:
    return pytest.mark.parametrize(
        ("row", "model"),
        [
            pytest.param(row, model, id=f"{model}-{row.name}")
            for model in models
            for row in ROWS
            if is_tried(row, model)
        ],
    )


every_family = pytest.mark.parametrize("model", ("transformer", "two-classes", "numbers"))
"""A model for each kind of prediction."""


NOISE = torch.randn(64, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture
def noise_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random starts and cut-offs that depend on a word's position in its sentence only."""
    place_noise(monkeypatch)


def place_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """See the fixture."""

    def draw(start: Start, site: Site, ball: Ball) -> Tensor:
        size = 0.05
        if isinstance(start, Gaussian):
            size = start.init_std
        elif isinstance(start, Noise):
            size = start.noise_size
        noise = by_position(site) * size
        if isinstance(start, Sphere):
            noise = noise * ball.epsilon / ball.norm_of(noise).clamp(min=1e-9)
        return noise.to(site.zero.dtype)

    def kept(site: Site, rate: float) -> Tensor:
        uniform = NOISE[site.mask.cumsum(1), 0].abs() % 1
        return (uniform >= rate) | site.spared | ~site.mask

    for start in (Gaussian, Noise, Sphere, Uniform):
        monkeypatch.setattr(start, "draw", draw)
    monkeypatch.setattr("fairseq_adv.core.methods.simcut.kept_words", kept)


def by_position(site: Site, shift: int = 0) -> Tensor:
    """Noise that depends on a word's position in its sentence only: B x T x C, in float64.

    Of scores, on which of those that there are it is.
    """
    if site.mask.size(2) > 1:
        places = site.mask.any(2, keepdim=True).cumsum(1) * 131 + site.mask.cumsum(2) * 17
        return NOISE.flatten()[(places + shift) % NOISE.numel()] * site.mask
    places = site.mask.squeeze(-1).cumsum(1) + shift
    return NOISE[places, : site.zero.size(2)] * site.mask


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
    """A memory as of batches that were played before: small perturbations wait in it."""

    def __init__(self, match: Match, dtype: torch.dtype = torch.float64) -> None:
        self.match = match
        self.dtype = dtype

    def of(self, sample: dict[str, Any]) -> WaitingForOne:
        game = self.match.game_on(sample)
        found = {}
        for name in sites(self.match.criterion.cfg, game.words):
            shift = 20 if name == "source" else 0
            found[name] = (0.02 * by_position(game.sites[name], shift)).to(self.dtype)
        return WaitingForOne(found)


@dataclass(frozen=True)
class WaitingForOne:
    """The perturbation of one batch, which stays as it is."""

    delta: Delta

    def recall(self) -> Delta:
        return self.delta

    def remember(self, delta: Delta) -> None:
        pass


class Match:
    """A row's method, and a model that it is played on, in float64.

    :param kind: of model; a function that makes one makes a translation model.
    :param options: in addition to the row's.
    """

    def __init__(
        self, row: Row, kind: Kind | Callable[..., Any] = TRANSFORMER, **options: Any
    ) -> None:
        kind = kind if isinstance(kind, Kind) else Kind(kind)
        dropout = options.pop("dropout", 0.0)
        torch.manual_seed(1)  # fairseq's initial biases are random
        self.row = row
        self.family = kind.family
        self.batch = kind.family.batch
        self.criterion = self.family.criterion(row.criterion, **{**row.options, **options})
        self.model = kind(dropout=dropout).double()
        self.reference = kind(dropout=dropout).double()
        with torch.no_grad():
            for parameter in self.reference.parameters():
                parameter *= 0.9
        self.memory = Waiting(self) if row.criterion == "freeat" else None

    @property
    def weight(self) -> float:
        return float(self.criterion.cfg.adv_weight)

    def play(self, sample: dict[str, Any], *, memory: Any = None, gauges: bool = False) -> Step:
        """One game from a known random state. The gradient is in `gradient`, the game in `game`."""
        self.model.zero_grad(set_to_none=True)
        torch.manual_seed(CLEAN_SEED)
        self.game = self.game_on(sample)
        step = self.criterion.method.step(
            self.game,
            tiny.accumulate,
            weight=self.weight,
            gauges=gauges,
            **self.beside(self.game, self.memory if memory is None else memory),
        )
        if memory is not None:
            memory.end_update()
        self.gradient = [
            torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for p in self.model.parameters()
        ]
        return step

    def game_on(self, sample: dict[str, Any], *, autocast: bool = False) -> FairseqGame:
        """The game of the criterion on a batch."""
        made: FairseqGame = self.criterion.game_on(self.model, sample, autocast)
        return made

    def beside(self, game: FairseqGame, memory: Any) -> dict[str, Any]:
        """What the method asks for beside the game."""
        return self.criterion.beside(game, reference_model=self.reference, memory=memory)


CLEAN_SEED = 7
