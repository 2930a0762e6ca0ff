"""`Game` over a fairseq model, a batch and a label-smoothed criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.models import BaseFairseqModel
from torch import Tensor

from fairseq_adv.core.game import Delta, Side
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.embedding_hooks import (
    Lookups,
    UnsupportedModel,
    cut_embeddings,
    looked_up,
    perturbed_embeddings,
)
from fairseq_adv.encoder_gradient import logits_with_true_gradients
from fairseq_adv.replay import Memory


def check_embeddings(model: BaseFairseqModel) -> None:
    """Raises UnsupportedModel where there are no word embeddings, or not one softmax."""
    for part in ("encoder", "decoder"):
        if not hasattr(getattr(model, part, None), "embed_tokens"):
            raise UnsupportedModel(
                f"{type(model).__name__} has no {part}.embed_tokens, the word embeddings "
                "that are perturbed"
            )
    if getattr(model.decoder, "adaptive_softmax", None) is not None:
        raise UnsupportedModel("--adaptive-softmax-cutoff: its output is not one softmax")


class FairseqGame:
    """One fairseq model and one batch; see `core.game.Game`.

    :param model: any encoder-decoder model with `encoder.embed_tokens` and `decoder.embed_tokens`.
    :param sample: a batch of fairseq's `LanguagePairDataset`.
    :param criterion: gives the clean loss, exactly as fairseq computes it.
    :param reference_model: what `reference` gives the predictions of, if a method asks for them.
    :param memory: what `recall` and `remember` work with; without it nothing is remembered.
    :param autocast: run the model in mixed precision, as for --amp. Perturbations, projection,
        losses and divergences are in float32 in any case.

    Raises UnsupportedModel for a model that has no such embeddings, or whose output is not one
    softmax over the vocabulary.
    """

    def __init__(
        self,
        model: BaseFairseqModel,
        sample: dict[str, Any],
        criterion: LabelSmoothedCrossEntropyCriterion,
        *,
        reference_model: BaseFairseqModel | None = None,
        memory: Memory | None = None,
        autocast: bool = False,
    ) -> None:
        check_embeddings(model)
        self.model = model
        self.sample = sample
        self.criterion = criterion
        self.reference_model = reference_model
        self.memory = memory
        self.autocast = autocast
        self.nll_loss: Tensor | None = None
        """Of the first pass (the clean one, if there is one), without label smoothing: nats."""

    def clean(self, zero: Delta | None = None) -> Tensor:
        """See `Game.clean`."""
        self._clean_masks = RandomState.capture()
        with perturbed_embeddings(self.model, zero or {}):
            return self._logits()

    def clean_masks(self) -> RandomState:
        """See `Game.clean_masks`."""
        return self._clean_masks

    def task_loss(self, logits: Tensor) -> Tensor:
        """See `Game.task_loss`."""
        loss, nll_loss = self.criterion.compute_loss(self.model, (logits, None), self.sample)
        if self.nll_loss is None:
            self.nll_loss = nll_loss.detach()
        return loss

    def perturbed(self, delta: Delta, masks: RandomState) -> Tensor:
        """See `Game.perturbed`."""
        with masks.replay():
            if not delta:
                return self._logits()
            with perturbed_embeddings(self.model, delta), self._mixed_precision():
                return logits_with_true_gradients(self.model, self.sample["net_input"])

    def cut(self, keep: Mapping[Side, Tensor], masks: RandomState) -> Tensor:
        """See `Game.cut`."""
        with masks.replay(), cut_embeddings(self.model, keep):
            return self._logits()

    def reference(self) -> Tensor:
        """See `Game.reference`."""
        assert self.reference_model is not None, "the criterion asks for it where it is needed"
        self.reference_model.eval()
        with torch.no_grad(), self._mixed_precision():
            logits: Tensor = self.reference_model(**self.sample["net_input"])[0]
        return logits

    def recall(self) -> Delta | None:
        """See `Game.recall`."""
        return None if self.memory is None else self.memory.recall(self.sample)

    def remember(self, delta: Delta) -> None:
        """See `Game.remember`."""
        if self.memory is not None:
            self.memory.remember(self.sample, delta)

    def _logits(self) -> Tensor:
        """fairseq's own pass, with its own gradients."""
        with self._mixed_precision():
            logits: Tensor = self.model(**self.sample["net_input"])[0]
        return logits

    def _mixed_precision(self) -> torch.autocast:
        return mixed_precision(self.model, self.autocast)

    @cached_property
    def _looked_up(self) -> Lookups:
        words = self.sample["net_input"]
        inputs: dict[Side, Sequence[Tensor]] = {
            "source": (words["src_tokens"], words["src_lengths"]),
            "target": (words["prev_output_tokens"],),
        }
        return looked_up(self.model, inputs)

    def predicted(self) -> Tensor:
        """See `Game.predicted`. A prefix that the criterion ignores is not predicted."""
        predicted = self.sample["target"].ne(self.criterion.padding_idx)
        predicted[:, : self.criterion.ignore_prefix_size] = False
        return predicted

    def zero_delta(self, side: Side) -> Tensor:
        """See `Game.zero_delta`."""
        embeddings = self._looked_up[side][1]
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        return torch.zeros_like(embeddings, dtype=dtype)

    def non_pad(self, side: Side) -> Tensor:
        """See `Game.non_pad`."""
        part = self.model.encoder if side == "source" else self.model.decoder
        return self._looked_up[side][0].ne(part.embed_tokens.padding_idx)

    def parameters(self) -> Sequence[Tensor]:
        """See `Game.parameters`."""
        return [p for p in self.model.parameters() if p.requires_grad]


def mixed_precision(model: BaseFairseqModel, enabled: bool) -> torch.autocast:
    """A block for one pass of the model: matrix products in 16 bits, if enabled.

    In the type that is usual on the model's device: float16 on a GPU, bfloat16 on a CPU. It holds
    one pass and not a whole game: casts of the parameters are kept to its end, and one that was
    made where no gradient is wanted would be used where one is.
    """
    return torch.autocast(next(model.parameters()).device.type, enabled=enabled)
