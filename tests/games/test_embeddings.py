"""Perturbed embeddings: what reaches the model, and that nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch

from fairseq_adv.core.sites import Add, Edit, Keep, Replace
from fairseq_adv.games.sites import SITES, UnsupportedModel
from fairseq_adv.games.sites.embeddings import Embeddings
from tests.support import sentences, tiny

MODELS = [tiny.transformer, tiny.shared_transformer, tiny.lstm, tiny.convolutional]


def hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@contextmanager
def edited(model: Any, sample: Any, edits: dict[str, Edit]) -> Iterator[None]:
    with ExitStack() as blocks:
        for side, edit in edits.items():
            blocks.enter_context(SITES[side](model, sample).apply(edit))
        yield


def words_of(model: Any, sample: Any, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    site = SITES[side](model, sample)
    assert isinstance(site, Embeddings)
    return site.looked_up


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
    expected = model(**other)[0]
    with edited(model, sample, {side: Add(d) for side, d in delta.items()}):
        perturbed = model(**sample["net_input"])[0]
    torch.testing.assert_close(perturbed, expected)
    embedded = {side: words_of(model, sample, side)[1] + delta[side] for side in delta}
    with edited(model, sample, {side: Replace(e) for side, e in embedded.items()}):
        torch.testing.assert_close(model(**sample["net_input"])[0], expected)
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
        "source": Keep(torch.tensor([[True, False, True, True]]).unsqueeze(-1)),
        "target": Keep(torch.tensor([[True, True, False, True]]).unsqueeze(-1)),
    }
    with edited(model, sample, dict(keep)):
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
    pad = model.encoder.embed_tokens.padding_idx
    left_padded = bool(words_of(model, sample, "source")[0][-1, 0] == pad)
    assert left_padded == (not isinstance(model, type(tiny.lstm())))  # LSTMs turn it around
    seen = words_of(model, sample, "target")[0]
    assert torch.equal(seen, sample["net_input"]["prev_output_tokens"])


@pytest.mark.parametrize("build", MODELS)
def test_hooks_are_gone_afterwards_and_after_an_exception(build: Any) -> None:
    model, sample = build(), tiny.batch()
    before = hooks(model)
    zero = SITES["source"](model, sample).zero
    wrong = Add(torch.zeros(1, 1, 3))  # does not fit: the pass fails inside the encoder
    with pytest.raises(RuntimeError), edited(model, sample, {"source": wrong}):
        model(**sample["net_input"])
    assert hooks(model) == before
    with edited(model, sample, {"source": Add(zero)}):
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
    nothing = Add(SITES["source"](tiny.transformer(), sample).zero)
    with (
        pytest.raises(UnsupportedModel, match="encoder"),
        edited(model, sample, {"source": nothing}),
    ):
        model(**sample["net_input"])


def test_a_model_that_looks_nothing_up_is_refused() -> None:
    model, sample = tiny.transformer(), tiny.batch()
    model.encoder.forward = lambda *_: None
    with pytest.raises(UnsupportedModel, match="encoder"):
        words_of(model, sample, "source")


@pytest.mark.parametrize("build", [sentences.roberta, sentences.bert])
def test_delta_to_another_words_embedding_is_that_word_to_a_classifier(build: Any) -> None:
    """Before positions, segments and the layer norm; of the first word and of one of the second."""
    model, sample = build().eval(), sentences.batch(((8, 0), (5, 0)))
    head = {"features_only": True, "classification_head_name": sentences.HEAD}
    tokens = sample["net_input"]["src_tokens"]
    other = tokens.clone()
    other[0, 1], other[0, 6] = 9, 8
    embed = model.encoder.sentence_encoder.embed_tokens
    with edited(model, sample, {"source": Add(embed(other) - embed(tokens))}):
        perturbed = model(**sample["net_input"], **head)[0]
    expected = model(src_tokens=other, **head)[0]
    torch.testing.assert_close(perturbed, expected)
    assert not torch.allclose(expected, model(src_tokens=tokens, **head)[0])


def test_what_marks_a_sentence_is_spared() -> None:
    """The source's end and the decoder's begin; of a pair what stands around and between it."""
    sample = tiny.batch(((4, 3), (2, 2)))
    model, pair = tiny.transformer(), sentences.batch(((8, 0), (3, 0)))
    for found, expected in (
        (SITES["source"](model, sample), [[0, 0, 0, 1], [0, 0, 0, 1]]),  # padded on the left
        (SITES["target"](model, sample), [[1, 0, 0], [1, 0, 0]]),
        (
            SITES["source"](sentences.bert(), pair),
            [[1, 0, 0, 0, 1, 0, 0, 1], [1, 0, 1, 0, 0, 0, 0, 0]],
        ),
    ):
        assert found.spared.squeeze(-1).int().tolist() == expected
