"""How long does fairseq-train take from its start to the end of its first update?

Whole processes in turns: importing, building the model, reading the data, and one update of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.support.interleaved import PLAIN, Contender, Times
from benchmarks.support.models import Model, Setup
from benchmarks.support.rows import Row
from benchmarks.update import OUR_PLAIN, SALT
from data_prep.support.progress import progress
from recipes.support.errors import RecipeError

_CONTENDERS = (
    Contender("our task, plain", f"--user-dir fairseq_adv {OUR_PLAIN}"),
    Contender("salt", f"--user-dir fairseq_adv {SALT}"),
)
_STOCK = (
    "--arch roberta --encoder-layers 6 --encoder-embed-dim 384 --encoder-ffn-embed-dim 1536"
    " --encoder-attention-heads 12"
)
"""MiniLM's sizes, of a classifier that stock fairseq has."""
_ONE_UPDATE = "--max-update 1 --no-save --disable-validation --log-format json --log-interval 1"
_ROUNDS = 3
_FIRST = '"num_updates": "1"'
"""What fairseq logs at the end of the first update."""


def measure(setup: Setup) -> list[Row]:
    """Return a row per number of threads and contender, of the first model and of classifiers."""
    models = (setup.models[0], *(replace(m, options=_STOCK) for m in setup.classifiers))
    return [row for m in models for threads in setup.threads for row in _measure(setup, m, threads)]


def _measure(setup: Setup, model: Model, threads: int) -> list[Row]:
    rounds = setup.asked_rounds or (1 if setup.quick else _ROUNDS)
    common = setup.options(model)
    times = {contender.name: Times([], []) for contender in _CONTENDERS}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (
        tempfile.TemporaryDirectory() as scratch,
        progress(None, "startup", "process", total=rounds * len(_CONTENDERS)) as bar,
    ):

        def seconds(contender: Contender) -> float:
            words = [*common, *contender.words(common), *_ONE_UPDATE.split()]
            train = [sys.executable, "-m", "fairseq_cli.train", *words, "--save-dir", scratch]
            return seconds_to(_FIRST, contender.name, train, environment, setup.clock)

        seconds(PLAIN)  # the files are in the system's cache from here on
        for _ in range(rounds):
            for contender in _CONTENDERS:
                times[contender.name].plain.append(seconds(PLAIN))
                times[contender.name].seconds.append(seconds(contender))
                bar.update()
    return [
        times[contender.name].row(contender.name, model, setup, threads=threads)
        for contender in _CONTENDERS
    ]


def seconds_to(
    mark: str,
    name: str,
    command: Sequence[str],
    environment: dict[str, str],
    clock: Callable[[], float],
) -> float:
    """Return the seconds until a process has written a line with a mark, and wait for its end.

    :param name: of what it is, for an error: RecipeError if it writes no such line.
    """
    began, marked, last = clock(), None, ""
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            if marked is None and mark in line:
                marked = clock()
    if marked is None:
        raise RecipeError(f"{name}: no first update: {last}")
    return marked - began
