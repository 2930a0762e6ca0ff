"""`--task adversarial_translation`: fairseq's translation task, with games."""

from dataclasses import dataclass
from typing import Any

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import II

from fairseq_adv.criterions.unsupported import refuse_sharding
from fairseq_adv.tasks.adversarial_training import AdversarialTraining


@dataclass
class AdversarialTranslationConfig(TranslationConfig):
    """The options of fairseq's translation task."""

    ddp_backend: str = II("distributed_training.ddp_backend")


@register_task("adversarial_translation", dataclass=AdversarialTranslationConfig)
class AdversarialTranslationTask(AdversarialTraining, TranslationTask):
    """Translation that can be trained against an adversary; validation and inference are plain."""

    @classmethod
    def setup_task(cls, cfg: Any, **kwargs: Any) -> Any:
        """fairseq's; it builds the model for some options that are refused."""
        refuse_sharding(cfg.ddp_backend)
        return super().setup_task(cfg, **kwargs)
