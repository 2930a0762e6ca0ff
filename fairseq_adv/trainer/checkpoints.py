"""Checkpoints that survive faults: a kill at any moment, a full disk, a second training.

fairseq writes `checkpoint_last.pt` by copying another checkpoint over it, writes on into a file
whose writing failed, and keeps one file to go on from. Here every checkpoint is written under
another name, brought to the disk and renamed; the one before it stays as `checkpoint_previous.pt`;
and one that is damaged all the same is noticed, and passed over. What is not a file of this machine
(s3://...) is left to fairseq. Tests: tests/trainer/test_checkpoints.py and, with processes that are
killed, tests/trainer/test_faults.py.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import shutil
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
_PAUSE = 2.5
"""Attempts to write a checkpoint, and seconds between them: fairseq's, for file servers."""


class CheckpointNotWritten(SystemExit):
    """A checkpoint that could not be written; the message is for the user."""


def write_checkpoints_whole() -> None:
    """Write checkpoints, and copies of them, so that each is there as a whole or not at all."""

    save_elsewhere, copy_elsewhere = checkpoint_utils.torch_persistent_save, PathManager.copy

    def save(obj: Any, filename: str, async_write: bool = False) -> None:
        if async_write or _is_elsewhere(filename):
            return save_elsewhere(obj, filename, async_write)
        return _replace(Path(filename), lambda file: torch.save(obj, file))

    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if _is_elsewhere(src_path) or _is_elsewhere(dst_path):
            return copy_elsewhere(src_path, dst_path, overwrite=overwrite)
        with open(src_path, "rb") as source:

            def write(file: IO[bytes]) -> None:
                source.seek(0)
                shutil.copyfileobj(source, file, 1 << 24)

            _replace(Path(dst_path), write)
        return dst_path

    checkpoint_utils.torch_persistent_save = save
    PathManager.copy = staticmethod(copy)


def go_on_from_an_undamaged_checkpoint() -> None:
    """Resume from the newest checkpoint that is whole."""
    load_checkpoint = checkpoint_utils.load_checkpoint

    @functools.wraps(load_checkpoint)
    def from_a_whole_one(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        chosen = cfg.restore_file != "checkpoint_last.pt"  # by the user
        if not chosen and not _is_elsewhere(cfg.save_dir):
            if trainer.is_data_parallel_master:
                pass_over_damage(Path(cfg.save_dir), trainer.checkpoint_suffix)
            if trainer.data_parallel_world_size > 1:
                torch.distributed.barrier()
        return load_checkpoint(cfg, trainer, **kwargs)

    checkpoint_utils.load_checkpoint = from_a_whole_one


def claim_the_directory() -> None:
    """Refuse, before training, a --save-dir that cannot be written to or that is in use."""
    verify = checkpoint_utils.verify_checkpoint_directory

    @functools.wraps(verify)
    def claiming(save_dir: str) -> None:
        try:
            verify(save_dir)
        except OSError as error:
            raise SystemExit(
                f"fairseq_adv: --save-dir {save_dir}: no checkpoint can be written there "
                f"({error.strerror}): choose another, or make it writable"
            ) from None
        if not _is_elsewhere(save_dir):
            _claim(Path(save_dir))

    checkpoint_utils.verify_checkpoint_directory = claiming


PATCHES = (write_checkpoints_whole, go_on_from_an_undamaged_checkpoint, claim_the_directory)


def _is_elsewhere(path: str) -> bool:
    return not PathManager.supports_rename(path)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's file; None if it is whole.

    A checkpoint is a zip archive with a checksum for each tensor. One of before torch 1.6 is not;
    it counts as whole.
    """
    with path.open("rb") as file:
        start = file.read(2)
        if start == b"\x80\x02":
            return None
        if not zipfile.is_zipfile(file):
            return "it is cut short" if start == b"PK" else "it is no checkpoint"
        try:
            with zipfile.ZipFile(file) as archive:
                wrong = archive.testzip()
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            return str(error)
    return wrong and f"the checksum of {wrong} in it is wrong"


def pass_over_damage(directory: Path, suffix: str = "") -> None:
    """Put the newest whole checkpoint in the place of a damaged `checkpoint_last.pt`.

    The damaged file is kept beside it. Exits if there is no whole one.
    """
    last = directory / f"checkpoint_last{suffix}.pt"
    if not last.exists() or (wrong := damage(last)) is None:
        return
    others = [p for p in directory.glob(f"checkpoint*{suffix}.pt") if p != last]
    others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    whole = next((path for path in others if damage(path) is None), None)
    if whole is None:
        raise SystemExit(
            f"fairseq_adv: {last}: {wrong}, and there is no whole checkpoint beside it: remove it "
            "to begin anew"
        )
    logger.error(f"{last}: {wrong}; it is renamed, and the training goes on from {whole}")
    os.replace(last, last.with_name(f"{last.name}.damaged"))
    PathManager.copy(str(whole), str(last))


def _replace(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file under another name, bring it to the disk, and give it its name."""
    temporary = path.with_name(f"{path.name}.tmp")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            temporary.unlink(missing_ok=True)  # a killed training's, or another user's
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            break
        except (OSError, RuntimeError) as error:  # torch makes the latter of the former
            temporary.unlink(missing_ok=True)
            logger.warning(f"{path}: attempt {attempt} to write it failed: {error}")
            if attempt == _ATTEMPTS:
                raise CheckpointNotWritten(_not_written(path, error)) from None
        time.sleep(_PAUSE)
    if path.name.startswith("checkpoint_last") and path.exists():
        _keep_as_previous(path)
    os.replace(temporary, path)


def _not_written(path: Path, error: Exception) -> str:
    free = shutil.disk_usage(path.parent).free / 2**20
    kept = f"{path.name} of before is kept" if path.exists() else "earlier ones are kept"
    return (
        f"fairseq_adv: {path}: the checkpoint could not be written ({str(error).splitlines()[0]}; "
        f"{free:,.0f} MiB are free); {kept}: make room, and start the same command again"
    )


def _keep_as_previous(path: Path) -> None:
    previous = path.with_name(path.name.replace("last", "previous", 1))
    link = path.with_name(f"{previous.name}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)  # so that there is a last one at each moment
    except OSError:  # a file system without links
        shutil.copyfile(path, link)
    os.replace(link, previous)


_claims: dict[Path, IO[str]] = {}
"""Files that this process holds a lock on. The system gives it back when the process ends."""


def _claim(directory: Path) -> None:
    path = directory.resolve() / ".training"
    if path in _claims:
        return
    try:
        file = _lock_file(path)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(
            f"fairseq_adv: --save-dir {directory}: another training writes its checkpoints there "
            f"({path.read_text('utf-8').strip()}): choose another, or wait for its end"
        ) from None
    except OSError as error:  # a file system without locks
        logger.warning(f"{directory}: cannot be locked against a second training ({error})")
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _claims[path] = file


def _lock_file(path: Path) -> IO[str]:
    """Open the file that is locked, for writing; replace one that another user has left behind.

    Raises BlockingIOError if that user's training still holds it.
    """
    try:
        return path.open("a+", encoding="utf-8")
    except PermissionError:
        with path.open(encoding="utf-8") as theirs:
            fcntl.lockf(theirs, fcntl.LOCK_SH | fcntl.LOCK_NB)
        path.unlink()
        return path.open("a+", encoding="utf-8")
