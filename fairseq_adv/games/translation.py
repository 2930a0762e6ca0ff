"""`Game` over a fairseq translation model, a batch and a label-smoothed criterion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.models import BaseFairseqModel
from torch import Tensor

from fairseq_adv.core.comparison.comparison import Kind
from fairseq_adv.core.comparison.predictions import Logits, Predictions, Projected
from fairseq_adv.core.comparison.softmax import Softmax
from fairseq_adv.core.comparison.task_loss import TaskLoss
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.sites import Add, Edits, Replace
from fairseq_adv.games.encoder_gradient import with_true_gradients
from fairseq_adv.games.hidden_states import hidden_states
from fairseq_adv.games.mixed_precision import mixed_precision
from fairseq_adv.games.sites import SITES, FairseqSite, UnsupportedModel

Call = Callable[[BaseFairseqModel, dict[str, Tensor]], Tensor]


def fairseq_s_own(model: BaseFairseqModel, net_input: dict[str, Tensor]) -> Tensor:
    """The output of fairseq's pass, B x T x V or C, with fairseq's gradients."""
    output: Tensor = model(**net_input)[0]
    return output


class TranslationGame:
    """One fairseq model and one batch; see `core.game.Game`.

    :param model: any encoder-decoder model that has the sites that are attacked.
    :param sample: a batch of fairseq's `LanguagePairDataset`.
    :param plain: the criterion whose loss the task loss is.
    :param autocast: run the model in mixed precision, as for --amp. Perturbations, projection,
        losses and divergences are in float32 in any case.
    """

    def __init__(
        self,
        model: BaseFairseqModel,
        sample: dict[str, Any],
        plain: LabelSmoothedCrossEntropyCriterion,
        *,
        autocast: bool = False,
    ) -> None:
        self.model = model
        self.sample = sample
        self.plain = plain
        self.autocast = autocast

    @staticmethod
    def check(model: BaseFairseqModel, sites: Collection[str]) -> None:
        """Raise UnsupportedModel for a model without these sites, or without one softmax."""
        for name in sites:
            SITES[name].check(model)
        if getattr(getattr(model, "decoder", None), "adaptive_softmax", None) is not None:
            raise UnsupportedModel("--adaptive-softmax-cutoff: its output is not one softmax")

    @cached_property
    def sites(self) -> Mapping[str, FairseqSite]:
        """See `Game`."""
        return {name: site(self.model, self.sample) for name, site in SITES.items()}

    def clean(self, edits: Edits) -> Predictions:
        """See `Game.clean`."""
        return self._pass(edits)

    def perturbed(self, edits: Edits, masks: RandomState) -> Predictions:
        """See `Game.perturbed`."""
        moved = any(isinstance(edit, Add | Replace) for edit in edits.values())
        with masks.replay():
            return self._pass(edits, with_true_gradients if moved else fairseq_s_own)

    def task_loss(self, predictions: Predictions) -> TaskLoss:
        """See `Game.task_loss`."""
        targets = self.sample["target"].flatten()[self._rows]
        return TaskLoss(predictions, targets, self.plain.eps)

    def comparison(self, divergence: Kind) -> Softmax:
        """See `Game.comparison`."""
        return Softmax(divergence)

    def _pass(self, edits: Edits, call: Call = fairseq_s_own) -> Predictions:
        with (
            ExitStack() as blocks,
            mixed_precision(self.model, self.autocast),
            hidden_states(self.model) as projection,
        ):
            for name, edit in edits.items():
                blocks.enter_context(self.sites[name].apply(edit))
            output = call(self.model, self.sample["net_input"])
        hidden = output.flatten(0, 1).index_select(0, self._rows)
        found = [hidden, *projection]
        if self.autocast:
            dtype = torch.get_autocast_dtype(hidden.device.type)
            found = [part.to(dtype) for part in found]
        return Projected(*found) if projection else Logits(*found)

    @cached_property
    def _rows(self) -> Tensor:
        """Where, of the batch's B * T target positions, something is predicted: N."""
        predicted = self.sample["target"].ne(self.plain.padding_idx)
        predicted[:, : self.plain.ignore_prefix_size] = False  # the criterion's own rule
        return predicted.flatten().nonzero().squeeze(1)

    def sentences(self) -> Tensor:
        """See `Game.sentences`. A prefix that the criterion ignores is not predicted."""
        return self._rows // self.sample["target"].size(1)

    def parameters(self) -> Sequence[Tensor]:
        """See `Game.parameters`."""
        return [p for p in self.model.parameters() if p.requires_grad]
