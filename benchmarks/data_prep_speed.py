"""How fast is the preparation of data? Every stage, beside the command lines of the tools in it.

    python -m benchmarks.data_prep_speed --train PREFIX --source-lang de --target-lang en

On your parallel text, PREFIX.de and PREFIX.en: the longer its lines, the fewer there are a second.
Ours and theirs are whole processes, with what they take to start, in turns; medians over rounds. A
rate is per second of processor time, on whatever core it was, so that other work on the machine
does not enter it (much). The ratio is of times on the clock. Memory is that of the largest process,
and not less than that of the benchmark itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from tqdm import tqdm

from data_prep.binarize import binarize
from data_prep.bpe import count_tokens, count_words, learn_codes, segmenter
from data_prep.counts import SPLITS, Subwords
from data_prep.files import FilesCorpus
from data_prep.lines import count_lines, read_lines
from data_prep.pipeline import Pipeline
from data_prep.preparation import OURS
from data_prep.raw import Selection, write_raw
from recipes.errors import RecipeError, run_main
from recipes.files import write_json

STAGES = ("raw", "tok", "learn", "bpe", "bin")
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


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", required=True, metavar="PREFIX", help="the text")
    parser.add_argument("--source-lang", required=True, metavar="LANG")
    parser.add_argument("--target-lang", required=True, metavar="LANG")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--merges", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("results/bench/data.json"))
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)  # do one, alone
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        _do(options)
        return
    with TemporaryDirectory() as folder:
        options.folder = Path(folder)
        rows = _measure(options)
    write_json(rows, options.out)
    print(_table(rows))


def _measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    for stage in STAGES:  # what the next ones read
        _run([_ours(options, stage, max(options.workers))])
    tok = [options.folder / "tok" / f"train.{lang}" for lang in _languages(options)]
    with (options.folder / "both").open("wb") as both:
        for path in tok:
            both.write(path.read_bytes())
    sentences = sum(map(count_lines, tok))
    tokens = sum(count_tokens(line) for path in tok for line in read_lines(path))
    rows = []
    cases = [(s, n) for s in STAGES for n in options.workers if n == 1 or s in _PARALLEL]
    for stage, workers in tqdm(cases, "stages"):
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(_run([_ours(options, stage, workers)]))
            theirs.append(_run(_theirs(options, stage, workers)))
        cpu = statistics.median(used.cpu_seconds for used in ours)
        row: dict[str, Any] = {
            "name": stage,
            "model": Path(options.train).name,
            "threads": workers,
            "ratio": None,
            "sentences": sentences,
            "tokens": tokens,
            "seconds": statistics.median(used.seconds for used in ours),
            "cpu_seconds": cpu,
            "sentences_per_cpu_second": sentences / cpu,
            "tokens_per_cpu_second": tokens / cpu,
            "peak_mib": max(used.peak_mib for used in ours),
        }
        if stage in TOOLS:
            row |= {
                "tool": TOOLS[stage],
                "ratio": statistics.median(
                    a.seconds / b.seconds for a, b in zip(ours, theirs, strict=True)
                ),
                "tool_cpu_seconds": statistics.median(used.cpu_seconds for used in theirs),
                "tool_seconds": statistics.median(used.seconds for used in theirs),
                "tool_peak_mib": max(used.peak_mib for used in theirs),
            }
        rows.append(row)
    return rows


def _languages(options: argparse.Namespace) -> tuple[str, str]:
    return (options.source_lang, options.target_lang)


def _ours(options: argparse.Namespace, stage: str, workers: int) -> Command:
    """One stage on the folder, which has the stages before it."""
    words = [sys.executable, "-m", "benchmarks.data_prep_speed", "--train", options.train]
    words += ["--source-lang", options.source_lang, "--target-lang", options.target_lang]
    words += ["--merges", str(options.merges), "--workers", str(workers)]
    return Command([*words, "--stage", stage, "--folder", str(options.folder)])


def _do(options: argparse.Namespace) -> None:
    """Do one stage; valid and test, which there must be, have a line each."""
    languages, folder, (workers,) = _languages(options), options.folder, options.workers
    one = {lang: next(read_lines(Path(f"{options.train}.{lang}"))) for lang in languages}
    for lang, line in one.items():
        (folder / f"one.{lang}").write_text(f"{line}\n", encoding="utf-8")
    prefixes = {"train": options.train, "valid": f"{folder}/one", "test": f"{folder}/one"}
    corpus = FilesCorpus(*languages, prefixes)
    pipeline = Pipeline("", corpus, OURS, Selection(None, None), folder, workers)
    tok, codes = folder / "tok", folder / "learn" / "codes"
    out = folder / options.stage
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if options.stage == "raw":
        write_raw(corpus, pipeline.selection, out, workers)
        return
    pairs = {"train": count_lines(folder / "raw" / f"train.{languages[0]}"), "valid": 1, "test": 1}
    if options.stage == "tok":
        pipeline._tokenize(folder / "raw", pairs, out)
    elif options.stage == "learn":
        learn_codes(count_words(pipeline._train("words", tok, pairs)), options.merges, codes)
    elif options.stage == "bpe":
        pipeline._map_files("bpe", tok, pairs, out, lambda _: segmenter(codes), Subwords.of)
    else:
        binarize(folder / "bpe", languages, out, folder / "log", workers)


def _theirs(options: argparse.Namespace, stage: str, workers: int) -> list[Command]:
    """The command lines that do the same; none does what raw does."""
    languages, folder = _languages(options), options.folder
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
        tool += ["learn-bpe", "-s", str(options.merges)]
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
    seconds = cpu_seconds = peak = 0.0
    for command in commands:
        with ExitStack() as stack:
            source = stack.enter_context((command.stdin or Path(os.devnull)).open("rb"))
            target = stack.enter_context((command.stdout or Path(os.devnull)).open("wb"))
            said = stack.enter_context(TemporaryFile())
            began = time.perf_counter()
            process = subprocess.Popen(command.words, stdin=source, stdout=target, stderr=said)
            _, status, used = os.wait4(process.pid, 0)
            seconds += time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                last = said.read().decode(errors="replace").strip().splitlines()[-1:]
                raise RecipeError(f"{' '.join(command.words)}: failed: {' '.join(last)}")
        cpu_seconds += used.ru_utime + used.ru_stime
        peak = max(peak, used.ru_maxrss / 1024)
    return Usage(seconds, cpu_seconds, peak)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"{rows[0]['sentences']:,} sentences of {rows[0]['tokens'] / rows[0]['sentences']:.1f}"
        " tokens, both languages",
        f"{'stage':15} workers  sentences/s/core  tokens/s/core   MiB  seconds"
        "  ratio  CPU ratio  tool",
    ]
    for row in rows:
        compared = "     -          -"
        if row["ratio"]:
            cpu = row["cpu_seconds"] / row["tool_cpu_seconds"]
            compared = f"{row['ratio']:6.2f} {cpu:10.2f}  {row['tool']}"
        lines.append(
            f"{TITLES[row['name']]:15} {row['threads']:7} {row['sentences_per_cpu_second']:17,.0f}"
            f" {row['tokens_per_cpu_second']:14,.0f} {row['peak_mib']:5.0f} {row['seconds']:8.1f}"
            f" {compared}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_main("data_prep_speed", main))
