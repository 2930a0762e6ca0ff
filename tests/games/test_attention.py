"""Attention scores, beside the weights that models make of them and beside products by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.sites import Add, Replace
from fairseq_adv.games.sites import UnsupportedModel
from fairseq_adv.games.sites.attention import AttentionScores
from tests.methods.method_table import MODELS
from tests.support import tiny

LENGTHS = ((5, 4), (3, 6), (2, 3))


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


@pytest.mark.parametrize(
    ("build", "layers", "heads"),
    [
        pytest.param(partial(tiny.transformer, decoder_layers=2), 2, 2, id="transformer"),
        pytest.param(tiny.lstm, 1, 1, id="lstm"),
        pytest.param(tiny.convolutional, 2, 1, id="convolutional"),
    ],
)
def test_weights_are_the_softmax_of_what_is_put_in(
    build: Callable[[], Any], layers: int, heads: int
) -> None:
    """A Transformer gives its last layer's, mean over heads; a convolutional model, over layers.

    Words are padded on the left.
    """
    model = build().double().eval()
    sample = tiny.batch(LENGTHS)
    site = AttentionScores(model, sample)
    torch.manual_seed(1)
    scores = torch.randn_like(site.zero)
    with torch.no_grad(), site.apply(Replace(scores)):
        extra = model(**sample["net_input"])[1]
    found = extra["attn"][0] if isinstance(extra, dict) else extra
    shape = (3, 6, layers, heads, 5)
    assert scores.shape == (3, 6, layers * heads * 5)
    masked = scores.view(shape).masked_fill(~site.mask.any(1).view(3, 1, *shape[2:]), -torch.inf)
    weights = masked.softmax(-1)
    expected = (weights[:, :, -1:] if build is not tiny.convolutional else weights).mean((2, 3))
    assert expected.gt(0).sum() == 6 * (5 + 3 + 2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("held", [True, False], ids=["held", "free"])
@pytest.mark.parametrize("build", [tiny.transformer, tiny.lstm, tiny.convolutional])
def test_weights_are_watched(build: Callable[[], Any], held: bool) -> None:
    """They are what fairseq gives of a pass that is left alone; the pass says what that says."""
    model, sample = build().double().eval(), tiny.batch(LENGTHS)
    expected, extra = model(**sample["net_input"])
    given = extra["attn"][0] if isinstance(extra, dict) else extra
    site = AttentionScores(model, sample)
    with site.watched(held=held) as weights:
        found = model(**sample["net_input"])[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert weights().shape[::4] == (3, 5) and not weights().requires_grad
    torch.testing.assert_close(weights().mean((1, 2)), given.detach(), rtol=1e-12, atol=1e-12)
    assert weights().gt(0).flatten(1, 3).any(1).sum(1).tolist() == [5, 3, 2]


@pytest.mark.parametrize("name", ["two-classes", "three-classes"])
def test_scores_of_an_encoder_are_its_scaled_products(name: str) -> None:
    """Put in by hand they change nothing; and torch's fused attention gives the same."""
    kind = MODELS[name]
    model, sample = kind(encoder_layers=2).double(), kind.family.batch(LENGTHS)
    seen: list[Tensor] = []

    def products(module: Any, _: Any, inputs: dict[str, Any]) -> None:
        query = inputs["query"].transpose(0, 1)  # B x T x C
        q, k = (
            layer(query).unflatten(-1, (module.num_heads, -1)).transpose(1, 2)
            for layer in (module.q_proj, module.k_proj)
        )
        seen.append(q @ k.mT / module.head_dim**0.5)  # B x H x T x T

    attention = [layer.self_attn for layer in model.encoder.sentence_encoder.layers]
    hooks = [each.register_forward_pre_hook(products, with_kwargs=True) for each in attention]
    fused = kind.family.game(model, sample)
    torch.manual_seed(2)
    expected = fused.clean({}).vectors
    for hook in hooks:
        hook.remove()
    scores = torch.stack(seen, 1)  # B x L x H x T x T
    assert scores.size(1) == 2
    scores = scores.permute(0, 3, 1, 2, 4).flatten(2)
    game = kind.family.game(model, sample, attacked=("attention",))
    masks = RandomState.capture()
    put_in = game.perturbed({"attention": Replace(scores)}, masks).vectors
    torch.testing.assert_close(put_in, expected, rtol=1e-12, atol=1e-12)
    moved = scores.clone()
    moved[:, :, -1] += 1
    other = game.perturbed({"attention": Replace(moved)}, masks).vectors
    assert not torch.allclose(other, expected, rtol=1e-6)


