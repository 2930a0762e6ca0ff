"""What does an update cost? Forward and backward passes of every method, beside a plain step.

    python -m benchmarks.method_costs DATA --path CHECKPOINT

Time on one CPU thread, as a ratio to the plain step on the same batch: medians over batches and
interleaved rounds. `floor` counts a forward pass as 1 and a backward pass as 2 (1 where only the
perturbation's gradient is wanted), over the 3 of a plain step.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.trained import backward, load, parser


@dataclass(frozen=True)
class Contender:
    """A criterion and options that are not its defaults."""

    name: str
    criterion: str
    passes: int
    options: dict[str, Any] = field(default_factory=dict)


CONTENDERS = [
    Contender("plain", "label_smoothed_cross_entropy", 3),
    Contender("freeat", "freeat", 3),
    Contender("adv", "adv", 6),
    Contender("rdrop", "rdrop", 6),
    Contender("simcut", "simcut", 6),
    Contender("vat, K = 1", "vat", 8),
    Contender("smart, K = 1, no proximal term", "smart", 8, {"proximal_weight": 0.0}),
    Contender("smart, K = 1", "smart", 9, {"store_ema": True}),
    Contender("freelb, K = 3, task-loss", "freelb", 9, {"adv_objective": "task-loss"}),
    Contender("freelb, K = 3", "freelb", 12),
    Contender("salt, K = U = 1", "salt", 12),
    Contender("salt, K = U = 1, one-sided", "salt", 12, {"unroll_method": "one-sided"}),
    Contender("salt, K = U = 1, central", "salt", 14, {"unroll_method": "central"}),
]


def main() -> None:
    """Measure, and print a table."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    trained = load(options)
    reference = copy.deepcopy(trained.model).eval()
    criterions = {
        contender.name: trained.criterion(
            contender.criterion,
            **contender.options,
            **({} if contender.name == "plain" else {"gauge_interval": 0}),
        )
        for contender in CONTENDERS
    }

    def step(name: str, sample: dict[str, Any]) -> float:
        trained.model.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        began = time.perf_counter()
        if name == "plain":
            criterions[name](trained.model, sample)[0].backward()
        else:
            criterions[name].play(
                trained.model, sample, 0, backward, reference_model=reference, memory=None
            )
        return time.perf_counter() - began

    ratios: dict[str, list[float]] = {name: [] for name in criterions}
    for _ in tqdm(range(options.rounds), "rounds"):
        for sample in trained.batches:
            seconds = {name: step(name, sample) for name in criterions}
            for name, taken in seconds.items():
                ratios[name].append(taken / seconds["plain"])
    print(f"{len(trained.batches)} batches of at most {options.max_tokens} tokens, one thread")
    print(f"{'':32}  plain steps  floor")
    for contender in CONTENDERS:
        ratio = statistics.median(ratios[contender.name])
        print(f"{contender.name:32}  {ratio:11.2f}  {contender.passes / 3:5.2f}")


if __name__ == "__main__":
    main()
