"""`--task adversarial_translation`: fairseq's translation task, with games."""

from dataclasses import dataclass
from typing import Any

from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import II

from fairseq_adv.criterions.common.unsupported import refuse_sharding
from fairseq_adv.tasks.translation_training import TranslationTraining


@dataclass
class AdversarialTranslationConfig(LabelSmoothedCrossEntropyCriterionConfig, TranslationConfig):
    """The options of fairseq's task, and of its criterion: they belong to all criterions here."""

    ddp_backend: str = II("distributed_training.ddp_backend")


@register_task("adversarial_translation", dataclass=AdversarialTranslationConfig)
class AdversarialTranslationTask(TranslationTraining, TranslationTask):
    """Translation that can be trained against an adversary; validation and inference are plain."""

    @classmethod
    def setup_task(cls, cfg: Any, **kwargs: Any) -> Any:
        """fairseq's; it builds the model for some options that are refused."""
        refuse_sharding(cfg.ddp_backend)
        return super().setup_task(cfg, **kwargs)
