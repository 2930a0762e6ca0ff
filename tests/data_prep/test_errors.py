"""Bad input: one message, status 1, no traceback, and nothing half-written."""

import errno
import fcntl
import io
import json
import os
import sys
from pathlib import Path
from typing import TextIO

import pytest

from data_prep import pipeline
from data_prep.__main__ import main
from data_prep.support import lines
from tests.support.texts import prepare_files, tree


def _fails(texts: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The message of a run that must fail before it has made anything."""
    assert prepare_files(texts, out, *options) == 1
    message = capsys.readouterr().err
    assert message.startswith("data_prep: error: ") and message.count("\n") <= 2
    assert not out.exists()
    return message


def test_different_lengths(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "valid.en").write_text("one\ntwo\n")
    message = _fails(texts, tmp_path / "out", capsys)
    assert "valid.de has 5 lines" in message and "valid.en has 2" in message


def test_not_utf8(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "test.de").write_bytes(b"a\nb\n\xff\xfec\nd\ne\n")
    assert "test.de: line 3 is not UTF-8" in _fails(texts, tmp_path / "out", capsys)


def test_an_empty_file(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "valid.de").write_bytes(b"")
    assert "valid.de: is empty" in _fails(texts, tmp_path / "out", capsys)


def test_a_split_of_which_nothing_is_left(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (texts / "valid.de").write_text("\na b c d e f g\n \n")
    (texts / "valid.en").write_text("a\nb\nc\n")
    message = _fails(texts, tmp_path / "out", capsys, "--max-words=6")
    assert "valid: none of 3 pairs is left (2 empty, 1 too long)" in message


@pytest.mark.usefixtures("no_fairseq")
def test_what_the_terminal_cannot_show_ends_no_run_in_a_traceback(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with PYTHONIOENCODING=ascii."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert prepare_files(texts, tmp_path / "für Ø") == 0
    sys.stdout.flush()
    assert shown.getvalue().endswith(b"/f\\xfcr \\xd8/bin\n")


@pytest.mark.usefixtures("no_fairseq")
def test_a_name_that_is_no_text(texts: Path, tmp_path: Path) -> None:
    """A directory and files called by bytes that are not UTF-8."""
    out, train = (tmp_path / os.fsdecode(name) for name in (b"out\xff", b"tr\xe4in"))
    for lang in ("de", "en"):
        (texts / f"train.{lang}").rename(f"{train}.{lang}")
    assert prepare_files(texts, out, f"--train={train}") == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["inputs"]["train de"]["file"] == f"{train.name}.de"
    assert prepare_files(texts, out, f"--train={train}") == 0
    assert prepare_files(texts, out, f"--train={texts / 'valid'}") == 1


def test_a_missing_file(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "train.en").unlink()
    assert "train.en: No such file" in _fails(texts, tmp_path / "out", capsys)


def test_no_word_to_learn_from(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lang in ("de", "en"):
        (texts / f"train.{lang}").write_text("a b c\n")
    assert prepare_files(texts, tmp_path / "out") == 1
    assert "no BPE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--max-words=0"], "--max-words: '0' is not a whole number above 0"),
        (["--bpe-merges=many"], "--bpe-merges: 'many' is not a whole number above 0"),
        (["--target-lang=de"], "--source-lang and --target-lang are both de"),
        (
            ["--source-lang=pt-BR", "--target-lang=pt_BR"],
            "--source-lang and --target-lang are both pt_BR",
        ),
        (["--source-lang=../de"], "'../de' is no language code"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_options(
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    complaint: str,
) -> None:
    assert complaint in _fails(texts, tmp_path / "out", capsys, *options)


def test_no_such_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wmt99-xx-yy"]) == 1
    message = capsys.readouterr().err
    assert "wmt99-xx-yy" in message and "libreoffice-help-de-en" in message


def test_an_output_directory_that_is_not_writable(
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root, too, must be able to run this test
    message = _fails(texts, tmp_path / "out", capsys)
    assert message == f"data_prep: error: {tmp_path / 'out'}: Permission denied\n"


def test_an_output_directory_that_is_a_file(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert prepare_files(texts, tmp_path / "out") == 1
    assert f"{tmp_path / 'out'}: File exists" in capsys.readouterr().err


def test_a_directory_that_somebody_else_made(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "raw").mkdir(parents=True)
    (tmp_path / "out" / "raw" / "thesis.tex").write_text("precious")
    assert prepare_files(texts, tmp_path / "out") == 1
    assert "not made by data_prep" in capsys.readouterr().err
    assert tree(tmp_path / "out") == {"raw/thesis.tex": b"precious"}


@pytest.mark.usefixtures("no_fairseq")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("stage", ["raw", "tok", "bpe"])
def test_a_full_disk(
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    def open_on_full_disk(path: Path) -> TextIO:
        if path.parent.name.startswith(f".{stage}.") and path.name == "test.en":
            return Path("/dev/full").open("w", encoding="utf-8")  # the kernel says: no space
        return path.open("w", encoding="utf-8")

    for module in (lines, pipeline):
        monkeypatch.setattr(module, "open_for_writing", open_on_full_disk)
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == f"data_prep: error: {out / stage}: No space left on device"
    made = ["raw", "tok", "bpe"][: ["raw", "tok", "bpe"].index(stage)]
    assert sorted(p.name for p in out.glob("*")) == sorted(made) and not list(out.glob(".*"))


@pytest.mark.usefixtures("no_fairseq")
def test_a_full_disk_keeps_the_former_result(
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    before = tree(out)

    def no_room(path: Path) -> TextIO:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(lines, "open_for_writing", no_room)
        assert prepare_files(texts, out, "--train-pairs=10") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert tree(out) == before


def test_two_runs_at_once(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    descriptor = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert prepare_files(texts, out) == 1
    finally:
        os.close(descriptor)
    assert "another data_prep is at work" in capsys.readouterr().err


def test_fairseqs_failure_is_shown(
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'RuntimeError: no room for the dictionary' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 1
    assert "RuntimeError: no room for the dictionary" in capsys.readouterr().err
    assert not (out / "bin").exists() and not list(out.glob(".*")) and (out / "bpe").exists()
