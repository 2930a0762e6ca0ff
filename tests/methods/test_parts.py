"""Batches in parts: nothing is lost but padding, and games on them add up to the game on all."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core.comparison.predictions import Predictions
from fairseq_adv.games.game import FairseqGame
from fairseq_adv.games.parts import graph_size
from tests.methods.method_table import (  # noqa: F401  (a fixture)
    MODELS,
    Match,
    Row,
    every_family,
    every_method,
    noise_by_position,
)
from tests.support import sentences, tiny
from tests.support.gradients import distance, gradients

LENGTHS = ((9, 4), (7, 8), (5, 5), (4, 2), (2, 6))


def words(tokens: Tensor) -> list[list[int]]:
    """Each sentence without padding."""
    pad = tiny.task().source_dictionary.pad()
    return [[word for word in row if word != pad] for row in tokens.tolist()]


def split(sample: dict[str, Any], number: int) -> list[dict[str, Any]]:
    return tiny.game(tiny.transformer(), sample).parts(number)


@pytest.mark.parametrize("left_pad", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3, 5, 9])
def test_parts_are_the_batch(number: int, left_pad: bool) -> None:
    sample = tiny.batch(LENGTHS, left_pad_source=left_pad)
    parts = split(sample, number)
    assert len(parts) == min(number, len(LENGTHS))
    ids = [i for part in parts for i in part["id"].tolist()]
    assert ids == sample["id"].tolist()
    for name in ("src_tokens", "prev_output_tokens"):
        found = [row for part in parts for row in words(part["net_input"][name])]
        assert found == words(sample["net_input"][name]), name
    assert [row for part in parts for row in words(part["target"])] == words(sample["target"])
    lengths = [n for part in parts for n in part["net_input"]["src_lengths"].tolist()]
    assert lengths == sample["net_input"]["src_lengths"].tolist()
    for part in parts:  # no column of padding is left
        assert part["net_input"]["src_tokens"].size(1) == max(part["net_input"]["src_lengths"])
        assert part["target"].shape == part["net_input"]["prev_output_tokens"].shape
        assert part["target"].size(1) == max(map(len, words(part["target"])))


def test_parts_have_about_as_many_words_each() -> None:
    lengths = tuple((20 - i // 2, 20 - i // 2) for i in range(30))
    sample = tiny.batch(lengths)
    parts = split(sample, 3)
    sizes = [sum(map(len, words(part["target"]))) for part in parts]
    assert max(sizes) - min(sizes) <= 20
    assert len(parts[0]["id"]) < len(parts[2]["id"])


@pytest.mark.parametrize("outputs", [2, 3])
def test_parts_of_classified_sentences_have_about_as_many_words_each(outputs: int) -> None:
    """Class 1 has the number of padding: it is no word, and nothing of a batch is lost to it."""
    family = sentences.family(outputs)
    lengths = tuple((20 - i // 2, 0) for i in range(30))
    sample = family.batch(lengths)
    parts = family.game(sentences.roberta(outputs=outputs), sample).parts(3)
    sizes = [sum(map(len, words(part["net_input"]["src_tokens"]))) for part in parts]
    assert sum(sizes) == sample["ntokens"] and max(sizes) - min(sizes) <= 20
    assert len(parts[0]["id"]) < len(parts[2]["id"])
    assert torch.equal(torch.cat([part["target"] for part in parts]), sample["target"])
    for part in parts:
        assert part["net_input"]["src_tokens"].size(1) == max(part["net_input"]["src_lengths"])


def test_what_is_not_of_sentences_is_in_every_part() -> None:
    sample = tiny.batch(LENGTHS)
    more = {"names": list("abcde"), "mode": "plain", "scale": torch.tensor(2.0), "table": [1, 2]}
    parts = split(sample | more, 2)
    assert "".join(name for part in parts for name in part["names"]) == "abcde"
    for part in parts:
        assert {key: part[key] for key in ("mode", "scale", "table")} == {
            key: more[key] for key in ("mode", "scale", "table")
        }


def test_targets_that_are_not_aligned_with_the_input_keep_their_columns() -> None:
    sample = tiny.batch(LENGTHS)
    sample["target"] = torch.cat([sample["target"], sample["target"]], 1)
    parts = split(sample, 2)
    assert {part["target"].size(1) for part in parts} == {sample["target"].size(1)}


@every_method
@pytest.mark.parametrize(
    "model", ["transformer", "lstm", "convolutional", "two-classes", "numbers", "attended-pairs"]
)
def test_games_on_parts_are_the_game_on_all(
    row: Row,
    model: str,
    noise_by_position: None,  # noqa: F811
) -> None:
    """Gradients and what is logged, also where the gauges are measured."""

    def play(parts: int) -> tuple[list[Tensor], int, dict[str, Any]]:
        match = Match(row, MODELS[model], adv_parts=parts, gauge_interval=1)
        updates = 0 if row.criterion != "freeat" else match.criterion.cfg.replays - 1
        with tiny.float64_throughout():
            _, size, log = match.criterion.play(
                match.model,
                match.batch(LENGTHS),
                updates,
                tiny.accumulate,
                reference_model=match.reference,
                memory=match.memory,  # type: ignore[arg-type]
            )
        return gradients(match.model), size, log

    gradient, size, log = play(1)
    for parts in (2, 3, 5):
        found, found_size, found_log = play(parts)
        assert distance(found, gradient) < 1e-8
        assert found_size == size
        assert found_log.keys() == log.keys()
        for key, value in log.items():
            assert float(found_log[key]) == pytest.approx(float(value), rel=1e-8), key


@every_method
@every_family
def test_a_part_leaves_nothing_to_the_next(
    row: Row, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the game nor what was predicted in it, with all logits that are kept."""
    alive: list[weakref.ref[Any]] = []
    run, games = FairseqGame._pass, 0

    def counted(game: FairseqGame, *args: Any, **more: Any) -> Predictions:
        nonlocal games
        if game.model is not match.model:  # SMART's reference
            return run(game, *args, **more)
        if game not in [reference() for reference in alive]:
            assert not any(reference() for reference in alive)
            alive[:] = [weakref.ref(game)]
            games += 1
        found = run(game, *args, **more)
        alive.append(weakref.ref(found))
        return found

    match = Match(row, MODELS[model], adv_parts=3)
    monkeypatch.setattr(FairseqGame, "_pass", counted)
    reference = {"reference_model": match.reference}
    match.criterion.play(match.model, match.batch(LENGTHS), 1, tiny.accumulate, **reference)
    assert games == 3


