"""Bad data of every corpus kind: repaired or dropped, counted, and told about at the end."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.support import parallel
from data_prep.support.errors import DataPrepError
from tests.data_prep.corpora.test_iwslt import packed, prepare, release
from tests.support.processes import ROOT
from tests.support.texts import prepare_files, tree

LONG = " ".join(f"Wort{number % 7}" for number in range(10_000))


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return content


def replace_line(path: Path, number: int, line: str) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[number] = line
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.usefixtures("no_fairseq")
def test_files_with_lines_of_10000_words(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "valid", "test"):
        replace_line(texts / f"{split}.de", 3, LONG)
    assert prepare_files(texts, tmp_path / "kept") == 0
    facts = report(tmp_path / "kept")
    assert facts["raw"]["kept"] == {"train": 30, "valid": 5, "test": 5}
    assert facts["bpe"]["overlong lines"] == {
        split: {"de": 1, "en": 0} for split in ("train", "valid", "test")
    }
    shown = capsys.readouterr().out
    for split, verb in (("train", "leaves them out"), ("valid", "stops"), ("test", "stops")):
        assert f"{split}: 1 lines of more than 1,023 BPE tokens: fairseq's transformer {verb}" in (
            shown
        )
    assert prepare_files(texts, tmp_path / "dropped", "--max-words=100") == 0
    facts = report(tmp_path / "dropped")
    assert facts["raw"]["dropped"] == {
        split: {"too long": 1} for split in ("train", "valid", "test")
    }
    assert "lines of more than" not in capsys.readouterr().out


@pytest.mark.usefixtures("no_fairseq")
def test_1023_subwords_are_not_too_many(texts: Path, tmp_path: Path) -> None:
    """One for each word, once BPE has learnt it: fairseq's 1,024th is the sentence's end."""
    replace_line(texts / "train.de", 3, " ".join(["ja"] * 1023))
    replace_line(texts / "train.de", 4, " ".join(["ja"] * 1024))
    assert prepare_files(texts, tmp_path / "out") == 0
    assert (tmp_path / "out/bpe/train.de").read_text().split("\n")[3].count(" ") == 1022
    assert report(tmp_path / "out")["bpe"]["overlong lines"]["train"] == {"de": 1, "en": 0}


@pytest.mark.usefixtures("no_fairseq")
def test_a_release_with_lines_of_10000_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beyond the reference's limits in train; in a test set they stay, as in the reference."""
    files = release()
    for lang in ("de", "en"):
        name = f"train.tags.de-en.{lang}"
        files[name] = files[name].replace(" 77.\n", f" {LONG}\n")
    name = "IWSLT14.TED.tst2011.de-en.de.xml"
    files[name] = files[name].replace(" 1.2 </seg>", f" {LONG} </seg>")
    assert prepare(packed(tmp_path, files), tmp_path / "out") == 0
    facts = report(tmp_path / "out")
    assert facts["raw"]["dropped"]["train"] == {"too long": 1, "of unequal length": 1}
    assert facts["raw"]["kept"]["test"] == 40
    assert facts["bpe"]["overlong lines"]["test"] == {"de": 1, "en": 0}
    assert "test: 1 lines of more than 1,023 BPE tokens" in capsys.readouterr().out


