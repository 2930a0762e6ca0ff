"""The user's own sentences: files of ``label<TAB>text``, or ``label<TAB>text<TAB>text``."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.sentences.corpus import Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import rows, wrong_columns
from data_prep.support.arguments import positive
from data_prep.support.errors import DataPrepError

_COLUMNS = {2: "label<TAB>text", 3: "label<TAB>text<TAB>text"}


@dataclass(frozen=True)
class TableCorpus:
    """A file for each split; valid and test are drawn from train where they are not given.

    A test set may have no labels: all are empty then.
    """

    files: Mapping[str, Path]
    task: Task
    hold_out: int | None = None

    @property
    def splits(self) -> Mapping[str, str]:
        """See `SentenceCorpus`."""
        return {name: name for name in [*self.files, *self.held_out()]}

    def inputs(self) -> Mapping[str, Path]:
        """See `SentenceCorpus`."""
        return self.files

    def held_out(self) -> Mapping[str, int | None]:
        """See `SentenceCorpus`."""
        return {split: self.hold_out for split in ("valid", "test") if split not in self.files}

    def read(self, counts: SentenceCounts) -> Iterator[Example]:
        """See `SentenceCorpus`. Raises DataPrepError for a line of other columns."""
        wanted = 3 if self.task.pairs else 2
        for split, path in self.files.items():
            for number, columns in rows(path):
                if len(columns) != wanted:
                    raise wrong_columns(
                        path,
                        number,
                        len(columns),
                        f"{wanted} are wanted, as in the first line of train: {_COLUMNS[wanted]}",
                    )
                counts.found[split] += 1
                yield Example(split, columns[0], tuple(columns[1:]), path, number)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--train",
        type=Path,
        required=True,
        metavar="FILE",
        help="a line each: label, tab, text, and for pairs tab, text; quotes are plain characters",
    )
    parser.add_argument(
        "--valid", type=Path, metavar="FILE", help="the same (default: held out from --train)"
    )
    parser.add_argument(
        "--test",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="the same, one or several; or with nothing before the first tab, to be predicted"
        " (default: held out from --train)",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="labels are numbers, to be predicted as such, and no classes",
    )
    parser.add_argument(
        "--hold-out",
        type=positive,
        metavar="N",
        help="where --valid or --test is not given, hold out N examples of --train for each, drawn"
        " at random by a hash of the text; others with a text of theirs are dropped"
        " (default: 1000, or a tenth of the examples if that is less)",
    )


def _load(args: Namespace, out: Path) -> TableCorpus:
    files = {"train": args.train}
    if args.valid is not None:
        files["valid"] = args.valid
    for number, path in enumerate(args.test):
        files[f"test{number or ''}"] = path
    if args.hold_out and {"valid", "test"} <= files.keys():
        raise DataPrepError(
            f"--hold-out {args.hold_out}: --valid and --test are both given; leave one of them out,"
            " or --hold-out"
        )
    _, columns = next(rows(args.train))
    if len(columns) not in _COLUMNS:
        raise wrong_columns(args.train, 1, len(columns), f"{' or '.join(_COLUMNS.values())}")
    metrics = ("--report-pearson-and-spearman",) if args.scores else ()
    task = Task(pairs=len(columns) == 3, is_regression=args.scores, metrics=metrics)
    return TableCorpus(files, task, args.hold_out)


ENTRIES = [SentenceEntry("sentences", "your own labelled sentences or pairs", _add_options, _load)]
