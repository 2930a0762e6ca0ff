"""True gradients through fairseq's convolutional encoder, which scales them on purpose.

To let its layers learn more slowly, `FConvEncoder` multiplies the gradient of its output by
s = 1 / (2 * attention layers of the decoder) on its way back (after Gehring et al. 2017, section
3.5). But a perturbation of the source would get a gradient that is not the derivative of
anything, and the ways to the Stackelberg gradient would differ. In a perturbed pass, therefore, s
is applied at the parameters of the encoder's layers: they learn as slowly, while the gradient of
delta (and of the source embeddings, which that section exempts) is the true one. The clean pass
stays fairseq's own.
"""

from __future__ import annotations

from typing import Any

import torch
from fairseq.models import BaseFairseqModel, fconv
from torch import Tensor
from torch.func import functional_call

from fairseq_adv.replaced import replaced


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None


class _Unscaled:
    """Stands in for fairseq's `GradMultiply`."""

    @staticmethod
    def apply(x: Tensor, scale: float) -> Tensor:
        return x


def with_true_gradients(model: BaseFairseqModel, net_input: dict[str, Tensor]) -> Tensor:
    """The output of one pass, whose gradient reaches the word embeddings unscaled."""
    if not isinstance(model.encoder, fconv.FConvEncoder):
        return model(**net_input)[0]
    scale = 1.0 / (2.0 * model.encoder.num_attention_layers)
    encoder = model.encoder
    embeddings = {id(encoder.embed_tokens.weight), id(encoder.embed_positions.weight)}
    layers = {id(p) for p in encoder.parameters()} - embeddings
    scaled = {
        name: _Scaled.apply(p, scale) for name, p in model.named_parameters() if id(p) in layers
    }
    with replaced(fconv, "GradMultiply", _Unscaled):
        return functional_call(model, scaled, (), net_input)[0]
