"""Games on Transformers as fairseq's options make them: the gradient is right on each.

In float64 it is compared with a finite difference of the reported objective, as in test_methods.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from tests.methods.derivative import check_derivative, differentiated
from tests.methods.method_table import MODELS, ROWS, Kind, Match, Row, every_method
from tests.support import sentences, tiny
from tests.support.gradients import distance


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with tiny.float64_throughout():
        yield


OPTIONS: dict[str, dict[str, Any]] = {
    "--share-decoder-input-output-embed": {"share_decoder_input_output_embed": True},
    "--share-all-embeddings": {"share_all_embeddings": True},
    "--merge-src-tgt-embed": {"merge_src_tgt_embed": True},
    "--layernorm-embedding": {"layernorm_embedding": True},
    "--no-scale-embedding": {"no_scale_embedding": True},
    "--no-token-positional-embeddings": {"no_token_positional_embeddings": True},
    "--encoder-learned-pos": {"encoder_learned_pos": True},
    "--decoder-learned-pos": {"decoder_learned_pos": True},
    "--encoder-normalize-before": {"encoder_normalize_before": True},
    "--decoder-normalize-before": {"decoder_normalize_before": True},
    "--decoder-output-dim": {"decoder_output_dim": 6},
    "--cross-self-attention": {"no_cross_attention": True, "cross_self_attention": True},
    "--activation-fn gelu": {"activation_fn": "gelu"},
    "--encoder-layers 3 --decoder-layers 2": {"encoder_layers": 3, "decoder_layers": 2},
}
FASTER = {"perturb": "attention", "explicit_attention": "perturbed"}
LAYERS = {"encoder_layers": 3, "decoder_layers": 3}
LAYERDROP = {**LAYERS, "encoder_layerdrop": 0.4, "decoder_layerdrop": 0.4}


@pytest.mark.parametrize("option", OPTIONS)
def test_salts_gradient_is_the_derivative_of_the_reported_objective(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole derivative, the leader-follower term included, exactly unrolled."""
    match = Match(ROWS[0], partial(tiny.transformer, **OPTIONS[option]))
    assert match.criterion.method.unroll_method == "exact"  # type: ignore[attr-defined]
    check_derivative(match, tiny.batch(), monkeypatch)
    with_it = match.gradient
    frozen = Match(ROWS[0], partial(tiny.transformer, **OPTIONS[option]), unroll_steps=0)
    frozen.play(tiny.batch())
    assert distance(frozen.gradient, with_it) > 0.01, "or the term would not be proven"


CLASSIFIERS = {
    "bert": Kind(sentences.bert, sentences.TWO),
    "bert, a score": Kind(partial(sentences.bert, outputs=1), sentences.NUMBER),
    "bert, gelu": Kind(partial(sentences.bert, activation_fn="gelu"), sentences.TWO),
    "two scores": Kind(sentences.roberta, sentences.family(2, numbers=True)),
    "no pooler": Kind(
        partial(sentences.roberta, pooler_activation_fn="linear", outputs=3), sentences.THREE
    ),
    "pre-norm": Kind(
        partial(sentences.roberta, encoder_normalize_before=True, layernorm_embedding=False),
        sentences.TWO,
    ),
    "--encoder-layerdrop": Kind(
        partial(sentences.bert, encoder_layers=3, encoder_layerdrop=0.4), sentences.TWO
    ),
}


@every_method
@pytest.mark.parametrize("option", CLASSIFIERS)
def test_on_sentences_the_gradient_is_the_derivative(
    row: Row, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one text and on pairs: a batch has both."""
    match = Match(row, CLASSIFIERS[option], **differentiated(row))
    check_derivative(match, match.batch(((7, 0), (3, 0), (2, 0))), monkeypatch)


@every_method
@pytest.mark.parametrize("option", ["bert", "two scores"])
def test_what_fairseq_counts_is_counted(row: Row, option: str) -> None:
    """Sentences or, where each has several, scores: for the gradient and in the log."""
    match = Match(row, CLASSIFIERS[option])
    sample = match.batch()
    _, expected, theirs = match.family.stock()(match.model, sample)
    _, size, log = match.criterion.play(
        match.model, sample, 0, tiny.accumulate, reference_model=match.reference
    )
    assert size == log["sample_size"] == expected * (2 if row.criterion == "rdrop" else 1)
    for name in ("ntokens", "nsentences"):
        assert log[name] == theirs[name]
    assert log["clean_loss_of"] == expected


class Passes:
    """Which layers each pass of a model ran through."""

    def __init__(self, model: Any) -> None:
        parts = (model.encoder, model.decoder)
        # Iterating over the list of layers itself would draw which of them to drop.
        layers = [layer for part in parts for layer in part.layers._modules.values()]
        self.layers: list[tuple[bool, ...]] = []
        ran: set[int] = set()
        for layer in layers:
            layer.register_forward_hook(lambda module, *_: ran.add(id(module)))
        model.register_forward_pre_hook(lambda *_: ran.clear())
        model.register_forward_hook(
            lambda *_: self.layers.append(tuple(id(layer) in ran for layer in layers))
        )


@every_method
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_with_layers_dropped_the_gradient_is_right(
    row: Row, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--encoder-layerdrop, --decoder-layerdrop: what a pass skips is drawn with its masks."""
    model = partial(tiny.transformer, **LAYERDROP)
    match = Match(row, model, dropout=dropout, **differentiated(row))
    passes = Passes(match.model)
    check_derivative(match, tiny.batch(), monkeypatch)
    assert len(set(passes.layers)) > 1 or row.name == "freeat-task-loss", "it has one pass only"
    assert any(not all(layers) for layers in passes.layers)


@every_method
def test_with_all_layers_of_the_decoder_dropped_the_source_does_not_matter(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follower's gradient of a side that has no part in a pass is zero."""
    model = partial(tiny.transformer, **LAYERS, decoder_layerdrop=1.0)
    match = Match(row, model, **differentiated(row))
    check_derivative(match, tiny.batch(), monkeypatch)
    names = [name for name, _ in match.model.named_parameters()]
    gradients = dict(zip(names, match.gradient, strict=True))
    assert not any(g.any() for name, g in gradients.items() if "encoder." in name)
    assert gradients["decoder.embed_tokens.weight"].any()


@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_shared_masks_drop_the_same_layers(masks: str) -> None:
    match = Match(ROWS[0], partial(tiny.transformer, **LAYERDROP), dropout_masks=masks)
    passes = Passes(match.model)
    match.play(tiny.batch())
    assert len(passes.layers) == 1 + ROWS[0].passes
    assert (len(set(passes.layers)) == 1) == (masks == "shared")


def test_ways_to_unroll_agree_with_layers_dropped() -> None:
    """The points of a difference skip the layers that their ascent step skipped."""
    gradients = {}
    for way in ("exact", "central", "one-sided"):
        match = Match(ROWS[0], partial(tiny.transformer, **LAYERDROP), unroll_method=way)
        match.play(tiny.batch())
        gradients[way] = match.gradient
    assert distance(gradients["central"], gradients["exact"]) < 1e-3
    assert distance(gradients["one-sided"], gradients["exact"]) < 0.05
    assert torch.stack([g.norm() for g in gradients["exact"]]).norm() > 0


@pytest.mark.parametrize("row", [row for row in ROWS if row.ball], ids=lambda row: row.name)
def test_passes_may_compute_attention_in_two_ways(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused where nothing is added, with dropout, whose masks are then drawn in two ways, too."""
    match = Match(row, MODELS["two-classes"], dropout=0.2, **FASTER, **differentiated(row))
    check_derivative(match, match.batch(), monkeypatch)
