"""SST, SNLI and AG News: of small files, and of the real text where it is."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from data_prep.sentences.corpora.agnews import OTHER_TOPIC
from data_prep.sentences.corpora.labelled_files import LabelledFiles
from data_prep.sentences.corpora.snli import TASK
from data_prep.sentences.corpora.snli import pairs as snli_pairs
from data_prep.sentences.corpus import NO_GOLD
from data_prep.sentences.raw import raw_rows, write_raw
from tests.data_prep.sentences.made import prepare, report
from tests.support.shared_data import shared

_SST = ("stsa.binary.train", "stsa.binary.dev", "stsa.binary.test")
_SNLI = {"train": "train", "valid": "dev", "test": "test"}


def rows(out: Path, split: str) -> list[tuple[str, list[str]]]:
    return list(raw_rows(out / f"raw/{split}.tsv"))


def written(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def sentences(of: str, count: int) -> bytes:
    return "".join(f"{n % 2} a {of} film , number {n} .\n" for n in range(count)).encode()


def test_sst(bert: Path, tmp_path: Path) -> None:
    given = written(tmp_path, {name: sentences(name, 6) for name in _SST})
    out = tmp_path / "out"
    assert prepare(bert, out, "--archive", *given, corpus="sst") == 0
    facts = report(out)
    assert facts["classes"] == ["negative", "positive"]
    assert facts["metrics"] == ["--report-acc-and-f1"] and facts["texts"] == "single"
    assert rows(out, "valid")[:2] == [
        ("negative", ["a stsa.binary.dev film , number 0 ."]),
        ("positive", ["a stsa.binary.dev film , number 1 ."]),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"1\n", "line 7 is not a label, 0 or 1, and a sentence"),
        (b"2 a film\n", "line 7 has the label '2'; known are 0, 1"),
        (b"1 a \xe9\n", "line 7 is not UTF-8"),
    ],
)
def test_sst_that_is_none(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes, expected: str
) -> None:
    files = {name: sentences(name, 6) for name in _SST}
    given = written(tmp_path, files | {_SST[2]: files[_SST[2]] + line})
    assert prepare(bert, tmp_path / "out", "--archive", *given, corpus="sst") == 1
    assert f"{tmp_path / _SST[2]}: {expected}" in capsys.readouterr().err


def test_the_real_sst(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts are those of Kim (2014) and of Table 1 of Kitada and Iyatomi (2021)."""
    folder = shared("nlu/sst")
    files = {
        _SST[0]: gzip.decompress((folder / f"{_SST[0]}.gz").read_bytes()),
        _SST[1]: (folder / _SST[1]).read_bytes(),
        _SST[2]: gzip.decompress((folder / f"{_SST[2]}.gz").read_bytes()),
    }
    out = tmp_path / "out"
    assert prepare(bert, out, "--archive", *written(tmp_path, files), corpus="sst") == 0
    assert "read all the same" not in capsys.readouterr().err  # sizes and checksums are right
    facts = report(out)["raw"]
    assert facts["kept"] == {"train": 6_920, "valid": 872, "test": 1_821}
    assert facts["labels"]["test"] == {"positive": 909, "negative": 912}
    first = files[_SST[2]].decode().split("\n")[0]
    assert rows(out, "test")[0][1] == [first[2:]]


def snli_line(label: str, premise: str, hypothesis: str) -> str:
    found = {"annotator_labels": [], "gold_label": label, "captionID": "1"}
    return json.dumps(found | {"sentence1": premise, "sentence2": hypothesis}) + "\n"


def snli(path: Path, files: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, text in files.items():
            archive.writestr(f"snli_1.0/snli_1.0_{_SNLI[split]}.jsonl", text)
            archive.writestr(f"__MACOSX/snli_1.0/._snli_1.0_{_SNLI[split]}.jsonl", "\0")
            archive.writestr(f"snli_1.0/snli_1.0_{_SNLI[split]}.txt", "gold_label")
    return path


def pairs(of: str) -> str:
    labels = ("entailment", "-", "neutral", "contradiction")
    return "".join(snli_line(labels[n % 4], f"{of} {n}", f"It is {n}.") for n in range(8))


def test_snli_s_pairs_without_gold_are_dropped(bert: Path, tmp_path: Path) -> None:
    archive = snli(tmp_path / "snli_1.0.zip", {split: pairs(split) for split in _SNLI})
    out = tmp_path / "out"
    assert prepare(bert, out, "--archive", archive, corpus="snli") == 0
    facts = report(out)
    assert facts["classes"] == ["entailment", "neutral", "contradiction"]
    assert facts["metrics"] == [] and facts["texts"] == "pairs"
    assert facts["raw"]["found"] == dict.fromkeys(_SNLI, 8)
    assert facts["raw"]["kept"] == dict.fromkeys(_SNLI, 6)
    assert facts["raw"]["dropped"]["test"] == {NO_GOLD: 2}
    assert rows(out, "valid")[1] == ("neutral", ["valid 2", "It is 2."])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"gold_label": "neutral", "sentence1": "a"}\n',
            "line 9 is no example of SNLI: an object",
        ),
        (snli_line("maybe", "a", "b"), "line 9 has the label 'maybe'; known are entailment, "),
    ],
)
def test_snli_that_is_none(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
) -> None:
    files = {split: pairs(split) for split in _SNLI}
    files["valid"] += line
    archive = snli(tmp_path / "snli_1.0.zip", files)
    assert prepare(bert, tmp_path / "out", "--archive", archive, corpus="snli") == 1
    assert f"snli_1.0_dev.jsonl: {expected}" in capsys.readouterr().err


