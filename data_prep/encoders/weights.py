"""An encoder's weights under fairseq's names: converted from Hugging Face's, or random."""

from collections.abc import Sequence

import torch
from torch import Tensor

from data_prep.encoders.hugging_face import Config, Weights
from data_prep.support.errors import DataPrepError
from data_prep.support.progress import progress

_PADDING = 1  # fairseq's number of <pad>; the position of the first word is the next
_STD = 0.02
_PREFIXES = ("", "bert.", "roberta.")
_TABLE = "embeddings.word_embeddings.weight"
_ENCODER = "encoder.sentence_encoder."

_LAYER = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "final_layer_norm",
}


def converted(
    config: Config, weights: Weights, order: Sequence[int | None]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights of fairseq's model, and in words what the file lacks, which is random.

    :param order: rows of the embedding, in the order of fairseq's symbols; None for a new one.
    """
    return _Conversion(config, weights, order).run()


class _Conversion:
    def __init__(self, config: Config, weights: Weights, order: Sequence[int | None]) -> None:
        self._config, self._weights, self._order = config, weights, order
        found = [p for p in _PREFIXES if p + _TABLE in weights.names]
        self._prefix = found[0] if found else ""
        self._fresh = random_weights(config, len(order), seed=0)
        self._made: dict[str, Tensor] = {}
        self._lacks: list[str] = []

    def run(self) -> tuple[dict[str, Tensor], list[str]]:
        config = self._config
        dim, inner = config.dim, config.inner
        self._embeddings()
        layers = progress(range(config.layers), "convert", "layer")
        for number in layers:
            for theirs, ours in _LAYER.items():
                out = inner if ours == "fc1" else dim
                into = None if ours.endswith("norm") else inner if ours == "fc2" else dim
                self._affine(
                    f"{self._prefix}encoder.layer.{number}.{theirs}",
                    f"{_ENCODER}layers.{number}.{ours}",
                    out,
                    into,
                )
        if config.family == "bert":
            self._optional("pooler", f"{self._prefix}pooler.dense", "pooler.dense", dim, dim)
        else:
            self._lm_head()
        for name, tensor in self._fresh.items():
            self._made.setdefault(name, tensor)
        return {name: self._made[name] for name in self._fresh}, self._lacks

    def _embeddings(self) -> None:
        config, prefix = self._config, f"{self._prefix}embeddings."
        rows = self._rows(_TABLE)
        known = [row for row in self._order if row is not None]
        if rows < len(known):
            raise DataPrepError(
                f"the embedding has {rows:,} rows, and the vocabulary {len(known):,} pieces"
            )
        table = self._weights.get(self._prefix + _TABLE, (rows, config.dim))
        self._made[f"{_ENCODER}embed_tokens.weight"] = self._reordered(
            table, self._fresh[f"{_ENCODER}embed_tokens.weight"]
        )
        if None in self._order:
            self._lacks.append("<mask>")
        positions = self._weights.get(
            f"{prefix}position_embeddings.weight", (config.positions, config.dim)
        )
        segments = self._weights.get(
            f"{prefix}token_type_embeddings.weight", (config.segments, config.dim)
        )
        if config.family == "bert":
            above = torch.zeros(_PADDING + 1, config.dim)  # rows for no word
            positions = torch.cat([above, positions])
            self._made[f"{_ENCODER}embed_segments.weight"] = segments
        else:
            positions[_PADDING + 1 :] += segments[0]  # all words are of the one segment
            positions[: _PADDING + 1] = 0
        self._made[f"{_ENCODER}embed_positions.weight"] = positions
        self._affine(f"{prefix}LayerNorm", f"{_ENCODER}layernorm_embedding", config.dim, None)

    def _rows(self, name: str) -> int:
        """Vocabularies are padded to round numbers: the embedding may have rows of no piece."""
        return self._weights.rows(self._prefix + name)

    def _reordered(self, rows: Tensor, fresh: Tensor) -> Tensor:
        made = fresh.clone()
        for number, row in enumerate(self._order):
            if row is not None:
                made[number] = rows[row]
        return made

    def _affine(self, theirs: str, ours: str, out: int, into: int | None) -> None:
        """A matrix, or the scale of a norm, with its bias."""
        names = [f"{theirs}.weight", f"{theirs}.bias"]
        if into is None and f"{theirs}.gamma" in self._weights.names:  # as TensorFlow has it
            names = [f"{theirs}.gamma", f"{theirs}.beta"]
        self._made[f"{ours}.weight"] = self._weights.get(
            names[0], (out,) if into is None else (out, into)
        )
        self._made[f"{ours}.bias"] = self._weights.get(names[1], (out,))

    def _optional(self, what: str, theirs: str, ours: str, out: int, into: int | None) -> bool:
        if f"{theirs}.weight" not in self._weights.names:
            self._lacks.append(what)
            for part in ("weight", "bias"):  # then the model makes it, and says so
                if what == "pooler":
                    del self._fresh[f"{ours}.{part}"]
            return False
        self._affine(theirs, ours, out, into)
        return True

    def _lm_head(self) -> None:
        """fairseq's RoBERTa has a head of words; it stands idle in classification."""
        dim, head = self._config.dim, "encoder.lm_head."
        table = self._made[f"{_ENCODER}embed_tokens.weight"]
        self._made[f"{head}weight"] = table
        if self._optional("language model's head", "lm_head.dense", f"{head}dense", dim, dim):
            self._affine("lm_head.layer_norm", f"{head}layer_norm", dim, None)
            for name in ("lm_head.decoder.bias", "lm_head.bias"):  # one of them, or the same twice
                if name in self._weights.names:
                    rows = self._weights.get(name, (self._rows(_TABLE),))
                    self._made[f"{head}bias"] = self._reordered(rows, self._fresh[f"{head}bias"])


def random_weights(config: Config, symbols: int, seed: int) -> dict[str, Tensor]:
    """Return weights as BERT is initialised: N(0, 0.02); biases 0, norms 1, padding 0.

    :param symbols: of fairseq's dictionary, with the special ones.
    """
    generator = torch.Generator().manual_seed(seed)
    dim, inner = config.dim, config.inner
    made: dict[str, Tensor] = {}

    def normal(name: str, *shape: int) -> None:
        made[name] = torch.randn(*shape, generator=generator) * _STD

    def affine(name: str, out: int, into: int) -> None:
        normal(f"{name}.weight", out, into)
        made[f"{name}.bias"] = torch.zeros(out)

    def norm(name: str) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = torch.ones(dim), torch.zeros(dim)

    made[f"{_ENCODER}version"] = torch.tensor([3.0])  # of fairseq's encoder
    normal(f"{_ENCODER}embed_tokens.weight", symbols, dim)
    normal(f"{_ENCODER}embed_positions.weight", config.max_positions + _PADDING + 1, dim)
    for table in ("embed_tokens", "embed_positions"):
        made[f"{_ENCODER}{table}.weight"][_PADDING] = 0
    if config.family == "bert":
        normal(f"{_ENCODER}embed_segments.weight", 2, dim)
    norm(f"{_ENCODER}layernorm_embedding")
    for number in range(config.layers):
        for ours in _LAYER.values():
            name = f"{_ENCODER}layers.{number}.{ours}"
            if ours.endswith("norm"):
                norm(name)
            else:
                affine(name, inner if ours == "fc1" else dim, inner if ours == "fc2" else dim)
    if config.family == "bert":
        affine("pooler.dense", dim, dim)
    else:
        made["encoder.lm_head.weight"] = made[f"{_ENCODER}embed_tokens.weight"]
        made["encoder.lm_head.bias"] = torch.zeros(symbols)
        affine("encoder.lm_head.dense", dim, dim)
        norm("encoder.lm_head.layer_norm")
    return made
