"""What a second run in the same directory makes again, and what it finds there."""

import shutil
from pathlib import Path

import pytest

from data_prep import pipeline
from data_prep.__main__ import main
from data_prep.sources.download import Archive
from data_prep.sources.release import unpacked
from data_prep.support.errors import DataPrepError
from tests.support.texts import help_deb, help_page, prepare_files, tar, tree, without_fairseq


@pytest.fixture(autouse=True)
def _no_fairseq(monkeypatch: pytest.MonkeyPatch) -> None:
    without_fairseq(monkeypatch)


def _rerun(texts: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """The stages that were reused."""
    capsys.readouterr()
    assert prepare_files(texts, out, *options) == 0
    said = capsys.readouterr().err.splitlines()
    return [line.split(":")[0] for line in said if line.endswith("already there")]


def test_nothing_changed(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    before = tree(out)
    assert _rerun(texts, out, capsys) == ["raw", "tok", "bpe", "bin"]
    assert _rerun(texts, out, capsys, "--workers=2") == ["raw", "tok", "bpe", "bin"]
    assert tree(out) == before


def test_an_option_of_a_later_stage(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare_files(texts, tmp_path / "out") == 0
    assert _rerun(texts, tmp_path / "out", capsys, "--bpe-merges=20") == ["raw", "tok"]
    assert len((tmp_path / "out/bpe/codes").read_text(encoding="utf-8").splitlines()) == 21


def test_an_option_or_an_input_of_the_first(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    assert _rerun(texts, out, capsys, "--train-pairs=10") == []
    with (texts / "test.de").open("a") as de, (texts / "test.en").open("a") as en:
        de.write("Neu.\n")
        en.write("New.\n")
    assert _rerun(texts, out, capsys, "--train-pairs=10") == []
    assert prepare_files(texts, tmp_path / "fresh", "--train-pairs=10") == 0
    assert tree(out) == tree(tmp_path / "fresh")


def copied(texts: Path, directory: Path) -> Path:
    shutil.copytree(texts, directory)
    for lang in ("de", "en"):
        with (directory / f"train.{lang}").open("a", encoding="utf-8") as stream:
            stream.write("Neu.\n")
    return directory


@pytest.mark.parametrize("out", [None, "out"])
def test_another_text_does_not_take_the_place_of_what_is_there(
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: str | None,
) -> None:
    """With --out and without; a training that begins meanwhile would read another corpus."""
    monkeypatch.chdir(tmp_path)
    options = ["--source-lang=de", "--target-lang=en", "--bpe-merges=50", "--workers=1"]
    options += [f"--out={out}"] if out else []
    other = copied(texts, tmp_path / "other")

    def prepare(folder: Path, *more: str) -> int:
        return main(["files", f"--train={folder / 'train'}", *options, *more])

    assert prepare(texts) == 0
    before = tree(tmp_path / (out or "data/files"))
    capsys.readouterr()
    assert prepare(other) == 1
    said = capsys.readouterr().err
    assert f"{out or 'data/files'}: holds data of files {texts}/train.de" in said
    assert f"those of files {other}/train.de {other}/train.en would replace" in said
    assert said.endswith("choose another directory (--out), or remove this one\n")
    assert tree(tmp_path / (out or "data/files")) == before
    assert prepare(other, "--out=fresh") == 0
    assert prepare(texts, f"--valid={other / 'valid'}") == 0  # the same text, another valid set


def test_nor_does_another_corpus_or_direction(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    before = tree(out)
    assert prepare_files(texts, out, "--source-lang=en", "--target-lang=de") == 1
    package = tmp_path / "help.deb"
    page = help_page([("id1", "Das ist ein Wort und ein Satz.")])
    package.write_bytes(help_deb("de", {f"{i}.html": page for i in range(99)}))
    assert main(["libreoffice-help-de-en", f"--archive={package}", f"--out={out}"]) == 1
    assert f"holds data of files {texts}/train.de" in capsys.readouterr().err
    assert tree(out) == before


def test_nor_does_another_archive(tmp_path: Path) -> None:
    """It has not even been unpacked there."""
    names = {"one.tgz": "a.txt", "two.tgz": "b.txt"}
    for archive, name in names.items():
        (tmp_path / archive).write_bytes(tar({name: b"text\n"}, "gz"))

    def unpack(archive: str) -> Path:
        contents = {Archive(archive, ("http://nowhere",)): [names[archive]]}
        return unpacked(contents, [tmp_path / archive], tmp_path / "out")

    assert (unpack("one.tgz") / "a.txt").read_bytes() == b"text\n"
    with pytest.raises(DataPrepError, match=r"out: holds data of one\.tgz, .* of two\.tgz would"):
        unpack("two.tgz")
    assert (unpack("one.tgz") / "a.txt").exists()


def test_a_text_that_has_moved_is_the_same(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    moved = texts.rename(tmp_path / "moved")
    assert _rerun(moved, out, capsys) == ["raw", "tok", "bpe", "bin"]


def test_a_damaged_or_missing_file(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    before = tree(out)
    (out / "bpe" / "train.de").write_text("somebody edited this\n")
    assert _rerun(texts, out, capsys) == ["raw", "tok"]
    (out / "tok" / "stage.json").write_text("{")
    assert _rerun(texts, out, capsys) == ["raw"]
    (out / "bin" / "dict.txt").unlink()
    assert _rerun(texts, out, capsys) == ["raw", "tok", "bpe"]
    assert tree(out) == before


def test_what_a_killed_run_left(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / ".tok.123.tmp").mkdir(parents=True)
    (out / ".tok.123.tmp" / "train.de").write_text("half a li")
    assert _rerun(texts, out, capsys) == []
    assert not list(out.glob(".*"))


def test_interrupted_and_run_again(
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "tokenizer", interrupt)
        assert prepare_files(texts, out) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["raw"]
    assert _rerun(texts, out, capsys) == ["raw"]
