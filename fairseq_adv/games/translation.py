"""`Game` over a fairseq translation model, a batch and a label-smoothed criterion."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Any

from fairseq.models import BaseFairseqModel
from torch import Tensor

from fairseq_adv.core.comparison.comparison import Kind
from fairseq_adv.core.comparison.predictions import Logits, Predictions, Projected
from fairseq_adv.core.comparison.softmax import Softmax
from fairseq_adv.core.comparison.task_loss import TaskLoss
from fairseq_adv.core.players.directions import FREE, Directions
from fairseq_adv.games.encoder_gradient import with_true_gradients
from fairseq_adv.games.game import FairseqGame
from fairseq_adv.games.hidden_states import hidden_states
from fairseq_adv.games.parts import used_columns
from fairseq_adv.games.sites import UnsupportedModel


class TranslationGame(FairseqGame):
    """A batch of fairseq's `LanguagePairDataset`, whose target words are predicted."""

    words = ("source", "target")

    @classmethod
    def check(
        cls, model: BaseFairseqModel, sites: Collection[str], directions: Directions = FREE
    ) -> None:
        """See `FairseqGame`. Raises UnsupportedModel for one without one softmax, too."""
        super().check(model, sites, directions)
        if getattr(getattr(model, "decoder", None), "adaptive_softmax", None) is not None:
            raise UnsupportedModel("--adaptive-softmax-cutoff: its output is not one softmax")

    def task_loss(self, predictions: Predictions) -> TaskLoss:
        """See `Game.task_loss`."""
        targets = self.sample["target"].flatten()[self._rows]
        return TaskLoss(predictions, targets, self.plain.eps)

    def comparison(self, divergence: Kind) -> Softmax:
        """See `Game.comparison`."""
        return Softmax(divergence)

    def _predict(self, moved: bool) -> Predictions:
        with hidden_states(self.model) as projection:
            net_input = self.sample["net_input"]
            if moved:
                output = with_true_gradients(self.model, net_input)
            else:
                output = self.model(**net_input)[0]
        hidden = output.flatten(0, 1).index_select(0, self._rows)
        found = [self._as_computed(part) for part in (hidden, *projection)]
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

    @property
    def predicted(self) -> int:
        """See `FairseqGame`: target tokens."""
        return int(self.sample["ntokens"])

    @property
    def sample_size(self) -> int:
        """See `FairseqGame`."""
        return self.counts["nsentences" if self.plain.sentence_avg else "ntokens"]

    @property
    def counts(self) -> dict[str, int]:
        """See `FairseqGame`."""
        return {"ntokens": self.predicted, "nsentences": self.sample["target"].size(0)}

    @property
    def logged(self) -> tuple[str, ...]:
        """See `FairseqGame`."""
        return ("nll_loss",)

    def measured(self, loss: TaskLoss) -> dict[str, Tensor]:
        """See `FairseqGame`."""
        return {"nll_loss": loss.nll}

    def _words(self) -> Tensor:
        sides: tuple[Tensor, Tensor] = self.sample["net_input"]["src_tokens"], self.sample["target"]
        source, target = (tokens.ne(self.plain.padding_idx).sum(1) for tokens in sides)
        return source + target

    def _trimmed(self, sample: dict[str, Any]) -> dict[str, Any]:
        padding = self.plain.padding_idx
        net_input = dict(sample["net_input"])
        net_input["src_tokens"] = used_columns(padding, net_input["src_tokens"])[0]
        target, before = sample["target"], net_input["prev_output_tokens"]
        if target.shape == before.shape:
            target, before = used_columns(padding, target, before)
        return {
            **sample,
            "target": target,
            "net_input": {**net_input, "prev_output_tokens": before},
        }

    def _logits(self) -> int:
        return len(self.model.decoder.dictionary)
