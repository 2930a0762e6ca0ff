"""The mixed precision of --amp, one pass at a time."""

from __future__ import annotations

import torch
from fairseq.models import BaseFairseqModel


def mixed_precision(model: BaseFairseqModel, enabled: bool) -> torch.autocast:
    """A block for one pass of the model: matrix products in 16 bits, if enabled.

    In the type that is usual on the model's device: float16 on a GPU, bfloat16 on a CPU. It holds
    one pass and not a whole game: casts of the parameters are kept to its end, and one that was
    made where no gradient is wanted would be used where one is.
    """
    return torch.autocast(next(model.parameters()).device.type, enabled=enabled)
