"""IMDB and 20 Newsgroups: archives of folders, made here and of the real text where it is."""

from __future__ import annotations

import gzip
import json
import pickle
import zlib
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from sklearn.datasets import fetch_20newsgroups, load_files

from data_prep.sentences.corpora.folders import ENTRIES
from data_prep.sentences.raw import raw_rows, write_raw
from data_prep.text.cleaning import clean_line
from tests.data_prep.sentences.made import prepare, report
from tests.support.shared_data import shared
from tests.support.texts import tar

_SPORTS = ("baseball", "hockey")


def rows(out: Path, split: str) -> list[tuple[str, list[str]]]:
    return list(raw_rows(out / f"raw/{split}.tsv"))


def reviews(count: int) -> dict[str, bytes]:
    """As the archive has them, with what is nobody's review."""
    files = {"aclImdb/README": b"r", "aclImdb/train/urls_pos.txt": b"http://x"}
    for split in ("train", "test"):
        for label in ("neg", "pos"):
            for number in range(count):
                text = f"A {label} “film”,<br /><br />of {split} {number}."
                files[f"aclImdb/{split}/{label}/{number}_7.txt"] = text.encode()
    return files | {"aclImdb/train/unsup/0_0.txt": b"neither"}


def test_imdb(bert: Path, tmp_path: Path) -> None:
    archive = tmp_path / "aclImdb_v1.tar.gz"
    archive.write_bytes(tar(reviews(20), "gz"))
    out = tmp_path / "out"
    assert prepare(bert, out, "--archive", archive, "--hold-out", 8, corpus="imdb") == 0
    facts = report(out)
    assert facts["classes"] == ["negative", "positive"]
    assert facts["metrics"] == ["--report-acc-and-f1"]
    assert facts["raw"]["kept"] == {"train": 32, "valid": 8, "test": 40}
    assert facts["raw"]["repaired lines"] == {}
    assert rows(out, "test")[0] == ("negative", ["A neg “film”, of test 0."])
    assert rows(out, "test")[39] == ("positive", ["A pos “film”, of test 19."])
    films = Counter(label for split in ("train", "valid") for label, _ in rows(out, split))
    assert films == {"negative": 20, "positive": 20}


def test_a_review_that_is_not_utf_8(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "aclImdb/train/pos/9_7.txt"
    archive = tmp_path / "aclImdb_v1.tar.gz"
    archive.write_bytes(tar(reviews(9) | {odd: b"caf\xe9"}, "gz"))
    assert prepare(bert, tmp_path / "out", "--archive", archive, corpus="imdb") == 1
    expected = f"{archive}: {odd} in it is not UTF-8 (byte 0xe9, number 4)"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out/raw").exists() and not (tmp_path / "out/release").exists()


def messages(count: int) -> dict[str, bytes]:
    """With headers, quotations and signatures, in Latin-1; the last one says nothing itself."""
    files = {}
    for split in ("train", "test"):
        for sport in _SPORTS:
            for number in range(count):
                own = "" if number == count - 1 else f"Caf\xe9, {sport} in {split} {number}.\n"
                text = (
                    f"From: a@b (A)\nSubject: Re: {sport}\nOrganization: {sport}\nLines: 9\n\n"
                    f"c@d writes:\n\n> Is it {number}?\n> or not\n{own}\n--\nA\n"
                )
                files[f"20news-bydate-{split}/rec.sport.{sport}/{100 + number}"] = text.encode(
                    "latin-1"
                )
        files[f"20news-bydate-{split}/rec.autos/7"] = b"From: x\n\nA car.\n"
    return files


def real_messages(folder: Path) -> dict[str, bytes]:
    """Of a copy in JSON lines, whose train has tabs for ends of lines."""
    files = {}
    for split in ("train", "test"):
        for line in gzip.decompress((folder / f"{split}.jsonl.gz").read_bytes()).splitlines():
            found = json.loads(line)
            text = found["text"].replace("\t", "\n") if split == "train" else found["text"]
            name = f"20news-bydate-{split}/{found['group']}/{found['id']}"
            files[name] = text.encode("latin-1", "replace")
    return files


def by_scikit_learn(files: Mapping[str, bytes], home: Path) -> dict[str, Counter[tuple[str, str]]]:
    """Sports and texts of the messages, by split, as its own reader gives them from its cache."""
    for name, content in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    cache = {
        split: load_files(str(home / f"20news-bydate-{split}"), encoding="latin1")
        for split in ("train", "test")
    }
    (home / "20news-bydate_py3.pkz").write_bytes(zlib.compress(pickle.dumps(cache)))
    found = {}
    for split in cache:
        bunch = fetch_20newsgroups(
            data_home=str(home),
            subset=split,
            categories=[f"rec.sport.{sport}" for sport in _SPORTS],
            remove=("headers", "footers", "quotes"),
            download_if_missing=False,
        )
        pairs = zip(bunch.target, bunch.data, strict=True)
        found[split] = Counter(
            (_SPORTS[sport], clean_line(text.replace("\n", " "), {})) for sport, text in pairs
        )
    return found


@pytest.mark.parametrize("is_real", [False, True])
def test_messages_are_those_of_scikit_learn(tmp_path: Path, is_real: bool) -> None:
    """The real ones are as many as are published for the two groups, by date."""
    files = real_messages(shared("nlu/20news")) if is_real else messages(20)
    archive = tmp_path / "20news-bydate.tar.gz"
    archive.write_bytes(tar(files, "gz"))
    (entry,) = (entry for entry in ENTRIES if entry.name == "20news-baseball-hockey")
    parser = ArgumentParser()
    entry.add_options(parser)
    given = ["--archive", str(archive), *([] if is_real else ["--hold-out", "9"])]
    corpus = entry.load(parser.parse_args(given), tmp_path)
    out = tmp_path / "out"
    (out / "raw").mkdir(parents=True)
    raw = write_raw(corpus, None, out / "raw")
    expected = by_scikit_learn(files, tmp_path / "home")
    assert raw["classes"] == list(_SPORTS) and corpus.task.metrics == ("--report-acc-and-f1",)
    sizes = (957, 240, 796) if is_real else (31, 9, 40)
    assert tuple(raw["found"][split] for split in ("train", "valid", "test")) == sizes
    for split, parts in (("train", ("train", "valid")), ("test", ("test",))):
        ours = Counter((label, text) for part in parts for label, (text,) in rows(out, part))
        empty = sum(number for (_, text), number in expected[split].items() if not text)
        assert raw["dropped"][split]["empty"] == empty > 0
        more = expected[split] - ours
        assert ours <= expected[split]
        assert more.total() - empty == raw["dropped"][split].get("also held out", 0)
