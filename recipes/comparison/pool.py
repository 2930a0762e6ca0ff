"""Do the trainings of a comparison, several at a time."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from data_prep.parallel import cores
from recipes.comparison.plan import Run
from recipes.comparison.run import at, is_finished
from recipes.files import LOG, SCORES, read_json
from recipes.training_log import parse_line

OUTPUT = "run.log"
_POLL = 1.0  # seconds
_TAIL = 20_000  # bytes at the end of a log that hold its last record


@dataclass(frozen=True)
class _Job:
    run: Run
    slot: int
    process: "subprocess.Popen[bytes]"
    began: float


def finish_all(
    runs: Sequence[Run],
    costs: Mapping[str, float],
    jobs: int,
    gpus: Sequence[str],
    after_each: Callable[[], None],
) -> list[Run]:
    """Finish all runs, `jobs` at a time, and show how it goes; return those that failed.

    :param costs: time per update of each contender, relative to plain training: for the estimate
        of the time that is left.
    :param gpus: as in CUDA_VISIBLE_DEVICES; each job gets one. Empty on a CPU.
    :param after_each: is called when a run is finished and others are not.
    """
    waiting = [run for run in runs if not is_finished(run)]
    ended = len(runs) - len(waiting)
    if ended:
        print(f"  {ended} of {len(runs)} runs: already there", flush=True)
    free = list(range(jobs))
    at_work: list[_Job] = []
    failed: list[Run] = []

    def work(run: Run, updates: int) -> float:
        return updates * costs[run.contender]

    total = sum(work(run, run.horizons[-1]) for run in waiting)
    with tqdm(
        total=round(total), desc="compare", unit=" plain updates", leave=False, disable=None
    ) as bar:
        try:
            while waiting or at_work:
                while waiting and free:
                    at_work.append(_start(waiting.pop(0), free.pop(0), jobs, gpus))
                time.sleep(_POLL)
                for job in [job for job in at_work if job.process.poll() is not None]:
                    at_work.remove(job)
                    free.append(job.slot)
                    ended += 1
                    if job.process.returncode:
                        failed.append(job.run)
                    bar.write(f"  [{ended}/{len(runs)}] {_result(job)}")
                    sys.stdout.flush()
                    if waiting or at_work:
                        after_each()
                left = sum(work(run, run.horizons[-1]) for run in waiting)
                left += sum(work(j.run, j.run.horizons[-1] - _updates(j.run)) for j in at_work)
                bar.update(round(total - left) - bar.n)
        finally:
            for job in at_work:
                job.process.terminate()
            for job in at_work:
                job.process.wait()
    return failed


def threads(jobs: int) -> int:
    """Return how many CPU threads each of so many jobs gets."""
    return max(1, cores() // jobs)


def _start(run: Run, slot: int, jobs: int, gpus: Sequence[str]) -> _Job:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads(jobs))}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with (run.directory / OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "recipes.comparison.run", str(run.directory)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    return _Job(run, slot, process, time.monotonic())


def _updates(run: Run) -> int:
    """Return how far a training is, by its log."""
    log = run.directory / LOG
    if not log.exists():
        return 0
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        records = [parse_line(line) for line in stream.read().split(b"\n")]
    return max((record.update for record in records if record), default=0)


def _result(job: _Job) -> str:
    minutes, seconds = divmod(round(time.monotonic() - job.began), 60)
    what = f"{job.run.contender}, seed {job.run.seed}: "
    if job.process.returncode:
        output = job.run.directory / OUTPUT
        said = output.read_text("utf-8", "replace").strip().split("\n")
        return f"{what}failed; {output} ends with:\n    {said[-1][:200]}"
    for updates in job.run.horizons:
        scores = read_json(at(job.run.directory, updates) / SCORES, made_by="recipes/compare.sh")
        what += f"BLEU {scores['systems']['model']['bleu']:.1f} after {updates:,} updates, "
    return f"{what}{minutes} min {seconds} s"
