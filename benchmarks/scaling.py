"""How do costs grow with sentences, vocabulary, steps of ascent and unrolled steps?

On the small model. In passes, counted as `benchmarks.update` does, a game takes 3 for the clean
pass, 3 for the perturbed one that parameters learn from, 2 for each of K steps of ascent, and 4
more for each of U unrolled ones, exact or one-sided: 6 + 2K + 4U. Lengths and words change what a
pass takes, and not their number.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.interleaved import Contender, all_trainings, rows_in_turns, take_turns
from benchmarks.support.models import SMALL, Setup
from benchmarks.support.rows import Row
from benchmarks.update import ONE_SIDED, SALT, VAT
from recipes.support.errors import RecipeError

MERGES = (1000, 3000, 30000)
"""Of BPE, beside the corpus' own: the same pairs prepared with these are in CORPUS-MERGES."""
_ROUNDS = 3
_LENGTHS = (6, 12, 24, 48)  # subwords


def passes(ascent_steps: int, unroll_steps: int) -> float:
    """Return the passes of a game with K steps of ascent, U of them unrolled."""
    return 6 + 2 * ascent_steps + 4 * unroll_steps


def _game(method: str, options: str, ascent_steps: int, unroll_steps: int) -> Contender:
    name = f"{method}, K = {ascent_steps}"
    options += f" --ascent-steps {ascent_steps}"
    if unroll_steps:
        name += f", U = {unroll_steps}"
        options += f" --unroll-steps {unroll_steps}"
    series = method if unroll_steps in (0, ascent_steps) else f"{method}, U = {unroll_steps}"
    count = passes(ascent_steps, unroll_steps)
    return Contender(name, options, count, about={"series": series})


def _all_unrolled(steps: int) -> tuple[Contender, ...]:
    return (
        _game("salt, exact", SALT, steps, steps),
        _game("salt, one-sided", f"{SALT} {ONE_SIDED}", steps, steps),
        _game("vat", VAT, steps, 0),
    )


_ONE_STEP = _all_unrolled(1)
STEPS = {
    1: _ONE_STEP,
    **{k: (*_all_unrolled(k), _game("salt, exact", SALT, k, 1)) for k in (2, 3)},
}
"""Games by K."""


def measure(setup: Setup) -> list[Row]:
    """Return rows that each have a value on one scale, under its name."""
    setup = replace(setup, asked_rounds=setup.asked_rounds or (1 if setup.quick else _ROUNDS))
    corpora = [Path(f"{setup.corpus}-{merges}") for merges in MERGES]
    for corpus in corpora:
        if not (corpus / "bin").is_dir():
            raise RecipeError(f"{corpus}/bin: not there; make bench prepares it")
    rows = _by_length(setup)
    for corpus in (setup.corpus, *corpora):
        rows += _by_vocabulary(setup, corpus)
        gc.collect()
    steps = {contender.name: k for k, games in STEPS.items() for contender in games}
    games = [contender for games in STEPS.values() for contender in games]
    for row in rows_in_turns(setup, SMALL, games, setup.options(SMALL)):
        rows.append(_at(row, "", steps=steps[row.name]))
    return rows


def _at(row: Row, suffix: str, **value: int) -> Row:
    """Return a row at a value of a scale, which is named."""
    return replace(row, name=row.name + suffix, more={**value, **row.more})


def _by_length(setup: Setup) -> list[Row]:
    """fairseq puts sentences of about the same length into a batch: sort the batches."""
    every = 1_000_000  # batches: the whole epoch
    plain, trainings = all_trainings(setup, _ONE_STEP, setup.options(SMALL), every)
    everyone = [plain, *trainings.values()]
    batches = {training: training.groups for training in everyone}
    rows = []
    for length in _LENGTHS:
        chosen = _of_length(plain.groups, length)[: setup.rounds(SMALL)]
        if not chosen:
            continue
        for training in everyone:
            training.groups = [batches[training][number] for number in chosen]
        for threads in setup.threads:
            torch.set_num_threads(threads)
            times = take_turns(plain, trainings, setup.rounds(SMALL), f"sentences of {length}")
            for contender in _ONE_STEP:
                row = times[contender.name].row_of(contender, SMALL, setup, plain.tokens())
                rows.append(_at(row, f", sentences of {length}", length=length))
        plain.groups = batches[plain]  # to choose the next ones from
    return rows


def _of_length(groups: Sequence[Sequence[dict[str, Any]]], length: int) -> list[int]:
    """Return the numbers of the fullest batches of about so long sentences, padding included."""
    words = {
        number: group[0]["target"].numel()
        for number, group in enumerate(groups)
        if 0.8 * length <= group[0]["target"].size(1) <= 1.25 * length
    }
    return sorted(words, key=words.__getitem__, reverse=True)


def _by_vocabulary(setup: Setup, corpus: Path) -> list[Row]:
    dictionary, *_ = (corpus / "bin").glob("dict.*.txt")  # both languages' are the same
    with dictionary.open(encoding="utf-8") as lines:
        size = sum(1 for _ in lines)
    rows = rows_in_turns(setup, SMALL, _ONE_STEP, setup.options(SMALL, corpus))
    return [_at(row, f", {size:,} words", vocabulary=size) for row in rows]
