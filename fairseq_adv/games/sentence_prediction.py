"""`Game` over a fairseq model with a head for sentences: classes, or numbers.

The labels are in `target`, B x 1 classes or B x k numbers: a class may have any number, that of
padding too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor
from torch.nn.utils.spectral_norm import SpectralNorm

from fairseq_adv.core.comparison import dense
from fairseq_adv.core.comparison.comparison import Comparison, Kind
from fairseq_adv.core.comparison.evaluation import Term
from fairseq_adv.core.comparison.predictions import Logits, Predictions
from fairseq_adv.core.comparison.task_loss import ClassLoss
from fairseq_adv.core.players.directions import FREE, Directions
from fairseq_adv.games.game import FairseqGame
from fairseq_adv.games.parts import used_columns
from fairseq_adv.games.sites import UnsupportedModel


class SentenceGame(FairseqGame):
    """A batch of fairseq's sentence prediction: a row of predictions is a sentence.

    Its plain criterion is a `SentencePredictionCriterion`. With its `regression_target`, losses and
    the divergence are squared differences (SALT, section 3.1), whatever divergence is asked for.
    """

    words = ("source",)

    @classmethod
    def check(
        cls, model: BaseFairseqModel, sites: Collection[str], directions: Directions = FREE
    ) -> None:
        """See `FairseqGame`. Raises UnsupportedModel for what a task loss would leave out, too."""
        super().check(model, sites, directions)
        if not hasattr(model, "classification_heads"):
            raise UnsupportedModel(f"{type(model).__name__} has no head for sentences")
        for option in ("mha_reg_scale_factor", "ffn_reg_scale_factor"):
            if getattr(getattr(model, "args", None), option, 0):
                raise UnsupportedModel(
                    f"--{option.replace('_', '-')}: a term of the loss that is none of predictions,"
                    " and that games do not have: leave it out"
                )
        for module in model.modules():
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, SpectralNorm):
                    raise UnsupportedModel(
                        "--spectral-norm-classification-head: its weight changes in every pass, and"
                        " the passes of a game would be those of different models: leave it out"
                    )

    def task_loss(self, predictions: Predictions) -> Term:
        """See `Game.task_loss`."""
        if not self.plain.regression_target:
            return ClassLoss(predictions, self.sample["target"].view(-1))
        true = self.sample["target"].view(predictions.vectors.shape)
        return dense.squared_difference().term(Logits(true.to(predictions.dtype)), predictions)

    def comparison(self, divergence: Kind) -> Comparison:
        """See `Game.comparison`."""
        regression = self.plain.regression_target
        return dense.squared_difference() if regression else dense.divergence(divergence)

    def _predict(self, moved: bool) -> Predictions:
        logits = self.model(
            **self.sample["net_input"],
            features_only=True,
            classification_head_name=self.plain.classification_head_name,
        )[0]
        return Logits(self._as_computed(logits))

    def sentences(self) -> Tensor:
        """See `Game.sentences`."""
        target: Tensor = self.sample["target"]
        return torch.arange(target.size(0), device=target.device)

    @property
    def predicted(self) -> int:
        """See `FairseqGame`: sentences, or the numbers that are predicted of them."""
        return int(self.sample["target"].numel())

    @property
    def sample_size(self) -> int:
        """See `FairseqGame`."""
        return self.predicted

    @property
    def counts(self) -> dict[str, int]:
        """See `FairseqGame`."""
        return {"ntokens": self.sample["ntokens"], "nsentences": self.predicted}

    @property
    def logged(self) -> tuple[str, ...]:
        """See `FairseqGame`."""
        return ("clean_loss",) if self.plain.regression_target else ("clean_loss", "ncorrect")

    def measured(self, loss: Any) -> dict[str, Tensor]:
        """See `FairseqGame`."""
        found = {"clean_loss": loss.value}
        return found if self.plain.regression_target else {**found, "ncorrect": loss.correct}

    def _words(self) -> Tensor:
        tokens: Tensor = self.sample["net_input"]["src_tokens"]
        return tokens.ne(self.plain.padding_idx).sum(1)

    def _trimmed(self, sample: dict[str, Any]) -> dict[str, Any]:
        net_input = dict(sample["net_input"])
        for name in ("src_tokens", "prev_output_tokens"):
            if name in net_input:
                net_input[name] = used_columns(self.plain.padding_idx, net_input[name])[0]
        return {**sample, "net_input": net_input}

    def _logits(self) -> int:
        return 1
