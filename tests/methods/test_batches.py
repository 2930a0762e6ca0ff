"""Every method on batches of all kinds: accumulated, averaged, clipped; tiny, huge and empty."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fairseq_adv.trainer.replay import Memory
from tests.methods.derivative import check_derivative, differentiated
from tests.methods.method_table import (
    MODELS,
    ROWS,
    Match,
    Row,
    every_family,
    every_method,
    noise_by_position,
    trained,
)
from tests.support import tiny, training
from tests.support.gradients import distance
from tests.support.updates import LEARNING_RATE, moved, options_of, parameters, trainer, update

__all__ = ["noise_by_position"]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


LENGTHS = ((6, 4), (5, 7), (4, 3), (3, 6), (2, 3), (1, 1))
COMPARED = {"adv_loss", "wpb", "bsz", "gnorm"}
PARTS = (slice(0, 1), slice(1, 4), slice(4, 6))


def whole(match: Match) -> dict[str, Any]:
    return match.batch(LENGTHS)


def parts(match: Match) -> list[dict[str, Any]]:
    """The same sentences in three batches."""
    return [match.batch(LENGTHS[part], seed=3 + part.start) for part in PARTS]


@every_method
@every_family
def test_accumulated_batches_are_one_combined_batch(
    row: Row, model: str, noise_by_position: None
) -> None:
    """--update-freq 3. In the second update FreeAT replays, and SMART's average lags behind."""
    match = Match(row, MODELS[model])
    before = parameters(match.model)
    results = []
    for samples in ([whole(match)], parts(match)):
        trained = copy.deepcopy(match.model)
        made = trainer(row, trained, "--clip-norm", "0.5", family=match.family)
        logs = [update(made, samples) for _ in range(2)]
        results.append((moved(trained, before), logs))
    (combined, expected), (accumulated, logs) = results
    assert distance(accumulated, combined) < 1e-9
    for one, many in zip(expected, logs, strict=True):
        assert one.keys() == many.keys()
        for key in {"loss", match.family.clean_loss, *COMPARED} & one.keys():
            assert many[key] == pytest.approx(one[key], abs=2e-3), key


@every_method
@every_family
@pytest.mark.parametrize(
    ("sentence_avg", "clip_norm"),
    [(False, 0.0), pytest.param(True, 0.0, marks=pytest.mark.slow), (False, 0.02)],
)
def test_an_update_is_the_one_that_is_made_by_hand(
    row: Row, model: str, sentence_avg: bool, clip_norm: float, noise_by_position: None
) -> None:
    """theta - lr min(1, clip / |g|) g, with g the objective's gradient per token or sentence."""
    match = Match(row, MODELS[model])
    match.reference = copy.deepcopy(match.model)  # the average model, before the first update
    before = parameters(match.model)
    trained = copy.deepcopy(match.model)
    options = ["--clip-norm", str(clip_norm), *(["--sentence-avg"] if sentence_avg else [])]
    update(trainer(row, trained, *options, family=match.family), [whole(match)])

    match.play(whole(match), memory=Memory(1))
    of_tokens = model == "transformer" and not sentence_avg
    size = sum(target for _, target in LENGTHS) if of_tokens else len(LENGTHS)
    if row.criterion == "rdrop":  # whose objective has two task losses
        size *= 2
    gradient = [g / size for g in match.gradient]
    norm = float(torch.stack([g.norm() for g in gradient]).norm())
    assert norm > 2 * clip_norm, "it is to be clipped"
    scale = clip_norm / norm if clip_norm else 1.0
    expected = [-LEARNING_RATE * scale * g for g in gradient]
    # fairseq takes the norm in float32, and adds 1e-6 to it.
    assert distance(moved(trained, before), expected) < (1e-4 if clip_norm else 1e-12)


@every_method
@pytest.mark.parametrize("place", [pytest.param(0, marks=pytest.mark.slow), 2])
@every_family
def test_an_empty_batch_among_others_changes_nothing(
    row: Row, model: str, place: int, noise_by_position: None
) -> None:
    """A worker that has run out of data, or the end of FreeAT's last group: neither gradient
    nor tokens of the batch that stands in are counted."""
    match = Match(row, MODELS[model])
    before = parameters(match.model)
    results = []
    for empty in ([], [{}]):
        trained = copy.deepcopy(match.model)
        made = trainer(row, trained, "--gauge-interval", "1", family=match.family)
        samples: list[dict[str, Any]] = parts(match)[:2]
        samples[place:place] = empty
        logs = [update(made, samples) for _ in range(2)]
        results.append((moved(trained, before), logs))
    (without, expected), (with_it, logs) = results
    assert distance(with_it, without) < 1e-12
    for one, other in zip(expected, logs, strict=True):
        keys = [key for key in one if key not in ("train_wall", "wps", "ups", "wall")]
        assert {key: other[key] for key in keys} == {key: one[key] for key in keys}


