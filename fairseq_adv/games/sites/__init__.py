"""Places of attack in fairseq's models. A file here that registers a site is all that it takes."""

import importlib
import pkgutil

from fairseq_adv.games.sites.directions import in_directions
from fairseq_adv.games.sites.site import SITES, FairseqSite, UnsupportedModel, register_site

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)


__all__ = ["SITES", "FairseqSite", "UnsupportedModel", "in_directions", "register_site"]
