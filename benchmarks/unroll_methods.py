"""Which way to the Stackelberg gradient? Cost, memory and accuracy of the three, side by side.

    python benchmarks/unroll_methods.py DATA --path CHECKPOINT

Time of one forward-backward step on one thread, as a ratio to the plain step on the same batch:
medians over interleaved rounds. Accuracy against double backward under the same random numbers:
the error of the leader-follower term alone, relative to its size, for several radii of the
finite difference. DATA is a binarised corpus, CHECKPOINT a model trained on it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from fairseq import checkpoint_utils, utils
from tqdm import tqdm

import fairseq_adv
from fairseq_adv.core.methods.salt import SALT
from fairseq_adv.criterions.salt import SALTConfig, SALTCriterion
from fairseq_adv.fairseq_game import FairseqGame

RADII = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)


def backward(loss: torch.Tensor, leaves: Any = ()) -> tuple[torch.Tensor, ...]:
    """`core.game.Accumulate`."""
    loss.backward()
    gradients = tuple(torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)
    for leaf in leaves:
        leaf.grad = None
    return gradients


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--path", required=True, help="checkpoint of a trained model")
    parser.add_argument("--activation-fn", help="in place of the model's own")
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    overrides = {"data": options.data}
    if options.activation_fn:
        overrides["activation_fn"] = options.activation_fn
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([options.path], overrides)
    task.load_dataset("train")
    batches = list(
        task.get_batch_iterator(
            task.dataset("train"), max_tokens=options.max_tokens, seed=1
        ).next_epoch_itr()
    )[: options.batches]
    criterion = SALTCriterion(
        SALTConfig(_name="salt", sentence_avg=False, label_smoothing=0.1), task
    )
    salt: SALT = criterion.method
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]

    def step(method: SALT | None, sample: Any) -> None:
        model.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        if method is None:
            criterion(model, sample)[0].backward()
        else:
            backward(method.step(FairseqGame(model, sample, criterion), backward, weight=1.0).last)

    def gradient(method: SALT, sample: Any) -> torch.Tensor:
        step(method, sample)
        return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])

    ways: dict[str, SALT | None] = {
        "plain": None,
        "no unrolling (VAT)": salt.without_interaction(),
        "exact": replace(salt, unroll_method="exact"),
        "central": replace(salt, unroll_method="central"),
        "one-sided": replace(salt, unroll_method="one-sided"),
    }
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(options.rounds), "time"):
        for sample in batches:
            seconds = {}
            for name, way in ways.items():
                began = time.perf_counter()
                step(way, sample)
                seconds[name] = time.perf_counter() - began
            for name in ways:
                ratios[name].append(seconds[name] / seconds["plain"])
    print(f"{len(batches)} batches of at most {options.max_tokens} tokens, one thread")
    for name, values in ratios.items():
        print(f"{name:20} {statistics.median(values):5.2f} plain steps")

    print("\nerror of the leader-follower term against double backward (median over batches)")
    for name, radius in tqdm(list(itertools.product(("central", "one-sided"), RADII)), "error"):
        errors = []
        for sample in batches:
            exact = gradient(salt, sample)
            interaction = exact - gradient(salt.without_interaction(), sample)
            way = replace(salt, unroll_method=name, difference_radius=radius)
            errors.append(float((gradient(way, sample) - exact).norm() / interaction.norm()))
        tqdm.write(f"{name:10} radius {radius:<7g} {statistics.median(errors):8.3f}")


if __name__ == "__main__":
    utils.import_user_module(argparse.Namespace(user_dir=str(fairseq_adv.__path__[0])))
    main()
