"""What tasks of translation have in common: which game they play, and which criterion is plain."""

from __future__ import annotations

from typing import Any

from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)

from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.games.translation import TranslationGame
from fairseq_adv.tasks.adversarial_training import AdversarialTraining


class TranslationTraining(AdversarialTraining):
    """Mixin, before a task of translation."""

    game = TranslationGame
    plain_options = LabelSmoothedCrossEntropyCriterionConfig
    cfg: Any
    args: Any

    def plain_criterion(self) -> LabelSmoothedCrossEntropyCriterion:
        """See `AdversarialTraining`."""
        given = self.args if self.cfg is None else self.cfg  # fairseq's older tasks have the first
        if not 0 <= given.label_smoothing < 1:
            raise InvalidSetting("label_smoothing", given.label_smoothing, "0 up to 1")
        return LabelSmoothedCrossEntropyCriterion(
            self,
            given.sentence_avg,
            given.label_smoothing,
            given.ignore_prefix_size,
            given.report_accuracy,
        )
