"""`--task adversarial_sentence_prediction`: fairseq's classification and regression, with games."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq.criterions.sentence_prediction import (
    SentencePredictionConfig as SentencePredictionCriterionConfig,
)
from fairseq.criterions.sentence_prediction import SentencePredictionCriterion
from fairseq.data import Dictionary
from fairseq.tasks import register_task
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask
from omegaconf import II

from fairseq_adv.criterions.common.unsupported import refuse_sharding
from fairseq_adv.games.sentence_prediction import SentenceGame
from fairseq_adv.tasks.adversarial_training import AdversarialTraining
from fairseq_adv.trainer import vocabulary


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

    def build_criterion(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's; MCC and F1 take labels for numbers there: named classes get theirs."""
        criterion = super().build_criterion(cfg, *args, **kwargs)
        plain = getattr(criterion, "plain", criterion)
        classes = [] if self.cfg.regression_target else _classes(self.label_dictionary)
        if hasattr(plain, "label_dict") and not all(map(_is_number, classes)):
            plain.label_dict = Dictionary()
            for number in range(len(classes)):
                plain.label_dict.add_symbol(str(number))
        return criterion

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
        classes = None if cfg.regression_target else _classes(task.label_dictionary)
        if classes is not None and len(classes) > cfg.num_classes:
            raise SystemExit(
                f"fairseq_adv: --num-classes {cfg.num_classes}: the labels of {cfg.data} are of"
                f" {len(classes)} classes: {_listed(classes)}"
            )
        for option in ("report_mcc", "report_acc_and_f1"):
            if getattr(cfg, option):
                _refuse_report(f"--{option.replace('_', '-')}", classes)
        return task

    def state_dict(self) -> dict[str, Any]:
        """See `AdversarialTraining`; here also what the classes are called, in their order."""
        state = super().state_dict()
        if self.cfg.regression_target:
            return state
        return state | {vocabulary.CLASSES: _classes(self.label_dictionary)}

    @staticmethod
    def logging_outputs_can_be_summed(criterion: Any) -> bool:
        """fairseq's, but for what is measured of all predictions at once: workers list theirs."""
        plain = getattr(criterion, "plain", criterion)
        if getattr(plain, "keep_pred_and_targ", False):
            return False
        return bool(criterion.logging_outputs_can_be_summed())


def _classes(labels: Dictionary) -> list[str]:
    """The labels of a dictionary: what fairseq adds to it is none."""
    words = labels.symbols[labels.nspecial :]
    return [word for word in words if word != "<mask>" and not word.startswith("madeupword")]


def _is_number(label: str) -> bool:
    return label.lstrip("-").isdecimal()


def _listed(classes: list[str]) -> str:
    return ", ".join(classes[:10])


def _refuse_report(option: str, classes: list[str] | None) -> None:
    """Refuse what fairseq would end with after the first validation."""
    if classes is None:
        why = (
            "it is of classes, and --regression-target has none: use --report-pearson-and-spearman"
        )
    elif option == "--report-acc-and-f1" and len(classes) > 2:
        why = f"it is of two classes, and there are {len(classes)}: leave it out"
    else:
        return
    raise SystemExit(f"fairseq_adv: {option}: {why}")