def test_a_clean_pass_may_be_computed_as_plain_updates_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's fused function, which no perturbed pass and none at rest calls."""
    kind = MODELS["two-classes"]
    model, sample = kind().double(), kind.family.batch(LENGTHS)
    fused, calls = functional.multi_head_attention_forward, [0]

    def counted(*inputs: Any, **more: Any) -> Any:
        calls[0] += 1
        return fused(*inputs, **more)

    monkeypatch.setattr(functional, "multi_head_attention_forward", counted)

    def passes(**options: Any) -> tuple[list[int], Tensor]:
        game = kind.family.game(model, sample, **options)
        clean, counts = game.clean({}).vectors, [calls[0]]
        for edits in ({}, {"attention": Add(game.sites["attention"].zero)}):
            found = game.perturbed(edits, RandomState.capture()).vectors
            torch.testing.assert_close(found, clean)
            counts.append(calls[0])
        calls[0] = 0
        return counts, clean

    assert passes(attacked=("attention",))[0] == [0, 0, 0]
    assert passes(attacked=("attention",), alike=False)[0] == [1, 1, 1]
    assert passes()[0] == [1, 2, 2]


def test_one_key_more_is_one_weight_more() -> None:
    """By hand: equal scores but for one, which is log 2 higher."""
    model, sample = MODELS["lstm"]().double().eval(), tiny.batch(((3, 2),))
    site = AttentionScores(model, sample)
    scores = torch.zeros_like(site.zero)
    scores[0, 0, 1] = torch.tensor(2.0).log()
    with torch.no_grad(), site.apply(Replace(scores)):
        weights = model(**sample["net_input"])[1]
    torch.testing.assert_close(weights[0, 0], torch.tensor([0.25, 0.5, 0.25]).double())
    torch.testing.assert_close(weights[0, 1], torch.full((3,), 1 / 3).double())


def test_a_model_without_attention_has_none() -> None:
    model = MODELS["lstm"]()
    model.decoder.attention = None
    with pytest.raises(UnsupportedModel, match="LSTMModel has no attention"):
        AttentionScores.check(model)
    with pytest.raises(UnsupportedModel, match="TransformerModel has no attention"):
        AttentionScores.check(tiny.transformer(no_cross_attention=True))


def test_dropped_layers_are_not_missed() -> None:
    """--decoder-layerdrop leaves layers out, and their scores with them."""
    model = tiny.transformer(decoder_layers=2, decoder_layerdrop=0.5).double()
    sample = tiny.batch(LENGTHS)
    game = tiny.game(model, sample, attacked=("attention",))
    leaf = torch.randn_like(game.sites["attention"].zero).requires_grad_()
    found = set()
    for seed in range(12):
        torch.manual_seed(seed)
        value = game.perturbed({"attention": Add(leaf)}, RandomState.capture()).vectors.sin().sum()
        (gradient,) = torch.autograd.grad(value, leaf, materialize_grads=True)
        of_layers = gradient.unflatten(-1, (2, 2, -1)).abs().amax((0, 1, 3, 4))
        found.add(tuple((of_layers > 0).tolist()))
    assert found == {(False, False), (False, True), (True, False), (True, True)}
