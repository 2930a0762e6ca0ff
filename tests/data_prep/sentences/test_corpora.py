"""ANLI and reviews: from archives as their homes have them, and from the real text where it is."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from data_prep.sentences.raw import raw_rows
from tests.data_prep.sentences.made import anli, prepare, report, rounds
from tests.support.shared_data import shared
from tests.support.texts import tar

FILES = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}


def release(path: Path, files: dict[str, bytes]) -> Path:
    """PyPI's source package, with the archive in it."""
    inner = tar({f"hutto_ICWSM_2014/{FILES[name]}": text for name, text in files.items()}, "gz")
    name = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    path.write_bytes(tar({name: inner, "vaderSentiment-3.3.2/setup.py": b"raise SystemExit"}, "gz"))
    return path


def scored(count: int) -> bytes:
    scores = (2.5, -1.25, 0.1, 0.3, -0.30001)
    return "".join(f"{n}\t{scores[n % 5]}\tA text {n}, it is.\n" for n in range(count)).encode()


def test_reviews(bert: Path, tmp_path: Path) -> None:
    archive = release(tmp_path / "v.tar.gz", dict.fromkeys(FILES, scored(200)))
    out = tmp_path / "out"
    assert prepare(bert, out, "--archive", archive, corpus="reviews") == 0
    facts = report(out)
    assert facts["classes"] == ["negative", "positive"]
    assert list(facts["splits"].values()) == ["movies"] * 3 + ["amazon", "nyt", "tweets"]
    assert facts["raw"]["kept"]["test1"] == 120 and facts["labelled"] == list(facts["splits"])
    films = [text for split in ("train", "valid", "test") for _, (text,) in rows(out, split)]
    assert len(films) == len(set(films)) == 120
    for label, (text,) in rows(out, "train"):
        number = int(text.split()[2].strip(","))
        assert label == ("positive" if number % 5 == 0 else "negative") and number % 5 in (0, 1, 4)
    assert prepare(bert, out, "--archive", archive, "--scores", corpus="reviews") == 1
    again = tmp_path / "scores"  # for other data are there
    assert prepare(bert, again, "--archive", archive, "--scores", corpus="reviews") == 0
    assert report(again)["raw"]["kept"]["test1"] == 200
    scores = (again / "bin/label/test1.label").read_text().split("\n")
    assert scores[:4] == ["0.625", "-0.3125", "0.025", "0.075"]
    for split in ("train", "valid", "test"):  # a text is in the same part
        assert {text for _, (text,) in rows(out, split)} <= {t for _, (t,) in rows(again, split)}


def rows(out: Path, split: str) -> list[tuple[str, list[str]]]:
    return list(raw_rows(out / f"raw/{split}.tsv"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"1\t0.5\n", "line 201 has 2 columns; id, score and text are wanted"),
        (b"1\tgood\tA text\n", "line 201: 'good' is no score"),
        (b"1\tnan\tA text\n", "line 201: 'nan' is no score"),
    ],
)
def test_reviews_that_are_none(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes, expected: str
) -> None:
    files = dict.fromkeys(FILES, scored(200)) | {"nyt": scored(200) + line}
    archive = release(tmp_path / "v.tar.gz", files)
    assert prepare(bert, tmp_path / "out", "--archive", archive, corpus="reviews") == 1
    message = capsys.readouterr().err
    assert FILES["nyt"] in message and expected in message
    assert not (tmp_path / "out/raw").exists() and not (tmp_path / "out/report.json").exists()


def test_the_real_reviews(bert: Path, tmp_path: Path) -> None:
    folder = shared("nlu/vader_icwsm2014")
    files = {
        name: gzip.decompress((folder / f"{file}.gz").read_bytes()) for name, file in FILES.items()
    }
    archive = release(tmp_path / "v.tar.gz", files)
    out = tmp_path / "out"
    assert prepare(bert, out, "--archive", archive, corpus="reviews") == 0
    facts = report(out)["raw"]
    assert sum(facts["found"][split] for split in ("train", "valid", "test")) == 10_605
    films: Counter[str] = Counter()
    for split in ("train", "valid", "test"):
        films.update(facts["labels"][split])
    assert films == {"positive": 5_115, "negative": 5_196}  # as counted when they were collected
    assert 0.78 < facts["kept"]["train"] / films.total() < 0.82
    texts = {split: {t for _, (t,) in rows(out, split)} for split in ("train", "valid", "test")}
    assert not texts["train"] & (texts["valid"] | texts["test"])
    assert not texts["valid"] & texts["test"]


def test_anli_s_rounds(bert: Path, tmp_path: Path) -> None:
    archive = anli(tmp_path / "anli_v1.0.zip", rounds())
    out = tmp_path / "out"
    assert prepare(bert, out, "--archive", archive, corpus="anli") == 0
    facts = report(out)
    assert facts["classes"] == ["entailment", "neutral", "contradiction"]
    assert facts["splits"]["valid1"] == facts["splits"]["test1"] == "anli-r2"
    assert facts["raw"]["kept"]["train"] == 18 and facts["raw"]["kept"]["test2"] == 6
    assert rows(out, "valid2")[2] == ("contradiction", ["premise 3 dev", "line 2"])


@pytest.mark.parametrize("line", ["{", "[]", '{"context": 1, "hypothesis": "", "label": "e"}'])
def test_anli_that_is_none(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    files = rounds()
    files["R2/dev.jsonl"] += line + "\n"
    archive = anli(tmp_path / "anli_v1.0.zip", files)
    assert prepare(bert, tmp_path / "out", "--archive", archive, corpus="anli") == 1
    message = capsys.readouterr().err
    assert "R2-dev.jsonl: line 7 is no example of ANLI" in message and message.count("\n") < 5
    del files["R2/dev.jsonl"]
    archive = anli(tmp_path / "anli_v1.0.zip", files)
    assert prepare(bert, tmp_path / "other", "--archive", archive, corpus="anli") == 1
    assert "there is no R2/dev.jsonl in it" in capsys.readouterr().err


def test_the_real_dev_sets_of_anli(bert: Path, tmp_path: Path) -> None:
    files = rounds()
    for number in (1, 2, 3):
        path = shared("nlu/anli_dev") / f"r{number}_dev.jsonl.gz"
        files[f"R{number}/dev.jsonl"] = gzip.decompress(path.read_bytes()).decode("utf-8")
    archive = anli(tmp_path / "anli_v1.0.zip", files)
    assert prepare(bert, tmp_path / "out", "--archive", archive, corpus="anli") == 0
    kept = report(tmp_path / "out")["raw"]["kept"]
    assert [kept[split] for split in ("valid", "valid1", "valid2")] == [1_000, 1_000, 1_198]
