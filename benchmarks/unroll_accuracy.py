"""How well does a finite difference unroll an ascent step? The error of both, for several radii.

    python -m benchmarks.unroll_accuracy DATA --path CHECKPOINT

Against double backward under the same random numbers: the error of the leader-follower term alone,
relative to its size; the median over batches.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.support.trained import backward, load, parser
from fairseq_adv.games.translation import TranslationGame

RADII = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)


def main() -> None:
    """Measure, and print a line for each way and radius."""
    trained = load(parser(__doc__).parse_args())
    criterion = trained.criterion("salt")
    parameters = [p for p in trained.model.parameters() if p.requires_grad]

    def gradient(method: Any, sample: dict[str, Any]) -> torch.Tensor:
        trained.model.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        game = TranslationGame(trained.model, sample, criterion.plain)
        method.interaction(game, backward, weight=1.0)
        found = (torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
        return torch.cat([g.flatten() for g in found])

    for name, radius in tqdm(list(itertools.product(("central", "one-sided"), RADII)), "error"):
        errors = []
        for sample in trained.batches:
            exact = gradient(criterion.method, sample)
            way = replace(criterion.method, unroll_method=name, difference_radius=radius)
            errors.append(float((gradient(way, sample) - exact).norm() / exact.norm()))
        tqdm.write(f"{name:10} radius {radius:<7g} {statistics.median(errors):8.3f}")


if __name__ == "__main__":
    main()
