"""Perturbed embeddings: what reaches the model, and that nothing stays behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fairseq_adv.games.embedding_hooks import (
    Lookups,
    UnsupportedModel,
    cut_embeddings,
    looked_up,
    perturbed_embeddings,
)
from tests.support import tiny

MODELS = [tiny.transformer, tiny.shared_transformer, tiny.lstm, tiny.convolutional]


def hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def words_of(model: Any, sample: Any) -> Lookups:
    words = sample["net_input"]
    source = (words["src_tokens"], words["src_lengths"])
    return looked_up(model, {"source": source, "target": (words["prev_output_tokens"],)})


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize("sides", [("source",), ("target",), ("source", "target")])
def test_delta_to_another_words_embedding_is_that_word(build: Any, sides: Any) -> None:
    """delta is added to the raw embedding of its own side: before scaling, positions, dropout."""
    model = build().eval()
    sample = tiny.batch([(4, 4)])
    other = dict(sample["net_input"])
    delta = {}
    for side, name, word in (("source", "src_tokens", 9), ("target", "prev_output_tokens", 8)):
        if side in sides:
            tokens = other[name].clone()
            tokens[0, 1] = word
            embed = (model.encoder if side == "source" else model.decoder).embed_tokens
            delta[side] = embed(tokens) - embed(other[name])
            other[name] = tokens
    clean = model(**sample["net_input"])[0]
    with perturbed_embeddings(model, delta):  # type: ignore[arg-type]
        perturbed = model(**sample["net_input"])[0]
    torch.testing.assert_close(perturbed, model(**other)[0])
    assert not torch.allclose(perturbed, clean)


@pytest.mark.parametrize("build", MODELS)
def test_a_cut_word_is_gone_and_its_position_stays(build: Any) -> None:
    """As if its row of the embedding were zero; the row itself gets no gradient there."""
    model = build().eval()
    sample = tiny.batch([(4, 4)])
    words = sample["net_input"]
    words["src_tokens"][0, 1], words["prev_output_tokens"][0, 2] = 5, 6  # of WORDS, once each
    words["src_tokens"][0, 0], words["prev_output_tokens"][0, 1] = 7, 8
    words["src_tokens"][0, 2], words["prev_output_tokens"][0, 3] = 7, 8
    keep = {
        "source": torch.tensor([[True, False, True, True]]),
        "target": torch.tensor([[True, True, False, True]]),
    }
    with cut_embeddings(model, keep):  # type: ignore[arg-type]
        cut = model(**words)[0]
    cut.square().sum().backward()
    for part, word in ((model.encoder, 5), (model.decoder, 6)):
        weight = part.embed_tokens.weight
        if weight is not getattr(getattr(model.decoder, "output_projection", None), "weight", None):
            assert not weight.grad[word].any()
            assert weight.grad[7 if part is model.encoder else 8].any()
    table = {
        id(p.embed_tokens.weight): p.embed_tokens.weight for p in (model.encoder, model.decoder)
    }
    if len(table) == 2:
        with torch.no_grad():
            model.encoder.embed_tokens.weight[5] = 0.0
            model.decoder.embed_tokens.weight[6] = 0.0
        torch.testing.assert_close(cut, model(**words)[0])


@pytest.mark.parametrize("build", MODELS)
def test_words_are_found_in_the_order_that_the_embedding_sees(build: Any) -> None:
    model, sample = build(), tiny.batch(left_pad_source=True)
    seen = words_of(model, sample)
    pad = model.encoder.embed_tokens.padding_idx
    left_padded = bool(seen["source"][0][-1, 0] == pad)
    assert left_padded == (not isinstance(model, type(tiny.lstm())))  # LSTMs turn it around
    assert torch.equal(seen["target"][0], sample["net_input"]["prev_output_tokens"])


@pytest.mark.parametrize("build", MODELS)
def test_hooks_are_gone_afterwards_and_after_an_exception(build: Any) -> None:
    model, sample = build(), tiny.batch()
    before = hooks(model)
    seen = words_of(model, sample)
    wrong = {"source": torch.zeros(1, 1, 3)}  # does not fit: the pass fails inside the encoder
    with pytest.raises(RuntimeError), perturbed_embeddings(model, wrong):  # type: ignore[arg-type]
        model(**sample["net_input"])
    assert hooks(model) == before
    with perturbed_embeddings(model, {"source": torch.zeros_like(seen["source"][1])}):
        assert hooks(model) > before
        model(**sample["net_input"])
    assert hooks(model) == before


def test_a_model_that_looks_words_up_twice_is_refused() -> None:
    model, sample = tiny.transformer(), tiny.batch()
    forward = model.encoder.forward

    def twice(src_tokens: Any, **kwargs: Any) -> Any:
        model.encoder.embed_tokens(src_tokens)
        return forward(src_tokens, **kwargs)

    model.encoder.forward = twice
    with pytest.raises(UnsupportedModel, match="source"), perturbed_embeddings(model, {}):
        model(**sample["net_input"])


def test_a_model_that_looks_nothing_up_is_refused() -> None:
    model, sample = tiny.transformer(), tiny.batch()
    model.encoder.forward = lambda *_: None
    with pytest.raises(UnsupportedModel, match="source"):
        words_of(model, sample)
