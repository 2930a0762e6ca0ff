"""What the benchmarks take for SALT's published algorithm, against a naive loop."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import release
from tests.support import tiny
from tests.support.gradients import distance

needs_higher = pytest.mark.skipif(
    not release.registered(),
    reason="needs the package higher: pip install -r benchmarks/requirements.txt",
)


def naive_release(
    model: Any, sample: dict[str, Any], start: list[Tensor], eta: float, epsilon: float
) -> tuple[list[Tensor], list[Tensor]]:
    """The two gradients that it adds up: through the step of ascent, and of the loss at the start.

    With hooks and `torch.autograd.grad`, one row of logits at a time.
    """
    parameters = list(model.parameters())
    target = sample["target"]

    def logits(delta: list[Tensor] | None) -> Tensor:
        hooks = []
        if delta is not None:
            for part, d in zip((model.encoder, model.decoder), delta, strict=True):
                add = lambda _, __, out, d=d: out + d  # noqa: E731
                hooks.append(part.embed_tokens.register_forward_hook(add))
        result: Tensor = model(**sample["net_input"])[0]
        for hook in hooks:
            hook.remove()
        return result

    def divergence(of: Tensor) -> Tensor:
        total = of.new_zeros(())
        for b in range(target.size(0)):
            for t in range(target.size(1)):
                if target[b, t] == model.decoder.padding_idx:
                    continue
                p, q = clean[b, t].softmax(-1).detach(), of[b, t].softmax(-1)
                total = total + ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
        return total

    clean = logits(None)
    delta = [d.clone().requires_grad_() for d in start]
    ascent = torch.autograd.grad(divergence(logits(delta)), delta, create_graph=True)
    moved = [d + eta * g for d, g in zip(delta, ascent, strict=True)]
    unrolled = torch.autograd.grad(divergence(logits(moved)), parameters)
    projected = []
    for d in start:
        norms = d.flatten(1).norm(dim=1) + 1e-7  # as torch.renorm has it
        projected.append(d * (epsilon / norms).clamp(max=1.0).view(-1, 1, 1))
    log_p = clean.log_softmax(-1)
    task_loss = sum(
        -log_p[b, t, target[b, t]]
        for b in range(target.size(0))
        for t in range(target.size(1))
        if target[b, t] != model.decoder.padding_idx
    )
    leader = torch.autograd.grad(task_loss + divergence(logits(projected)), parameters)
    return list(unrolled), list(leader)


@needs_higher
def test_the_release_s_gradient_is_what_its_algorithm_says() -> None:
    """In float64 without dropout, where each of its two parts matters, and the unrolling too."""
    from benchmarks.support.higher_salt import Settings, make_perturbable, perturbed_loss

    settings = Settings(init_std=0.3, ascent_step_size=0.2, epsilon=0.9)
    sample = tiny.batch()
    with tiny.float64_throughout(), sdpa_kernel(SDPBackend.MATH):
        model = tiny.shared_transformer().double()
        plain = copy.deepcopy(model)
        own = torch.nn.Embedding(*plain.decoder.embed_tokens.weight.shape, padding_idx=1)
        own.weight = plain.decoder.embed_tokens.weight
        plain.encoder.embed_tokens = own  # a module of its own, for hooks, with the same words
        make_perturbable(model)
        for parameter in model.parameters():  # of a batch before, which is lost
            parameter.grad = torch.full_like(parameter, 7.0)
        torch.manual_seed(4)
        start = [
            torch.empty(*sample["net_input"][name].shape, 8, dtype=torch.float64).normal_(0, 0.3)
            for name in ("src_tokens", "prev_output_tokens")
        ]
        torch.manual_seed(4)
        clean = model(**sample["net_input"])[0]
        target = sample["target"]
        task_loss = torch.nn.functional.cross_entropy(
            clean.transpose(1, 2), target, ignore_index=1, reduction="sum"
        )
        (task_loss + perturbed_loss(model, sample, clean, settings)).backward()
        unrolled, leader = naive_release(plain, sample, start, 0.2, 0.9)
        frozen, _ = naive_release(plain, sample, start, 0.0, 0.9)
    ours = [parameter.grad for parameter in model.parameters()]
    expected = [a + b for a, b in zip(unrolled, leader, strict=True)]
    assert distance(ours, expected) < 1e-12
    assert distance(ours, leader) > 0.01
    assert distance([a + b for a, b in zip(frozen, leader, strict=True)], expected) > 0.01
    assert all(part.embed_tokens.perturbation is None for part in (model.encoder, model.decoder))
