"""Stages that are written whole or not at all, and made again only when something changed.

A stage is a directory with a ``stage.json``: a digest of all that decides the content (options,
tool versions, inputs), what the stage counted, and a digest per file. It is built under a temporary
name and renamed, so a directory with the final name is always complete.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.support.errors import DataPrepError
from data_prep.support.printing import printable

STAMP = "stage.json"
REPORT = "report.json"
"""Of all stages of a pipeline, beside them."""


@dataclass(frozen=True)
class Stage:
    """A finished stage: where it is, what it counted, and the sha256 of each of its files."""

    path: Path
    facts: dict[str, Any]
    files: dict[str, str]
    reused: bool


def say(message: str) -> None:
    """Tell the user what is going on."""
    print(message, file=sys.stderr, flush=True)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's content."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Return a hexadecimal digest of a file's content, by an algorithm of hashlib."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def run_stage(
    path: Path,
    key: Mapping[str, Any],
    build: Callable[[Path], dict[str, Any]],
    origin: str | None = None,
    shown: Path | None = None,
) -> Stage:
    """Return the stage at ``path``, built anew unless it is there, intact, with the same ``key``.

    ``build`` fills the directory that it is given and returns what it counted; ``key`` and that
    must survive JSON. ``origin`` says what the stage is made of, to people: what has another one
    is not replaced; it is called ``shown``, which is the directory around it unless it is given.
    Raises DataPrepError then, and where something stands that is no stage.
    """
    key_digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    found = _load(path)
    if found is not None and found["key"] == key_digest and _intact(path, found["files"]):
        say(f"{path.name}: already there")
        return Stage(path, found["facts"], found["files"], reused=True)
    if path.exists() and not (path / STAMP).exists():
        raise DataPrepError(f"{path}: not made by data_prep, so it stays; move it away")
    if found is not None and origin != (other := found.get("origin", origin)):
        raise DataPrepError(
            f"{shown or path.parent}: holds data of {other}, which those of {origin} would"
            " replace:\nchoose another directory (--out), or remove this one"
        )
    for remains in path.parent.glob(f".{path.name}.*.tmp"):  # of a run that was killed
        shutil.rmtree(remains, ignore_errors=True)
    # A process of that run may still be writing, so the name is a new one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        facts = build(temporary)
        files = {
            str(file.relative_to(temporary)): sha256_of(file)
            for file in sorted(temporary.rglob("*"))
            if file.is_file()
        }
        stamp = {"key": key_digest, "facts": facts, "files": files, "origin": origin}
        (temporary / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        _replace(temporary, path)
    except OSError as error:  # a full disk names no file
        reason = error.strerror or error
        raise DataPrepError(f"{error.filename or path}: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Stage(path, facts, files, reused=False)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        stamp = json.loads((path / STAMP).read_text(encoding="utf-8"))
        return stamp if {"key", "facts", "files"} <= stamp.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _intact(path: Path, files: Mapping[str, str]) -> bool:
    return all(
        (path / name).is_file() and sha256_of(path / name) == digest
        for name, digest in files.items()
    )


def run_stage_of(
    out: Path,
    stages: Sequence[str],
    name: str,
    key: Mapping[str, Any],
    build: Callable[[Path], dict[str, Any]],
    origin: str | None = None,
) -> Stage:
    """Return a stage of a pipeline in ``out``; see `run_stage`. If it is new, later ones are gone.

    So is the report: what was made from the former content would not belong to the new one.
    """
    began = time.monotonic()
    stage = run_stage(out / name, key, build, origin)
    if not stage.reused:
        say(f"{name}: made in {time.monotonic() - began:.1f} s")
        for later in stages[stages.index(name) + 1 :]:
            if (out / later / STAMP).exists():
                shutil.rmtree(out / later)
        (out / REPORT).unlink(missing_ok=True)
    return stage


def write_report(out: Path, report: Mapping[str, Any]) -> None:
    """Write the report of a pipeline in ``out``, whole or not at all."""
    temporary = out / f".{REPORT}.tmp"
    try:
        noted = printable(json.dumps(report, indent=2, ensure_ascii=False))
        temporary.write_text(noted + "\n", "utf-8")
        temporary.replace(out / REPORT)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Put ``temporary`` in the place of ``path``; a directory cannot be renamed over another."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    temporary.rename(path)
    shutil.rmtree(old, ignore_errors=True)
