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
from fairseq import utils
from torch import Tensor, nn
from torch.nn import functional

SMOOTHING = 0.1
HEAD = "sentence_classification_head"


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
    rule: str = "normalized"
    norm: str = "l2"
    scope: str = "sentence"
    mean_decay: float = 0.0


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
    parts = {"source": getattr(model.encoder, "sentence_encoder", model.encoder)}
    if hasattr(model, "decoder"):
        parts["target"] = model.decoder
    originals = {side: part.embed_tokens for side, part in parts.items()}
    for side, part in parts.items():
        part.embed_tokens = _Replaced(part.embed_tokens, delta.get(side), keep.get(side))
    try:
        with shifted_scores(model, delta.get("attention")):
            yield
    finally:
        for side, part in parts.items():
            part.embed_tokens = originals[side]


@contextmanager
def shifted_scores(model: Any, delta: Tensor | None) -> Iterator[None]:
    """Scores of the one sentence plus delta.

    In the softmax of the decoder's attention over the source; as a mask of torch's fused
    self-attention; at what an additive attention projects to, whose sum is over the same words.

    :param delta: 1 x T x layers * heads * S.
    """
    if delta is None:
        yield
        return
    if additive := getattr(model.encoder, "attention", None):
        hook = additive.score.register_forward_hook(
            lambda module, inputs, output: output + delta[0, 0, :, None]
        )
        try:
            yield
        finally:
            hook.remove()
        return
    decoder = getattr(model, "decoder", None)
    layers = (decoder or model.encoder.sentence_encoder).layers
    attention = layers[0].self_attn if decoder is None else layers[0].encoder_attn
    by_head = delta[0].view(delta.size(1), len(layers), attention.num_heads, -1)
    of_layers = iter(by_head.permute(1, 2, 0, 3))  # H x T x S each
    softmax, fused = utils.softmax, functional.scaled_dot_product_attention
    if decoder is None:
        functional.scaled_dot_product_attention = lambda q, k, v, mask, *more, **most: fused(
            q, k, v, next(of_layers)[None] + (0 if mask is None else mask), *more, **most
        )
    else:
        utils.softmax = lambda x, dim, **more: softmax(x + next(of_layers), dim, **more)
    try:
        yield
        assert next(of_layers, None) is None, "all layers had their part"
    finally:
        utils.softmax, functional.scaled_dot_product_attention = softmax, fused


def log_probs(
    model: Any,
    sample: Any,
    seed: int,
    delta: dict[str, Tensor] | None = None,
    keep: dict[str, Tensor] | None = None,
) -> Tensor:
    """log f(x + delta) of the one sentence: T x V, or of its classes; or its number."""
    torch.manual_seed(seed)
    of_sentence = not hasattr(model, "decoder")
    head = {"features_only": True, "classification_head_name": HEAD} if of_sentence else {}
    with replaced(model, delta or {}, keep or {}):
        logits = model(**sample["net_input"], **head)[0]
    assert logits.size(0) == 1
    if of_sentence:
        return logits if is_number(logits) else torch.log_softmax(logits, -1)
    return torch.log_softmax(logits[0], -1)


def is_number(predicted: Tensor) -> bool:
    """A single output is no distribution."""
    return predicted.size(-1) == 1


def task_loss(log_p: Tensor, sample: Any) -> Tensor:
    """Cross-entropy with a target that gives 1 - s to the word and s / (V - 1) to each other.

    Of a sentence's class without s; of a number, its squared error.
    """
    if is_number(log_p):
        return (log_p[0, 0] - sample["target"][0, 0]) ** 2
    if sample["target"].size(1) == 1 and "prev_output_tokens" not in sample["net_input"]:
        return -log_p[0, int(sample["target"][0, 0])]
    words = sample["target"][0]
    size = log_p.size(1)
    loss = torch.zeros((), dtype=log_p.dtype)
    for position, word in enumerate(words.tolist()):
        target = torch.full((size,), SMOOTHING / (size - 1), dtype=log_p.dtype)
        target[word] = 1 - SMOOTHING
        loss = loss - (target * log_p[position]).sum()
    return loss


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """And of numbers, the squared difference (SALT, section 3.1)."""
    if is_number(log_p):
        return ((log_p - log_q) ** 2).sum()
    return (log_p.exp() * (log_p - log_q)).sum()