@every_method
@every_family
def test_an_update_of_nothing_but_empty_batches_moves_nothing(row: Row, model: str) -> None:
    """A worker that has no data left: it takes part with zeros, of any batch."""
    match = Match(row, MODELS[model])
    before = parameters(match.model)
    made = trainer(row, match.model, "--gauge-interval", "1", family=match.family)
    update(made, [{}, {}])
    assert not any(m.any() for m in moved(match.model, before))
    if made.task.memory is not None:
        assert made.task.memory.state_dict()["waiting"] == []


ONE_WORD = {
    "nothing-but-the-end": ((1, 1),),
    "source-only": ((4, 1),),
    "target-only": ((1, 4),),
    "in-a-batch": ((5, 1), (1, 4), (1, 1)),
}


@every_method
@pytest.mark.parametrize("lengths", ONE_WORD.values(), ids=ONE_WORD)
@pytest.mark.parametrize("model", ["transformer", "lstm", "three-classes", "numbers"])
def test_sentences_of_one_token_have_the_right_gradient(
    row: Row, lengths: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences that are nothing but their end, alone and beside longer ones."""
    match = Match(row, MODELS[model], **differentiated(row))
    check_derivative(match, match.batch(lengths), monkeypatch)


@every_method
def test_with_an_ignored_prefix_the_gradient_is_right(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--ignore-prefix-size, with a sentence all of whose tokens are ignored."""
    match = Match(row, ignore_prefix_size=3, **differentiated(row))
    check_derivative(match, tiny.batch(((5, 6), (4, 3), (2, 2))), monkeypatch)


@every_method
def test_a_sentence_that_is_ignored_counts_for_nothing(row: Row, noise_by_position: None) -> None:
    match = Match(row, ignore_prefix_size=3)
    objectives, gradients = [], []
    for lengths in (((5, 6),), ((5, 6), (4, 3))):
        objectives.append(float(match.play(tiny.batch(lengths)).objective))
        gradients.append(match.gradient)
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-12)
    assert distance(gradients[1], gradients[0]) < 1e-9


@every_method
def test_a_batch_with_nothing_to_predict_is_a_step_of_zero(row: Row) -> None:
    """All its tokens are ignored: no gradient, no NaN, also in the gauges."""
    match = Match(row, ignore_prefix_size=9, gauge_interval=1, dropout=0.2)
    match.model.zero_grad()
    _, _, log = match.criterion.play(
        match.model, whole(match), 0, tiny.accumulate, reference_model=match.reference
    )
    assert all(p.grad is None or not p.grad.any() for p in match.model.parameters())
    for name, value in log.items():
        assert torch.isfinite(torch.as_tensor(value)).all(), name
    assert log["loss"] == log["adv_loss"] == 0


@pytest.fixture(scope="module")
def equal_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 pairs of 5 words each, so that a number of tokens is a number of sentences."""
    folder = tmp_path_factory.mktemp("equal")
    return training.make_data(folder, {"train": 16, "valid": 2}, words=(5, 5))


SIZES = [f"--{part}-embed-dim=8" for part in ("encoder", "decoder")]  # as the noise's
DESCENT = [*SIZES, "--dropout", "0", "--optimizer", "sgd"]


QUICK = ("salt", "freeat-task-loss", "rdrop")


@pytest.fixture(scope="module")
def start(equal_sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model before its first update."""
    start = tmp_path_factory.mktemp("start")
    options = (*DESCENT, "--lr", "0", "--max-update", "1")
    training.run_training(
        equal_sentences, start, *options, criterion="label_smoothed_cross_entropy"
    )
    return start


@trained(QUICK, ROWS)
def test_max_tokens_from_one_sentence_to_all_of_them(
    row: Row,
    equal_sentences: Path,
    start: Path,
    tmp_path: Path,
    noise_by_position: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch for each sentence, accumulated, and one batch of all are the same update.

    Also where, without dropout, that would be refused, since both of its passes are the same.
    """
    monkeypatch.setattr(
        "fairseq_adv.criterions.common.adversarial.refuse_equal_passes", lambda *_: None
    )
    results = []
    for name, options in {
        "each": ("--max-tokens", "6", "--update-freq", "16"),
        "all": ("--max-tokens", "1000000"),
    }.items():
        training.run_training(
            *(equal_sentences, tmp_path / name, *DESCENT, *options, *options_of(row)),
            *("--lr", "1", "--max-update", "3"),
            criterion=row.criterion,
        )
        state = training.state(tmp_path / name)
        assert state["optimizer_history"][-1]["num_updates"] == 3
        results.append(list(state["model"].values()))
    each, together = results
    before = list(training.parameters(start).values())

    def change(after: list[torch.Tensor]) -> list[torch.Tensor]:
        return [a - b for a, b in zip(after, before, strict=True)]

    assert distance(change(each), change(together)) < 1e-3
