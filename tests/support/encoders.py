"""Encoders in Hugging Face's layout, made by `transformers`, and what data_prep makes of them.

`transformers` is the reference: nothing of the project imports it.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
import transformers.utils
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from torch import Tensor

import fairseq_adv.tasks  # noqa: F401  (registers the models)
from data_prep.encoders.making import Directory, make_encoder
from tests.support.wordlists import PIECES, byte_pieces

# torchaudio, which fairseq requires and nobody here uses, does not load where it is another build
# than torch; transformers would import it.
transformers.utils.is_torchaudio_available = lambda: False

KINDS = ("BertModel", "BertForMaskedLM", "RobertaModel", "RobertaForMaskedLM")


def save_encoder(folder: Path, kind: str, seed: int = 1, **sizes: Any) -> Any:
    """Save a small random model and its tokeniser's files; return the model, for inference."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    is_bert = kind.startswith("Bert")
    if is_bert:
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
        words = len(PIECES)
    else:
        vocabulary, merges = byte_pieces()
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (folder / "merges.txt").write_text(
            "\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n", encoding="utf-8"
        )
        words = len(vocabulary)
    small = {
        "vocab_size": words,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 130 if is_bert else 132,
    }
    if not is_bert:
        small |= {
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        }
    family = kind.removesuffix("Model").removesuffix("ForMaskedLM")
    config = getattr(transformers, f"{family}Config")(**(small | sizes))
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():  # what is initialised as 0 or 1 would hide mistakes
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def prepared(folder: Path, out: Path, **changes: Any) -> Path:
    """Make an encoder of files."""
    make_encoder(Directory(folder), out, **changes)
    return out


def load(encoder: Path, **options: Any) -> tuple[Any, Dictionary]:
    """fairseq's model of an encoder, with no head, and the task's dictionary."""
    from data_prep.encoders.hugging_face import read_json

    words = Dictionary.load(str(encoder / "dict.txt"))
    words.add_symbol("<mask>")
    facts = read_json(encoder / "encoder.json")
    sizes = facts["sizes"]
    args = Namespace(
        encoder_layers=sizes["layers"],
        encoder_embed_dim=sizes["dim"],
        encoder_ffn_embed_dim=sizes["inner"],
        encoder_attention_heads=sizes["heads"],
        max_positions=facts["max_positions"],
        **options,
    )
    ARCH_CONFIG_REGISTRY[facts["arch"]](args)
    task = Namespace(source_dictionary=words, max_positions=lambda: facts["max_positions"])
    model = ARCH_MODEL_REGISTRY[facts["arch"]].build_model(args, task)
    state = torch.load(encoder / "model.pt", weights_only=True)["model"]
    model.load_state_dict(state, strict=True)
    return model.eval(), words


def padded(rows: list[list[int]], padding: int) -> Tensor:
    """Rows of numbers, padded on the right."""
    longest = max(map(len, rows))
    return torch.tensor([row + [padding] * (longest - len(row)) for row in rows])
