"""`--task adversarial_translation_multi_simple_epoch`: games with many language pairs.

It takes the options of fairseq's `translation_multi_simple_epoch`. What it adds to sentences, as
language tokens, is perturbed like any other word.
"""

from __future__ import annotations

from typing import Any

from fairseq.tasks import register_task
from fairseq.tasks.translation_multi_simple_epoch import TranslationMultiSimpleEpochTask

from fairseq_adv.criterions.common.unsupported import refuse_sharding
from fairseq_adv.tasks.translation_training import TranslationTraining


@register_task("adversarial_translation_multi_simple_epoch")
class AdversarialTranslationMultiSimpleEpochTask(
    TranslationTraining, TranslationMultiSimpleEpochTask
):
    """Multilingual translation that can be trained against an adversary; else as fairseq's."""

    @classmethod
    def setup_task(cls, args: Any, **kwargs: Any) -> Any:
        """fairseq's; it builds the model for some options that are refused."""
        refuse_sharding(getattr(args, "ddp_backend", None))
        return super().setup_task(args, **kwargs)
