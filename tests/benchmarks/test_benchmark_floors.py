"""The floors of the benchmarks, counts of passes, against counted operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import interval, release, scaling, update
from benchmarks.support.interleaved import Contender, all_trainings
from benchmarks.support.models import Model, Setup

COUNTED = {
    c.name: c
    for c in (
        *update.CONTENDERS,
        *interval.CONTENDERS,
        *(game for games in scaling.STEPS.values() for game in games),
        *((release.RELEASE,) if release.registered() else ()),
    )
}
WIDE = Model(
    "wide",
    "--encoder-layers 1 --decoder-layers 1 --encoder-embed-dim 16 --decoder-embed-dim 16"
    " --encoder-ffn-embed-dim 512 --decoder-ffn-embed-dim 512"
    " --encoder-attention-heads 2 --decoder-attention-heads 2 --dropout 0.1",
    max_tokens=60,
    gpu_tokens=60,
    rounds=1,
)
"""Its attention, products of two activations, counts for little beside those with parameters."""


CLASSIFIER = Model(
    "classifier",
    "--arch bert --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 512"
    " --encoder-attention-heads 2",
    max_tokens=8,
    gpu_tokens=8,
    rounds=1,
    task="sentence_prediction",
)


def operations_of(model: Model, data: Path, out: Path, contenders: list[Contender]) -> Any:
    """Floating-point operations of matrix products in an update, the mean from game to game."""
    setup = Setup(data, (model,), (1,), 1, quick=False, cuda=False, out=out)
    found = {}
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels are counted otherwise
        plain, trainings = all_trainings(setup, contenders, setup.options(model), 1)
        for name, training in {"plain": plain, **trainings}.items():
            with FlopCounterMode(display=False) as counter:
                for _ in range(training.period):
                    training.update(training.groups[0])
            found[name] = counter.get_total_flops() / training.period
    return found


@pytest.fixture(scope="module")
def operations(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Of each contender, on translations."""
    out = tmp_path_factory.mktemp("operations")
    found: dict[str, float] = operations_of(WIDE, toy_data.parent, out, list(COUNTED.values()))
    return found


@pytest.mark.slow
def test_the_floors_of_updates_are_those_of_classifiers_too(
    toy_sentences: Path, tmp_path: Path
) -> None:
    """BERT's products are counted, and those of its head: a method has as many passes there."""
    (tmp_path / "data-sentences").symlink_to(toy_sentences.parent)
    contenders = list(update.CONTENDERS)
    found = operations_of(CLASSIFIER, tmp_path / "data", tmp_path, contenders)
    for contender in contenders:
        measured = found[contender.name] / found["plain"]
        assert contender.floor == pytest.approx(measured, rel=0.01), contender.name


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_a_floor_is_what_a_counter_of_operations_counts(
    operations: dict[str, float], name: str
) -> None:
    measured = operations[name] / operations["plain"]
    assert COUNTED[name].floor == pytest.approx(measured, rel=0.01)


def test_floors_are_what_the_passes_of_each_method_add_up_to() -> None:
    floors = {contender.name: contender.floor for contender in update.CONTENDERS}
    assert floors["freeat"] == 1
    assert floors["adv"] == floors["r3f"] == floors["rdrop"] == floors["simcut"] == 2
    assert floors["mat, K = 2 and 3"] == pytest.approx((6 + 2 * 2 / 3) / 3)
    assert floors["vat, K = 1"] == floors["smart, K = 1, no proximal term"] == 8 / 3
    assert floors["smart, K = 1"] == floors["freelb, K = 3, task loss"] == 3
    assert floors["freelb, K = 3, divergence"] == 4
    assert floors["salt, exact"] == floors["salt, one-sided"] == 4
    assert floors["salt, central"] == 14 / 3
    assert floors["salt, every 4th update"] == (3 + 4) / 4
    assert [contender.floor for contender in interval.CONTENDERS] == [4, 5 / 2, 7 / 4, 11 / 8]
    assert release.RELEASE.floor == 16 / 3
