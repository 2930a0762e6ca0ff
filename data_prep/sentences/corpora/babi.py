"""bAbI's questions (Weston et al., ICLR 2016), version 1.2, tasks 1 to 3: where is it? CC BY 3.0.

A pair is a story, as far as it is told, and a question; its answer, a place, is the class.
"""

import re
from argparse import Namespace
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_prep.selection.draws import hash_of, rank
from data_prep.sentences.corpus import Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import numbered
from data_prep.sources.download import Archive
from data_prep.sources.release import add_archive_option, given_files, unpacked
from data_prep.support.errors import DataPrepError

_ARCHIVE = Archive(
    "tasks_1-20_v1-2.tar.gz",
    (
        "http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz",
        "https://s3.amazonaws.com/text-datasets/babi_tasks_1-20_v1-2.tar.gz",  # Keras' copy
    ),
    11_745_123,
)
_SIZE = "en-10k"  # the archive's folder with 10,000 questions of train; `en` has 1,000
_TASKS = {
    1: "single-supporting-fact",
    2: "two-supporting-facts",
    3: "three-supporting-facts",
}
_VALID_PERCENT = 15  # of the stories: 1,500 of 10,000 questions in the paper
_LINE = re.compile(r"(\d{1,6}) (.*)", re.ASCII)

TASK = Task(pairs=True, classes=("bathroom", "bedroom", "garden", "hallway", "kitchen", "office"))


@dataclass(frozen=True)
class Line:
    """A sentence of a story, or a question, with its answer."""

    number: int  # in the file
    text: str
    answer: str | None


@dataclass(frozen=True)
class BabiCorpus:
    """Train and test of a task. Whole stories of train, by a hash of their text, are valid.

    Questions of one story are much the same; and all have one of a few texts, so that they cannot
    be drawn as other examples are, which share none.
    """

    files: Mapping[str, Path]
    task = TASK

    @property
    def splits(self) -> Mapping[str, str]:
        """See `SentenceCorpus`."""
        return {name: name for name in ("train", "valid", "test")}

    def inputs(self) -> Mapping[str, Path]:
        """See `SentenceCorpus`."""
        return {path.name: path for path in self.files.values()}

    def held_out(self) -> Mapping[str, int | None]:
        """See `SentenceCorpus`: they are cut by the corpus itself."""
        return {}

    def read(self, counts: SentenceCounts) -> Iterator[Example]:
        """See `SentenceCorpus`. Raises DataPrepError for a line that is none of a story."""
        train = list(stories(self.files["train"]))
        hashes = array("Q", (hash_of("\n".join(line.text for line in s), "") for s in train))
        valid = set(map(int, rank(hashes)[: max(1, len(train) * _VALID_PERCENT // 100)]))
        parts = {
            "train": [story for index, story in enumerate(train) if index not in valid],
            "valid": [story for index, story in enumerate(train) if index in valid],
            "test": stories(self.files["test"]),
        }
        for split, told in parts.items():
            path = self.files["test" if split == "test" else "train"]
            for story in told:
                for example in _questions(story, split, path):
                    counts.found[split] += 1
                    yield example


def stories(path: Path) -> Iterator[list[Line]]:
    """Yield the lines of each story. Raises DataPrepError for a line that can be in none."""
    story: list[Line] = []
    for number, line in numbered(path):
        text, *answer = line.split("\t")
        found = _LINE.fullmatch(text)
        if not found or (answer and not (len(answer) == 2 and answer[0])):
            raise DataPrepError(
                f"{path}: line {number} is neither a sentence, '1 Mary moved.', nor a question,"
                " '2 Where is Mary?', with tab, answer, tab and numbers behind"
            )
        if found[1] == "1" and story:
            yield story
            story = []
        if int(found[1]) != len(story) + 1:
            raise DataPrepError(
                f"{path}: line {number} has the number {found[1]}; {len(story) + 1} would be next"
                " of its story: some of it is missing"
            )
        story.append(Line(number, found[2].strip(), answer[0].strip() if answer else None))
    yield story


def _questions(story: list[Line], split: str, path: Path) -> Iterator[Example]:
    told: list[str] = []
    for line in story:
        if line.answer is None:
            told.append(line.text)
        else:
            yield Example(split, line.answer, (" ".join(told), line.text), path, line.number)


def _load(args: Namespace, out: Path, *, number: int) -> BabiCorpus:
    names = {split: f"qa{number}_{_TASKS[number]}_{split}.txt" for split in ("train", "test")}
    if files := given_files(args.archive, names):
        return BabiCorpus(files)
    folder = unpacked({_ARCHIVE: [f"{_SIZE}/{name}" for name in names.values()]}, args.archive, out)
    return BabiCorpus({split: folder / f"{_SIZE}-{name}" for split, name in names.items()})


ENTRIES = [
    SentenceEntry(
        f"babi-{number}",
        f"bAbI's task {number}, {title.replace('-', ' ')}: a story and a question; CC BY 3.0",
        add_archive_option,
        partial(_load, number=number),
    )
    for number, title in _TASKS.items()
]
