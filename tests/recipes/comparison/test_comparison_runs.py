"""The runs of a comparison: each up to its horizons, several at a time, and again after a kill."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import train

from recipes.comparison import run
from recipes.comparison.contenders import contender
from recipes.comparison.kinds import translation
from recipes.comparison.kinds.translation import Translation
from recipes.comparison.plan import Run, plan_run
from recipes.comparison.run import at, finish, is_finished, job_of
from recipes.models.checkpoint import updates_of
from recipes.support import pool
from recipes.support.errors import RecipeError
from recipes.support.files import CHECKPOINTS, LOG, SCORES, write_json
from tests.support import training
from tests.support.processes import ROOT

# ---- One run -------------------------------------------------------------------------------------


@pytest.fixture
def data(toy_data: Path, tmp_path: Path) -> Path:
    """Toy data, as data_prep would have left it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bin").symlink_to(toy_data)
    if not (toy_data / "stage.json").exists():
        (toy_data / "stage.json").write_text("{}")
    return tmp_path / "data"


def planned(out: Path, data: Path, name: str, *horizons: int) -> Run:
    shared = [*training.MODEL, "--optimizer", "adam", "--lr", "1e-3", "--max-tokens", "60"]
    shared += ["--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 10}']
    shared += ["--cpu", "--num-workers", "0"]
    kind = Translation(data, beam=2)
    made = plan_run(out, contender(name), 1, kind, shared, every=2, horizons=horizons)
    made.save()
    return made


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The trainings and evaluations that are done, which are in this process: ("train", 4), ..."""
    done: list[tuple[str, int]] = []

    def train_here(command: list[str], log: Path, updates: int) -> None:
        arguments = command[command.index("fairseq_cli.train") + 1 :]
        with contextlib.chdir(ROOT), pytest.MonkeyPatch.context() as patch:
            # The best score of an earlier training in this process would be this one's, too.
            patch.setattr(checkpoint_utils.save_checkpoint, "best", -math.inf, raising=False)
            parser = options.get_training_parser()
            parsed = options.parse_args_and_arch(parser, arguments)
            train.main(convert_namespace_to_omegaconf(parsed))
        done.append(("train", updates))

    def evaluate_here(data: Path, checkpoint: Path, out: Path, **_: Any) -> None:
        assert checkpoint.is_file()
        done.append(("evaluate", int(out.name.removeprefix("at-"))))
        write_json({}, out / SCORES)

    monkeypatch.setattr(run, "watch", train_here)
    monkeypatch.setattr(translation, "evaluate", evaluate_here)
    return done


def parameters(made: Run) -> dict[str, torch.Tensor]:
    path = made.directory / CHECKPOINTS / "checkpoint_last.pt"
    return dict(checkpoint_utils.load_checkpoint_to_cpu(str(path))["model"])


@pytest.mark.parametrize("method", ["salt", "freeat"])
def test_a_training_with_a_stop_on_its_way_is_the_training_without(
    method: str, data: Path, tmp_path: Path, stages: list[tuple[str, int]]
) -> None:
    stopped = planned(tmp_path / "stopped", data, method, 2, 6)
    finish(stopped)
    assert stages == [("train", 2), ("evaluate", 2), ("train", 6), ("evaluate", 6)]
    straight = planned(tmp_path / "straight", data, method, 6)
    finish(straight)
    ours, theirs = parameters(stopped), parameters(straight)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_what_is_finished_is_reused_and_may_become_longer(
    data: Path, tmp_path: Path, stages: list[tuple[str, int]]
) -> None:
    made = planned(tmp_path, data, "transformer", 2)
    assert not is_finished(made)
    finish(made)
    assert is_finished(made)
    stages.clear()
    finish(made)
    assert stages == []
    # Killed between training and evaluation: fairseq-train would make one more update.
    (at(made.directory, 2) / SCORES).unlink()
    finish(made)
    assert stages == [("evaluate", 2)]
    assert updates_of(made.directory / CHECKPOINTS / "checkpoint_last.pt") == 2
    stages.clear()
    finish(planned(tmp_path, data, "transformer", 2, 4))
    assert stages == [("train", 4), ("evaluate", 4)]
    with pytest.raises(RecipeError, match=r"seed-1 has been trained for 4 updates, and .* after 3"):
        finish(planned(tmp_path, data, "transformer", 3))


def test_the_log_of_a_training_without_a_checkpoint_is_not_appended_to(
    data: Path, tmp_path: Path, stages: list[tuple[str, int]]
) -> None:
    made = planned(tmp_path, data, "transformer", 2)
    (made.directory / LOG).write_text("of a run that was killed early\n")
    finish(made)
    assert not (made.directory / LOG).exists()  # the stand-in for fairseq-train writes none


# ---- Several runs --------------------------------------------------------------------------------

# Stands for `python -m recipes.comparison.run DIR`: works for a moment, and leaves a trace.
STAND_IN = """#!/bin/bash
dir=${!#}
trap 'echo >"$dir/stopped"; exit 130' TERM
echo "$2 $OMP_NUM_THREADS ${CUDA_VISIBLE_DEVICES:--}" >"$dir/called"
date +%s.%N >"$dir/.began" && mv "$dir/.began" "$dir/began"
echo '{"num_updates": "3"}' >"$dir/training.log"
for other in ${BESIDE:-}; do
  for _ in {1..6000}; do [[ -e $other ]] || sleep 0.1; done
done
if [[ $dir == *smart* ]]; then echo "out of luck"; exit 1; fi
for n in 2 6; do
  mkdir -p "$dir/at-$n"
  echo '{"systems": {"model": {"bleu": 12.34}}}' >"$dir/at-$n/scores.json"
done
date +%s.%N >"$dir/ended"
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(pool, "_POLL", 0.02)
    return python


def jobs(runs: list[Run]) -> list[pool.Job]:
    return [job_of(made, cost=2.0) for made in runs if not is_finished(made)]


def test_runs_are_done_side_by_side_and_a_failure_stops_no_other(
    data: Path,
    tmp_path: Path,
    stand_in: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "cores", lambda: 7)
    runs = [planned(tmp_path, data, name, 2, 6) for name in ("transformer", "smart", "salt")]
    monkeypatch.setenv("BESIDE", " ".join(str(made.directory / "began") for made in runs[:2]))
    reports: list[int] = []

    def report() -> None:
        reports.append(sum(map(is_finished, runs)))

    failed = pool.finish_all(jobs(runs), 2, ["0", "5"], after_each=report)
    assert [job.name for job in failed] == ["smart, seed 1"]
    said = capsys.readouterr().out
    assert "smart, seed 1: failed; " in said
    assert "out of luck" in said
    assert "[3/3] salt, seed 1: BLEU 12.3 after 2 updates, BLEU 12.3 after 6 updates, 0 min" in said
    assert len(reports) == 2  # the last one is the caller's
    called = [(made.directory / "called").read_text().split() for made in runs]
    assert all(words[:2] == ["recipes.comparison.run", "3"] for words in called)
    assert [words[2] for words in called][:2] == ["0", "5"]
    began, ended = (
        [float((made.directory / what).read_text()) for made in runs if made.contender != "smart"]
        for what in ("began", "ended")
    )
    assert began[1] > float((runs[0].directory / "began").read_text())
    assert float((runs[1].directory / "began").read_text()) < ended[0]  # beside the first

    (runs[1].directory / "began").unlink()
    (runs[0].directory / "called").unlink()
    pool.finish_all(jobs(runs), 2, [], after_each=report, finished=2)
    assert "2 of 3 runs: already there" in capsys.readouterr().out
    assert not (runs[0].directory / "called").exists()
    assert (runs[1].directory / "called").read_text().split()[2] == "-"  # no GPU


def test_an_interruption_takes_the_runs_with_it(
    data: Path, tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BESIDE", "never")
    runs = [planned(tmp_path, data, name, 2, 6) for name in ("transformer", "salt", "smart")]
    waited: list[float] = []

    def interrupted(seconds: float) -> None:
        waited.append(seconds)
        if all((made.directory / "began").exists() for made in runs[:2]):
            raise KeyboardInterrupt
        original(seconds)

    original: Callable[[float], None] = time.sleep
    monkeypatch.setattr(pool.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.finish_all(jobs(runs), 2, [], after_each=lambda: None)
    assert [(made.directory / "stopped").exists() for made in runs] == [True, True, False]
    assert not (runs[2].directory / "began").exists()


@pytest.mark.parametrize(
    ("gpus_each", "expected"),
    [(1, {"a", "b"}), (2, {"a,b", "c,d"}), (3, {"a,b,c"}), (4, {"a,b,c,d"})],
)
def test_gpus_are_shared_out(
    gpus_each: int, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_POLL", 0.02)
    made = [
        pool.Job(
            name=str(number),
            command=["bash", "-c", "echo $CUDA_VISIBLE_DEVICES $SEED"],
            output=tmp_path / str(number),
            work=1,
            done=lambda: 0.5,
            result=lambda: "done",
            environment={"SEED": str(number)},
        )
        for number in range(3)
    ]
    gpus = ["a", "b", "c", "d"]
    assert not pool.finish_all(made, 2, gpus, after_each=lambda: None, gpus_each=gpus_each)
    said = [(tmp_path / str(number)).read_text().split() for number in range(3)]
    assert {gpu for gpu, _ in said} == expected
    assert [seed for _, seed in said] == ["0", "1", "2"]


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "cores", lambda: 8)
    assert [pool.threads(jobs) for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]
