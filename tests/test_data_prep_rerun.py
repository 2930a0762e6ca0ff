"""What a second run in the same directory makes again, and what it finds there."""

from pathlib import Path

import pytest

from data_prep import pipeline
from tests.data_prep_fixtures import prepare_files, tree, without_fairseq


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
