"""Processes that tests start: on a busy machine too, and none outlives its test.

What is waited for has `PATIENCE`; a sleep of so many seconds proves nothing. Workers meet at a
file: a port that was free a moment ago may be another's by now.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Container, Iterator
from concurrent import futures
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PATIENCE = 600.0
"""Seconds after which something is taken never to happen. torch's workers wait for 1,800."""


def rendezvous(folder: Path) -> str:
    """Where the workers of one training meet, as in `--distributed-init-method`."""
    return f"file://{folder.resolve()}/{uuid.uuid4()}"


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A port that nobody else is given meanwhile, for what takes no file.

    Whoever listens on it sets SO_REUSEADDR, as servers do, torch's among them.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("localhost", 0))
        yield holder.getsockname()[1]


_started: list[subprocess.Popen[str]] = []


def ended_with_the_test(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """One that `kill_what_is_left` kills, if nothing has ended it before."""
    _started.append(process)
    return process


def kill_what_is_left() -> None:
    """After a test, which may have failed in the midst of things."""
    while _started:
        if (process := _started.pop()).poll() is None:
            kill(process)


def start(module: str, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    """`python -m` in a process group of its own, with these variables of the environment."""
    return ended_with_the_test(
        subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    )


def kill(process: subprocess.Popen[str]) -> None:
    """At once, with what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end(*processes: subprocess.Popen[str], statuses: Container[int] = (0,)) -> list[str]:
    """Wait until all have ended, with one of these statuses; return what each had yet to say.

    As soon as one ends otherwise all are killed.
    """

    def fine() -> bool:
        return all(p.returncode is None or p.returncode in statuses for p in processes)

    with futures.ThreadPoolExecutor(len(processes)) as listeners:
        said = [listeners.submit(process.communicate) for process in processes]
        waiting, ended = set(said), set(said)
        try:
            while waiting and ended and fine():
                ended, waiting = futures.wait(waiting, PATIENCE, futures.FIRST_COMPLETED)
        finally:
            for process in processes:
                kill(process)
    heard = [one.result()[0] for one in said]
    codes = [process.returncode for process in processes]
    assert fine(), "\n".join([f"ended with {codes}", *heard])
    return heard


def wait_until(happened: Callable[[], object], *, of: subprocess.Popen[str] | None = None) -> None:
    """Wait for something, that perhaps a process does: then only as long as it is there."""
    last = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < last, "it never happened"
        if of is not None and of.poll() is not None and not happened():
            raise AssertionError(f"ended with {of.returncode}\n{of.communicate()[0]}")
        time.sleep(0.02)
