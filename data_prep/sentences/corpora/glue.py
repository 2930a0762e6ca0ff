"""GLUE (Wang et al., ICLR 2019), from its public files, or from its tables as they are.

Sizes and checksums are those of Hugging Face's datasets (dataset_infos.json), to which the files
were downloaded. Labels of test sets are not public, but for MRPC's.
"""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from data_prep.sentences.corpus import NO_GOLD, Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import named_rows, rows, wrong_columns
from data_prep.sources.download import Archive
from data_prep.sources.release import add_archive_option, at_hand, given_files, unpacked
from data_prep.support.errors import DataPrepError

_HOME = "https://dl.fbaipublicfiles.com/glue/data/"
_SENTEVAL = "https://dl.fbaipublicfiles.com/senteval/senteval_data/"
_SPLITS = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}
INCOMPLETE = "incomplete"
_MRPC_PARTS = ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt", "mrpc_dev_ids.tsv")


def _archive(name: str, size: int, sha256: str, home: str = _HOME) -> Archive:
    return Archive(name, (home + name,), size, f"sha256:{sha256}")


@dataclass(frozen=True)
class GlueTask:
    """One of GLUE's tasks: its files, and the names of their columns.

    :param labels: classes in their order, by what the files call them.
    :param skips: whether lines that lack a column are dropped, and no error.
    """

    title: str
    texts: tuple[str, ...]
    label: str
    archives: tuple[Archive, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=lambda: dict(_SPLITS))
    names: Mapping[str, str] = field(default_factory=dict)  # of splits
    skips: bool = False
    divisor: float = 1.0

    @property
    def task(self) -> Task:
        """What is to be predicted."""
        return Task(
            pairs=len(self.texts) == 2,
            classes=tuple(self.labels.values()) or None,
            is_regression=not self.labels,
            metrics=self.metrics,
            divisor=self.divisor,
            source_labels={ours: theirs for theirs, ours in self.labels.items()},
        )


_ENTAILMENT = {name: name for name in ("entailment", "not_entailment")}
_NLI = {name: name for name in ("entailment", "neutral", "contradiction")}

TASKS = {
    "cola": GlueTask(
        "CoLA: is a sentence acceptable?",
        ("sentence",),
        "label",
        (
            _archive(
                "CoLA.zip",
                376_971,
                "f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
            ),
        ),
        {"0": "unacceptable", "1": "acceptable"},
        ("--report-mcc",),
    ),
    "sst-2": GlueTask(
        "SST-2: sentiment of phrases of film reviews",
        ("sentence",),
        "label",
        (
            _archive(
                "SST-2.zip",
                7_439_277,
                "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
            ),
        ),
        {"0": "negative", "1": "positive"},
    ),
    "mrpc": GlueTask(
        "MRPC: paraphrases of news",
        ("#1 String", "#2 String"),
        "Quality",
        (
            _archive(
                _MRPC_PARTS[0],
                1_047_044,
                "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
                _SENTEVAL,
            ),
            _archive(
                _MRPC_PARTS[1],
                441_275,
                "a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
                _SENTEVAL,
            ),
            _archive(
                _MRPC_PARTS[2],
                6_222,
                "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7",
            ),
        ),
        {"0": "not_equivalent", "1": "equivalent"},
        ("--report-acc-and-f1",),
    ),
    "sts-b": GlueTask(
        "STS-B: similarity of sentences, 0 to 5, divided by 5 as in fairseq's example",
        ("sentence1", "sentence2"),
        "score",
        (
            _archive(
                "STS-B.zip",
                802_872,
                "e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85",
            ),
        ),
        metrics=("--report-pearson-and-spearman",),
        divisor=5.0,
    ),
    "qqp": GlueTask(
        "QQP: duplicate questions",
        ("question1", "question2"),
        "is_duplicate",
        (
            _archive(
                "QQP-clean.zip",
                41_696_084,
                "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
            ),
        ),
        {"0": "not_duplicate", "1": "duplicate"},
        ("--report-acc-and-f1",),
        skips=True,
    ),
    "mnli": GlueTask(
        "MNLI: natural language inference, matched and mismatched",
        ("sentence1", "sentence2"),
        "gold_label",
        (
            _archive(
                "MNLI.zip",
                312_783_507,
                "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
            ),
        ),
        _NLI,
        files={
            "train": "train.tsv",
            "valid": "dev_matched.tsv",
            "valid1": "dev_mismatched.tsv",
            "test": "test_matched.tsv",
            "test1": "test_mismatched.tsv",
        },
        names={
            "valid": "mnli-matched",
            "valid1": "mnli-mismatched",
            "test": "mnli-matched",
            "test1": "mnli-mismatched",
        },
    ),
    "qnli": GlueTask(
        "QNLI: does a sentence answer a question?",
        ("question", "sentence"),
        "label",
        (
            _archive(
                "QNLIv2.zip",
                10_627_589,
                "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
            ),
        ),
        _ENTAILMENT,
    ),
    "rte": GlueTask(
        "RTE: textual entailment",
        ("sentence1", "sentence2"),
        "label",
        (
            _archive(
                "RTE.zip",
                697_150,
                "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee",
            ),
        ),
        _ENTAILMENT,
    ),
}


