"""Each method as its paper writes it down: one sentence, one graph, nothing saved or shared.

Nothing here comes from `fairseq_adv`: embeddings are shifted by another mechanism, losses are
written out, gradients are taken of one whole objective. Each function returns the objective and its
gradient in the model's parameters. Dropout masks are given as seeds, one for each pass in the order
of the algorithm; the first is the clean one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SMOOTHING = 0.1


@dataclass(frozen=True)
class Settings:
    """What the algorithms call alpha, epsilon, eta and K; mu and theta~ are SMART's."""

    weight: float
    sides: Sequence[str]
    epsilon: float = 0.0
    step_size: float = 0.0
    steps: int = 1
    noise: dict[str, Tensor] | None = None
    keep: dict[str, Tensor] | None = None
    proximal_weight: float = 0.0
    reference: Any = None
    replays: int = 1
    learning_rate: float = 0.0


class _Replaced(nn.Module):
    """An embedding whose output is changed: what stands in `embed_tokens` for one pass."""

    def __init__(self, original: nn.Module, delta: Tensor | None, keep: Tensor | None) -> None:
        super().__init__()
        self.original, self.delta, self.keep = original, delta, keep
        self.padding_idx = original.padding_idx

    def forward(self, tokens: Tensor) -> Tensor:
        words = self.original(tokens)
        if self.keep is not None:
            words = torch.where(self.keep.bool().unsqueeze(-1), words, torch.zeros_like(words))
        return words if self.delta is None else words + self.delta


@contextmanager
def replaced(model: Any, delta: dict[str, Tensor], keep: dict[str, Tensor]) -> Iterator[None]:
    originals = {}
    for side, part in (("source", model.encoder), ("target", model.decoder)):
        originals[side] = part.embed_tokens
        part.embed_tokens = _Replaced(part.embed_tokens, delta.get(side), keep.get(side))
    try:
        yield
    finally:
        model.encoder.embed_tokens = originals["source"]
        model.decoder.embed_tokens = originals["target"]


def log_probs(
    model: Any,
    sample: Any,
    seed: int,
    delta: dict[str, Tensor] | None = None,
    keep: dict[str, Tensor] | None = None,
) -> Tensor:
    """log f(x + delta): T x V, of the one sentence."""
    torch.manual_seed(seed)
    with replaced(model, delta or {}, keep or {}):
        logits = model(**sample["net_input"])[0]
    assert logits.size(0) == 1
    return torch.log_softmax(logits[0], -1)


def task_loss(log_p: Tensor, sample: Any) -> Tensor:
    """Cross-entropy with a target that gives 1 - s to the word and s / (V - 1) to each other."""
    words = sample["target"][0]
    size = log_p.size(1)
    loss = torch.zeros((), dtype=log_p.dtype)
    for position, word in enumerate(words.tolist()):
        target = torch.full((size,), SMOOTHING / (size - 1), dtype=log_p.dtype)
        target[word] = 1 - SMOOTHING
        loss = loss - (target * log_p[position]).sum()
    return loss


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum()


