"""A checkpoint of fairseq from which training can begin, and the options that belong to it.

Plain types and tensors, so that `torch.load(weights_only=True)` reads it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_prep.encoders.hugging_face import Config

# The architectures of fairseq, and of fairseq_adv, by layers, channels, inner channels and heads.
_ARCHITECTURES = {
    "bert": {
        "bert_minilm": (6, 384, 1536, 12),
        "bert_24_layers": (24, 1024, 4096, 16),
        "bert": (12, 768, 3072, 12),
    },
    "roberta": {
        "roberta_large": (24, 1024, 4096, 16),
        "roberta_base": (12, 768, 3072, 12),
    },
}
_SIZES = (
    "encoder-layers",
    "encoder-embed-dim",
    "encoder-ffn-embed-dim",
    "encoder-attention-heads",
)


def architecture(config: Config) -> tuple[str, dict[str, int]]:
    """Return the architecture of these layers, or else the usual one, and what sizes differ."""
    ours = (config.layers, config.dim, config.inner, config.heads)
    known = _ARCHITECTURES[config.family]
    usual = next(reversed(known))
    best = next((name for name, sizes in known.items() if sizes[1:] == ours[1:]), usual)
    pairs = zip(_SIZES, known[best], ours, strict=True)
    return best, {name: our for name, its, our in pairs if its != our}


def options(config: Config) -> str:
    """Return fairseq-train's options for the encoder, as words of a shell."""
    best, others = architecture(config)
    sizes = [f"--{name} {size}" for name, size in others.items()]
    separator = ["--separator-token 2"] if config.family == "roberta" else []
    return " ".join(
        [
            *(f"--arch {best}", *sizes, "--init-token 0", *separator),
            f"--max-positions {config.max_positions}",
        ]
    )


def save(
    config: Config, weights: dict[str, Tensor], symbols: Sequence[str], directory: Path
) -> None:
    """Write model.pt of a pretrained encoder; see `write`."""
    best, _ = architecture(config)
    sizes = {
        "encoder_layers": config.layers,
        "encoder_embed_dim": config.dim,
        "encoder_ffn_embed_dim": config.inner,
        "encoder_attention_heads": config.heads,
        "max_positions": config.max_positions,
    }
    write(best, sizes, config.max_positions, weights, symbols, directory)


def write(
    arch: str,
    sizes: dict[str, int],
    max_positions: int,
    weights: dict[str, Tensor],
    symbols: Sequence[str],
    directory: Path,
) -> None:
    """Write model.pt.

    :param sizes: options of the model.
    :param symbols: fairseq's dictionary. The checkpoint tells its digest, where fairseq_adv looks
        for it: data with another dictionary are refused.
    """
    digest = hashlib.sha256("\n".join(symbols).encode()).hexdigest()
    state: dict[str, Any] = {
        "args": None,
        "cfg": {
            "model": {"_name": arch, "arch": arch, **sizes},
            "task": {"_name": "sentence_prediction", "max_positions": max_positions},
        },
        "model": weights,
        "optimizer_history": [
            {
                "criterion_name": "",
                "optimizer_name": "",
                "lr_scheduler_state": {},
                "num_updates": 0,
            }
        ],
        "extra_state": {
            "train_iterator": {"version": 2, "epoch": 1, "iterations_in_epoch": 0, "shuffle": True}
        },
        "task_state": {"dictionaries": {"source": digest}},
        "last_optimizer_state": None,
    }
    torch.save(state, directory / "model.pt")
