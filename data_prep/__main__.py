"""The command line: ``python -m data_prep CORPUS [options]``, and what can be added to its data."""

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from sacrebleu.metrics.bleu import BLEU

from data_prep.bidirectional import both_directions
from data_prep.corpora import CORPORA
from data_prep.encoders import command as encoders
from data_prep.pipeline import Pipeline
from data_prep.selection.raw import Selection
from data_prep.selection.summary import summary
from data_prep.sentences import command as sentences
from data_prep.sentences.corpora import SENTENCE_CORPORA
from data_prep.stages import say
from data_prep.substitutions import command as substitutions
from data_prep.support.arguments import positive
from data_prep.support.errors import DataPrepError
from data_prep.support.parallel import cores
from data_prep.support.printing import print_anything

# sacreBLEU's, but for one that leaves text as it is, and one that goes by two names.
_BLEU_TOKENIZERS = tuple(name for name in BLEU.TOKENIZERS if name not in ("none", "spm"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DataPrepError(f"{message} (try {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 after one message on stderr, or 130 if interrupted."""
    print_anything()
    try:
        args = _parser().parse_args(arguments)
        with _output_directory(args.place(args)) as out:
            print(args.run(args, out))
    except DataPrepError as error:
        say(f"data_prep: error: {error}")
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say(f"data_prep: error: {place}{error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        say("data_prep: interrupted; finished stages stay, and the same command goes on from them")
        return 130
    return 0


def _place(args: argparse.Namespace) -> Path:
    return args.out or Path("data", args.corpus)


def _prepare(args: argparse.Namespace, out: Path) -> str:
    corpus = CORPORA[args.corpus].load(args, out)
    preparation = corpus.preparation
    if args.subword != "bpe" and corpus.encoded():
        raise DataPrepError(
            f"--subword {args.subword}: this archive is BPE-encoded already; --from-raw is not"
        )
    preparation = replace(preparation, subword=args.subword)
    if args.bpe_merges:
        preparation = replace(preparation, bpe_merges=args.bpe_merges)
    if args.joined_dictionary:
        preparation = replace(preparation, joined_dictionary=True)
    selection = Selection(args.max_words, args.train_pairs)
    pipeline = Pipeline(
        args.corpus, corpus, preparation, selection, out, args.workers, args.bleu_tokenizer
    )
    return summary(pipeline.run(), out)


def _prepare_both_directions(args: argparse.Namespace, data: Path) -> str:
    made = both_directions(data, args.workers)
    pairs = made.facts["pairs"]
    return (
        f"both directions: {pairs['train']:,} pairs to train on, {pairs['valid']:,} to validate on;"
        f" fairseq-train reads {made.path}"
    )


@contextmanager
def _output_directory(out: Path) -> Iterator[Path]:
    """Make ``out`` and hold it against a second run; take it away again if it stayed empty.

    The lock is on the directory itself and ends with the process.
    """
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataPrepError(f"{out}: another data_prep is at work here") from None
        except OSError:
            pass  # some network file systems lock no directories; then there is no guard
        yield out
    finally:
        os.close(descriptor)
        if is_new:
            with suppress(OSError):  # it is not empty: good
                out.rmdir()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="data_prep",
        description="Parallel text, cleaned, tokenised, BPE-encoded and binarised for fairseq;"
        " and sentences with labels, in the pieces of a pretrained encoder.",
    )
    corpora = parser.add_subparsers(dest="corpus", metavar="CORPUS", required=True)
    for entry in CORPORA.values():
        corpus = corpora.add_parser(entry.name, help=entry.summary, description=entry.summary)
        corpus.set_defaults(run=_prepare, place=_place)
        entry.add_options(corpus)
        _add_common_options(corpus, entry.name)
        _add_workers(corpus)
    for name, entry_of_sentences in SENTENCE_CORPORA.items():
        about = entry_of_sentences.summary
        corpus = corpora.add_parser(name, help=about, description=about)
        corpus.set_defaults(run=sentences.run, place=sentences.place)
        entry_of_sentences.add_options(corpus)
        sentences.add_options(corpus, name)
    about = "no corpus: a pretrained encoder for sentences, as a checkpoint of fairseq"
    encoder = corpora.add_parser("encoder", help=about, description=about)
    encoder.set_defaults(run=encoders.run, place=encoders.place)
    encoders.add_options(encoder)
    about = "no corpus: words that may stand for others, synonyms and antonyms"
    words = corpora.add_parser("substitutions", help=about, description=about)
    words.set_defaults(run=substitutions.run, place=substitutions.place)
    substitutions.add_options(words)
    about = "no corpus: adds both translation directions at once to the data of one"
    both = corpora.add_parser("bidirectional", help=about, description=about)
    both.set_defaults(run=_prepare_both_directions, place=lambda args: args.out)
    both.add_argument("out", type=Path, metavar="DATA", help="directory made by data_prep")
    _add_workers(both)
    return parser


def _add_common_options(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"where the data goes (default: data/{name})"
    )
    parser.add_argument(
        "--max-words",
        type=positive,
        metavar="N",
        help="drop pairs with more than N words on either side, in all splits (default: keep all)",
    )
    parser.add_argument(
        "--train-pairs",
        type=positive,
        metavar="N",
        help="train on N pairs, drawn at random by a hash of each pair's text: the same on every"
        " machine, and part of every larger choice (default: all)",
    )
    parser.add_argument(
        "--subword",
        choices=("bpe", "sentencepiece"),
        default="bpe",
        help="byte-pair encoding of Moses' tokens by subword-nmt, or of sentences by SentencePiece"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--bpe-merges",
        type=positive,
        metavar="N",
        help="merge operations of the joint byte-pair encoding, or pieces of SentencePiece"
        " (default: the corpus' own, 10,000; 32,000 for WMT)",
    )
    parser.add_argument(
        "--joined-dictionary",
        action="store_true",
        help="one dictionary for both languages, which --share-all-embeddings needs, where the"
        " corpus' reference has one for each (IWSLT's)",
    )
    parser.add_argument(
        "--bleu-tokenizer",
        choices=_BLEU_TOKENIZERS,
        metavar="NAME",
        help="BLEU's tokeniser when translations of this data are scored, of sacreBLEU:"
        f" {', '.join(_BLEU_TOKENIZERS)} (default: zh for Chinese, char for other languages without"
        " spaces between words, else 13a)",
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        default=cores(),
        help="processes at work; the result does not depend on it (default: all cores)",
    )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # clean up as after Ctrl-C
    sys.exit(main())
