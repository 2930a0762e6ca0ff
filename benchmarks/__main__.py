"""Measure what games cost: `python -m benchmarks [NAME ...]`.

Each benchmark prints a table and writes NAME.json, a list of rows, and NAME.png into the directory
of the results. What is finished is written even if another one fails.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from recipes.comparison.measured import be_quiet
from recipes.support.errors import RecipeError, run_main

if TYPE_CHECKING:
    from benchmarks.support.models import Setup
    from benchmarks.support.rows import Row

# torch and fairseq are imported late: fairseq sets up the logging of the whole process.


@dataclass(frozen=True)
class Benchmark:
    """One question.

    :param measure: finds the rows.
    :param draw: draws them, into a file.
    :param columns: of the table, beside the ratio and its floor.
    """

    measure: Callable[[Setup], list[Row]]
    draw: Callable[[list[Row], Path], None]
    columns: tuple[str, ...]


def benchmarks() -> dict[str, Benchmark]:
    """Return all benchmarks, in the order in which they are run."""
    from benchmarks import interval, memory, release, scaling, startup, tokens, update
    from benchmarks.support import data
    from benchmarks.support.rows import draw_bars, draw_lines

    def bars(title: str, unit: str) -> Callable[[list[Row], Path], None]:
        return lambda rows, path: draw_bars(rows, title, unit, path)

    def lines(title: str, **scales: str) -> Callable[[list[Row], Path], None]:
        return lambda rows, path: draw_lines(rows, scales, title, "plain updates", path)

    times = ("low", "high", "seconds", "plain_seconds", "tokens")
    return {
        "update": Benchmark(update.measure, bars("Time of an update", "plain updates"), times),
        "memory": Benchmark(
            memory.measure,
            bars("Peak memory of an update", "plain updates"),
            ("bytes",),
        ),
        "release": Benchmark(
            release.measure,
            bars("SALT's published algorithm and ours", "time or memory, to the baseline's"),
            (*times, "bytes"),
        ),
        "interval": Benchmark(
            interval.measure,
            lines("Games in every n-th update", interval="--adv-interval"),
            times,
        ),
        "tokens": Benchmark(
            tokens.measure,
            bars("Tokens per second in equal memory", "of plain training's"),
            ("max_tokens", "tokens_per_second"),
        ),
        "scaling": Benchmark(
            scaling.measure,
            lines(
                "How costs grow",
                length="subwords in a sentence",
                vocabulary="dictionary entries",
                steps="ascent steps",
            ),
            ("length", "vocabulary", *times),
        ),
        "startup": Benchmark(
            startup.measure,
            bars("From the start of fairseq-train to its first update", "stock fairseq's time"),
            times[:-1],
        ),
        "data": Benchmark(
            data.measure,
            bars("Preparing data", "times the tool's"),
            (
                *("sentences_per_cpu_second", "tokens_per_cpu_second", "peak_mib", "seconds"),
                *("cpu_ratio", "tool"),
            ),
        ),
    }


def main() -> None:
    """Run the benchmarks that were asked for."""
    options = _options()
    be_quiet()
    import torch

    from benchmarks.support import models, rows
    from fairseq_adv.trainer.interruption import Interruption

    if options.cuda and not torch.cuda.is_available():
        raise RecipeError("--cuda: torch sees no GPU on this machine")
    if not (options.data / "bin").is_dir():
        raise RecipeError(f"{options.data}/bin: not there; make bench prepares it")
    known = benchmarks()
    for name in options.names:
        if name not in known:
            raise RecipeError(f"{name}: no such benchmark; there are {', '.join(known)}")
    cores = len(os.sched_getaffinity(0))
    setup = models.Setup(
        corpus=options.data,
        models=(models.SMALL,) if options.quick else (models.SMALL, models.BASE),
        classifiers=(models.MINILM,),
        threads=(cores,) if options.quick or options.cuda else tuple(sorted({1, cores})),
        asked_rounds=options.rounds,
        quick=options.quick,
        cuda=options.cuda,
        out=options.out,
    )
    failed = []
    for name in options.names or known:
        benchmark = known[name]
        try:
            # Nothing is to be saved: a signal ends a benchmark, and not only the training in it.
            with mock.patch.object(Interruption, "listen"):
                found = benchmark.measure(setup)
        except RecipeError as error:
            print(f"benchmarks: {name}: error: {error}", file=sys.stderr)
            failed.append(name)
            continue
        rows.write(found, setup.out / f"{name}.json")
        benchmark.draw(found, setup.out / f"{name}.png")
        print(f"{name}: {setup.out}/{name}.json, {name}.png")
        print(rows.table(found, benchmark.columns), end="\n\n")
    if failed:
        raise RecipeError(f"not measured: {', '.join(failed)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Measure what games cost, beside stock fairseq."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a benchmark (default: all)")
    parser.add_argument("--quick", action="store_true", help="little of everything, to try it")
    parser.add_argument("--cuda", action="store_true", help="on a GPU")
    parser.add_argument("--rounds", type=int, metavar="N", help="of which the median is taken")
    parser.add_argument("--out", type=Path, default=Path("results/bench"), metavar="DIRECTORY")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/bench"),
        metavar="DIRECTORY",
        help="made by data_prep (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        raise RecipeError(f"--rounds {options.rounds}: allowed is 1, 2, 3, ...")
    return options


if __name__ == "__main__":
    sys.exit(run_main("benchmarks", main))
