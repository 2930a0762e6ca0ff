"""The benchmarks: turns, rows, and the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import interval, memory, release, scaling, startup, tokens, update
from benchmarks.support import data
from benchmarks.support.interleaved import Contender, Times, all_trainings, keep_fullest, take_turns
from benchmarks.support.models import Model, Setup
from benchmarks.support.rows import Row, draw_bars, draw_lines, table, write
from recipes.support.errors import RecipeError
from tests.benchmarks.test_benchmark_release import needs_higher
from tests.recipes.comparison.test_comparison_costs import Ticks

TINY = Model(
    "tiny",
    "--encoder-layers 1 --decoder-layers 1 --encoder-embed-dim 16 --decoder-embed-dim 16"
    " --encoder-ffn-embed-dim 16 --decoder-ffn-embed-dim 16"
    " --encoder-attention-heads 2 --decoder-attention-heads 2 --dropout 0.1",
    max_tokens=60,
    gpu_tokens=60,
    rounds=1,
)
FIELDS = {"name", "model", "threads", "ratio"}


@pytest.fixture
def setup(toy_data: Path, tmp_path: Path) -> Iterator[Setup]:
    """On a tiny model and toy data, by a clock that is a second later whenever it is read."""
    threads = torch.get_num_threads()
    yield Setup(
        corpus=toy_data.parent,
        models=(TINY,),
        threads=(1,),
        asked_rounds=1,
        quick=False,
        cuda=False,
        out=tmp_path,
        clock=Ticks(),
    )
    torch.set_num_threads(threads)


# ---- Turns


def fake(log: list[tuple[str, Any]], name: str, seconds: float, clock: Any, **more: Any) -> Any:
    """A training that says what it is asked for, and takes so many seconds for an update."""

    def run(group: Any) -> None:
        log.append((name, group))
        clock.now += seconds

    given = {"replays": 1, "period": 1, "groups": ["a", "b"], **more}
    return SimpleNamespace(update=run, wait=lambda: None, clock=lambda: clock.now, **given)


def test_contenders_take_turns_with_plain_updates_on_the_same_batch() -> None:
    log: list[tuple[str, Any]] = []
    clock = SimpleNamespace(now=0.0)
    others = {
        "x": fake(log, "x", 3.0, clock),
        "y": fake(log, "y", 5.0, clock, period=2),
        "replayed": fake(log, "z", 2.0, clock, period=2, replays=2, groups=["a", "a", "b", "b"]),
    }
    times = take_turns(fake(log, "plain", 2.0, clock), others, 2, "")
    plain = ("plain", "a")
    first = [plain, ("x", "a"), plain, ("y", "a"), ("y", "a"), plain, ("z", "a"), ("z", "a")]
    assert log == first + [(name, "b") for name, _ in first]
    assert times["x"].ratios == [1.5, 1.5]
    assert times["y"].ratios == [2.5, 2.5]  # an update's, the mean of two
    assert times["replayed"].ratios == [1.0, 1.0]


def test_the_fullest_batches_are_kept_for_all_the_same() -> None:
    groups = [[{"ntokens": n}] for n in (5, 9, 1, 7)]
    replayed = [group for group in groups for _ in range(2)]
    clock = SimpleNamespace(now=0.0)
    plain, other = fake([], "a", 1.0, clock, groups=groups), fake([], "b", 1.0, clock)
    other.groups, other.replays = replayed, 2
    keep_fullest((plain, other), 2)
    assert plain.groups == [groups[1], groups[3]]
    assert other.groups == [groups[1], groups[1], groups[3], groups[3]]
    keep_fullest((plain, other), 100)
    assert len(plain.groups) == 2, "there are no more"


def test_contenders_share_a_model_and_its_optimizer(setup: Setup) -> None:
    plain, others = all_trainings(setup, update.CONTENDERS[:4], setup.options(TINY), 1)
    for training in others.values():
        assert training.trainer.model is plain.trainer.model
        assert training.trainer.optimizer is plain.trainer.optimizer


def test_gauges_are_on_where_they_are_measured_and_off_elsewhere(setup: Setup) -> None:
    salts = [Contender("gauged", update.SALT, gauged=True), Contender("salt", update.SALT)]
    _, trainings = all_trainings(setup, salts, setup.options(TINY), 1)
    intervals = {n: t.trainer.criterion.cfg.gauge_interval for n, t in trainings.items()}
    assert intervals == {"gauged": 1, "salt": 0}


def test_a_slow_round_does_not_count_and_quartiles_are_of_ratios(setup: Setup) -> None:
    times = Times([2.0, 900.0, 4.0, 6.0, 8.0], [2.0, 2.0, 2.0, 2.0, 2.0])
    row = times.row("x", TINY, setup, floor=2.0)
    assert (row.ratio, row.more["low"], row.more["high"]) == (3.0, 2.0, 4.0)
    assert (row.more["seconds"], row.more["plain_seconds"], row.more["rounds"]) == (6.0, 2.0, 5)


# ---- Rows


def test_update_has_a_row_for_each_contender_and_one_for_gauges(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["freeat", "smart, K = 1", "salt, exact"]
    chosen = [contender for contender in update.CONTENDERS if contender.name in names]
    monkeypatch.setattr(update, "CONTENDERS", chosen)
    rows = update.measure(setup)
    assert [row.name for row in rows] == [
        *names,
        "salt, a gauged update",
        "salt, gauges every 100th",
    ]
    for row in rows:
        assert row.as_json().keys() >= FIELDS | {"rounds", "tokens", "device", "torch"}
        assert (row.model, row.threads) == ("tiny", 1)
        assert row.ratio is not None and row.more["tokens"] <= 60


def test_gauges_cost_a_hundredth_of_what_a_gauged_update_takes_more() -> None:
    rows = [
        Row("salt, exact", "tiny", 1, 4.0, 4.0),
        Row("salt, a gauged update", "tiny", 1, 9.0, more=dict.fromkeys(TIMES, 1.0)),
    ]
    *before, row = update._with_gauges_now_and_then(rows)
    assert before == rows
    assert row.ratio == pytest.approx((99 * 4.0 + 9.0) / 100)
    assert row.more["gauges_over_salt"] == pytest.approx(5 / 4 / 100)
    assert row.floor == 4.0


TIMES = ("low", "high", "seconds", "plain_seconds")


def test_memory_has_a_row_for_each_contender(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("our task, plain", "salt, exact", "salt, one-sided, detached")
    chosen = [contender for contender in update.CONTENDERS if contender.name in names]
    monkeypatch.setattr(memory, "CONTENDERS", chosen)
    rows = memory.measure(setup)
    assert [row.name for row in rows] == list(names)
    same, exact, one_sided = (row.ratio or 0.0 for row in rows)
    assert same == pytest.approx(1.0, rel=0.02)
    assert exact > one_sided > 1
    for row in rows:
        assert row.as_json().keys() >= FIELDS | {"bytes", "baseline_bytes", "device"}


@needs_higher
def test_release_has_rows_of_time_and_memory_and_of_ours_over_it(setup: Setup) -> None:
    rows = {row.name: row for row in release.measure(setup)}
    assert rows["release"].floor == 16 / 3
    assert rows["salt, exact, over the release"].floor == 12 / 16
    assert rows["salt, central, over the release"].floor == 14 / 16
    of_it, ours = rows["release, memory"], rows["salt, one-sided, memory"]
    over = rows["salt, one-sided, memory over the release"]
    assert of_it.ratio and ours.ratio and over.ratio == pytest.approx(ours.ratio / of_it.ratio)


@pytest.mark.slow
def test_interval_and_scaling_have_what_their_pictures_are_drawn_over(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert [row.more["interval"] for row in interval.measure(setup)] == [1, 2, 4, 8]
    monkeypatch.setattr(scaling, "SMALL", TINY)
    monkeypatch.setattr(scaling, "MERGES", (7,))
    with pytest.raises(RecipeError, match=r"-7/bin: not there"):
        scaling.measure(setup)
    Path(f"{setup.corpus}-7").symlink_to(setup.corpus)
    rows = scaling.measure(setup)
    assert {row.more["vocabulary"] for row in rows if "vocabulary" in row.more} == {20}
    assert {row.more["steps"] for row in rows if "steps" in row.more} == {1, 2, 3}
    assert {row.more["length"] for row in rows if "length" in row.more} == {6}
    assert len({row.name for row in rows if "vocabulary" not in row.more}) == 3 + 3 + 4 + 4
    draw_lines(rows, {"steps": "K", "length": "T"}, "title", "updates", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_batches_of_a_length_are_the_fullest_first() -> None:
    groups = [[{"target": torch.zeros(*size)}] for size in ((2, 10), (9, 12), (3, 11), (9, 40))]
    assert scaling._of_length(groups, 12) == [1, 2, 0]


@pytest.mark.parametrize("fixed", [0, 3000, -3000])
@pytest.mark.parametrize("slope", [90, 250, 1700])
def test_the_largest_batch_that_fits(slope: int, fixed: int) -> None:
    """The peak is a straight line, whose crossing with the budget can be computed."""
    budget, between = 200_000, (10, 2000)
    right = min(2000, (budget - fixed) / slope)
    for first in (100, 500, 2000):
        found = tokens.largest(lambda n: fixed + slope * n, budget, first, between)
        assert fixed + slope * found <= budget
        assert right * 0.96 <= found <= right
        assert tokens.largest(lambda n: 10 * budget, budget, first, between) == 10


def test_tokens_per_second_are_those_of_all_batches() -> None:
    log: list[tuple[str, Any]] = []
    clock = SimpleNamespace(now=0.0)
    few, many = ([{"ntokens": n}] for n in (30, 70))
    trainings = {
        "plain": fake(log, "plain", 2.0, clock, groups=[few, many]),
        "x": fake(log, "x", 5.0, clock, groups=[many, few, few]),
    }
    assert tokens.rates_in_turns(trainings, 2) == {"plain": 100 / 4, "x": 100 / 10}


@pytest.mark.slow
def test_tokens_has_a_row_for_plain_training_and_each_contender(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_LONGEST", 12)
    monkeypatch.setattr(tokens, "_METHODS", ("salt, exact",))
    monkeypatch.setattr(tokens, "registered", lambda: False)
    plain, salt = tokens.measure(setup)
    assert (plain.name, plain.ratio, plain.more["max_tokens"]) == ("plain", 1.0, 60)
    assert 12 < salt.more["max_tokens"] < 60 and salt.ratio
    assert salt.ratio == pytest.approx(salt.more["tokens_per_second"] / rate(plain))


def rate(row: Row) -> float:
    return float(row.more["tokens_per_second"])


def test_a_process_is_timed_to_the_line_with_the_mark() -> None:
    clock = Ticks()
    script = "print('begin'); print('here it is'); print('end')"
    run = [sys.executable, "-c", script]
    assert startup.seconds_to("it is", "x", run, {}, clock) == 1.0
    with pytest.raises(RecipeError, match=r"^x: no first update: end$"):
        startup.seconds_to("nowhere", "x", run, {}, clock)


@pytest.mark.slow
def test_startup_compares_whole_processes(setup: Setup) -> None:
    rows = startup.measure(setup)
    assert [row.name for row in rows] == ["our task, plain", "salt"]
    assert all(row.as_json().keys() >= FIELDS | {"seconds", "plain_seconds"} for row in rows)


@pytest.mark.slow
def test_data_has_a_row_for_each_stage(setup: Setup, clauses: Path) -> None:
    rows = data.measure(replace(setup, corpus=clauses))
    assert [row.more["stage"] for row in rows] == ["raw", "tok", "learn", "bpe", "bin"]
    assert [row.ratio is None for row in rows] == [True, False, False, False, False]
    assert all(row.more["peak_mib"] > 0 and row.more["cpu_seconds"] > 0 for row in rows)


# ---- The command


ROWS = [Row("x", "tiny", 1, 2.5, 2.0, {"seconds": 1234.5}), Row("y", "tiny", 2, None)]


def test_rows_are_a_list_a_table_and_a_picture(tmp_path: Path) -> None:
    write(ROWS, tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text("utf-8")) == [
        {"name": "x", "model": "tiny", "threads": 1, "ratio": 2.5, "floor": 2.0, "seconds": 1234.5},
        {"name": "y", "model": "tiny", "threads": 2, "ratio": None},
    ]
    assert table(ROWS, ["seconds"]).splitlines() == [
        "   model  threads  ratio  floor  seconds",
        "x  tiny         1   2.50   2.00    1,234",
        "y  tiny         2",
    ]
    draw_bars(ROWS, "title", "updates", tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def call(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """The command, whose benchmarks are `fine` and `broken`; returns the files it has written."""

    def fail(_: Setup) -> list[Row]:
        raise RecipeError("there is no such thing")

    def draw(_: list[Row], path: Path) -> None:
        path.write_bytes(b"")

    known = {
        "broken": command.Benchmark(fail, draw, ()),
        "fine": command.Benchmark(lambda _: ROWS, draw, ()),
    }
    monkeypatch.setattr(command, "benchmarks", lambda: known)
    monkeypatch.setattr(command, "be_quiet", lambda: None)
    out = tmp_path / "bench"

    def run(*options: str) -> list[str]:
        given = ["--data", str(toy_data.parent), "--out", str(out), *options]
        monkeypatch.setattr(sys, "argv", ["benchmarks", *given])
        command.main()
        return sorted(path.name for path in out.iterdir())

    return run


def test_what_is_finished_is_written_though_another_one_fails(
    call: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RecipeError, match=r"^not measured: broken$"):
        call()
    assert "broken: error: there is no such thing" in capsys.readouterr().err
    assert call("fine") == ["fine.json", "fine.png"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rounds", "0"], "--rounds 0: allowed is 1, 2, 3, ..."),
        (["nothing"], "nothing: no such benchmark; there are broken, fine"),
        (["--data", "nowhere"], "nowhere/bin: not there; make bench prepares it"),
    ],
)
def test_what_the_command_refuses(
    call: Callable[..., list[str]], options: list[str], said: str
) -> None:
    with pytest.raises(RecipeError, match=f"^{said}$"):
        call(*options)


def test_without_a_gpu_it_says_so(
    call: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match=r"^--cuda: torch sees no GPU on this machine$"):
        call("--cuda")
