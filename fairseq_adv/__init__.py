"""Adversarial regularisation of neural machine translation, as a fairseq `--user-dir`.

`fairseq_adv.core` needs torch alone, and `import fairseq_adv.core` leaves a fairseq that is
installed where it is. In a process that has imported fairseq, as one with `--user-dir` has, this
package also mends fairseq and registers its tasks and criterions with it. Other programs import
`fairseq_adv.tasks` for that.
"""

import sys

__version__ = "0.1.0"

if "fairseq" in sys.modules:
    from fairseq_adv import tasks

    __all__ = ["tasks"]
