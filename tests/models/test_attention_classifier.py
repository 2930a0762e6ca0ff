"""The attention classifier, beside the paper's equations word by word, in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.games.sites.attention import AttentionScores
from tests.support import sentences
from tests.support.sentences import HEAD

S, PAD, END = 0, 1, 2  # <s>, <pad>, </s>

TEXTS = ([5, 9, 3, 14], [7], [8, 8, 6])  # 3 is <unk>, a word as any other
SECONDS = ([4, 12], [10, 5, 9, 11], [13])


def lstm(weights: dict[str, Tensor], suffix: str, words: list[Tensor]) -> list[Tensor]:
    """States of one direction, in the order of the words; gates are i, f, g, o."""
    h = c = torch.zeros(weights["weight_hh_l0"].size(1), dtype=torch.float64)
    states = []
    for word in words:
        gates = (
            weights[f"weight_ih_l0{suffix}"] @ word
            + weights[f"bias_ih_l0{suffix}"]
            + weights[f"weight_hh_l0{suffix}"] @ h
            + weights[f"bias_hh_l0{suffix}"]
        )
        i, f, g, o = gates.chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return states


def both_directions(module: Any, words: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Eqs. 1 and 6: states of all words, and the last ones that the two directions come to."""
    weights = dict(module.named_parameters())
    forward = lstm(weights, "", words)
    backward = lstm(weights, "_reverse", words[::-1])[::-1]
    states = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
    return states, torch.cat([forward[-1], backward[0]])