def test_the_real_pairs_of_snli(tmp_path: Path) -> None:
    """Another project's tables have those with a gold label: 9,842 and 9,824 of 10,000 each."""
    names = ("entailment", "neutral", "contradiction")
    files = {"train": tmp_path / "train.jsonl"}
    files["train"].write_text(pairs("train"), encoding="utf-8")
    for split, source in (("valid", "validation"), ("test", "test")):
        content = gzip.decompress((shared("nlu/snli") / f"{source}.tsv.gz").read_bytes())
        table = [line.split("\t") for line in content.decode("utf-8").splitlines()[1:]]
        real = [snli_line(names[int(label)], *texts) for *texts, label in table]
        undecided = [snli_line("-", f"a {n}", "b") for n in range(10_000 - len(real))]
        files[split] = tmp_path / f"{split}.jsonl"
        files[split].write_text("".join(undecided + real), encoding="utf-8")
    corpus = LabelledFiles(TASK, {split: [path] for split, path in files.items()}, snli_pairs)
    (tmp_path / "raw").mkdir()
    facts = write_raw(corpus, None, tmp_path / "raw")
    assert facts["kept"] == {"train": 6, "valid": 9_842, "test": 9_824}
    assert facts["dropped"]["test"] == {NO_GOLD: 176}
    assert facts["labels"]["valid"] == {
        "entailment": 3_329,
        "neutral": 3_235,
        "contradiction": 3_278,
    }


def story_line(columns: Sequence[str]) -> str:
    return ",".join('"' + column.replace('"', '""') + '"' for column in columns) + "\n"


def news(count: int) -> bytes:
    lines = [[str(n % 4 + 1), f'A "title" {n}', f'Story {n}, "it" says.'] for n in range(count)]
    return "".join(map(story_line, lines)).encode()


def test_agnews_is_of_two_topics(bert: Path, tmp_path: Path) -> None:
    given = written(tmp_path, {"train.csv": news(80), "test.csv": news(12)})
    out = tmp_path / "out"
    arguments = ["--archive", *given, "--hold-out", 7]
    assert prepare(bert, out, *arguments, corpus="agnews-world-business") == 0
    facts = report(out)
    assert facts["classes"] == ["world", "business"]
    assert facts["metrics"] == ["--report-acc-and-f1"]
    assert facts["raw"]["kept"] == {"train": 33, "valid": 7, "test": 6}
    assert facts["raw"]["dropped"]["train"] == {OTHER_TOPIC: 40}
    assert rows(out, "test")[:2] == [
        ("world", ['Story 0, "it" says.']),
        ("business", ['Story 2, "it" says.']),
    ]


def test_the_real_test_set_of_agnews(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its size is that of Table 1; the texts are those that a reader of plain lines finds."""
    content = gzip.decompress((shared("nlu/agnews") / "test.csv.gz").read_bytes())
    given = written(tmp_path, {"train.csv": news(80), "test.csv": content})
    out = tmp_path / "out"
    arguments = ["--archive", *given, "--hold-out", 7]
    assert prepare(bert, out, *arguments, corpus="agnews-world-business") == 0
    assert f"{given[1]}: " not in capsys.readouterr().err  # size and checksum are right
    facts = report(out)["raw"]
    assert (facts["found"]["test"], facts["kept"]["test"]) == (7_600, 3_800)
    assert facts["labels"]["test"] == {"business": 1_900, "world": 1_900}
    plain = [line[1:-1].split('","') for line in content.decode().splitlines()]
    expected = [
        ({"1": "world", "3": "business"}[label], [re.sub(r"\s+", " ", text).strip()])
        for label, _, text in ([c.replace('""', '"') for c in columns] for columns in plain)
        if label in "13"
    ]
    assert rows(out, "test") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('"1","only a title"\n', "line 13 has 2 columns; class, title and description are wanted"),
        ('"5","a","b"\n', "line 13 has the label '5'; known are 1, 3"),
        ('"1","a","b\n"1","a","b"\n', "line 14 is no CSV: "),
    ],
)
def test_agnews_that_is_none(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
) -> None:
    files = {"train.csv": news(80), "test.csv": news(12) + line.encode()}
    given = written(tmp_path, files)
    out = tmp_path / "out"
    assert prepare(bert, out, "--archive", *given, corpus="agnews-world-business") == 1
    assert f"{tmp_path / 'test.csv'}: {expected}" in capsys.readouterr().err