def half_symmetric(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (kl(log_p, log_q) + kl(log_q, log_p)) / 2


def gradient(objective: Tensor, model: Any) -> list[Tensor]:
    parameters = list(model.parameters())
    found = torch.autograd.grad(objective, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def length(x: Tensor, s: Settings) -> Tensor:
    """Norm of the one sentence, 1 x 1 x 1, or of each of its words, 1 x T x 1."""
    words = x[0].flatten() if s.scope == "sentence" else x[0]
    each = words.norm(dim=-1) if s.norm == "l2" else words.abs().max(-1).values
    return each.reshape(1, -1, 1)


def projected(delta: Tensor, s: Settings) -> Tensor:
    if s.norm == "linf":
        return delta.clamp(-s.epsilon, s.epsilon)
    far = length(delta, s)
    return torch.where(far > s.epsilon, delta * s.epsilon / far, delta)


class Adam:
    """Kingma and Ba (2015), Algorithm 1, with the betas of the SALT paper's Appendix B."""

    def __init__(self) -> None:
        self.t = 0
        self.m = self.v = torch.zeros(())

    def __call__(self, g: Tensor) -> Tensor:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.98 * self.v + 0.02 * g**2
        v = self.v / (1 - 0.98**self.t)
        root = torch.where(v > 0, v, 1.0).sqrt() * (v > 0)  # its slope at 0 is infinite
        return (self.m / (1 - 0.9**self.t)) / (root + 1e-8)


class RMSprop:
    """Hinton et al. (2012), with torch's decay of 0.99 and without momentum."""

    def __init__(self) -> None:
        self.v = torch.zeros(())

    def __call__(self, g: Tensor) -> Tensor:
        self.v = 0.99 * self.v + 0.01 * g**2
        root = torch.where(self.v > 0, self.v, 1.0).sqrt() * (self.v > 0)
        return g / (root + 1e-8)


Rules = dict[str, Any]
"""What the rule remembers of each side between the steps of one ascent."""


def direction(g: Tensor, s: Settings, side: str, rules: Rules) -> Tensor:
    if s.rule == "normalized":
        size = length(g, s)
        return torch.where(size > 0, g / size, g)
    if s.rule == "sign":
        return g.sign()
    if s.rule == "adam":
        return rules.setdefault(side, Adam())(g)
    if s.rule == "rmsprop":
        return rules.setdefault(side, RMSprop())(g)
    assert s.rule == "sgd"
    return g


def ascend(
    value: Tensor, delta: dict[str, Tensor], s: Settings, rules: Rules, *, graph: bool = False
) -> dict[str, Tensor]:
    """delta^k = Pi(delta^{k-1} + eta rule(g)), each side on its own."""
    gradients = torch.autograd.grad(value, list(delta.values()), create_graph=graph)
    return moved(delta, gradients, s, rules)


def moved(
    delta: dict[str, Tensor], gradients: Sequence[Tensor], s: Settings, rules: Rules
) -> dict[str, Tensor]:
    return {
        side: projected(d + s.step_size * direction(g, s, side, rules), s)
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
    delta, rules = start(s), {}
    for k in range(s.steps):
        value = half_symmetric(clean, log_probs(model, sample, seeds[1 + k], delta))
        delta = ascend(value, delta, s, rules, graph=True)  # Eq. 3
    l_v = half_symmetric(clean, log_probs(model, sample, seeds[1 + s.steps], delta))
    objective = task_loss(clean, sample) + s.weight * l_v  # Eq. 2
    return objective, gradient(objective, model)  # Eq. 4


def vat(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """SALT's Algorithm 2, with the clean predictions as constants (Miyato's theta-hat)."""
    clean = log_probs(model, sample, seeds[0])
    delta, rules = start(s), {}
    for k in range(s.steps):
        value = kl(clean.detach(), log_probs(model, sample, seeds[1 + k], delta))
        delta = leaves(ascend(value, delta, s, rules))
    delta = {side: d.detach() for side, d in delta.items()}
    l_v = kl(clean.detach(), log_probs(model, sample, seeds[1 + s.steps], delta))
    objective = task_loss(clean, sample) + s.weight * l_v  # Eq. 7
    return objective, gradient(objective, model)


def smart(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """SMART, Algorithm 1, with halved divergences."""
    clean = log_probs(model, sample, seeds[0])
    delta, rules = start(s), {}
    for k in range(s.steps):
        value = half_symmetric(clean, log_probs(model, sample, seeds[1 + k], delta))
        delta = leaves(ascend(value, delta, s, rules))
    delta = {side: d.detach() for side, d in delta.items()}
    r_s = half_symmetric(log_probs(model, sample, seeds[1 + s.steps], delta), clean)
    with torch.no_grad():
        reference = log_probs(s.reference.eval(), sample, 0)
    objective = task_loss(clean, sample) + s.weight * r_s
    objective = objective + s.proximal_weight * half_symmetric(clean, reference)
    return objective, gradient(objective, model)


def mat(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """MAT, Algorithm 2: lines 2 to 6, and the gradient of line 9; without noise."""
    clean = log_probs(model, sample, seeds[0])
    delta, rules = start(s), {}
    mean = {side: projected(d, s).detach() for side, d in delta.items()}
    for k in range(s.steps):
        value = half_symmetric(clean, log_probs(model, sample, seeds[1 + k], delta))
        delta = leaves(ascend(value, delta, s, rules))
        mean = {
            side: s.mean_decay * mean[side] + (1 - s.mean_decay) * d.detach()
            for side, d in delta.items()
        }
    value = half_symmetric(clean, log_probs(model, sample, seeds[1 + s.steps], mean))
    objective = task_loss(clean, sample) + s.weight * value
    return objective, gradient(objective, model)


def adv(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """Sato et al.: r = epsilon a / ||a||, each side on its own: one step of length epsilon."""
    r = leaves(zeros(s))
    clean = task_loss(log_probs(model, sample, seeds[0], r), sample)
    a = torch.autograd.grad(clean, list(r.values()), retain_graph=True)
    r = {side: d.detach() for side, d in moved(r, a, s, {}).items()}
    objective = clean + s.weight * task_loss(log_probs(model, sample, seeds[1], r), sample)
    return objective, gradient(objective, model)


def random_perturbation(
    model: Any, sample: Any, s: Settings, seeds: list[int]
) -> tuple[Tensor, list[Tensor]]:
    """Kitada and Iyatomi's RP: Eq. 20 with a random r."""
    r = {side: d.detach() for side, d in start(s).items()}
    objective = task_loss(log_probs(model, sample, seeds[0]), sample)
    objective = objective + s.weight * task_loss(log_probs(model, sample, seeds[1], r), sample)
    return objective, gradient(objective, model)


def r3f(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """R3F's objective, with a halved divergence."""
    z = {side: d.detach() for side, d in start(s).items()}
    clean, noisy = log_probs(model, sample, seeds[0]), log_probs(model, sample, seeds[1], z)
    objective = task_loss(clean, sample) + s.weight * half_symmetric(clean, noisy)
    return objective, gradient(objective, model)


def freelb(model: Any, sample: Any, s: Settings, seeds: list[int]) -> tuple[Tensor, list[Tensor]]:
    """FreeLB, Algorithm 1, with l_v in the place of the loss, and the clean loss beside it.

    Section 3.3: the K steps have the same dropout mask.
    """
    clean = log_probs(model, sample, seeds[0])
    objective = task_loss(clean, sample)
    g = gradient(objective, model)
    delta, rules = start(s), {}
    for _ in range(s.steps):
        clean = log_probs(model, sample, seeds[0])
        value = half_symmetric(clean, log_probs(model, sample, seeds[1], delta))
        share = s.weight / s.steps * value
        objective = objective + share.detach()
        ascended = torch.autograd.grad(value, list(delta.values()), retain_graph=True)
        g = [a + b for a, b in zip(g, gradient(share, model), strict=True)]
        delta = leaves(moved(delta, ascended, s, rules))
    return objective, g


def freelb_task_loss(
    model: Any, sample: Any, s: Settings, seeds: list[int]
) -> tuple[Tensor, list[Tensor]]:
    """FreeLB, Algorithm 1, with (1 - alpha) of the clean loss."""
    clean = task_loss(log_probs(model, sample, seeds[0]), sample)
    objective = (1 - s.weight) * clean
    g = gradient(objective, model)
    delta, rules = start(s), {}
    for _ in range(s.steps):
        value = task_loss(log_probs(model, sample, seeds[1], delta), sample)
        share = s.weight / s.steps * value
        objective = objective + share.detach()
        ascended = torch.autograd.grad(value, list(delta.values()), retain_graph=True)
        g = [a + b for a, b in zip(g, gradient(share, model), strict=True)]
        delta = leaves(moved(delta, ascended, s, rules))
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
        delta = leaves(moved(delta, g_adv, s, {}))
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
        delta = leaves(moved(delta, g_adv, s, {}))
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


def _update(model: Any, gradients: list[Tensor], learning_rate: float) -> None:
    with torch.no_grad():
        for parameter, g in zip(model.parameters(), gradients, strict=True):
            parameter -= learning_rate * g
