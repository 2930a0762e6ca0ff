"""The trivial translator to beat, beside copying the source: look up the nearest sentence."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

WORDS = r"\w+|[^\w\s]"
"""What a word is, or a sign."""
_ROWS = 256  # sentences at a time: bounds the memory


def nearest_translations(
    train_source: Sequence[str], train_target: Sequence[str], source: Sequence[str]
) -> list[str]:
    """Return, for each source sentence, the target of the nearest training sentence.

    Near means a high cosine of tf-idf weighted words, case ignored. The first of equally near ones
    counts; for a sentence that shares no word with any, that is the first of all.
    """
    vectorizer = TfidfVectorizer(token_pattern=WORDS)
    train = vectorizer.fit_transform(train_source)
    test = vectorizer.transform(source)
    nearest: list[str] = []
    for start in range(0, len(source), _ROWS):
        cosines = (test[start : start + _ROWS] @ train.T).toarray()
        # Rounded, so that equal ones are equal on every machine.
        nearest += [train_target[i] for i in np.round(cosines, 9).argmax(axis=1)]
    return nearest
