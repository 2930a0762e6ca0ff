"""Multi30k, from copies of its files."""

import gzip
from pathlib import Path

import pytest

from data_prep.__main__ import main
from tests.support.shared_data import multi30k_archives

NAMES = [f"{set_}.{lang}" for set_ in ("train", "val", "test_2016_flickr") for lang in ("de", "en")]


def prepare(archives: Path, out: Path) -> int:
    copies = [f"--archive={archives / name}.gz" for name in NAMES]
    return main(["multi30k-en-de", *copies, f"--out={out}", "--bpe-merges=50", "--workers=1"])


@pytest.mark.usefixtures("no_fairseq")
def test_all_files_find_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        text = "".join(f"Ein {name} {number}.\n" for number in range(5))
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    assert prepare(tmp_path, tmp_path / "out") == 0
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test_2016_flickr")):
        for lang in ("de", "en"):
            text = (tmp_path / f"out/raw/{split}.{lang}").read_text(encoding="utf-8")
            assert text.startswith(f"Ein {name}.{lang} 0.\n")
    assert "train.de.gz: it has " in capsys.readouterr().err  # not the real one


def test_a_copy_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["multi30k-en-de", "--archive=my.tgz", f"--out={out}"]) == 1
    said = capsys.readouterr().err
    assert "--archive my.tgz: not one of this corpus' archives: train.de.gz, train.en.gz" in said


@pytest.mark.usefixtures("no_fairseq")
def test_the_real_text(tmp_path: Path) -> None:
    multi30k_archives(tmp_path)
    assert prepare(tmp_path, tmp_path / "out") == 0
    kept = [
        len((tmp_path / f"out/raw/{split}.en").read_text(encoding="utf-8").split("\n")) - 1
        for split in ("train", "valid", "test")
    ]
    assert kept == [29_000, 1_014, 1_000]
