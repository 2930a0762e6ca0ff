"""Does a classifier change its mind too easily, or too late? `python -m recipes.attack`.

Attacks of Chen et al. (2022) on what it classifies rightly: synonyms, with which the answer should
stay (a success is a *fickle* example), and an antonym or a negation, with which it should change (a
success is an *obstinate* one).
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.substitutions.making import FOLDER
from data_prep.substitutions.words import Substitutions
from data_prep.support.arguments import positive
from data_prep.support.errors import DataPrepError
from data_prep.support.progress import progress
from recipes.attack.report import ATTACKS, FOUND, PICTURE, TABLE, Tried, write
from recipes.attack.search import Ask, Texts, fickle, negated, obstinate, played
from recipes.models.model import models_parser, named, quiet
from recipes.sentences.classifier import Classifier, load_classifier
from recipes.sentences.export import export, usual_encoder
from recipes.sentences.labelled import Labelled
from recipes.support.errors import RecipeError, run_main

SYNONYMS, ANTONYMS, NEGATION = "synonyms", "antonyms", "negation"
KINDS = (SYNONYMS, ANTONYMS, NEGATION)


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
        self, kind: str, substitutions: Substitutions, texts: Texts, label: int, before: float
    ) -> Ask:
        """Return the search for one example."""
        if kind == SYNONYMS:
            return fickle(substitutions, texts, label, before, self.most_words)
        if kind == ANTONYMS:
            return obstinate(substitutions, texts, label, before, self.confident)
        return negated(texts, label, before, self.confident)


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
                kind, substitutions, examples[n], right_labels[n], float(found[n, right_labels[n]])
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


def _chosen(corpus: Labelled, split: str | None, skipped: Sequence[str]) -> str:
    """Return the split to attack. Raises RecipeError for what cannot be."""
    if corpus.classes is None:
        raise RecipeError(f"{corpus.data} has scores: attacks are on classes")
    for name in skipped:
        if name not in corpus.classes:
            raise RecipeError(
                f"--skip-classes {name}: {corpus.data} has {', '.join(corpus.classes)}"
            )
    labelled = corpus.report["labelled"]
    usual = next((name for name in ("test", "valid") if name in labelled), "valid")
    (chosen,) = corpus.scored(split or usual)
    if chosen not in labelled:
        raise RecipeError(f"--split {chosen}: it has no labels, so that nothing is right in it")
    return chosen


def _read(folder: Path) -> Substitutions:
    try:
        return Substitutions.read(folder / FOLDER)
    except DataPrepError as error:
        raise RecipeError(str(error)) from error


@quiet()
def _main() -> None:
    parser = models_parser(
        "recipes.attack",
        "Attack classifiers by synonyms, with which an answer should stay, and by antonyms or"
        " negations, with which it should change.",
        f"{FOUND}, {ATTACKS}, {TABLE} and {PICTURE}",
    )
    parser.set_defaults(split=None)
    parser.add_argument(
        "--attack",
        nargs="+",
        choices=KINDS,
        default=[SYNONYMS, ANTONYMS],
        metavar="KIND",
        help=f"{', '.join(KINDS)} (default: the first two)",
    )
    parser.add_argument(
        "--substitutions",
        type=Path,
        default=Path("data", "substitutions"),
        metavar="DIR",
        help="made by data_prep substitutions (default: %(default)s)",
    )
    parser.add_argument(
        "--encoder",
        type=Path,
        metavar="DIR",
        help="that DATA was prepared for (default: data/encoders/NAME)",
    )
    parser.add_argument(
        "--skip-classes",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="that an antonym or a negation need not change: neutral, not_equivalent",
    )
    parser.add_argument(
        "--most-words", type=positive, metavar="N", help="synonyms in an example (default: any)"
    )
    parser.add_argument(
        "--confident",
        action="store_true",
        help="an obstinate answer has to become more probable, as in the paper's released code",
    )
    parser.add_argument(
        "--sentences", type=positive, metavar="N", help="the first N of the split (default: all)"
    )
    args = parser.parse_args()
    corpus = Labelled.of(args.data)
    split = _chosen(corpus, args.split, args.skip_classes)
    substitutions = _read(args.substitutions)
    rules = Rules(args.most_words, args.skip_classes, args.confident)
    checkpoints: Mapping[str, Path] = named(args.checkpoint, args.label)
    found = {
        label: attack(
            corpus,
            split,
            checkpoint,
            args.encoder or usual_encoder(args.data),
            list(dict.fromkeys(args.attack)),
            substitutions,
            rules,
            args.sentences,
            label,
            args.cpu,
        )
        for label, checkpoint in checkpoints.items()
    }
    facts = {
        "data": str(args.data),
        "split": split,
        "substitutions": str(args.substitutions),
        "most_words": args.most_words,
        "skip_classes": args.skip_classes,
        "confident": args.confident,
        "checkpoints": {label: str(path) for label, path in checkpoints.items()},
    }
    print(write(found, facts, args.out))
    print(", ".join(str(args.out / name) for name in (FOUND, ATTACKS, TABLE, PICTURE)))


if __name__ == "__main__":
    sys.exit(run_main("recipes.attack", _main))
