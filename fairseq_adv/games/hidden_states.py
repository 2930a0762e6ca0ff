"""What a fairseq decoder projects its logits from.

Logits are as large as the vocabulary, and a game never needs all of them at once (see
`core.comparison.predictions`). Decoders of Transformers and LSTMs project as the last thing they
do, in `output_layer`: for one pass it gives back what it was given. Of others, and of those whose
last step is another than theirs, the logits are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fairseq.models import BaseFairseqModel
from fairseq.models.lstm import LSTMDecoder
from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor, nn

from fairseq_adv.replaced import replaced

Projection = tuple[Tensor, ...]
"""Weight, V x C, and bias, V, if there is one; or nothing, where logits come."""


@contextmanager
def hidden_states(model: BaseFairseqModel) -> Iterator[Projection]:
    """Let the pass inside the block end with hidden states, B x T x C, if that is possible.

    :param model: an encoder-decoder model, wrapped for data-parallel training or not.

    Gives what they are to be projected with.
    """
    projection = _projection(model.decoder)
    if not projection:
        yield ()
        return
    with replaced(model.decoder, "output_layer", lambda hidden: hidden):
        yield projection


def _projection(decoder: Any) -> Projection:
    layer = getattr(decoder, "output_layer", None)
    function = getattr(layer, "__func__", None)
    if function is TransformerDecoderBase.output_layer:
        linear = decoder.output_projection
    elif function is LSTMDecoder.output_layer:
        if decoder.share_input_output_embed:
            return (decoder.embed_tokens.weight,)
        linear = decoder.fc_out
    else:
        return ()
    hooks = linear._forward_hooks or linear._forward_pre_hooks
    if type(linear) is not nn.Linear or hooks:
        return ()
    return (linear.weight,) if linear.bias is None else (linear.weight, linear.bias)
