"""The model `bert`: what fairseq's tasks and trainers, and games, ask of it."""

from __future__ import annotations

import copy
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.support import encoders


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    encoders.save_encoder(folder / "files", "BertModel")
    return encoders.prepared(folder / "files", folder / "encoder")


@pytest.fixture
def model(encoder: Path) -> Any:
    made, _ = encoders.load(encoder)
    made.register_classification_head("of_three", num_classes=3)
    return made.eval()


TOKENS = torch.tensor([[0, 9, 30, 12, 2, 40, 7, 2], [0, 11, 2, 8, 2, 1, 1, 1]])


def test_segments_are_read_off_the_tokens(model: Any) -> None:
    segments = model.encoder.sentence_encoder.segments(TOKENS)
    assert segments[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert segments[1, :5].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_sentence_s_result_does_not_depend_on_padding(model: Any, dtype: torch.dtype) -> None:
    model.to(dtype)
    together = model(TOKENS, features_only=True, classification_head_name="of_three")[0]
    alone = model(TOKENS[1:, :5], features_only=True, classification_head_name="of_three")[0]
    assert together.shape == (2, 3) and together.dtype == dtype
    torch.testing.assert_close(
        together[1], alone[0], rtol=0, atol=16 * float(torch.finfo(dtype).eps)
    )


def test_the_second_text_is_told_from_the_first(model: Any) -> None:
    """A change of the second segment's row is seen by pairs alone."""
    pair, single = model(TOKENS)[0], model(TOKENS[:, :5])[0]
    with torch.no_grad():
        model.encoder.sentence_encoder.embed_segments.weight[1] += torch.randn(32)
    assert not torch.allclose(model(TOKENS)[0], pair)
    torch.testing.assert_close(model(TOKENS[:, :5])[0][0], single[0])


def test_derivatives_of_derivatives(model: Any) -> None:
    """The ascent of a game is differentiated; finite differences in float64 agree."""
    model.double().train()
    for module in model.modules():
        if hasattr(module, "p") and isinstance(module.p, float):
            module.p = 0.0
    table = model.encoder.sentence_encoder.embed_tokens.weight

    def slope(delta: torch.Tensor) -> torch.Tensor:
        hook = model.encoder.sentence_encoder.embed_tokens.register_forward_hook(
            lambda _module, _inputs, output: output + delta
        )
        try:
            logits = model(TOKENS, classification_head_name="of_three")[0]
            loss = logits.log_softmax(-1)[:, 0].sum()
        finally:
            hook.remove()
        (gradient,) = torch.autograd.grad(loss, table, create_graph=True)
        return (gradient**2).sum()

    delta = 0.1 * torch.randn(2, 8, 32, dtype=torch.float64)
    direction = torch.randn_like(delta)
    variable = delta.clone().requires_grad_()
    h = 1e-5
    with sdpa_kernel(SDPBackend.MATH):  # as games do: fused attention has one derivative
        (second,) = torch.autograd.grad(slope(variable), variable)
        finite = (slope(delta + h * direction) - slope(delta - h * direction)) / (2 * h)
    torch.testing.assert_close((second * direction).sum(), finite.detach(), rtol=1e-6, atol=1e-9)


def test_words_are_looked_up_once_in_a_plain_table(model: Any) -> None:
    table = model.encoder.sentence_encoder.embed_tokens
    assert type(table) is torch.nn.Embedding
    calls: list[Any] = []
    table.register_forward_hook(lambda *_: calls.append(1))
    model(TOKENS, classification_head_name="of_three")
    assert len(calls) == 1


def test_heads_share_the_pooler_and_its_dropout_comes_behind_it(model: Any) -> None:
    model.register_classification_head("score", num_classes=1)
    model.eval()
    features = model(TOKENS)[0]
    pooled = torch.tanh(features[:, 0] @ model.pooler.dense.weight.T + model.pooler.dense.bias)
    for name in ("of_three", "score"):
        head = model.classification_heads[name]
        assert sorted(head.state_dict()) == ["out_proj.bias", "out_proj.weight"]
        assert head.dropout.p == 0.1
        expected = pooled @ head.out_proj.weight.T + head.out_proj.bias
        torch.testing.assert_close(model(TOKENS, classification_head_name=name)[0], expected)


def test_checkpoints_with_heads(encoder: Path, model: Any) -> None:
    """Those that are here are loaded; others are left out, or made if asked for."""
    model.register_classification_head("other", num_classes=2)
    state = model.state_dict()
    fresh, _ = encoders.load(encoder)
    fresh.register_classification_head("of_three", num_classes=3)
    fresh.load_state_dict(copy.copy(state), strict=True)
    assert list(fresh.classification_heads) == ["of_three"]
    torch.testing.assert_close(
        fresh.classification_heads["of_three"].out_proj.weight,
        state["classification_heads.of_three.out_proj.weight"],
    )
    smaller, _ = encoders.load(encoder)
    smaller.register_classification_head("of_three", num_classes=2)
    smaller.load_state_dict(copy.copy(state), strict=True)
    assert smaller.classification_heads["of_three"].out_proj.out_features == 2
    all_of_them, _ = encoders.load(encoder)
    all_of_them.args.load_checkpoint_heads = True
    all_of_them.load_state_dict(copy.copy(state), strict=True)
    assert sorted(all_of_them.classification_heads) == ["of_three", "other"]


def test_a_checkpoint_without_a_pooler_gets_one_and_the_log_says_so(
    encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = encoders.load(encoder)
    state = {name: t for name, t in model.state_dict().items() if "pooler" not in name}
    with caplog.at_level("INFO"):
        model.load_state_dict(state, strict=True)
    assert "has no pooler" in caplog.text


def test_a_spectral_norm_is_refused_in_a_line() -> None:
    from fairseq_adv.models.bert import BertModel

    with pytest.raises(SystemExit, match=r"^fairseq_adv: --spectral-norm-classification-head"):
        BertModel.build_model(Namespace(spectral_norm_classification_head=True), None)


def test_layer_norms_have_bert_s_epsilon(model: Any) -> None:
    norms = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 5 and {norm.eps for norm in norms} == {1e-12}


def test_no_head_of_words_is_kept(model: Any) -> None:
    assert not [name for name, _ in model.named_parameters() if "lm_head" in name]
    assert model(TOKENS)[0].shape == (2, 8, 32)
