"""What a fairseq decoder projects its logits from.

Logits are as large as the vocabulary, and a game never needs all of them at once (see
`core.predictions`). Decoders of Transformers and LSTMs project as the last thing they do, in
`output_layer`: for one pass it gives back what it was given. Of others, and of those whose last
step is another than theirs, the logits are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from fairseq.models import BaseFairseqModel
from fairseq.models.lstm import LSTMDecoder
from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor, nn

Projection = tuple[Tensor, Tensor | None] | tuple[None, None]
"""Weight, V x C, and bias, V, if there is one; or nothing, where logits come."""


@contextmanager
def hidden_states(model: BaseFairseqModel) -> Iterator[Projection]:
    """Let the pass inside the block end with hidden states, B x T x C, if that is possible.

    :param model: an encoder-decoder model, wrapped for data-parallel training or not.

    Gives what they are to be projected with.
    """
    projection = _projection(model.decoder)
    if projection is None:
        yield None, None
        return
    with patch.object(model.decoder, "output_layer", lambda hidden: hidden):
        yield projection


def _projection(decoder: Any) -> tuple[Tensor, Tensor | None] | None:
    layer = getattr(decoder, "output_layer", None)
    function = getattr(layer, "__func__", None)
    if function is TransformerDecoderBase.output_layer:
        linear = decoder.output_projection
    elif function is LSTMDecoder.output_layer:
        if decoder.share_input_output_embed:
            return decoder.embed_tokens.weight, None
        linear = decoder.fc_out
    else:
        return None
    hooks = linear._forward_hooks or linear._forward_pre_hooks
    return None if type(linear) is not nn.Linear or hooks else (linear.weight, linear.bias)
