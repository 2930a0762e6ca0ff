"""One of two workers that play the page's game: `python -m tests.core.page_worker`, for a test."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from fairseq_adv.core.backward import Backward
from tests.core.page import load


def main(program: Path, rank: int, meeting: str, out: Path) -> None:
    """Write the summed gradients of all methods of the page, each on this worker's images."""
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    page = load(program)
    images, labels = page.digits()
    mine = slice(6 * rank, 6 * rank + 6)
    found = {}
    for name, method in page.METHODS.items():
        torch.manual_seed(1)
        model = page.classifier().double()
        parallel = DistributedDataParallel(model)
        torch.manual_seed(rank)
        game = page.ImageGame(parallel, images[mine].double(), labels[mine])
        with parallel.no_sync():
            method.step(game, Backward(), weight=0.7)
        for parameter in model.parameters():
            distributed.all_reduce(parameter.grad)
        found[name] = [parameter.grad for parameter in model.parameters()]
    torch.save(found, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
