"""Checkpoints and faults, one by one; whole trainings that are killed are in `test_faults.py`."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from fairseq_adv.trainer import checkpoints
from tests.support import training
from tests.support.processes import ROOT


def run(data: Path, save_dir: Path, *more: str, before: object = None) -> tuple[int, str]:
    """fairseq-train in a process of its own: its exit status, and what it said."""
    result = subprocess.run(
        [sys.executable, "-m", "fairseq_cli.train", *training.arguments(data, save_dir, *more)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=before,  # type: ignore[arg-type]
    )
    return result.returncode, result.stderr.strip()


def updates(path: Path) -> int:
    return int(torch.load(path)["optimizer_history"][-1]["num_updates"])


@pytest.fixture
def trained(toy_data: Path, tmp_path: Path) -> Path:
    """A training of four updates that saved every second one, and only the last checkpoint."""
    options = ("--save-interval-updates", "2", "--keep-interval-updates", "1")
    training.run_training(toy_data, tmp_path, *options, "--disable-validation")
    for path in tmp_path.glob("checkpoint_?_*.pt"):
        path.unlink()
    return tmp_path


def test_the_checkpoint_before_the_last_one_stays(trained: Path) -> None:
    found = {path.name: updates(path) for path in trained.glob("*.pt*")}
    assert found == {"checkpoint_last.pt": 4, "checkpoint_previous.pt": 2}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lose_a_block(path: Path) -> None:
    """As a file system may after a power failure: zeros where data were."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 512] = bytes(512)
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, empty, lose_a_block])
def test_a_damaged_checkpoint_is_passed_over(
    harm: object, toy_data: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = training.parameters(trained)
    last = trained / "checkpoint_last.pt"
    harm(last)  # type: ignore[operator]
    assert checkpoints.damage(last) is not None
    training.run_training(toy_data, trained, "--disable-validation")
    (message,) = (r.getMessage() for r in caplog.records if r.levelno == logging.ERROR)
    assert message.startswith(f"{last}: ")
    assert message.endswith(f"goes on from {trained}/checkpoint_previous.pt")
    assert (trained / "checkpoint_last.pt.damaged").exists()
    again = training.parameters(trained)
    assert all(torch.equal(again[name], parameter) for name, parameter in whole.items())


def test_without_a_whole_checkpoint_a_training_does_not_begin_anew(
    toy_data: Path, trained: Path
) -> None:
    """That would overwrite what may still be rescued."""
    for path in trained.glob("checkpoint*.pt"):
        cut(path)
    with pytest.raises(SystemExit, match=r"checkpoint_last.pt: it is cut short, .*remove it"):
        training.run_training(toy_data, trained)


def test_whole_checkpoints_count_as_whole(trained: Path, tmp_path: Path) -> None:
    last = trained / "checkpoint_last.pt"
    assert checkpoints.damage(last) is None
    torch.save(torch.load(last), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert checkpoints.damage(tmp_path / "old.pt") is None


def test_a_failed_attempt_to_write_is_made_again_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fairseq would go on writing behind the beginnings of the first attempt."""
    monkeypatch.setattr(checkpoints, "_PAUSE", 0)
    attempts = []
    save = torch.save

    def failing(obj: object, file: object) -> None:
        attempts.append(obj)
        if len(attempts) < 3:
            file.write(b"the beginnings of it")  # type: ignore[attr-defined]
            raise OSError(5, "Input/output error")
        save(obj, file)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "save", failing)
    checkpoint_utils.torch_persistent_save({"a": torch.ones(3)}, str(tmp_path / "c.pt"))
    assert len(attempts) == 3
    assert torch.equal(torch.load(tmp_path / "c.pt")["a"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_copy_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_PAUSE", 0)
    (tmp_path / "a.pt").write_bytes(b"new" * 1000)
    (tmp_path / "b.pt").write_bytes(b"old")
    with monkeypatch.context() as patches:
        patches.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(
            SystemExit, match=r"b.pt: the checkpoint could not be written .*No space"
        ):
            PathManager.copy(str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), overwrite=True)
    assert (tmp_path / "b.pt").read_bytes() == b"old"
    PathManager.copy(str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), overwrite=True)
    assert (tmp_path / "b.pt").read_bytes() == b"new" * 1000
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_leaves_the_older_checkpoint(toy_data: Path, trained: Path) -> None:
    """No file may grow beyond 8 KiB: to the process, as if the disk were full."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    status, said = run(toy_data, trained, "--max-update", "6", "--disable-validation", before=limit)
    message = said.splitlines()[-1]
    assert status == 1 and "Traceback" not in said
    assert message.startswith(f"fairseq_adv: {trained}/checkpoint_last.pt: the checkpoint could")
    assert "make room, and start the same command again" in message
    assert updates(trained / "checkpoint_last.pt") == 4
    assert not list(trained.glob("*.tmp"))
    training.run_training(toy_data, trained, "--max-update", "6", "--disable-validation")
    assert updates(trained / "checkpoint_last.pt") == 6


def test_a_directory_that_cannot_be_written_to_is_refused_before_training(
    toy_data: Path, tmp_path: Path
) -> None:
    """Not by its permissions, which mean nothing to root: where a file is in the way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as refused:
        training.run_training(toy_data, tmp_path / "file" / "checkpoints")
    message = str(refused.value)
    assert "--save-dir" in message and "Not a directory" in message and "\n" not in message


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    program = """
import os, sys
from fairseq import checkpoint_utils
import fairseq_adv.tasks
os.setuid(65534)
checkpoint_utils.verify_checkpoint_directory(sys.argv[1])
"""
    (tmp_path / "mine").mkdir(mode=0o700)
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "mine")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    message = result.stderr.splitlines()[-1]
    assert result.returncode == 1 and "Permission denied" in message and "--save-dir" in message


def test_a_second_training_in_one_directory_is_refused(toy_data: Path, tmp_path: Path) -> None:
    training.run_training(toy_data, tmp_path)
    checkpoints._claim(tmp_path)  # as at the beginning of a training, in this process
    status, said = run(toy_data, tmp_path, "--max-update", "9")
    message = said.splitlines()[-1]
    assert status == 1 and f"process {os.getpid()} on " in message and str(tmp_path) in message
    assert updates(tmp_path / "checkpoint_last.pt") == 4
    training.run_training(toy_data, tmp_path, "--max-update", "6")  # but that one may go on
    assert updates(tmp_path / "checkpoint_last.pt") == 6


CLAIM = """
import os, sys
from fairseq import checkpoint_utils
import fairseq_adv
from pathlib import Path
os.setuid(65534)
checkpoint_utils.verify_checkpoint_directory(sys.argv[1])
checkpoint_utils.torch_persistent_save({"a": 2}, sys.argv[1] + "/checkpoint_last.pt")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("in_use", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_directory_is_shared_with_another_user(in_use: bool) -> None:
    """Who may write there goes on with what the other one has left, unless that still trains."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own are for one user
        directory = Path(name)
        directory.chmod(0o777)
        with training.in_its_own_process():
            checkpoints._claim(directory)
            if not in_use:
                checkpoints._claims.pop(directory.resolve() / ".training").close()
            torch.save({"a": 1}, directory / "checkpoint_last.pt")
            (directory / "checkpoint_last.pt.tmp").write_text("of one that was killed")
            for path in directory.iterdir():
                path.chmod(0o644)
            result = subprocess.run(
                [sys.executable, "-c", CLAIM, name],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
        if in_use:
            assert result.returncode == 1
            assert (
                f"another training writes its checkpoints there (process {os.getpid()} on"
                in result.stderr.splitlines()[-1]
            )
        else:
            assert result.returncode == 0, result.stderr
            assert torch.load(directory / "checkpoint_last.pt") == {"a": 2}
            assert (directory / ".training").stat().st_uid == 65534


def test_what_is_not_a_file_here_is_left_to_fairseq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PathManager, "supports_rename", staticmethod(lambda path: False))
    monkeypatch.setattr(checkpoints, "_replace", None)
    checkpoint_utils.torch_persistent_save({"a": 1}, str(tmp_path / "a.pt"))
    PathManager.copy(str(tmp_path / "a.pt"), str(tmp_path / "b.pt"))
    assert torch.load(tmp_path / "b.pt") == {"a": 1}
