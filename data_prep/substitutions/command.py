"""`python -m data_prep substitutions`: words that may stand for others."""

import argparse
from pathlib import Path

from data_prep.encoders.vectors import GLOVE
from data_prep.sources.release import add_archive_option
from data_prep.substitutions.choosing import Choosing
from data_prep.substitutions.making import FOLDER, Sources, make
from data_prep.substitutions.table import NAME
from data_prep.substitutions.wordnet import PARTS
from data_prep.support.arguments import positive

_LEAST, _MOST = 0.8, 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `substitutions` takes."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where they go (default: data/substitutions)",
    )
    add_archive_option(
        parser,
        "copies of packages, read instead of downloading them: Debian's wordnet-base, PyPI's"
        " denckring-en-pos",
    )
    parser.add_argument(
        "--vectors",
        default=GLOVE,
        metavar="NAME|FILE",
        help=f"of words: {GLOVE} (default), or a file in the format of GloVe or word2vec",
    )
    for kind in ("synonyms", "antonyms"):
        parser.add_argument(
            f"--{kind}",
            type=Path,
            nargs="+",
            default=[],
            metavar="FILE",
            help=f"more {kind} than WordNet has, such as PPDB's: two words in a line",
        )
    parser.add_argument(
        "--least-cosine",
        type=_cosine,
        default=_LEAST,
        metavar="C",
        help=f"how near synonyms are, in fitted vectors (default: {_LEAST})",
    )
    parser.add_argument(
        "--most",
        type=positive,
        default=_MOST,
        metavar="N",
        help=f"synonyms of a word, and antonyms, at most (default: {_MOST})",
    )


def place(args: argparse.Namespace) -> Path:
    """Return where it all goes."""
    return args.out or Path("data", "substitutions")


def run(args: argparse.Namespace, out: Path) -> str:
    """Make them; return what to say of it."""
    sources = Sources(args.archive, args.vectors, args.synonyms, args.antonyms)
    report = make(sources, Choosing(args.least_cosine, args.most), out)
    counted = ", ".join(
        f"{sum(report[part][kind] for part in PARTS):,} with {kind}"
        for kind in ("synonyms", "antonyms")
    )
    return f"{report['words']:,} words; by part of speech {counted}: {out / FOLDER / NAME}"


def _cosine(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 2.0
    if not -1 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no cosine: from -1 to below 1")
    return value
