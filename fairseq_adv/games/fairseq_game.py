"""`Game` over a fairseq model, a batch and a label-smoothed criterion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.models import BaseFairseqModel
from torch import Tensor

from fairseq_adv.core.game import Delta, Side
from fairseq_adv.core.predictions import Predictions
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.task_loss import TaskLoss
from fairseq_adv.games.embedding_hooks import (
    Lookups,
    UnsupportedModel,
    cut_embeddings,
    looked_up,
    perturbed_embeddings,
)
from fairseq_adv.games.encoder_gradient import with_true_gradients
from fairseq_adv.games.hidden_states import hidden_states
from fairseq_adv.trainer.replay import Memory

Call = Callable[[BaseFairseqModel, dict[str, Tensor]], Tensor]


def fairseq_s_own(model: BaseFairseqModel, net_input: dict[str, Tensor]) -> Tensor:
    """The output of fairseq's pass, B x T x V or C, with fairseq's gradients."""
    output: Tensor = model(**net_input)[0]
    return output


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
    :param criterion: whose loss the task loss is.
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

    def clean(self, zero: Delta | None = None) -> Predictions:
        """See `Game.clean`."""
        self._clean_masks = RandomState.capture()
        with perturbed_embeddings(self.model, zero or {}):
            return self._pass(self.model)

    def clean_masks(self) -> RandomState:
        """See `Game.clean_masks`."""
        return self._clean_masks

    def task_loss(self, predictions: Predictions) -> TaskLoss:
        """See `Game.task_loss`."""
        targets = self.sample["target"].flatten()[self._rows]
        return TaskLoss(predictions, targets, self.criterion.eps)

    def perturbed(self, delta: Delta, masks: RandomState) -> Predictions:
        """See `Game.perturbed`."""
        with masks.replay():
            if not delta:
                return self._pass(self.model)
            with perturbed_embeddings(self.model, delta):
                return self._pass(self.model, with_true_gradients)

    def cut(self, keep: Mapping[Side, Tensor], masks: RandomState) -> Predictions:
        """See `Game.cut`."""
        with masks.replay(), cut_embeddings(self.model, keep):
            return self._pass(self.model)

    def reference(self) -> Predictions:
        """See `Game.reference`."""
        assert self.reference_model is not None, "the criterion asks for it where it is needed"
        self.reference_model.eval()
        with torch.no_grad():
            found = self._pass(self.reference_model)
        weight, bias = (None if t is None else t.detach() for t in (found.weight, found.bias))
        return Predictions(found.hidden, weight, bias)

    def recall(self) -> Delta | None:
        """See `Game.recall`."""
        return None if self.memory is None else self.memory.recall(self.sample)

    def remember(self, delta: Delta) -> None:
        """See `Game.remember`."""
        if self.memory is not None:
            self.memory.remember(self.sample, delta)

    def _pass(self, model: BaseFairseqModel, call: Call = fairseq_s_own) -> Predictions:
        with mixed_precision(model, self.autocast), hidden_states(model) as (weight, bias):
            output = call(model, self.sample["net_input"])
        hidden = output.flatten(0, 1).index_select(0, self._rows)
        if self.autocast:
            dtype = torch.get_autocast_dtype(hidden.device.type)
            hidden = hidden.to(dtype)
            weight = None if weight is None else weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        return Predictions(hidden, weight, bias)

    @cached_property
    def _rows(self) -> Tensor:
        """Where, of the batch's B * T target positions, something is predicted: N."""
        predicted = self.sample["target"].ne(self.criterion.padding_idx)
        predicted[:, : self.criterion.ignore_prefix_size] = False  # the criterion's own rule
        return predicted.flatten().nonzero().squeeze(1)

    @cached_property
    def _looked_up(self) -> Lookups:
        words = self.sample["net_input"]
        inputs: dict[Side, Sequence[Tensor]] = {
            "source": (words["src_tokens"], words["src_lengths"]),
            "target": (words["prev_output_tokens"],),
        }
        return looked_up(self.model, inputs)

    def sentences(self) -> Tensor:
        """See `Game.sentences`. A prefix that the criterion ignores is not predicted."""
        return self._rows // self.sample["target"].size(1)

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
