"""Checkpoints that carry code, for all that reads checkpoints: it is refused, and not run."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import re
import subprocess
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from fairseq_adv.trainer import safe_loading
from fairseq_adv.trainer.safe_loading import CheckpointRefused
from tests.fuzzing.promises import within_seconds
from tests.support import training
from tests.support.processes import ROOT
from tests.trainer import old_fairseq
from tests.trainer.checkpoint_readers import READERS, real_state


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def payload(kind: str, mark: Path) -> Any:
    """An object that makes a file when it is unpickled."""
    return {
        "system": lambda: Runs(os.system, f"touch '{mark}'"),
        "builtin": lambda: Runs(eval, f"open({str(mark)!r}, 'w')"),
        "partial": lambda: Runs(functools.partial, os.mkdir, str(mark)),
        "method": lambda: Runs(Path.touch, mark),
        "attribute": lambda: Namespace(inside=[Runs(os.mkdir, str(mark))]),
        "configuration": lambda: DictConfig({"a": Runs(os.mkdir, str(mark))}, flags=ALLOW),
        "array": lambda: np.array([Runs(os.mkdir, str(mark))], dtype=object),
    }[kind]()


ALLOW = {"allow_objects": True}
NAMES = {
    "system": "posix.system",
    "builtin": "eval",
    "partial": "functools.partial",
    "method": "getattr",
    "array": "numpy.dtypes.ObjectDType",
}
PAYLOADS = ("system", "builtin", "partial", "method", "attribute", "configuration", "array")


def write(state: Any, path: Path, how: str) -> None:
    """Write a checkpoint as torch does, as torch before 1.6 did, or as Python does.

    The last without tensors, which Python writes as calls of functions that are not allowed either.
    """
    if how == "zip":
        torch.save(state, path)
    elif how == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        plain = {"criterion": state["criterion"], "model": {}}
        path.write_bytes(pickle.dumps(plain, protocol=int(how)))


HOW = ("zip", "legacy", "0", "2", "4")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", PAYLOADS)
def test_code_is_refused_and_not_run(tmp_path: Path, kind: str, how: str) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "ran"
    write(real_state(criterion=payload(kind, mark)), path, how)
    with pytest.raises(CheckpointRefused) as refused:
        checkpoint_utils.load_checkpoint_to_cpu(str(path))
    assert not mark.exists()
    message = str(refused.value)
    assert message.startswith(f"fairseq_adv: {path}: ") and message.count("\n") <= 1
    assert "weights_only" not in message and "add_safe_globals" not in message
    if how not in ("0", "4"):  # torch reads pickles of protocol 2
        assert (
            f"refused, for it carries code: it names {NAMES.get(kind, 'posix.mkdir')}," in message
        )
    # Were it read as pickles usually are, it would run: the test can fail.
    if kind not in ("partial", "method"):
        if how in ("zip", "legacy"):
            torch.load(path, weights_only=False)
        else:
            pickle.loads(path.read_bytes())
        assert mark.exists()


# What a pickle can do with what is allowed: call it with anything, put anything into its objects.
TEXTS = ["__import__('os').mkdir('x')", "${oc.env:HOME}", "${oc.create:{a: 1}}", "!!python/name:os"]
TEXTS += ["i4, (2,)f8", "O", "V8", "{'names': ['a'], 'formats': ['O']}", "", "\0" * 8, "numpy"]
WORDS = st.sampled_from(TEXTS) | st.text(max_size=5) | st.integers(-3, 9) | st.none()
NAMES_OF_STATE = ["_content", "_metadata", "_parent", "_flags_cache", "__class__", "__dict__"]
NAMES_OF_STATE += ["ref_type", "element_type", "flags", "dtype", "__reduce__", "__call__", "items"]


@st.composite
def built(draw: st.DrawFn, depth: int = 2) -> Any:
    """The instructions for something that a pickle makes, as a tree."""
    if depth == 0 or draw(st.booleans()):
        return draw(WORDS | st.binary(max_size=9) | st.sampled_from(ALLOWED))
    inner = built(depth - 1)
    kind = draw(st.sampled_from(["list", "tuple", "dict", "reduce", "newobj", "build"]))
    if kind == "dict":
        names = st.sampled_from(NAMES_OF_STATE)
        return kind, draw(st.dictionaries(names, inner, max_size=4))
    items = draw(st.lists(inner, max_size=3))
    return (kind, draw(st.sampled_from(ALLOWED)), items, draw(inner)) if kind in (
        "reduce", "newobj", "build"
    ) else (kind, items)  # fmt: skip


ALLOWED = [entry[0] if isinstance(entry, tuple) else entry for entry in safe_loading.allowed()]


def make(tree: Any) -> Any:
    """Do what torch does for the instructions GLOBAL, REDUCE, NEWOBJ and BUILD."""
    match tree:
        case ("list", items):
            return [make(item) for item in items]
        case ("tuple", items):
            return tuple(make(item) for item in items)
        case ("dict", entries):
            return {name: make(value) for name, value in entries.items()}
        case ("reduce", function, items, _):
            return function(*[make(item) for item in items])
        case ("newobj", cls, items, _):
            return cls.__new__(cls, *[make(item) for item in items])
        case ("build", cls, items, state):
            made = cls(*[make(item) for item in items])
            if type(made) in ALLOWED:
                if hasattr(made, "__setstate__"):
                    made.__setstate__(make(state))
                else:
                    made.__dict__.update(make(state))
            return made
    return tree


def look_at(made: Any) -> None:
    """What fairseq does with options."""
    for use in (repr, len, list, dict, lambda m: m["a"], lambda m: m.task, lambda m: m.items()):
        with contextlib.suppress(Exception):
            use(made)
    with contextlib.suppress(Exception):
        OmegaConf.to_container(OmegaConf.create({"a": made}, flags=ALLOW), resolve=True)


def test_what_is_allowed_is_harmless() -> None:
    """Nothing is executed, imported, opened or started, whatever it is called with."""
    for text in TEXTS:  # imports what is imported late
        for one in ALLOWED:
            with contextlib.suppress(Exception):
                look_at(make(("reduce", one, [text], None)))

    @settings(max_examples=1000, deadline=None, derandomize=True)
    @given(built())
    def is_harmless(tree: Any) -> None:
        with watching() as events, contextlib.suppress(Exception):
            look_at(make(tree))
        assert events == []

    is_harmless()


def test_harm_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    for harm in (
        lambda: eval("1"),
        lambda: (tmp_path / "a.txt").read_text(),
        lambda: os.system("true"),
        lambda: subprocess.run(["true"]),
    ):
        with watching() as events:
            harm()
        assert events


_watched: list[str] | None = None


def _hook(event: str, arguments: Any) -> None:
    harmful = ("exec", "open", "import", "os.", "subprocess.", "socket.", "shutil.", "ctypes.")
    if _watched is not None and event.startswith(harmful):
        if event == "exec" and arguments[0].co_name == "__create_fn__":
            return  # the standard library's own, for a dataclass
        _watched.append(f"{event} {arguments!r}")


sys.addaudithook(_hook)


@contextlib.contextmanager
def watching() -> Iterator[list[str]]:
    global _watched
    _watched = events = []
    try:
        yield events
    finally:
        _watched = None


def test_a_variable_of_the_environment_does_not_change_that(tmp_path: Path) -> None:
    """torch has one that makes it run what a file tells it to."""
    write(real_state(criterion=payload("system", tmp_path / "ran")), tmp_path / "evil.pt", "zip")
    script = (
        "import sys, fairseq_adv.tasks; from fairseq import checkpoint_utils;"
        "checkpoint_utils.load_checkpoint_to_cpu(sys.argv[1])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "evil.pt"],
        env=os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and not (tmp_path / "ran").exists()
    assert "Traceback" not in run.stderr
    assert f"fairseq_adv: {tmp_path / 'evil.pt'}: refused, for it carries code" in run.stderr


@pytest.mark.parametrize(
    ("reader", "how"),
    [
        *((reader, "zip") for reader in READERS),
        *((reader, how) for reader in ("resume", "generate", "average") for how in ("legacy", "2")),
    ],
)
def test_all_that_reads_checkpoints_refuses_code(
    old_data: Path, tmp_path: Path, reader: str, how: str
) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "ran"
    write(real_state(criterion=payload("system", mark)), path, how)
    read, error = READERS[reader]
    with pytest.raises(error) as refused:
        read(old_data, path, tmp_path)
    assert not mark.exists()
    message = str(refused.value)
    assert "refused, for it carries code: it names posix.system, which no checkpoint" in message
    assert message.count("\n") <= 1 and re.match(r"(fairseq_adv: )?/.*\.pt: ", message)


@pytest.mark.parametrize("content", [b"", b"PK", b"nonsense", b"\x80\x02", b"<html>", b"\x80\x04."])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointRefused, match=r"a\.pt: no checkpoint of fairseq, or not a whole"):
        checkpoint_utils.load_checkpoint_to_cpu(str(path))


def test_a_checkpoint_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "a.pt"))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_checkpoint_is_read_or_refused(
    tmp_path: Path, flips: list[tuple[int, int]]
) -> None:
    """With the checksums made right, so that it is the pickle that is damaged."""
    with zipfile.ZipFile(old_fairseq.checkpoint("0.12.2")) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    (name,) = (name for name in entries if name.endswith("data.pkl"))
    content = bytearray(entries[name])
    for place, value in flips:
        content[place % len(content)] = value
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as damaged:
        for entry, data in (entries | {name: bytes(content)}).items():
            damaged.writestr(entry, data)
    path = tmp_path / "damaged.pt"
    path.write_bytes(stream.getvalue())
    with within_seconds(5):
        try:
            checkpoint_utils.load_checkpoint_to_cpu(str(path))
        except CheckpointRefused as refused:
            assert str(refused).startswith(f"fairseq_adv: {path}: ")
            assert str(refused).count("\n") <= 1


def test_checkpoints_in_the_format_of_torch_before_1_6(old_data: Path, tmp_path: Path) -> None:
    for version in old_fairseq.VERSIONS:
        path = tmp_path / f"{version}.pt"
        write(torch.load(old_fairseq.checkpoint(version)), path, "legacy")
        expected = old_fairseq.translations(version, "transformer")
        found = training.translations(old_data / "bin", path, "--beam", "3", "--max-len-b", "8")
        assert found == {number: text for number, (_, text) in expected.items()}
