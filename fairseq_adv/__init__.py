"""Adversarial regularisation of neural machine translation, as a fairseq `--user-dir`.

`fairseq_adv.core` needs torch alone; where fairseq is installed, importing this package also
registers the criterions and tasks.
"""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("fairseq") is not None:
    from fairseq_adv import compat

    compat.apply()
    from fairseq_adv import criterions
    from fairseq_adv.tasks import (
        adversarial_translation,
        adversarial_translation_multi_simple_epoch,
    )

    __all__ = [
        "adversarial_translation",
        "adversarial_translation_multi_simple_epoch",
        "compat",
        "criterions",
    ]
