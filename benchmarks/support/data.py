"""How fast is the preparation of data? Every stage, beside the command lines of the tools in it.

On the text of the corpus that the other benchmarks use; another one, prepared as `data_prep` does
with any, is chosen with --data. The longer its lines, the fewer there are a second.

Ours and theirs are whole processes, with what they take to start, in turns; medians over rounds. A
rate is per second of processor time, on whatever core it was, so that other work on the machine
does not enter it (much). The ratio is of times on the clock, ours to the tool's. Memory is that of
the largest process.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory, TemporaryFile
from typing import Any

from benchmarks.data_stages import STAGES, Task
from benchmarks.support.models import Setup
from benchmarks.support.rows import Row
from data_prep.selection.counts import SPLITS
from data_prep.support.lines import count_lines, read_lines
from data_prep.support.progress import progress
from data_prep.text.bpe import count_tokens
from recipes.support.errors import RecipeError
from recipes.support.files import data_report

_PARALLEL = ("tok", "bpe", "bin")  # subword-nmt only counts words with more than one
TOOLS = {
    "tok": "sacremoses tokenize -j",
    "learn": "subword-nmt learn-bpe",
    "bpe": "subword-nmt apply-bpe --num-workers",
    "bin": "fairseq-preprocess --workers",
}
TITLES = {
    "raw": "read and clean",
    "tok": "tokenise",
    "learn": "learn BPE",
    "bpe": "apply BPE",
    "bin": "binarise",
}
_ROUNDS = 3
_QUICK_LINES = 1000


@dataclass(frozen=True)
class Command:
    """A program, and what it reads and writes."""

    words: list[str]
    stdin: Path | None = None
    stdout: Path | None = None


@dataclass(frozen=True)
class Usage:
    """What processes took: seconds, seconds of processors, MiB of the largest."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def measure(setup: Setup) -> list[Row]:
    """Return a row per stage and number of workers, which is that of threads."""
    report = data_report(setup.corpus)
    source, target = report["languages"]
    merges = report["preparation"]["bpe_merges"]
    if merges is None:
        raise RecipeError(f"{setup.corpus}: is not prepared with BPE, which is to be measured")
    rounds = setup.asked_rounds or (1 if setup.quick else _ROUNDS)
    with TemporaryDirectory() as folder:
        task = Task(Path(folder), Path(folder) / "text", (source, target), merges)
        for lang in task.languages:
            lines = read_lines(setup.corpus / "raw" / f"train.{lang}")
            chosen = itertools.islice(lines, _QUICK_LINES if setup.quick else None)
            text = "".join(f"{line}\n" for line in chosen)
            Path(f"{task.text}.{lang}").write_text(text, encoding="utf-8")
        return _measure(task, setup.corpus.name, sorted({1, *setup.threads}), rounds)


def _measure(task: Task, name: str, workers: Sequence[int], rounds: int) -> list[Row]:
    for stage in STAGES:  # what the next ones read
        _run([Command(task.command(stage, max(workers)))])
    tok = [task.folder / "tok" / f"train.{lang}" for lang in task.languages]
    with (task.folder / "both").open("wb") as both:
        for path in tok:
            both.write(path.read_bytes())
    sentences = sum(map(count_lines, tok))
    tokens = sum(count_tokens(line) for path in tok for line in read_lines(path))
    rows = []
    cases = [(s, n) for s in STAGES for n in workers if n == 1 or s in _PARALLEL]
    for stage, number in progress(cases, "data", "stage"):
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_run([Command(task.command(stage, number))]))
            theirs.append(_run(_theirs(task, stage, number)))
        cpu = statistics.median(used.cpu_seconds for used in ours)
        more: dict[str, Any] = {
            "stage": stage,
            "rounds": rounds,
            "sentences": sentences,
            "tokens": tokens,
            "seconds": statistics.median(used.seconds for used in ours),
            "cpu_seconds": cpu,
            "sentences_per_cpu_second": sentences / cpu,
            "tokens_per_cpu_second": tokens / cpu,
            "peak_mib": max(used.peak_mib for used in ours),
        }
        ratio = None
        if stage in TOOLS:
            pairs = zip(ours, theirs, strict=True)
            ratio = statistics.median(a.seconds / b.seconds for a, b in pairs)
            tool_cpu = statistics.median(used.cpu_seconds for used in theirs)
            more |= {
                "tool": TOOLS[stage],
                "cpu_ratio": cpu / tool_cpu,
                "tool_cpu_seconds": tool_cpu,
                "tool_seconds": statistics.median(used.seconds for used in theirs),
                "tool_peak_mib": max(used.peak_mib for used in theirs),
            }
        rows.append(Row(TITLES[stage], name, number, ratio, more=more))
    return rows


def _theirs(task: Task, stage: str, workers: int) -> list[Command]:
    """The command lines that do the same; none does what raw does."""
    languages, folder = task.languages, task.folder
    programs = Path(sys.executable).parent
    out, number = folder / "theirs", str(workers)
    if stage == "tok":
        moses = [str(programs / "sacremoses"), "-j", number, "-l"]
        return [
            Command([*moses, lang, "tokenize"], folder / f"raw/train.{lang}", out)
            for lang in languages
        ]
    tool = [str(programs / "subword-nmt")]
    if stage == "learn":
        tool += ["learn-bpe", "-s", str(task.merges)]
        return [Command([*tool, "-i", str(folder / "both"), "-o", str(out)])]
    if stage == "bpe":
        tool += ["apply-bpe", "-c", str(folder / "learn/codes"), "--num-workers", number]
        return [
            Command([*tool, "-i", str(folder / f"tok/train.{lang}"), "-o", str(out)])
            for lang in languages
        ]
    if stage == "bin":
        words = [str(programs / "fairseq-preprocess"), "--joined-dictionary"]
        words += ["--source-lang", languages[0], "--target-lang", languages[1]]
        for split in SPLITS:
            words += [f"--{split}pref", str(folder / "bpe" / split)]
        shutil.rmtree(folder / "their bin", ignore_errors=True)
        return [Command([*words, "--destdir", str(folder / "their bin"), "--workers", number])]
    return []


def _run(commands: Sequence[Command]) -> Usage:
    used = [_usage(command) for command in commands]
    return Usage(
        seconds=sum(one.seconds for one in used),
        cpu_seconds=sum(one.cpu_seconds for one in used),
        peak_mib=max((one.peak_mib for one in used), default=0.0),
    )


def _usage(command: Command) -> Usage:
    with ExitStack() as stack:
        source = stack.enter_context((command.stdin or Path(os.devnull)).open("rb"))
        target = stack.enter_context((command.stdout or Path(os.devnull)).open("wb"))
        said = stack.enter_context(TemporaryFile())
        found = stack.enter_context(NamedTemporaryFile())
        words = [sys.executable, "-m", "benchmarks.support.usage", found.name, *command.words]
        if subprocess.run(words, stdin=source, stdout=target, stderr=said).returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise RecipeError(f"{' '.join(command.words)}: failed: {' '.join(last)}")
        return Usage(**json.loads(Path(found.name).read_text(encoding="utf-8")))
