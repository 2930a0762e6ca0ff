"""bAbI: of small stories, and of the real ones where they are."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from data_prep.sentences.corpora.babi import BabiCorpus
from data_prep.sentences.raw import raw_rows, write_raw
from tests.data_prep.sentences.made import prepare, report
from tests.support.shared_data import shared
from tests.support.texts import tar

_NAMES = {
    1: "qa1_single-supporting-fact_{}.txt",
    2: "qa2_two-supporting-facts_{}.txt",
    3: "qa3_three-supporting-facts_{}.txt",
}
_PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")


def story(number: int) -> str:
    first, second = _PLACES[number % 6], _PLACES[(number + 1) % 6]
    return (
        f"1 Mary moved to the {first}.\n2 She took milk number {number}.\n"
        f"3 Where is Mary? \t{first}\t1\n4 Mary went to the {second}.\n"
        f"5 Where is the milk? \t{second}\t2 4\n"
    )


def stories(count: int, start: int = 0) -> bytes:
    return "".join(story(number) for number in range(start, start + count)).encode()


def in_plain_words(text: str) -> Counter[tuple[str, str, str]]:
    """Answer, story and question of all questions, each found on its own, by going back."""
    lines = text.split("\n")
    found: Counter[tuple[str, str, str]] = Counter()
    for index, line in enumerate(lines):
        if "\t" not in line:
            continue
        before: list[str] = []
        for earlier in range(index - 1, -1, -1):
            if lines[earlier + 1].startswith("1 "):
                break
            if lines[earlier].endswith("."):
                before.insert(0, lines[earlier].split(" ", 1)[1])
        question, answer, _ = line.split("\t")
        found[answer, " ".join(before), question.split(" ", 1)[1].strip()] += 1
    return found


def questions(raw: Path, *splits: str) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for split in splits:
        for answer, (before, question) in raw_rows(raw / f"{split}.tsv"):
            found[answer, before, question] += 1
    return found


@pytest.mark.parametrize("task", [1, 3])
def test_a_story_as_far_as_it_is_told_and_a_question(bert: Path, tmp_path: Path, task: int) -> None:
    """From the archive, of 10,000 questions in truth; and from its files."""
    files = {_NAMES[task].format("train"): stories(40), _NAMES[task].format("test"): stories(8, 99)}
    archive = tmp_path / "tasks_1-20_v1-2.tar.gz"
    members = {f"tasks_1-20_v1-2/en-10k/{name}": text for name, text in files.items()}
    small = {name.replace("en-10k", "en"): stories(2) for name in members}
    archive.write_bytes(tar(small | members, "gz"))
    for name, text in files.items():
        (tmp_path / name).write_bytes(text)
    for given, out in (
        ([archive], tmp_path / "tar"),
        ([tmp_path / name for name in files], tmp_path / "plain"),
    ):
        assert prepare(bert, out, "--archive", *given, corpus=f"babi-{task}") == 0
        facts = report(out)
        assert facts["classes"] == list(_PLACES) and facts["metrics"] == []
        assert facts["raw"]["kept"] == {"train": 68, "valid": 12, "test": 16}
        assert list(raw_rows(out / "raw/test.tsv"))[:2] == [
            ("hallway", ["Mary moved to the hallway. She took milk number 99.", "Where is Mary?"]),
            (
                "kitchen",
                [
                    "Mary moved to the hallway. She took milk number 99. Mary went to the kitchen.",
                    "Where is the milk?",
                ],
            ),
        ]
        told = {
            split: {texts[0].split(".")[1] for _, texts in raw_rows(out / f"raw/{split}.tsv")}
            for split in ("train", "valid")
        }
        assert len(told["valid"]) == 6 and not told["train"] & told["valid"]  # whole stories


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Mary moved.", "line 6 is neither a sentence, '1 Mary moved.', nor a question"),
        ("6 Where is Mary?\toffice", "line 6 is neither a sentence"),
        ("6 Where is Mary?\t\t1", "line 6 is neither a sentence"),
        ("7 Mary moved.", "line 6 has the number 7; 6 would be next of its story"),
        ("6 Where is Mary?\tmoon\t1", "line 6 has the label 'moon'; known are bathroom, bedroom"),
        ("", "line 6 is neither a sentence"),
    ],
)
def test_a_line_of_no_story(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
) -> None:
    train, test = (tmp_path / _NAMES[2].format(split) for split in ("train", "test"))
    train.write_bytes(stories(40))
    test.write_bytes(stories(1) + f"{line}\n".encode())
    assert prepare(bert, tmp_path / "out", "--archive", train, test, corpus="babi-2") == 1
    assert f"{test}: {expected}" in capsys.readouterr().err
    assert prepare(bert, tmp_path / "out", "--archive", train, corpus="babi-2") == 1
    assert f"--archive: {test.name} of the files is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "size", "kept"),
    [
        (1, "en-10k", {"train": 8_500, "valid": 1_500, "test": 1_000}),
        (3, "en", {"train": 850, "valid": 150, "test": 1_000}),
    ],
)
def test_the_real_stories(tmp_path: Path, task: int, size: str, kept: dict[str, int]) -> None:
    """Those of en-10k are as many as in Table 1 of Kitada and Iyatomi (2021)."""
    files, texts = {}, {}
    for split, folder in (("train", size), ("test", "en")):
        path = shared("nlu/babi") / folder / _NAMES[task].format(split)
        packed = path.with_name(f"{path.name}.gz")
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
        files[split] = tmp_path / path.name
        files[split].write_bytes(content)
        texts[split] = content.decode()
    raw = tmp_path / "raw"
    raw.mkdir()
    facts = write_raw(BabiCorpus(files), None, raw)
    assert facts["kept"] == kept and facts["classes"] == list(_PLACES)
    assert questions(raw, "train", "valid") == in_plain_words(texts["train"])
    assert questions(raw, "test") == in_plain_words(texts["test"])
