"""All corpora. To add one: a module with ``ENTRIES``, and its name here."""

from data_prep import files, libreoffice_help
from data_prep.corpus import CorpusEntry

CORPORA: dict[str, CorpusEntry] = {
    entry.name: entry for module in (libreoffice_help, files) for entry in module.ENTRIES
}
