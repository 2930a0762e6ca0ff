"""Predict the labels of raw text: `python -m recipes.sentences.classify MODEL`.

A line in, with a tab between the two texts of a pair, and a line out, in the same order:
``label<TAB>probability``, or a score. Nothing is said of an empty line, nor of one with another
number of columns, which stderr names. Lines are taken as they come, so that a text may be of any
length.
"""

import argparse
import sys
from pathlib import Path

from recipes.models.model import quiet
from recipes.sentences.classifier import load_classifier
from recipes.serving.lines import answer, warner
from recipes.support.errors import RecipeError, run_main

_PROGRAM = "recipes.sentences.classify"


@quiet()
def _main() -> None:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Predict the labels of sentences or, with a tab between the two, of pairs; one"
        " a line, from stdin to stdout.",
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="folder made by recipes.sentences.export"
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's)")
    args = parser.parse_args()
    if args.threads is not None and args.threads < 1:
        raise RecipeError(f"--threads {args.threads}: allowed is 1, 2, 3, ...")
    classifier = load_classifier(
        args.model, threads=args.threads, cpu=args.cpu, warn=warner(_PROGRAM)
    )
    answer(classifier.classify, "classify")


if __name__ == "__main__":
    sys.exit(run_main(_PROGRAM, _main))
