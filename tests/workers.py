"""One worker of trainings in several processes, for `test_data_parallel.py`: all methods in turn.

    python -m tests.workers DATA OUT BACKEND RANK WORLD PORT

Each training ends in OUT/BACKEND/METHOD. Random starts and cut-offs depend on a word's position
only, so that the same sentences meet the same ones however they are dealt out. With one worker,
batches are accumulated instead: as many as there are workers elsewhere (WORLD is 1 x their number).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.distributed import utils as distributed_utils

from tests import training
from tests.method_table import ROWS, Row, place_noise

OPTIONS = ["--dropout", "0", "--clip-norm", "1.0", "--max-update", "9", "--max-tokens", "45"]
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
        self.count += tensor.numel() > 1000  # else it is what the log is made of
        return self._all_reduce(tensor, *args, **kwargs)


def main(data: Path, out: Path, backend: str, rank: int, world: int, port: int) -> None:
    """Train with each method; the first worker also writes how often gradients were shared."""
    if backend == "accumulated":
        sharing = ["--update-freq", str(world)]
    else:
        address = f"tcp://localhost:{port}"
        torch.distributed.init_process_group(
            "gloo", init_method=address, world_size=world, rank=rank
        )
        sharing = ["--ddp-backend", backend, "--distributed-backend", "gloo"]
        sharing += ["--distributed-world-size", str(world), "--distributed-rank", str(rank)]
        sharing += ["--distributed-init-method", address, "--distributed-no-spawn"]
        sharing += ["--heartbeat-timeout", "600"]  # wraps the model, and may change nothing
    counts = {}
    place_noise(pytest.MonkeyPatch())
    for row in ROWS:
        counting = Synchronisations()
        distributed_utils.all_reduce = counting
        training.run_training(
            data, out / row.name, *options_of(row), *sharing, criterion=row.criterion
        )
        counts[row.name] = counting.count
    if rank == 0:
        (out / "synchronisations.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    folder, target, name, *numbers = sys.argv[1:]
    main(Path(folder), Path(target), name, *map(int, numbers))  # type: ignore[arg-type]
