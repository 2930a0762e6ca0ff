"""All corpora of sentences. To add one: a module with ``ENTRIES``, and its name here."""

from data_prep.sentences.corpora import anli, glue, reviews, tsv
from data_prep.sentences.corpus import SentenceEntry

_MODULES = (glue, anli, reviews, tsv)

SENTENCE_CORPORA: dict[str, SentenceEntry] = {
    entry.name: entry for module in _MODULES for entry in module.ENTRIES
}
