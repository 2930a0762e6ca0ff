"""Attacks on a classifier, on what it has right."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.substitutions.words import Substitutions
from data_prep.support.progress import progress
from recipes.attack.report import ANTONYMS, SYNONYMS, Tried
from recipes.attack.search import Ask, Reads, Texts, fickle, negated, obstinate, played
from recipes.sentences.classifier import Classifier, load_classifier
from recipes.sentences.export import export
from recipes.sentences.labelled import Labelled
from recipes.support.errors import RecipeError


@dataclass(frozen=True)
class Rules:
    """How attacks are made.

    :param most_words: synonyms in an example; None: as many as there are words.
    :param skipped: classes that antonyms and negations are no attack on, for they need not change
        them: neutral, not a duplicate.
    :param confident: an obstinate answer has to become more probable.
    """

    most_words: int | None
    skipped: Sequence[str]
    confident: bool

    def applies(self, kind: str, label: str) -> bool:
        """Return whether examples of a class are attacked."""
        return kind == SYNONYMS or label not in self.skipped

    def search(
        self,
        kind: str,
        substitutions: Substitutions,
        texts: Texts,
        label: int,
        before: float,
        reads: Reads,
    ) -> Ask:
        """Return the search for one example."""
        if kind == SYNONYMS:
            return fickle(substitutions, texts, label, before, self.most_words)
        if kind == ANTONYMS:
            return obstinate(substitutions, texts, label, before, self.confident, reads)
        return negated(texts, label, before, self.confident, reads)


def attack(
    corpus: Labelled,
    split: str,
    checkpoint: Path,
    encoder: Path,
    kinds: Sequence[str],
    substitutions: Substitutions,
    rules: Rules,
    sentences: int | None,
    name: str,
    cpu: bool,
) -> tuple[np.ndarray, dict[str, list[Tried]]]:
    """Return which examples are classified rightly, N, and what came of each kind of attack.

    :param sentences: the first ones, so many; None: all.
    :param name: of the model, for the progress bar.

    Raises RecipeError for what is no classifier of the corpus.
    """
    classes = corpus.classes
    assert classes is not None
    labels, rows = corpus.rows(split)
    examples: list[Texts] = [tuple(texts) for texts in rows[:sentences]]
    right_labels = [classes.index(label) for label in labels[:sentences]]
    with tempfile.TemporaryDirectory(prefix="recipes-") as folder:
        export(corpus.data, checkpoint, encoder, Path(folder, "model"))
        classifier = load_classifier(Path(folder, "model"), cpu=cpu, warn=lambda _: None)
    found = probabilities(classifier, examples)
    right = found.argmax(1) == np.array(right_labels)
    tried: dict[str, list[Tried]] = {}
    for kind in kinds:
        numbers = [
            n
            for n in np.flatnonzero(right).tolist()
            if rules.applies(kind, classes[right_labels[n]])
        ]
        searches = [
            rules.search(
                *(kind, substitutions, examples[n], right_labels[n]),
                *(float(found[n, right_labels[n]]), classifier.pieces),
            )
            for n in numbers
        ]
        attempts = progress(
            played(searches, lambda wanted: probabilities(classifier, wanted)),
            f"{kind}: {name}",
            "example",
            len(searches),
        )
        tried[kind] = [
            Tried(n, classes[right_labels[n]], examples[n], attempt)
            for n, attempt in zip(numbers, attempts, strict=True)
        ]
    return right, tried


def probabilities(classifier: Classifier, examples: Sequence[Texts]) -> np.ndarray:
    """Return the probabilities of classes, N x K."""
    logits = np.array(classifier.outputs([classifier.pieces(texts) for texts in examples]))
    if not np.isfinite(logits).all():
        raise RecipeError("the model predicts what are no numbers: it has diverged")
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
