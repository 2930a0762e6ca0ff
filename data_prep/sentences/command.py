"""`python -m data_prep CORPUS --encoder NAME`, for corpora of sentences."""

import argparse
from pathlib import Path

from data_prep.encoders.command import encoder_for, word_settings
from data_prep.encoders.prepared import PreparedEncoder
from data_prep.encoders.vectors import GLOVE, NO_VECTORS
from data_prep.encoders.words import LONGEST, OWN_WORDS, WordSettings
from data_prep.sentences.corpora import SENTENCE_CORPORA
from data_prep.sentences.pipeline import SentencePipeline
from data_prep.sentences.summary import summary
from data_prep.support.arguments import positive
from data_prep.support.errors import DataPrepError

_LONGEST = 512


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add what all corpora of sentences take."""
    parser.add_argument(
        "--encoder",
        required=True,
        metavar="DIR",
        help="directory of data_prep encoder, or the name of one that has a public home, which is"
        f" made first if it is missing: minilm, bert-base-uncased, ...; or {OWN_WORDS}: the corpus'"
        f" own, for attention_classifier, in DIR/{OWN_WORDS}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"where the data goes (default: data/{name}.ENCODER)",
    )
    parser.add_argument(
        "--max-pieces",
        type=positive,
        metavar="N",
        help="cut examples to N pieces, special symbols included, of a pair the longer text first"
        f" (default: what the encoder takes, {_LONGEST} at most; of {OWN_WORDS}, {LONGEST:,})",
    )
    parser.add_argument(
        "--min-count",
        type=positive,
        metavar="N",
        help=f"of {OWN_WORDS}: take those that are N times in the texts to train on, the rest is"
        " <unk> (default: 1)",
    )
    parser.add_argument(
        "--vectors",
        metavar="FILE",
        help=f"of {OWN_WORDS}: what their embeddings begin with: {GLOVE}, which PyPI has, or a copy"
        f" of its package; a text file of vectors; {NO_VECTORS}: random numbers (default: {GLOVE})",
    )
    parser.add_argument(
        "--vector-dim",
        type=positive,
        metavar="N",
        help=f"channels of random embeddings, with --vectors {NO_VECTORS} (default: 50)",
    )
    parser.add_argument(
        "--train-examples",
        type=positive,
        metavar="N",
        help="train on N examples, drawn at random by a hash of each one's text: the same on every"
        " machine, and part of every larger choice (default: all)",
    )


def place(args: argparse.Namespace) -> Path:
    """Return where the data goes."""
    name = Path(args.encoder).resolve().name
    return args.out or Path("data", f"{args.corpus}.{name}")


def run(args: argparse.Namespace, out: Path) -> str:
    """Prepare the corpus; return what to say of it."""
    encoder: PreparedEncoder | WordSettings
    if args.encoder == OWN_WORDS:
        encoder = word_settings(args.min_count, args.vectors, args.vector_dim)
        usual = encoder.max_positions
    else:
        for option in ("min_count", "vectors", "vector_dim"):
            if getattr(args, option) is not None:
                raise DataPrepError(
                    f"--{option.replace('_', '-')}: for --encoder {OWN_WORDS} alone"
                )
        encoder = encoder_for(args.encoder)
        usual = min(encoder.max_positions, _LONGEST)
    most = args.max_pieces or usual
    if most > encoder.max_positions:
        raise DataPrepError(
            f"--max-pieces {most}: {args.encoder} takes {encoder.max_positions} at most"
        )
    if most < (least := encoder.specials(2) + 2):
        raise DataPrepError(f"--max-pieces {most}: at least {least}, with special symbols")
    corpus = SENTENCE_CORPORA[args.corpus].load(args, out)
    pipeline = SentencePipeline(args.corpus, corpus, encoder, most, args.train_examples, out)
    return summary(pipeline.run(), out)
