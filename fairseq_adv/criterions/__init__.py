"""fairseq criterions: the options of each method of `core.methods`, in a module of its name."""

import importlib
import pkgutil

from fairseq_adv.core import methods

__all__ = sorted(module.name for module in pkgutil.iter_modules(methods.__path__))

for _name in __all__:
    importlib.import_module(f"{__name__}.{_name}")
