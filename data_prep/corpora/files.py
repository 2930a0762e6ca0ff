"""The user's own parallel text: one file per split and language, one sentence per line."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.corpora.corpus import CorpusEntry, Example
from data_prep.preparation import OURS, Preparation
from data_prep.selection.counts import SPLITS, Counts
from data_prep.support.arguments import positive
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import count_lines, read_lines
from data_prep.support.progress import progress
from data_prep.text.languages import in_file_names

_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # it becomes part of file names


@dataclass(frozen=True)
class FilesCorpus:
    """``prefixes[split].lang`` for both languages; these splits are taken as they are.

    Those without a prefix are drawn from train, ``hold_out`` pairs each (see `Corpus.held_out`).

    :param endings: of the files' names, where they are not the languages.
    """

    source_lang: str
    target_lang: str
    prefixes: Mapping[str, str]
    hold_out: int | None = None
    preparation: Preparation = OURS
    endings: tuple[str, str] | None = None

    def inputs(self) -> Mapping[str, Path]:
        """See `Corpus.inputs`."""
        languages = (self.source_lang, self.target_lang)
        return {
            f"{split} {lang}": Path(f"{self.prefixes[split]}.{ending}")
            for split in self.prefixes
            for lang, ending in zip(languages, self.endings or languages, strict=True)
        }

    def held_out(self) -> Mapping[str, int | None]:
        """See `Corpus.held_out`."""
        return {split: self.hold_out for split in SPLITS if split not in self.prefixes}

    def encoded(self) -> None:
        """See `Corpus.encoded`."""

    def read(self, counts: Counts) -> Iterator[Example]:
        """See `Corpus.read`."""
        inputs = self.inputs()
        for split in self.prefixes:
            sides = (inputs[f"{split} {lang}"] for lang in (self.source_lang, self.target_lang))
            for pair in line_pairs(*sides):
                counts.found[split] += 1
                yield Example(split, *pair)


def line_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield line n of both files; raises DataPrepError first if one has more than the other."""
    pairs = zip(read_lines(source), read_lines(target), strict=True)
    yield from progress(pairs, f"read {source.stem}", "pair", _common_length(source, target))


def _common_length(source: Path, target: Path) -> int:
    lengths = {path: count_lines(path) for path in (source, target)}
    for path, length in lengths.items():
        if not length:
            raise DataPrepError(f"{path}: is empty")
    if lengths[source] != lengths[target]:
        raise DataPrepError(
            f"{source} has {lengths[source]} lines, {target} has {lengths[target]}:"
            " line n of one must be the translation of line n of the other"
        )
    return lengths[source]


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--source-lang", required=True, metavar="LANG", help="such as de, pt-BR")
    parser.add_argument("--target-lang", required=True, metavar="LANG", help="such as en")
    for split in SPLITS:
        parser.add_argument(
            f"--{split}",
            required=split == "train",
            metavar="PREFIX",
            help=f"the {split} split is PREFIX.<source-lang> and PREFIX.<target-lang>"
            + ("" if split == "train" else " (default: held out from --train)"),
        )
    parser.add_argument(
        "--hold-out",
        type=positive,
        metavar="N",
        help="where --valid or --test is not given, hold out N pairs of --train for each, drawn at"
        " random by a hash of the pair's text; other pairs with a sentence of theirs are dropped"
        " (default: 1000, or a tenth of the pairs if that is less)",
    )


def _load(args: Namespace, out: Path) -> FilesCorpus:
    endings = (args.source_lang, args.target_lang)
    for lang in endings:
        if not _LANGUAGE.fullmatch(lang):
            raise DataPrepError(f"{lang!r} is no language code: letters, digits, - and _ only")
    source, target = map(in_file_names, endings)
    if source == target:
        raise DataPrepError(f"--source-lang and --target-lang are both {source}")
    given = {split: getattr(args, split) for split in SPLITS}
    prefixes = {split: prefix for split, prefix in given.items() if prefix is not None}
    if args.hold_out and len(prefixes) == len(SPLITS):
        raise DataPrepError(
            f"--hold-out {args.hold_out}: --valid and --test are both given; leave one of them out,"
            " or --hold-out"
        )
    return FilesCorpus(source, target, prefixes, args.hold_out, endings=endings)


ENTRIES = [CorpusEntry("files", "your own parallel text files", _add_options, _load)]
