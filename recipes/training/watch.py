"""Run a training and show how it goes: `python -m recipes.training.watch --log FILE -- COMMAND`.

COMMAND's output is appended to FILE; on the screen come one line per validation and, on a terminal,
a progress bar. When COMMAND fails, so does this, after the last lines of the log.
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from recipes.support.errors import RecipeError, run_main
from recipes.support.processes import end_all
from recipes.training.training_log import (
    TRANSLATION,
    Kind,
    Record,
    kind_of,
    parse_line,
    parse_log,
)

_POLL = 0.5  # seconds
_LAST_LINES = 8


def watch(command: Sequence[str], log: Path, updates: int) -> None:
    """Run `command` to its end, its output appended to `log`.

    :param updates: the number of the last update, for the progress bar.
    Raises RecipeError with the end of the log if the command fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with _open(log) as output, log.open("rb") as lines:
        earlier = _earlier(lines.read(), log)
        start = lines.tell()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            with tqdm(
                total=updates,
                initial=max((record.update for record in earlier), default=0),
                desc="train",
                unit="update",
                leave=False,
                disable=None,
            ) as bar:
                display = Display(bar, earlier)
                while process.poll() is None:
                    time.sleep(_POLL)
                    _show_new(lines, display)
                    bar.refresh()  # the clock ticks
                _show_new(lines, display)
        finally:
            end_all([process])
        if process.returncode != 0:
            lines.seek(start)
            tail = [line for line in lines.read().decode("utf-8", "replace").split("\n") if line]
            last = "".join(f"\n  {line[:200]}" for line in tail[-_LAST_LINES:])
            raise RecipeError(
                f"the training failed (exit status {process.returncode}); end of {log}:{last}"
            )


class Display:
    """The screen: a table that grows by a line per validation, above a progress bar."""

    def __init__(self, bar: "tqdm[Any]", earlier: Sequence[Record]) -> None:
        """Show what comes after the records of `earlier`."""
        self._bar = bar
        self._valid = [record for record in earlier if record.kind == "valid"]
        self._began = time.monotonic()
        self._latest = Record("train", 0, {})
        self._header_is_out = False

    def show(self, record: Record) -> None:
        """Move the bar to a training record, or print a line for a validation."""
        if record.kind == "train":
            self._latest = record
            self._bar.set_postfix(loss=_format(record.values.get("loss"), 2), refresh=False)
        self._bar.update(record.update - self._bar.n)
        if record.kind == "train":
            return
        kind = kind_of([*self._valid, record])
        if not self._header_is_out:
            self._header_is_out = True
            self._bar.write(
                f"losses in bits per {kind.unit}; * is the best dev {kind.title} so far"
            )
            nll = "nll" if kind is TRANSLATION else "loss"
            header = ("update", "epoch", f"train {nll}", f"dev {nll}", f"dev {kind.title}")
            wide = max(11, len(header[-1]) + 2)
            self._widths = (11, 11, 11, 11, wide, 11, 11)
            self._write((*header, "adv_loss", "time"))
        self._write(self._cells(record, kind))
        self._valid.append(record)

    def _write(self, cells: tuple[str, ...]) -> None:
        pairs = zip(cells, self._widths, strict=True)
        self._bar.write("".join(f"{cell:>{width}}" for cell, width in pairs))

    def _cells(self, record: Record, kind: Kind) -> tuple[str, ...]:
        score = record.values.get(kind.score)
        before = [r.values[kind.score] for r in self._valid if kind.score in r.values]
        best = score is not None and score > max(before, default=-math.inf)
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        latest = self._latest
        return (
            str(record.update),
            _format(record.values.get("epoch"), 0),
            _format(kind.loss(latest), 2),
            _format(kind.loss(record), 2),
            _format(score, 1) + ("*" if best else " "),
            _format(latest.values.get("adv_loss"), 3),
            f"{minutes}:{seconds:02}",
        )


def _format(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _open(log: Path) -> BinaryIO:
    """Open a log to append to it; another user's is replaced by a copy of one's own."""
    try:
        return log.open("ab")
    except PermissionError:
        content = log.read_bytes()
        log.unlink()
        log.write_bytes(content)
        return log.open("ab")


def _earlier(content: bytes, log: Path) -> list[Record]:
    """Return what the log holds of the training that is continued."""
    try:
        earlier = parse_log(content, str(log))
    except RecipeError:  # nothing yet
        return []
    return earlier.train + earlier.valid


def _show_new(lines: BinaryIO, display: Display) -> None:
    """Show the complete lines that were appended to the log."""
    while line := lines.readline():
        if not line.endswith(b"\n"):  # the rest of it is still to come
            lines.seek(-len(line), 1)
            return
        record = parse_line(line)
        if record is not None:
            display.show(record)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.training.watch", description=__doc__)
    parser.add_argument("--log", type=Path, required=True, metavar="FILE")
    parser.add_argument("--updates", type=int, required=True, metavar="N")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    args = parser.parse_args()
    watch(args.command, args.log, args.updates)


if __name__ == "__main__":
    sys.exit(run_main("recipes.training.watch", _main))