@dataclass(frozen=True)
class GlueCorpus:
    """A task's files by split; where a file has no column of labels, there are none.

    :param dev_ids: pairs of MRPC's train that are valid.
    """

    glue: GlueTask
    files: Mapping[str, Path]
    dev_ids: Path | None = None

    @property
    def task(self) -> Task:
        """See `SentenceCorpus`."""
        return self.glue.task

    @property
    def splits(self) -> Mapping[str, str]:
        """See `SentenceCorpus`."""
        names = [*self.files, *(["valid"] if self.dev_ids else [])]
        return {split: self.glue.names.get(split, split) for split in names}

    def inputs(self) -> Mapping[str, Path]:
        """See `SentenceCorpus`."""
        return {**self.files, **({"dev ids": self.dev_ids} if self.dev_ids else {})}

    def held_out(self) -> Mapping[str, int | None]:
        """See `SentenceCorpus`."""
        return {}

    def read(self, counts: SentenceCounts) -> Iterator[Example]:
        """See `SentenceCorpus`. Raises DataPrepError for a line that is none of the task."""
        if self.dev_ids is None:
            for split in self.files:
                yield from self._counted(split, counts)
            return
        dev = {tuple(columns[:2]) for _, columns in rows(self.dev_ids)}
        for wanted in ("train", "valid"):
            for number, row in self._rows("train"):
                is_dev = (row.get("#1 ID"), row.get("#2 ID")) in dev
                if is_dev == (wanted == "valid"):
                    counts.found[wanted] += 1
                    yield self._example(wanted, self.files["train"], number, row)
        yield from self._counted("test", counts)

    def _counted(self, split: str, counts: SentenceCounts) -> Iterator[Example]:
        path = self.files[split]
        table = self._without_header(path) if self._is_bare(path) else named_rows(path)
        for number, row in table:
            counts.found[split] += 1
            if row is None and not self.glue.skips:
                raise wrong_columns(path, number, None, "its columns would be others")
            if row is None and split.startswith("test"):  # each line of it is to be predicted
                yield Example(split, "", ("",) * len(self.glue.texts), path, number)
                continue
            label = None if row is None else row.get(self.glue.label)
            if row is None or (self.glue.skips and label not in (None, "0", "1")):
                counts.dropped[split][INCOMPLETE] += 1
            elif label == "-":
                counts.dropped[split][NO_GOLD] += 1
            else:
                yield self._example(split, path, number, row)

    def _rows(self, split: str) -> Iterator[tuple[int, dict[str, str]]]:
        for number, row in named_rows(self.files[split]):
            if row is None:
                raise wrong_columns(self.files[split], number, None, "its columns would be others")
            yield number, row

    def _is_bare(self, path: Path) -> bool:
        """CoLA's train and dev have no line of names."""
        _, first = next(rows(path))
        return self.glue.texts == ("sentence",) and len(first) == 4

    def _without_header(self, path: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
        names = ("source", "label", "mark", "sentence")
        for number, columns in rows(path):
            same = len(columns) == len(names)
            yield number, dict(zip(names, columns, strict=True)) if same else None

    def _example(self, split: str, path: Path, number: int, row: dict[str, str]) -> Example:
        if missing := " and no ".join(name for name in self.glue.texts if name not in row):
            raise DataPrepError(f"{path}: the first line names no column {missing}")
        label = row.get(self.glue.label, "").strip()
        if self.glue.label not in row and not split.startswith("test"):
            raise DataPrepError(f"{path}: the first line names no column {self.glue.label}")
        texts = tuple(row[name] for name in self.glue.texts)
        return Example(split, self.glue.labels.get(label, label), texts, path, number)


def _load(args: Namespace, out: Path, *, glue: GlueTask) -> GlueCorpus:
    tests = [split for split in glue.files if split.startswith("test")]
    if tables := given_files(args.archive, glue.files, tests):
        return GlueCorpus(glue, tables)
    if len(glue.archives) > 1:
        paths = at_hand(glue.archives, args.archive, out / "download")
        found = {archive.name: path for archive, path in paths.items()}
        train, test, dev_ids = (found[name] for name in _MRPC_PARTS)
        return GlueCorpus(glue, {"train": train, "test": test}, dev_ids)
    folder = unpacked({glue.archives[0]: list(glue.files.values())}, args.archive, out)
    return GlueCorpus(glue, {split: folder / name for split, name in glue.files.items()})


ENTRIES = [
    SentenceEntry(
        f"glue-{name}", f"GLUE's {glue.title}", add_archive_option, partial(_load, glue=glue)
    )
    for name, glue in TASKS.items()
]
