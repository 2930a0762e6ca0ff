"""What a promise is, of a reader of foreign bytes, and what is asked of all of them.

A promise takes any bytes and reads them: either the result has the documented shape, or there is
the documented error, which names what was read. Anything else raises.

The first byte of an input says how the rest is packed, so that a fuzzer gets past checksums and
compression: it changes what is inside of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reader:
    """A reader of foreign bytes.

    :param promise: reads an input, in an empty directory; raises if the promise is broken.
    :param seeds: valid inputs.
    """

    promise: Callable[[bytes, Path], None]
    seeds: Callable[[], list[bytes]]


class BrokenPromise(AssertionError):
    """A reader did what it should not."""


def expect(kept: bool, what: str) -> None:
    if not kept:
        raise BrokenPromise(what)


def is_for_the_user(error: Exception, named: Collection[str]) -> None:
    """It is one or two short lines and names what is wrong."""
    text = str(error)
    expect(text.count("\n") <= 1, f"an error of many lines: {text!r}")
    expect(not named or any(name in text for name in named), f"an error of what? {text!r}")


def only(directory: Path, allowed: Collection[str]) -> None:
    """Nothing else is in the directory, and nothing but files and folders."""
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*")}
    expect(found.keys() <= set(allowed), f"written: {sorted(found.keys() - set(allowed))}")
    for name, path in found.items():
        expect(not path.is_symlink() and (path.is_file() or path.is_dir()), f"{name}: what is it?")


def choose(content: bytes, choices: int) -> tuple[int, bytes]:
    return (content[0] % choices if content else 0), content[1:]


def for_each_choice(*contents: bytes, choices: int) -> list[bytes]:
    return [bytes([choice]) + content for content in contents for choice in range(choices)]


@contextlib.contextmanager
def within_seconds(allowed: float) -> Iterator[None]:
    """Of this process's own time: other work on the machine is no fault of a reader."""
    began = time.process_time()
    yield
    spent = time.process_time() - began
    assert spent < allowed, f"took {spent:.1f} s"
