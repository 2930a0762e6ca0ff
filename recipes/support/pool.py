"""Do jobs that take hours, several at a time, and show how it goes."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from data_prep.support.parallel import cores
from recipes.support.processes import end_all
from recipes.training.training_log import parse_line

_POLL = 1.0  # seconds
_TAIL = 20_000  # bytes at the end of a log that hold its last record


@dataclass(frozen=True)
class Job:
    """What one process does.

    :param output: file for what it says.
    :param work: how much it is to do, in a unit that all jobs share.
    :param done: how much of that is done.
    :param result: what to say when it has succeeded.
    """

    name: str
    command: Sequence[str]
    output: Path
    work: float
    done: Callable[[], float]
    result: Callable[[], str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Running:
    job: Job
    slot: int
    process: "subprocess.Popen[bytes]"
    began: float


def finish_all(
    jobs: Sequence[Job],
    at_a_time: int,
    gpus: Sequence[str],
    after_each: Callable[[], None],
    *,
    gpus_each: int = 1,
    finished: int = 0,
    unit: str = "update",
) -> list[Job]:
    """Do all jobs, so many at a time; return those that failed.

    :param gpus: as in CUDA_VISIBLE_DEVICES, of which each job gets ``gpus_each``. Empty on a CPU.
    :param after_each: is called when a job is done and others are not.
    :param finished: jobs that were finished before, and are not among ``jobs``.
    :param unit: of their work.
    """
    waiting = list(jobs)
    total = finished + len(jobs)
    ended = finished
    if finished:
        print(f"  {finished} of {total} runs: already there")
    free = list(range(at_a_time))
    at_work: list[_Running] = []
    failed: list[Job] = []
    with tqdm(
        total=round(sum(job.work for job in jobs)),
        desc="runs",
        unit=f" {unit}s",
        leave=False,
        disable=None,
    ) as bar:
        try:
            while waiting or at_work:
                while waiting and free:
                    at_work.append(_start(waiting.pop(0), free.pop(0), at_a_time, gpus, gpus_each))
                time.sleep(_POLL)
                for running in [r for r in at_work if r.process.poll() is not None]:
                    at_work.remove(running)
                    free.append(running.slot)
                    ended += 1
                    if running.process.returncode:
                        failed.append(running.job)
                    bar.write(f"  [{ended}/{total}] {_result(running)}")
                    if waiting or at_work:
                        after_each()
                left = sum(job.work for job in waiting)
                left += sum(running.job.work - running.job.done() for running in at_work)
                bar.update(round(bar.total - left) - bar.n)
        finally:
            end_all([running.process for running in at_work])
    return failed


def threads(jobs: int) -> int:
    """Return how many CPU threads each of so many jobs gets."""
    return max(1, cores() // jobs)


def updates_done(log: Path) -> int:
    """Return how far a training is, by its log."""
    if not log.exists():
        return 0
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        records = [parse_line(line) for line in stream.read().split(b"\n")]
    return max((record.update for record in records if record), default=0)


def _start(job: Job, slot: int, jobs: int, gpus: Sequence[str], gpus_each: int) -> _Running:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads(jobs))} | dict(job.environment)
    if gpus:
        whole = len(gpus) - len(gpus) % gpus_each  # the rest is too few for a job
        groups = [gpus[i : i + gpus_each] for i in range(0, whole, gpus_each)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(groups[slot % len(groups)])
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with job.output.open("wb") as output:
        process = subprocess.Popen(
            job.command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    return _Running(job, slot, process, time.monotonic())


def _result(running: _Running) -> str:
    job = running.job
    if running.process.returncode:
        said = job.output.read_text("utf-8", "replace").strip().split("\n")
        return f"{job.name}: failed; {job.output} ends with:\n    {said[-1][:200]}"
    minutes, seconds = divmod(round(time.monotonic() - running.began), 60)
    return f"{job.name}: {job.result()}, {minutes} min {seconds} s"