def test_parts_bring_a_game_near_a_plain_update(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = tiny.batch(LENGTHS)  # 25 target tokens
    model = tiny.transformer()

    def parts(name: str, **options: Any) -> int:
        criterion = tiny.criterion(name, **options)
        return criterion.number_of_parts(tiny.game(model, sample))

    assert parts("rdrop") == 1  # of so few tokens
    monkeypatch.setattr("fairseq_adv.games.parts.LEAST_PART", 5)
    monkeypatch.setattr("fairseq_adv.games.parts.graph_size", lambda model, words: 1000 * words)
    assert parts("adv") == parts("vat") == 1
    assert parts("vat", clean_branch="differentiated") == parts("rdrop") == parts("smart") == 2
    assert parts("simcut", clean_branch="detached") == 1
    assert parts("freelb", adv_objective="task-loss") == 1
    assert parts("freelb", adv_objective="divergence") == 2
    assert parts("salt") == 4
    assert parts("salt", clean_branch="detached") == 3
    assert parts("salt", unroll_method="one-sided") == 3
    assert parts("salt", unroll_method="central") == 2
    # Where its logits are as large as its graph, a second graph has their place.
    monkeypatch.setattr("fairseq_adv.games.parts.graph_size", lambda model, words: words)
    assert parts("rdrop") == parts("simcut") == 1
    assert parts("freelb", adv_objective="divergence") == parts("salt") == 2
    monkeypatch.setattr("fairseq_adv.games.parts.graph_size", lambda model, words: 1000 * words)
    monkeypatch.setattr("fairseq_adv.games.parts.LEAST_PART", 9)
    assert parts("salt") == 2
    assert parts("salt", adv_parts=7) == 7
    assert parts("rdrop", adv_parts=1) == 1


@pytest.mark.parametrize("share", [True, False])
def test_the_size_of_a_graph(share: bool) -> None:
    """Beside what autograd really saves, of a model whose matrices are large enough to count."""
    tables = {"share_decoder_input_output_embed": share}
    model = tiny.transformer(
        dropout=0.1, encoder_embed_dim=64, decoder_embed_dim=64, decoder_output_dim=64, **tables
    )
    sample = tiny.batch(((20, 20),) * 20)
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(**sample["net_input"])[0]
    for parameter in model.parameters():
        saved.pop(parameter.data_ptr(), None)
    kept = sum(saved.values()) / sample["ntokens"]
    assert 0.5 * kept < graph_size(model, output.size(-1)) < 1.5 * kept


def test_a_negative_number_of_parts_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"--adv-parts -1: allowed is 0, 1, 2"):
        tiny.criterion("vat", adv_parts=-1)
