"""Which GPUs there are."""

import os


def visible_gpus() -> list[str]:
    """Return the GPUs at hand, as CUDA_VISIBLE_DEVICES names them."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        return [gpu for gpu in asked.split(",") if gpu]
    import torch  # late: it takes seconds

    return [str(number) for number in range(torch.cuda.device_count())]