@pytest.mark.usefixtures("no_fairseq")
def test_carriage_returns_and_control_characters_of_files(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = prepare_files(texts, tmp_path / "clean")
    dos = (texts / "train.de").read_text(encoding="utf-8").replace("\n", "\r\n")
    (texts / "train.de").write_bytes(dos.replace("Haus", "Ha\x07us").encode())
    assert prepare_files(texts, tmp_path / "dos") == clean == 0
    assert report(tmp_path / "dos")["raw"]["repaired lines"] == {
        "control characters": 10,
        "line separators": 30,
    }
    shown = capsys.readouterr().out
    assert "repaired: line separators in 30 lines" in shown
    assert "repaired: control characters in 10 lines" in shown
    assert (tmp_path / "dos/raw/train.de").read_bytes() == (
        tmp_path / "clean/raw/train.de"
    ).read_bytes()


@pytest.mark.usefixtures("no_fairseq")
def test_carriage_returns_and_control_characters_of_a_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Moses takes out of a line is not in raw either; what it leaves stays."""
    files = release()
    assert prepare(packed(tmp_path, files), tmp_path / "clean") == 0
    files = {name: text.replace("\n", "\r\n") for name, text in files.items()}
    name = "IWSLT14.TED.tst2011.de-en.de.xml"
    files[name] = files[name].replace("Haus ist", "Ha\x07us\u2028ist", 3)
    assert prepare(packed(tmp_path, files), tmp_path / "out") == 0
    for stage in ("raw", "tok"):
        ours, theirs = tree(tmp_path / "out" / stage), tree(tmp_path / "clean" / stage)
        assert {name: ours[name] for name in ours if name != "stage.json"} == {
            name: theirs[name] for name in theirs if name != "stage.json"
        }
    # 200 lines of train end in a carriage return; segments end where their tag does.
    assert report(tmp_path / "out")["raw"]["repaired lines"] == {
        "control characters": 3,
        "line separators": 203,
    }
    assert "repaired: line separators in 203 lines" in capsys.readouterr().out


def test_an_archive_in_an_archive_that_is_cut_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = packed(tmp_path, release()).read_bytes()[:-200]
    outer = tmp_path / "2014-01.tgz"
    with tarfile.open(outer, "w:gz") as archive:
        header = tarfile.TarInfo("2014-01/texts/de/en/de-en.tgz")
        header.size = len(content)
        archive.addfile(header, io.BytesIO(content))
    assert prepare(outer, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert f"{outer}, de-en.tgz in it: is cut short or damaged" in said
    assert not (tmp_path / "out").exists()


def test_multi30ks_compressed_file_that_is_cut_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = []
    for name in ("train", "val", "test_2016_flickr"):
        for lang in ("de", "en"):
            copies.append(tmp_path / f"{name}.{lang}.gz")
            copies[-1].write_bytes(gzip.compress(b"Ein Satz.\n" * 500))
    copies[2].write_bytes(copies[2].read_bytes()[:-9])
    options = [word for copy in copies for word in ("--archive", str(copy))]
    assert main(["multi30k-en-de", *options, f"--out={tmp_path / 'out'}"]) == 1
    assert f"{copies[2]}: is cut short or damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Kills itself, as the system would, when a file of the stage has been written half.
KILLED = """
import os, signal, sys
from pathlib import Path
from data_prep import pipeline
from tests.support.texts import prepare_files
stage = sys.argv[3]
progress = pipeline.progress
def half(lines, what, *rest):
    for number, line in enumerate(progress(lines, what, *rest)):
        if what == f"{stage}: train.en" and number == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        yield line
pipeline.progress = half
pipeline.binarize = lambda *_, **__: {"dictionary": {"de": 0, "en": 0}}
sys.exit(prepare_files(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.parametrize("stage", ["tok", "bpe"])
def test_a_killed_run_is_continued(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, no_fairseq: None
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(texts), str(out), stage]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / stage).exists() and not (out / "report.json").exists()
    assert list(out.glob(f".{stage}.*.tmp/train.en"))  # half a file, under another name
    assert prepare_files(texts, out) == 0
    assert "raw: already there" in capsys.readouterr().err
    assert not list(out.glob(".*"))
    assert prepare_files(texts, tmp_path / "fresh") == 0
    assert tree(out) == tree(tmp_path / "fresh")


def test_a_worker_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_CHUNK", 1)
    with (
        pytest.raises(DataPrepError, match=r"a worker process was killed.* fewer --workers"),
        parallel.LineMapper(2) as mapper,
    ):
        list(mapper.map(_die, map(str, range(20))))


def _die(lines: list[str]) -> list[str]:
    if lines == ["5"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return lines
