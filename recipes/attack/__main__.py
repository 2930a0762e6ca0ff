"""Does a model change its mind too easily, or too late? `python -m recipes.attack`.

Attacks of Chen et al. (2022): synonyms, with which an answer should stay (if it does not, it is
*fickle*), and an antonym or a negation, with which it should change (*obstinate*). Of a classifier
words are looked for that lead it astray, of a translator they are drawn.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_prep.substitutions.making import FOLDER
from data_prep.substitutions.words import Substitutions
from data_prep.support.arguments import positive
from data_prep.support.errors import DataPrepError
from recipes.attack.classifying import Rules, attack
from recipes.attack.report import ANTONYMS, ATTACKS, FOUND, KINDS, PICTURE, SYNONYMS, TABLE, write
from recipes.attack.translating import attack_translations
from recipes.models.checkpoint import of_sentences
from recipes.models.model import models_parser, named, quiet
from recipes.sentences.export import usual_encoder
from recipes.sentences.labelled import Labelled
from recipes.support.errors import RecipeError, run_main

_OF_CLASSES = ("encoder", "skip_classes", "most_words", "confident", "sentences")
_OF_TRANSLATIONS = ("seed", "beam")


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
    args = _parser().parse_args()
    kinds = list(dict.fromkeys(args.attack))
    checkpoints: Mapping[str, Path] = named(args.checkpoint, args.label)
    is_classifier = of_sentences(args.data)
    for name in _OF_TRANSLATIONS if is_classifier else _OF_CLASSES:
        if getattr(args, name):
            what = "classes of sentences" if is_classifier else "translations"
            raise RecipeError(f"--{name.replace('_', '-')}: {args.data} has {what}")
    if is_classifier:
        print(_attack_classifiers(args, kinds, checkpoints))
    else:
        table = attack_translations(
            args.data,
            checkpoints,
            args.out,
            split=args.split or "test",
            kinds=kinds,
            substitutions=_read(args.substitutions),
            seed=args.seed or 1,
            beam=args.beam or 5,
            cpu=args.cpu,
        )
        print(table)
    print(", ".join(str(args.out / name) for name in (FOUND, ATTACKS, TABLE, PICTURE)))


def _attack_classifiers(
    args: argparse.Namespace, kinds: Sequence[str], checkpoints: Mapping[str, Path]
) -> str:
    """Attack classifiers; write what came of it, and return its table."""
    corpus = Labelled.of(args.data)
    split = _chosen(corpus, args.split, args.skip_classes)
    substitutions = _read(args.substitutions)
    rules = Rules(args.most_words, args.skip_classes, args.confident)
    encoder = args.encoder or usual_encoder(args.data)
    found = {
        label: attack(
            *(corpus, split, checkpoint, encoder, kinds, substitutions, rules),
            *(args.sentences, label, args.cpu),
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
    return write(found, facts, args.out)


def _parser() -> argparse.ArgumentParser:
    parser = models_parser(
        "recipes.attack",
        "Attack models by synonyms, with which an answer should stay, and by antonyms or negations,"
        " with which it should change.",
        f"{FOUND}, {ATTACKS}, {TABLE} and {PICTURE}",
        split=None,
    )
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
    classes = parser.add_argument_group("of classifiers")
    classes.add_argument(
        "--encoder",
        type=Path,
        metavar="DIR",
        help="that DATA was prepared for (default: data/encoders/NAME)",
    )
    classes.add_argument(
        "--skip-classes",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="that an antonym or a negation need not change: neutral, not_equivalent",
    )
    classes.add_argument(
        "--most-words", type=positive, metavar="N", help="synonyms in an example (default: any)"
    )
    classes.add_argument(
        "--confident",
        action="store_true",
        help="an obstinate answer has to become more probable, as in the paper's released code",
    )
    classes.add_argument(
        "--sentences", type=positive, metavar="N", help="the first N of the split (default: all)"
    )
    translations = parser.add_argument_group("of translators")
    translations.add_argument(
        "--seed", type=positive, metavar="N", help="of what is drawn (default: 1)"
    )
    translations.add_argument("--beam", type=positive, metavar="N", help="beam size (default: 5)")
    return parser


if __name__ == "__main__":
    sys.exit(run_main("recipes.attack", _main))
