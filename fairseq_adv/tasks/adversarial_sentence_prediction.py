"""`--task adversarial_sentence_prediction`: fairseq's classification and regression, with games."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq.criterions.sentence_prediction import (
    SentencePredictionConfig as SentencePredictionCriterionConfig,
)
from fairseq.criterions.sentence_prediction import SentencePredictionCriterion
from fairseq.tasks import register_task
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask
from omegaconf import II

from fairseq_adv.criterions.unsupported import refuse_sharding
from fairseq_adv.games.sentence_prediction import SentenceGame
from fairseq_adv.tasks.adversarial_training import AdversarialTraining


@dataclass
class AdversarialSentencePredictionConfig(
    SentencePredictionCriterionConfig, SentencePredictionConfig
):
    """The options of fairseq's task, and of its criterion: they belong to all criterions here."""

    ddp_backend: str = II("distributed_training.ddp_backend")


@register_task("adversarial_sentence_prediction", dataclass=AdversarialSentencePredictionConfig)
class AdversarialSentencePredictionTask(AdversarialTraining, SentencePredictionTask):
    """Sentences whose class or score is predicted; validation and inference are plain."""

    game = SentenceGame
    plain_options = SentencePredictionCriterionConfig

    def plain_criterion(self) -> SentencePredictionCriterion:
        """See `AdversarialTraining`."""
        return SentencePredictionCriterion(self.cfg, self)

    @classmethod
    def setup_task(cls, cfg: Any, **kwargs: Any) -> Any:
        """fairseq's, after a look at the labels.

        fairseq ends in an assertion, or in the middle of a training at the first label that the
        head has no output for.
        """
        refuse_sharding(cfg.ddp_backend)
        words = Path(cfg.data, "input0", "dict.txt")
        if not words.is_file():
            raise SystemExit(
                f"fairseq_adv: {cfg.data}: no {words.relative_to(cfg.data)} there: give a directory"
                " with input0/ and label/, such as data_prep makes for sentences"
            )
        least = 1 if cfg.regression_target else 2
        if cfg.num_classes < least:
            raise SystemExit(
                f"fairseq_adv: --num-classes {cfg.num_classes}: give {least} or more"
                f"{'' if cfg.regression_target else '; scores are --regression-target'}"
            )
        task = super().setup_task(cfg, **kwargs)
        if not cfg.regression_target:
            labels = task.label_dictionary
            classes = [
                word
                for word in labels.symbols[labels.nspecial :]
                if word != "<mask>" and not word.startswith("madeupword")  # fairseq's own
            ]
            if len(classes) > cfg.num_classes:
                raise SystemExit(
                    f"fairseq_adv: --num-classes {cfg.num_classes}: the labels of {cfg.data} are of"
                    f" {len(classes)} classes: {', '.join(classes[:10])}"
                )
        return task

    def logging_outputs_can_be_summed(self, criterion: Any) -> bool:
        """fairseq's, but for what is measured of all predictions at once: workers list theirs."""
        plain = getattr(criterion, "plain", criterion)
        if getattr(plain, "keep_pred_and_targ", False):
            return False
        return bool(super().logging_outputs_can_be_summed(criterion))
