"""`--task adversarial_translation`: fairseq's translation task, with games."""

from dataclasses import dataclass

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from fairseq_adv.tasks.adversarial_training import AdversarialTraining


@dataclass
class AdversarialTranslationConfig(TranslationConfig):
    """The options of fairseq's translation task."""


@register_task("adversarial_translation", dataclass=AdversarialTranslationConfig)
class AdversarialTranslationTask(AdversarialTraining, TranslationTask):
    """Translation that can be trained against an adversary; validation and inference are plain."""
