"""`Game` over a fairseq model, a batch and a label-smoothed criterion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.models import BaseFairseqModel
from torch import Tensor

from fairseq_adv.core.game import Delta, Side
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.embedding_hooks import (
    UnsupportedModel,
    perturbed_embeddings,
    recorded_embeddings,
)
from fairseq_adv.encoder_gradient import logits_with_true_gradients


class FairseqGame:
    """One fairseq model and one batch; see `core.game.Game`.

    :param model: any encoder-decoder model with `encoder.embed_tokens` and `decoder.embed_tokens`.
    :param sample: a batch of fairseq's `LanguagePairDataset`.
    :param criterion: gives the clean loss, exactly as fairseq computes it.

    Raises UnsupportedModel for a model that has no such embeddings, or whose output is not one
    softmax over the vocabulary.
    """

    def __init__(
        self,
        model: BaseFairseqModel,
        sample: dict[str, Any],
        criterion: LabelSmoothedCrossEntropyCriterion,
    ) -> None:
        for part in ("encoder", "decoder"):
            if not hasattr(getattr(model, part, None), "embed_tokens"):
                raise UnsupportedModel(
                    f"{type(model).__name__} has no {part}.embed_tokens, the word embeddings "
                    "that are perturbed"
                )
        if getattr(model.decoder, "adaptive_softmax", None) is not None:
            raise UnsupportedModel("--adaptive-softmax-cutoff: its output is not one softmax")
        self.model = model
        self.sample = sample
        self.criterion = criterion

    def clean(self) -> Tensor:
        """See `Game.clean`. Afterwards `nll_loss` is unknown until `task_loss` is called."""
        self._clean_masks = RandomState.capture()
        with recorded_embeddings(self.model) as self._looked_up:
            logits: Tensor = self.model(**self.sample["net_input"])[0]
        return logits

    def clean_masks(self) -> RandomState:
        """See `Game.clean_masks`."""
        return self._clean_masks

    def task_loss(self, logits: Tensor) -> Tensor:
        """See `Game.task_loss`. Leaves the loss without label smoothing in `nll_loss`."""
        loss, nll_loss = self.criterion.compute_loss(self.model, (logits, None), self.sample)
        self.nll_loss: Tensor = nll_loss.detach()
        return loss

    def perturbed(self, delta: Delta, masks: RandomState) -> Tensor:
        """See `Game.perturbed`."""
        with masks.replay(), perturbed_embeddings(self.model, delta):
            return logits_with_true_gradients(self.model, self.sample["net_input"])

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