def by_the_paper(
    model: Any, text: list[int], second: list[int] | None = None, shift: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits and weights of one text, or pair: Eqs. 2 to 5, or 7 and 8.

    :param shift: of the scores of the first text's words.
    """
    encoder, of = model.encoder, model.encoder.attention
    table = encoder.embed_tokens.weight
    states, _ = both_directions(encoder.lstm, [table[word] for word in text])
    scores = []
    for h in states:
        compared = of.key.weight @ h + of.key.bias
        if second is not None:
            _, last = both_directions(encoder.second_lstm, [table[word] for word in second])
            compared = compared + of.query.weight @ last
        scores.append(of.score.weight[0] @ compared.tanh())
    if shift is not None:
        scores = [score + by for score, by in zip(scores, shift, strict=True)]
    total = sum(score.exp() for score in scores)
    weights = torch.stack([score.exp() / total for score in scores])
    h_a = sum(a * h for a, h in zip(weights, states, strict=True))
    head = model.classification_heads[HEAD].out_proj
    return head.weight @ h_a + head.bias, weights


def padded(rows: list[list[int]], left: bool) -> Tensor:
    longest = max(map(len, rows))
    fill = [[PAD] * (longest - len(row)) for row in rows]
    return torch.tensor([f + r if left else r + f for f, r in zip(fill, rows, strict=True)])


def made(pairs: bool, separator: int = END, **options: Any) -> Any:
    model = sentences.attention_classifier(outputs=3, pairs=pairs, **options).double().eval()
    model.encoder._marks |= {separator}
    return model


def read(model: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    logits, extra = model(tokens, features_only=True, classification_head_name=HEAD)
    return logits, extra["attention"]


@pytest.mark.parametrize("begin", [[], [S]])
@pytest.mark.parametrize("left", [False, True])
def test_a_text_is_classified_as_in_the_paper(begin: list[int], left: bool) -> None:
    model = made(pairs=False)
    tokens = padded([[*begin, *text, END] for text in TEXTS], left)
    logits, weights = read(model, tokens)
    for i, text in enumerate(TEXTS):
        expected, attention = by_the_paper(model, text)
        torch.testing.assert_close(logits[i], expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(weights[i][weights[i] > 0], attention)
        assert (weights[i] > 0).tolist() == tokens[i].gt(END).tolist()


@pytest.mark.parametrize("between", [[], [END], [4 + 10]])
@pytest.mark.parametrize("begin", [[], [S]])
def test_a_pair_is_classified_as_in_the_paper(begin: list[int], between: list[int]) -> None:
    """Also where a word's number separates: it is no word then."""
    model = made(pairs=True, separator=between[0] if between else END)
    firsts = [[word for word in text if word not in between] for text in TEXTS]
    pairs = list(zip(firsts, SECONDS, strict=True))
    rows = [[*begin, *first, END, *between, *second, END] for first, second in pairs]
    logits, weights = read(model, padded(rows, left=False))
    for i, (first, second) in enumerate(pairs):
        expected, attention = by_the_paper(model, first, second)
        torch.testing.assert_close(logits[i], expected, rtol=1e-12, atol=1e-12)
        start = len(begin)
        torch.testing.assert_close(weights[i, start : start + len(first)], attention)
        assert weights[i].count_nonzero() == len(first)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_perturbation_is_added_to_the_scores(pairs: bool) -> None:
    """Eq. 12; one query in a sentence, whose components are the tokens of the input."""
    from fairseq_adv.core.sites import Add

    model = made(pairs)
    rows = [
        [*first, END, *([END, *second, END] if pairs else [])]
        for first, second in zip(TEXTS, SECONDS, strict=True)
    ]
    tokens = padded(rows, left=False)
    site = AttentionScores(model, {"net_input": {"src_tokens": tokens}})
    assert site.zero.shape == (3, 1, tokens.size(1)) == site.mask.shape
    assert site.mask.sum((1, 2)).tolist() == [len(text) for text in TEXTS]
    torch.manual_seed(1)
    shift = torch.randn_like(site.zero)
    with site.apply(Add(shift)):
        logits, _ = read(model, tokens)
    for i, text in enumerate(TEXTS):
        second = SECONDS[i] if pairs else None
        expected, _ = by_the_paper(model, text, second, shift[i, 0, : len(text)])
        torch.testing.assert_close(logits[i], expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(read(model, tokens)[0], model(tokens, classification_head_name=HEAD)[0])


def test_texts_without_words_are_what_an_lstm_knows_before_the_first() -> None:
    """h_a of none is zero, and so is the last state of an empty second text."""
    model = made(pairs=True)
    tokens = padded([[END, END, 5, END], [5, 6, END, END, END], [END, END, END]], left=False)
    logits, weights = read(model, tokens)
    head = model.classification_heads[HEAD].out_proj
    assert torch.equal(logits[0], head.bias) and torch.equal(logits[2], head.bias)
    assert not weights[[0, 2]].any()
    of = model.encoder.attention
    query, of.query = of.query, None  # nothing is added to W_1 h + b
    expected, _ = by_the_paper(model, [5, 6])
    of.query = query
    torch.testing.assert_close(logits[1], expected, rtol=1e-12, atol=1e-12)
    logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_in_other_precisions(dtype: torch.dtype) -> None:
    tokens = padded([[*text, END] for text in TEXTS], left=False)
    model = made(pairs=False)
    expected, of_words = read(model, tokens)
    logits, weights = read(model.to(dtype), tokens)
    assert logits.dtype == weights.dtype == dtype
    near = 32 * float(torch.finfo(dtype).eps)
    torch.testing.assert_close(logits.double(), expected, rtol=near, atol=near)
    torch.testing.assert_close(weights.double(), of_words, rtol=near, atol=near)


def test_dropout_is_of_embeddings_and_of_what_is_decoded() -> None:
    tokens = padded([[*text, END] for text in TEXTS], left=False)
    model = made(pairs=False, dropout=0.5)
    rested = read(model, tokens)
    model.train()
    model.encoder.dropout_module.p = 0.0
    torch.manual_seed(1)
    logits, weights = read(model, tokens)
    torch.testing.assert_close(weights, rested[1])
    assert not torch.allclose(logits, rested[0])
    model.encoder.dropout_module.p = 0.5
    assert not torch.allclose(read(model, tokens)[1], rested[1])


def test_a_checkpoint_of_embeddings_alone_begins_a_model_and_no_other_does() -> None:
    source, fresh = made(pairs=True), made(pairs=True)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter += 1
    state = source.state_dict()
    untouched = copy.deepcopy(fresh.state_dict())
    name = "encoder.embed_tokens.weight"
    fresh.load_state_dict({name: state[name]}, strict=True)
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, (state if key == name else untouched)[key]), key
    damaged = {key: value for key, value in state.items() if "second_lstm" not in key}
    with pytest.raises(RuntimeError, match=r"Missing key.*second_lstm"):
        fresh.load_state_dict(damaged, strict=True)


def test_a_head_of_another_size_is_left_out() -> None:
    model = made(pairs=False)
    other = sentences.attention_classifier(outputs=2).double()
    before = model.classification_heads[HEAD].out_proj.weight.clone()
    model.load_state_dict(other.state_dict(), strict=True)
    assert torch.equal(model.classification_heads[HEAD].out_proj.weight, before)
    assert torch.equal(model.encoder.lstm.weight_ih_l0, other.encoder.lstm.weight_ih_l0)
    assert model.max_positions() == 64
    features, _ = model(torch.tensor([[5, END]]), features_only=True)
    assert features.shape == (1, 6)
