"""The trivial predictors to beat: always the same label, and a bag of words."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from recipes.evaluation.trivial import WORDS
from recipes.sentences.labelled import Labelled


def rivals(
    corpus: Labelled, texts: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, dict[str, np.ndarray]]:
    """Return what they say of the texts of each split, by their names: majority, bag_of_words."""
    labels, of_train = corpus.rows("train")
    is_class = corpus.classes is not None
    numbers = np.array([corpus.number(label) for label in labels])
    always = majority(numbers, is_class)
    bag = BagOfWords(of_train, numbers, is_class)
    return {
        "majority": {split: np.full(len(of), always) for split, of in texts.items()},
        "bag_of_words": {split: bag.predict(of) for split, of in texts.items()},
    }


def majority(labels: np.ndarray, classes: bool) -> float:
    """Return the most frequent class of train, the first of equally frequent ones; or its mean."""
    if not classes:
        return float(labels.mean())
    return float(max(sorted(counted := Counter(labels.tolist())), key=counted.__getitem__))


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
