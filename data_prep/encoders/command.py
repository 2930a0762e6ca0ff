"""`python -m data_prep encoder NAME`, and the encoder that a corpus is prepared for."""

import argparse
from pathlib import Path

from data_prep.encoders.homes import HOMES
from data_prep.encoders.making import Directory, PublicHome, Source, make_encoder
from data_prep.encoders.prepared import PreparedEncoder
from data_prep.encoders.vectors import GLOVE, NO_VECTORS, vectors_from
from data_prep.encoders.words import WordSettings
from data_prep.sources.release import add_archive_option
from data_prep.support.arguments import positive
from data_prep.support.errors import DataPrepError

_HOME = Path("data", "encoders")
_FILES = "files"
_DIM = 50  # the paper's where it has no vectors


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `encoder` takes."""
    parser.add_argument(
        "encoder",
        metavar="NAME",
        choices=[*HOMES, _FILES],
        help=f"{', '.join(HOMES)}, or {_FILES}: a directory of yours, --from",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"where the encoder goes (default: {_HOME}/NAME)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="DIR",
        help="for files: config.json, model.safetensors or its parts with their index, and"
        " tokenizer.json, vocab.txt, or vocab.json and merges.txt",
    )
    parser.add_argument(
        "--layers",
        type=positive,
        metavar="N",
        help="keep the first N layers only, for quick searches (default: all)",
    )
    parser.add_argument(
        "--random-init",
        type=_seed,
        metavar="SEED",
        help="the same architecture and pieces with random weights, to see what pretraining gives",
    )
    add_archive_option(parser)


def place(args: argparse.Namespace) -> Path:
    """Return where downloads are kept, beside the encoder, which is written in one piece."""
    return _downloads(args.out or _HOME / args.encoder)


def run(args: argparse.Namespace, downloads: Path) -> str:
    """Make the encoder; return what to say of it."""
    out = args.out or _HOME / args.encoder
    facts = make_encoder(_source(args, downloads), out, args.layers, args.random_init)
    sizes = facts["sizes"]
    return (
        f"{facts['arch']}: {sizes['layers']} layers of {sizes['dim']} channels,"
        f" {facts['parameters']:,} parameters, {facts['symbols']:,} symbols;"
        f" licence: {facts['licence']}\n"
        f"fairseq-train takes --finetune-from-model {out / 'model.pt'} and the options in"
        f" {out / 'options.txt'}"
    )


def _source(args: argparse.Namespace, downloads: Path) -> Source:
    if args.encoder != _FILES:
        if args.source is not None:
            raise DataPrepError(f"--from {args.source}: for the encoder files only")
        return PublicHome(args.encoder, args.archive, downloads)
    if args.archive:
        raise DataPrepError("--archive: not for the encoder files; give its directory, --from DIR")
    if args.source is None:
        raise DataPrepError("the encoder files needs --from DIR")
    if not args.source.is_dir():
        raise DataPrepError(f"--from {args.source}: there is no such directory")
    return Directory(args.source)


def encoder_for(given: str) -> PreparedEncoder:
    """Return the encoder of a directory, or one by its name, which is made if it is missing."""
    if given not in HOMES:
        return PreparedEncoder.read(Path(given))
    path = _HOME / given
    if not path.exists():
        make_encoder(PublicHome(given, (), _downloads(path)), path)
    return PreparedEncoder.read(path)


def word_settings(min_count: int | None, vectors: str | None, dim: int | None) -> WordSettings:
    """Return how a corpus' words are made an encoder, with what is not given as it is by default.

    Raises DataPrepError if vectors are not to be had, or their size is asked for, too.
    """
    name = vectors or GLOVE
    if name != NO_VECTORS and dim is not None:
        raise DataPrepError(
            f"--vector-dim {dim}: for --vectors {NO_VECTORS}; others have their own"
        )
    found = vectors_from(name, _downloads(_HOME / GLOVE))
    return WordSettings(min_count or 1, found, dim or _DIM)


def _downloads(out: Path) -> Path:
    return out.with_name(f"{out.name}.download")


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: a whole number, 0 or above")
    return int(text)
