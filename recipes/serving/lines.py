"""Text from standard input, answered on standard output: a line out for each line in."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol

from tqdm import tqdm

from data_prep.support.progress import progress

LINES_AT_A_TIME = 1000  # to choose from when batches of like length are made

Warn = Callable[[str], None]
"""Is told, in one line, of a line that is not taken as it is."""


def chunks(lines: Iterable[bytes], at_a_time: int, warn: Warn) -> Iterator[tuple[int, list[str]]]:
    """Yield so many lines as text, and the number of the first, before the next ones are read."""
    iterator = iter(lines)
    first = 1
    while chunk := list(islice(iterator, at_a_time)):
        yield first, [_decode(line, first + i, warn) for i, line in enumerate(chunk)]
        first += len(chunk)


def _decode(line: bytes, number: int, warn: Warn) -> str:
    try:
        return line.removesuffix(b"\n").decode("utf-8")
    except UnicodeDecodeError as error:
        warn(
            f"line {number} is not UTF-8 (byte 0x{line[error.start]:02x}, number"
            f" {error.start + 1} of the line): such bytes become U+FFFD"
        )
        return line.removesuffix(b"\n").decode("utf-8", "replace")


def warner(program: str) -> Warn:
    """Return what tells a user of a program's lines, above a progress bar."""

    def warn(message: str) -> None:
        tqdm.write(f"{program}: {message}", file=sys.stderr)

    return warn


class Answers(Protocol):
    """Yields an answer for each line, in order, of which so many are read at a time."""

    def __call__(self, lines: Iterable[bytes], at_a_time: int) -> Iterator[str]:
        """See `Answers`."""


def answer(answers: Answers, what: str) -> None:
    """Answer standard input, line by line what is typed on a terminal.

    :param what: the progress bar's name.
    """
    typed = sys.stdin.isatty()
    found: Iterable[str] = answers(sys.stdin.buffer, 1 if typed else LINES_AT_A_TIME)
    if not sys.stdout.isatty():
        found = progress(found, what, "line")
    try:
        for line in found:
            sys.stdout.buffer.write(line.encode("utf-8") + b"\n")
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Nobody reads any more, as after `| head`. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
