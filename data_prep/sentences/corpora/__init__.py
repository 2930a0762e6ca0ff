"""All corpora of sentences. To add one: a module with ``ENTRIES``, and its name here."""

from data_prep.sentences.corpora import (
    agnews,
    anli,
    babi,
    folders,
    glue,
    reviews,
    snli,
    sst,
    tsv,
)
from data_prep.sentences.corpus import SentenceEntry

_MODULES = (glue, anli, snli, sst, folders, agnews, babi, reviews, tsv)

SENTENCE_CORPORA: dict[str, SentenceEntry] = {
    entry.name: entry for module in _MODULES for entry in module.ENTRIES
}