def half_symmetric(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (kl(log_p, log_q) + kl(log_q, log_p)) / 2


def gradient(objective: Tensor, model: Any) -> list[Tensor]:
    parameters = list(model.parameters())
    found = torch.autograd.grad(objective, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def projected(delta: Tensor, epsilon: float) -> Tensor:
    length = delta.norm()
    return delta * (epsilon / length) if length > epsilon else delta


def ascend(
    value: Tensor, delta: dict[str, Tensor], settings: Settings, *, graph: bool = False
) -> dict[str, Tensor]:
    """delta^k = Pi(delta^{k-1} + eta g / ||g||), each side on its own."""
    gradients = torch.autograd.grad(value, list(delta.values()), create_graph=graph)
    return {
        side: projected(d + settings.step_size * g / g.norm(), settings.epsilon)
        for (side, d), g in zip(delta.items(), gradients, strict=True)
    }


def leaves(delta: dict[str, Tensor]) -> dict[str, Tensor]:
    return {side: d.detach().requires_grad_() for side, d in delta.items()}


def start(settings: Settings) -> dict[str, Tensor]:
    assert settings.noise is not None
    return leaves({side: settings.noise[side] for side in settings.sides})


def zeros(settings: Settings) -> dict[str, Tensor]:
    return {side: 0 * d for side, d in start(settings).items()}


def salt(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """SALT, Algorithm 1; the graph goes through all of Eq. 3, so that backward gives Eq. 4."""
    clean = log_probs(model, sample, seeds[0])
    delta = start(s)
    for k in range(s.steps):
        value = half_symmetric(clean, log_probs(model, sample, seeds[1 + k], delta))
        delta = ascend(value, delta, s, graph=True)  # Eq. 3
    l_v = half_symmetric(clean, log_probs(model, sample, seeds[1 + s.steps], delta))
    objective = task_loss(clean, sample) + s.weight * l_v  # Eq. 2
    return objective, gradient(objective, model)  # Eq. 4


def vat(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """SALT's Algorithm 2, with the clean predictions as constants (Miyato's theta-hat)."""
    clean = log_probs(model, sample, seeds[0])
    delta = start(s)
    for k in range(s.steps):
        value = kl(clean.detach(), log_probs(model, sample, seeds[1 + k], delta))
        delta = leaves(ascend(value, delta, s))
    delta = {side: d.detach() for side, d in delta.items()}
    l_v = kl(clean.detach(), log_probs(model, sample, seeds[1 + s.steps], delta))
    objective = task_loss(clean, sample) + s.weight * l_v  # Eq. 7
    return objective, gradient(objective, model)


def smart(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """SMART, Algorithm 1, with halved divergences."""
    clean = log_probs(model, sample, seeds[0])
    delta = start(s)
    for k in range(s.steps):
        value = half_symmetric(clean, log_probs(model, sample, seeds[1 + k], delta))
        delta = leaves(ascend(value, delta, s))
    delta = {side: d.detach() for side, d in delta.items()}
    r_s = half_symmetric(log_probs(model, sample, seeds[1 + s.steps], delta), clean)
    with torch.no_grad():
        reference = log_probs(s.reference.eval(), sample, 0)
    objective = task_loss(clean, sample) + s.weight * r_s
    objective = objective + s.proximal_weight * half_symmetric(clean, reference)
    return objective, gradient(objective, model)


def adv(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """Sato et al.: r = epsilon a / ||a||, each side on its own."""
    r = leaves(zeros(s))
    clean = task_loss(log_probs(model, sample, seeds[0], r), sample)
    a = torch.autograd.grad(clean, list(r.values()), retain_graph=True)
    r = {side: s.epsilon * x / x.norm() for side, x in zip(r, a, strict=True)}
    objective = clean + s.weight * task_loss(log_probs(model, sample, seeds[1], r), sample)
    return objective, gradient(objective, model)


def freelb(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """FreeLB, Algorithm 1, with l_v in the place of the loss, and the clean loss beside it."""
    clean = log_probs(model, sample, seeds[0])
    objective = task_loss(clean, sample)
    g = gradient(objective, model)
    delta = start(s)
    for t in range(s.steps):
        clean = log_probs(model, sample, seeds[0])
        value = half_symmetric(clean, log_probs(model, sample, seeds[1 + t], delta))
        share = s.weight / s.steps * value
        objective = objective + share.detach()
        ascended = torch.autograd.grad(value, list(delta.values()), retain_graph=True)
        g = [a + b for a, b in zip(g, gradient(share, model), strict=True)]
        delta = _moved(delta, ascended, s)
    return objective, g


def freelb_task_loss(
    model: Any, sample: Any, s: Settings, seeds: list[int]
) -> tuple[Tensor, list[Tensor]]:
    """FreeLB, Algorithm 1, with (1 - alpha) of the clean loss."""
    clean = task_loss(log_probs(model, sample, seeds[0]), sample)
    objective = (1 - s.weight) * clean
    g = gradient(objective, model)
    delta = start(s)
    for t in range(s.steps):
        value = task_loss(log_probs(model, sample, seeds[1 + t], delta), sample)
        share = s.weight / s.steps * value
        objective = objective + share.detach()
        ascended = torch.autograd.grad(value, list(delta.values()), retain_graph=True)
        g = [a + b for a, b in zip(g, gradient(share, model), strict=True)]
        delta = _moved(delta, ascended, s)
    return objective, g


def freeat(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """FreeAT, Algorithm 1: m replays with an optimizer's update (SGD) after each but the last.

    Returns the last replay's objective and gradient; the updates stay in the model.
    """
    seed = iter(seeds)
    delta = leaves(zeros(s))
    for replay in range(s.replays):
        value = task_loss(log_probs(model, sample, next(seed), delta), sample)
        g_adv = torch.autograd.grad(value, list(delta.values()), retain_graph=True)
        g_theta = gradient(value, model)
        if replay == s.replays - 1:
            return value, g_theta
        _update(model, g_theta, s.learning_rate)
        delta = _moved(delta, g_adv, s)
    raise AssertionError("at least one replay")


def freeat_divergence(
    model: Any, sample: Any, s: Settings, seeds: list[int]
) -> tuple[Tensor, list[Tensor]]:
    """As `freeat`, with L + alpha l_v."""
    seed = iter(seeds)
    delta = leaves(zeros(s))
    for replay in range(s.replays):
        clean = log_probs(model, sample, next(seed))
        value = half_symmetric(clean, log_probs(model, sample, next(seed), delta))
        objective = task_loss(clean, sample) + s.weight * value
        g_adv = torch.autograd.grad(value, list(delta.values()), retain_graph=True)
        g_theta = gradient(objective, model)
        if replay == s.replays - 1:
            return objective, g_theta
        _update(model, g_theta, s.learning_rate)
        delta = _moved(delta, g_adv, s)
    raise AssertionError("at least one replay")


def rdrop(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """R-Drop, Algorithm 1."""
    first, second = (log_probs(model, sample, seed) for seed in seeds[:2])
    objective = task_loss(first, sample) + task_loss(second, sample)
    objective = objective + s.weight * half_symmetric(first, second)
    return objective, gradient(objective, model)


def simcut(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """SimCut's objective."""
    assert s.keep is not None
    clean = log_probs(model, sample, seeds[0])
    keep = {side: s.keep[side] for side in s.sides}
    cut = log_probs(model, sample, seeds[1], keep=keep)
    objective = task_loss(clean, sample) + s.weight * kl(clean, cut)
    return objective, gradient(objective, model)


def _moved(delta: dict[str, Tensor], g_adv: Sequence[Tensor], s: Settings) -> dict[str, Tensor]:
    return leaves(
        {
            side: projected(d + s.step_size * (g / g.norm() if g.norm() > 0 else g), s.epsilon)
            for (side, d), g in zip(delta.items(), g_adv, strict=True)
        }
    )


def _update(model: Any, gradients: list[Tensor], learning_rate: float) -> None:
    with torch.no_grad():
        for parameter, g in zip(model.parameters(), gradients, strict=True):
            parameter -= learning_rate * g
