"""All corpora. To add one: a module with ``ENTRIES``, and its name here."""

from data_prep.corpora import files, iwslt, libreoffice_help, multi30k, wmt16
from data_prep.corpora.corpus import CorpusEntry

_MODULES = (iwslt, wmt16, multi30k, libreoffice_help, files)

CORPORA: dict[str, CorpusEntry] = {
    entry.name: entry for module in _MODULES for entry in module.ENTRIES
}
