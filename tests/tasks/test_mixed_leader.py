"""MAT's Algorithm 2 in fairseq's trainer, beside a loop that is written from the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fairseq.logging import metrics
from fairseq.optim.adam import Adam
from torch import Tensor

from fairseq_adv.core.players import follower
from fairseq_adv.core.players.mixed import MixedLeader, langevin_noise
from fairseq_adv.core.players.start import Gaussian
from fairseq_adv.trainer.mixed_leader import SampledLeader
from tests.methods import naive
from tests.methods.method_table import MODELS, Row, row_named
from tests.support import tiny, training
from tests.support.updates import LEARNING_RATE, options_of, parameters, trainer, update

MAT = row_named("mat")
SEED = 5
NOISE = 0.05


def mat(**options: Any) -> Row:
    return replace(MAT, options=MAT.options | options)


@pytest.fixture
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


# ---- The algorithm -------------------------------------------------------------------------------


def algorithm_2(
    model: Any, samples: list[Any], row: Row, groups: int, optimizer: torch.optim.Optimizer
) -> None:
    """On one group of batches, accumulated, again and again; what comes of it is in the model."""
    options = row.options
    beta, k = options["leader_mean_decay"], options["leader_samples"]
    epsilon, weight = options["thermal_noise"], options["adv_weight"]
    live = list(model.parameters())
    words = sum(
        sample["ntokens" if hasattr(model, "decoder") else "nsentences"] for sample in samples
    )
    for group in range(groups):
        start = [p.detach().clone() for p in live]  # theta_t
        bar = [p.detach().clone() for p in live]
        deltas = [_delta_bar(model, sample, options) for sample in samples]
        for number in range(k):
            objective = torch.zeros((), dtype=live[0].dtype)
            for sample, delta in zip(samples, deltas, strict=True):
                clean = naive.log_probs(model, sample, 0)
                perturbed = naive.log_probs(model, sample, 0, delta)
                objective = objective + naive.task_loss(clean, sample)
                objective = objective + weight * naive.half_symmetric(clean, perturbed)
            optimizer.zero_grad()
            (objective / words).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            generator = torch.Generator().manual_seed((SEED << 32) + group * k + number + 1)
            with torch.no_grad():
                for i, p in enumerate(live):
                    xi = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                    p += (2 * LEARNING_RATE) ** 0.5 * epsilon * xi
                    bar[i] = beta * bar[i] + (1 - beta) * p  # line 10
        with torch.no_grad():
            for p, s, b in zip(live, start, bar, strict=True):
                p.copy_(beta * s + (1 - beta) * b)  # line 12


def drawn(like: Tensor) -> Tensor:
    """What stands for xi of the follower, of one sentence."""
    return torch.linspace(-1, 2, like.numel(), dtype=like.dtype).view(like.shape)


def _delta_bar(model: Any, sample: Any, options: dict[str, Any]) -> dict[str, Tensor]:
    """Lines 2 to 6, by normalized steps, and projected."""
    words = {"source": "src_tokens", "target": "prev_output_tokens"}
    tokens = {side: sample["net_input"].get(name) for side, name in words.items()}
    delta = {
        side: 0.02 * drawn(torch.zeros(*known.shape, 8, dtype=torch.float64))
        for side, known in tokens.items()
        if known is not None and (side == "source" or hasattr(model, "decoder"))
    }
    s = naive.Settings(weight=1.0, sides=list(delta), epsilon=options["epsilon"])
    decay, size = options["follower_mean_decay"], options["ascent_step_size"]
    mean = {side: naive.projected(d, s) for side, d in delta.items()}
    for _ in range(options["follower_samples"]):
        leaf = naive.leaves(delta)
        clean = naive.log_probs(model, sample, 0)
        value = naive.half_symmetric(clean, naive.log_probs(model, sample, 0, leaf))
        for side, g in zip(leaf, torch.autograd.grad(value, list(leaf.values())), strict=True):
            noise = (2 * size) ** 0.5 * options["thermal_noise"] * drawn(g)
            moved = delta[side] + size * g / g.norm() + noise
            delta[side] = naive.projected(moved, s)  # line 4
            mean[side] = decay * mean[side] + (1 - decay) * delta[side]  # line 5
    return mean


@pytest.fixture
def known_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the follower: where it starts, and its noise."""

    def start(of: Gaussian, site: Any, ball: Any) -> Tensor:
        return 0.02 * drawn(site.zero)

    def noise(like: Tensor, step_size: float, epsilon: float) -> Tensor:
        return drawn(like) * (2 * step_size) ** 0.5 * epsilon

    monkeypatch.setattr(Gaussian, "draw", start)
    monkeypatch.setattr(follower, "langevin_noise", noise)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("kind", "weight"), [("transformer", 0.7), ("two-classes", 0.7), ("transformer", 0.0)]
)
def test_a_training_is_the_papers_algorithm(
    samples: int, optimizer: str, kind: str, weight: float, _float64: None, known_draws: None
) -> None:
    """Parameters after two groups of two accumulated batches, with noise.

    Without weight there is no follower, and the leader is the mean of samples of plain training.
    """
    row = mat(leader_samples=samples, thermal_noise=NOISE, adv_weight=weight)
    torch.manual_seed(1)
    model, other = (MODELS[kind](dropout=0.0).double() for _ in range(2))
    other.load_state_dict(model.state_dict())
    family = MODELS[kind].family
    batches = [family.batch([(5, 4)], seed=3), family.batch([(5, 4)], seed=4)]
    batches[1]["id"] = batches[1]["id"] + 1
    chosen = ["--optimizer", optimizer, "--lr", str(LEARNING_RATE), "--seed", str(SEED)]
    # Else it makes steps of the rounding of gradients that are 0.
    chosen += ["--adam-eps", "1e-2", "--adam-betas", "(0.9, 0.98)"] if optimizer == "adam" else []
    made = trainer(row, model, *chosen, "--update-freq", "2", family=family)
    for _ in range(2 * samples):
        update(made, batches)
    rate: dict[str, Any] = {"lr": LEARNING_RATE}
    naive_optimizer = (
        torch.optim.SGD(other.parameters(), **rate)
        if optimizer == "sgd"
        else Adam(other.parameters(), betas=(0.9, 0.98), eps=1e-2, **rate)
    )
    algorithm_2(other, batches, row, 2, naive_optimizer)
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9, msg=name)


