"""One worker of trainings in several processes, for `test_data_parallel.py`: all methods in turn.

    python -m tests.tasks.workers DATA OUT BACKEND MEET RANK WORLD [METHOD ...]

Each training ends in OUT/METHOD, with what it logged in OUT/METHOD/log.json. A batch's random
numbers depend on its sentences only: they are the same wherever it is dealt out to. With one
worker, batches are accumulated instead: as many as there are workers elsewhere, which is WORLD.
BACKEND is one of fairseq's; options may follow it: `pytorch_ddp --heartbeat-timeout 99`.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.distributed import utils as distributed_utils

from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from tests.methods.method_table import TRAINED, Row
from tests.support import training

OPTIONS = ["--clip-norm", "1.0", "--max-update", "9", "--max-tokens", "45"]
OPTIONS += ["--gauge-interval", "4"]
# Not Adam: of gradients that should be zero, it makes steps as large as of any other.
OPTIONS += ["--optimizer", "sgd", "--lr", "0.5"]


def options_of(row: Row) -> list[str]:
    """The row's options as on the command line."""
    found = [f"--{name.replace('_', '-')}={value}" for name, value in row.options.items()]
    return [*OPTIONS, *found, *row.training]


class Synchronisations:
    """Counts how often workers share a whole model's gradient."""

    def __init__(self) -> None:
        self.count = 0
        self._all_reduce = distributed_utils.all_reduce

    def __call__(self, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        # Else it is what the log is made of, or the leader-follower term of a gauged update.
        self.count += tensor.numel() > 1000 and not _called_for_a_gauge()
        return self._all_reduce(tensor, *args, **kwargs)


def _called_for_a_gauge() -> bool:
    return any(frame.name == "gradient_known" for frame in traceback.extract_stack())


class Lines(logging.Handler):
    """What the trainer logs of each update."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "train_inner":
            self.found.append(json.loads(record.getMessage()))


def place_randomness() -> None:
    """Let a batch draw from a state that its sentences give."""
    play = AdversarialCriterion.play

    def seeded(criterion: Any, model: Any, sample: dict[str, Any], *more: Any, **named: Any) -> Any:
        torch.manual_seed(int(sample["id"].sum()))
        return play(criterion, model, sample, *more, **named)

    pytest.MonkeyPatch().setattr(AdversarialCriterion, "play", seeded)


def main(
    data: Path, out: Path, backend: str, meet: str, rank: int, world: int, methods: list[str]
) -> None:
    """Train with each method; the first worker also writes how often gradients were shared."""
    if backend == "accumulated":
        sharing = ["--update-freq", str(world)]
    else:
        torch.distributed.init_process_group("gloo", init_method=meet, world_size=world, rank=rank)
        sharing = ["--ddp-backend", *backend.split(), "--distributed-backend", "gloo"]
        sharing += ["--distributed-world-size", str(world), "--distributed-rank", str(rank)]
        sharing += ["--distributed-init-method", meet, "--distributed-no-spawn"]
    of_task = training.SENTENCES if (data / "input0").exists() else []
    counts = {}
    place_randomness()
    progress = logging.getLogger("fairseq.logging.progress_bar")
    progress.setLevel(logging.INFO)
    for row in TRAINED:
        if methods and row.name not in methods:
            continue
        lines = Lines()
        progress.addHandler(lines)
        counting = Synchronisations()
        distributed_utils.all_reduce = counting
        options = [*of_task, *options_of(row), *sharing]
        training.run_training(data, out / row.name, *options, criterion=row.criterion)
        distributed_utils.all_reduce = counting._all_reduce
        progress.removeHandler(lines)
        counts[row.name] = counting.count
        if rank == 0:
            (out / row.name / "log.json").write_text(json.dumps(lines.found))
    if rank == 0:
        (out / "synchronisations.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    folder, target, name, where, number, size, *methods = sys.argv[1:]
    main(Path(folder), Path(target), name, where, int(number), int(size), methods)
