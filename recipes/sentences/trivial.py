"""The trivial predictors to beat: always the same class, or the mean of train; a bag of words."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from recipes.evaluation.trivial import WORDS
from recipes.sentences.labelled import Labelled


def rivals(corpus: Labelled, splits: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return what they say of each labelled split, by their names: majority, bag_of_words."""
    labels, texts = corpus.rows("train")
    train = np.array([corpus.number(label) for label in labels])
    bag = BagOfWords(texts, train, corpus.classes is not None)
    found: dict[str, dict[str, np.ndarray]] = {"majority": {}, "bag_of_words": {}}
    for split in splits:
        if split not in corpus.report["labelled"]:
            continue
        labels, texts = corpus.rows(split)
        always = train.mean()
        if corpus.classes is not None:
            always = majority(np.array([corpus.number(label) for label in labels]))
        found["majority"][split] = np.full(len(labels), always)
        found["bag_of_words"][split] = bag.predict(texts)
    return found


def majority(labels: np.ndarray) -> float:
    """Return the most frequent class, the first of equally frequent ones.

    Of the split itself, as data_prep's `majority_share`: of another domain it may be another than
    that of train, and no model that has learnt that alone is to look good.
    """
    counted = Counter(labels.tolist())
    return float(max(sorted(counted), key=counted.__getitem__))


class BagOfWords:
    """Logistic regression on tf-idf weighted words, case ignored; ridge regression for scores.

    The first and the second text of a pair have words of their own.
    """

    def __init__(self, texts: Sequence[Sequence[str]], labels: np.ndarray, classes: bool) -> None:
        self._words = [
            TfidfVectorizer(token_pattern=WORDS).fit(column) for column in zip(*texts, strict=True)
        ]
        self._model = LogisticRegression(max_iter=1000) if classes else Ridge()
        self._model.fit(self._features(texts), labels)

    def predict(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """Return classes or scores."""
        return np.asarray(self._model.predict(self._features(texts)))

    def _features(self, texts: Sequence[Sequence[str]]) -> object:
        columns = zip(*texts, strict=True)
        pairs = zip(self._words, columns, strict=True)
        return hstack([words.transform(column) for words, column in pairs], format="csr")