def test_one_sample_each_without_noise_and_mean_is_vat(toy_data: Path, tmp_path: Path) -> None:
    """A whole training, to the last bit."""
    common = {"epsilon": 0.35, "ascent_step_size": 0.3, "init_std": 0.05, "adv_weight": 0.7}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in common.items()]
    options += ["--divergence=symmetric-kl", "--clean-branch=differentiated", "--max-update=7"]
    alone = ["--leader-samples=1", "--follower-samples=1", "--thermal-noise=0"]
    alone += ["--leader-mean-decay=0", "--follower-mean-decay=0"]
    training.run_training(toy_data, tmp_path / "vat", *options, criterion="vat")
    training.run_training(toy_data, tmp_path / "mat", *options, *alone, criterion="mat")
    vat, found = (training.state(tmp_path / name)["model"] for name in ("vat", "mat"))
    assert all(torch.equal(found[name], value) for name, value in vat.items())


def test_langevin_dynamics_has_the_variance_of_theory() -> None:
    """z <- z - gamma z / s^2 + sqrt(2 gamma) xi is an autoregression, whose variance is known.

    Of 40,000 independent chains the variance's standard error is sqrt(2 / 40,000), 0.7 %.
    """
    gamma, square = 0.1, 0.5
    z = torch.zeros(40_000, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        z = z - gamma * z / square + langevin_noise(z, gamma, 1.0, generator)
    expected = 2 * gamma / (1 - (1 - gamma / square) ** 2)
    assert expected == pytest.approx(square, rel=0.12), "which is s^2 for small gamma"
    assert float(z.var()) == pytest.approx(expected, rel=4 * (2 / 40_000) ** 0.5)
    assert abs(float(z.mean())) < 4 * (expected / 40_000) ** 0.5


# ---- In a training -------------------------------------------------------------------------------


class Trainer:
    """What a leader looks at: one parameter, and an optimizer that adds 1 to it."""

    def __init__(self, *values: float, kind: torch.dtype = torch.float64) -> None:
        self.parameter = torch.nn.Parameter(torch.tensor(values, dtype=kind))
        self.optimizer = SimpleNamespace(params=[self.parameter])
        self.cfg = SimpleNamespace(common=SimpleNamespace(seed=1))
        self.updates = 0

    def get_lr(self) -> float:
        return 0.5

    def get_num_updates(self) -> int:
        return self.updates

    def update(self, leader: SampledLeader, replay: int, step: float, skip: bool = False) -> None:
        leader.begin_update(self, replay)
        if not skip:
            self.parameter.data += step
            self.updates += 1
        leader.end_update(self, replay, skipped=skip)

    @property
    def values(self) -> list[float]:
        return self.parameter.tolist()


def strategy(samples: int, decay: float = 0.5, noise: float = 0.0) -> MixedLeader:
    return MixedLeader(leader_samples=samples, leader_mean_decay=decay, thermal_noise=noise)


def test_means_by_hand() -> None:
    """From 0 by steps of 8: samples 8, 16; theta-bar 4, 10; theta 5."""
    leader, made = SampledLeader(strategy(2), 0), Trainer(0.0)
    made.update(leader, 0, 8.0)
    assert made.values == [8.0]
    made.update(leader, 1, 8.0)
    assert made.values == [5.0]


@pytest.mark.parametrize("skipped", [0, 1, 2])
def test_a_skipped_sample_is_as_one_that_was_not_drawn(skipped: int) -> None:
    """The two that are left are those of a group of two."""
    leader, made = SampledLeader(strategy(3), 0), Trainer(0.0)
    for replay in range(3):
        made.update(leader, replay, 8.0, skip=replay == skipped)
    assert made.values == [5.0]
    none, still = SampledLeader(strategy(2), 0), Trainer(3.0)
    for replay in range(2):
        still.update(none, replay, 8.0, skip=True)
    assert still.values == [3.0]


def test_what_is_shown_is_never_a_sample() -> None:
    leader, made = SampledLeader(strategy(2, decay=0.5), 0), Trainer(0.0)
    made.update(leader, 0, 8.0)
    for _ in range(2):  # validation, and then a checkpoint
        leader.show_start(made)
        assert made.values == [0.0]
    state = leader.state_dict()
    made.update(leader, 1, 8.0)
    assert made.values == [5.0], "it went on from the sample"
    leader.show_start(made)
    assert made.values == [5.0], "between groups there is no other"

    resumed, again = SampledLeader(strategy(2), 0), Trainer(0.0)
    resumed.load_state_dict(state)
    again.updates = 1
    again.update(resumed, 1, 8.0)
    assert again.values == [5.0]


def test_means_of_16_bits_do_not_stay_where_they_are() -> None:
    """Where there are no masters: steps far below what bfloat16 resolves in a mean."""
    leader, made = SampledLeader(strategy(2, decay=0.9), 0), Trainer(256.0, kind=torch.bfloat16)
    for replay in range(2):
        made.update(leader, replay, 200.0)
    mean = 256 + 0.9 * 20 + 0.1 * 400
    assert made.values == [float(torch.tensor(0.9 * 256 + 0.1 * mean).bfloat16())]


def test_gauges_by_hand() -> None:
    """Of two samples, 8 and 16 from 0: theta-bar 10, theta 5; noise of known draws."""
    leader, made = SampledLeader(strategy(2), 1), Trainer(0.0)
    with metrics.aggregate(new_root=True) as log:
        made.update(leader, 0, 8.0)
        made.update(leader, 1, 8.0)
    found = log.get_smoothed_values()
    assert found["leader_spread"] == pytest.approx(((2**2 + 6**2) / 2) ** 0.5 / 5, abs=1e-6)
    assert found["noise_share"] == 0
    loud, noisy = SampledLeader(strategy(1, noise=0.1), 1), Trainer(0.0, 0.0)
    with metrics.aggregate(new_root=True) as log:
        noisy.update(loud, 0, 2.0)
    xi = langevin_noise(noisy.parameter, 0.5, 0.1, torch.Generator().manual_seed((1 << 32) + 1))
    share = float(xi.norm()) / 8**0.5
    assert log.get_smoothed_values()["noise_share"] == pytest.approx(share, abs=1e-6)
    quiet = SampledLeader(strategy(2), 0)
    with metrics.aggregate(new_root=True) as log:
        Trainer(0.0).update(quiet, 0, 1.0)
        assert "leader_spread" not in log.get_smoothed_values()


def test_validation_in_mid_group_is_of_the_mean(toy_data: Path, tmp_path: Path) -> None:
    """Validated and saved after each update: of a group of three it is the same model, twice."""
    options = [*options_of(mat(thermal_noise=0.01)), "--max-update", "5"]
    options += ["--save-interval-updates", "1", "--validate-interval-updates", "1"]
    training.run_training(toy_data, tmp_path, *options, criterion="mat")

    def at(number: int) -> dict[str, Tensor]:
        (path,) = tmp_path.glob(f"checkpoint_*_{number}.pt")
        model: dict[str, Tensor] = torch.load(path, weights_only=False)["model"]
        return model

    first, second, third, fourth = (at(number) for number in (1, 2, 3, 4))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    assert any(not torch.equal(first[name], value) for name, value in third.items())
    assert all(torch.equal(third[name], value) for name, value in fourth.items())


@pytest.mark.parametrize("option", ["--bf16", "--amp"])
def test_in_16_bits_it_is_nearly_the_same(option: str) -> None:
    """Masters are what is averaged: the model follows them."""
    found = []
    for chosen in ((), (option,)):
        torch.manual_seed(1)
        model = tiny.transformer()
        before = parameters(model)
        made = trainer(mat(thermal_noise=0.01), model, *chosen, "--gauge-interval=1")
        for _ in range(3):
            log = update(made, [tiny.batch()])
        assert log["leader_spread"] > 0 and log["noise_share"] > 0
        live = [p.data.float() for p in made.optimizer.params]
        in_model = [p.detach().float() for p in made.model.parameters()]
        moved = [p - b for p, b in zip(in_model, before, strict=True)]
        found.append(torch.cat([m.flatten() for m in moved]))
        total = sum(float(p.square().sum()) for p in live)
        assert total == pytest.approx(sum(float(p.square().sum()) for p in in_model), rel=0.01)
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.3


def test_an_average_beside_the_mean_is_refused(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--store-ema with --criterion mat") as error:
        training.run_training(toy_data, tmp_path, "--store-ema", criterion="mat")
    assert "\n" not in str(error.value)
