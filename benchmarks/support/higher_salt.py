"""The algorithm of SALT's published code, written anew on today's fairseq, to be measured.

It is no method to train with: see `fairseq_adv.core.methods.salt` for where it departs from the
paper. What it does with a batch (Zuo et al. 2021, `SimiaoZuo/Stackelberg-Adv`):

1. a clean pass, whose graph stays until the end; its predictions p are constants from here on;
2. in a functional copy of the model, made by the package `higher`, of which the perturbation is a
   parameter: a pass, and one step of gradient ascent on the symmetric divergence from p, whose
   graph is kept. `higher` takes the gradients of all parameters for that, and uses one;
3. a pass of the copy at the ascended perturbation, and the divergence's gradient with respect to
   the copy's parameters, also through the step of ascent; it replaces the model's gradients;
4. a pass of the model at the initial perturbation, projected, whose divergence is added to the
   clean loss; that is the loss whose gradient comes on top of what is there.

In passes: 1 + (1 + 2) + (1 + 2 + 4) + (1 + 2) + 2 = 16, counted as `benchmarks.update` does.
"""

from dataclasses import dataclass, field
from typing import Any

import higher
import torch
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

PASSES = 16


class PerturbedWords(nn.Module):
    """Word embeddings with a perturbation, B x T x C, that is a parameter while there is one.

    A functional copy of a module has its parameters, and no hooks of it.
    """

    perturbation: nn.Parameter | None

    def __init__(self, words: nn.Module) -> None:
        super().__init__()
        self.words = words
        self.register_parameter("perturbation", None)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return embeddings, B x T x C, of tokens, B x T."""
        embeddings: Tensor = self.words(tokens)
        return embeddings if self.perturbation is None else embeddings + self.perturbation


def make_perturbable(model: Any) -> None:
    """Give encoder and decoder embeddings that can be perturbed."""
    for part in (model.encoder, model.decoder):
        part.embed_tokens = PerturbedWords(part.embed_tokens)


@dataclass
class Settings:
    """Of the ascent: its only step, the ball that the initial perturbation is projected into."""

    init_std: float
    ascent_step_size: float
    epsilon: float


def perturbed_loss(model: Any, sample: dict[str, Any], clean: Tensor, settings: Settings) -> Tensor:
    """Steps 2 and 3, which set the gradients of the model, and the divergence of step 4.

    :param model: see `make_perturbable`.
    :param clean: logits, B x T x V, of the clean pass.
    """
    pad = sample["target"].view(-1).eq(model.decoder.padding_idx)
    inputs = sample["net_input"]
    p = clean.float().softmax(-1).detach()

    def divergence(logits: Tensor) -> Tensor:
        """The symmetric one, over rows without padding; infinite where a probability is 0."""
        q = logits.float().softmax(-1)
        rows_p, rows_q = (x.view(-1, x.size(-1))[~pad] for x in (p, q))
        return 0.5 * ((rows_p - rows_q) * (rows_p.log() - rows_q.log())).sum()

    perturbed = (model.encoder.embed_tokens, model.decoder.embed_tokens)
    weight = model.decoder.output_projection.weight
    for words, tokens in zip(
        perturbed, (inputs["src_tokens"], inputs["prev_output_tokens"]), strict=True
    ):
        noise = torch.empty(
            *tokens.shape, words.words.embedding_dim, dtype=weight.dtype, device=weight.device
        )
        words.perturbation = nn.Parameter(noise.normal_(0.0, settings.init_std))
    optimizer = torch.optim.SGD(
        [words.perturbation for words in perturbed], lr=settings.ascent_step_size
    )
    with (
        higher.innerloop_ctx(model, optimizer, copy_initial_weights=True) as (copy, ascent),
        sdpa_kernel(SDPBackend.MATH),  # fused attention has no double backward
    ):
        ascent.step(-divergence(copy(**inputs)[0]))
        loss = divergence(copy(**inputs)[0])
        for words in (copy.encoder.embed_tokens, copy.decoder.embed_tokens):
            words.perturbation.retain_grad()
        loss.backward()
        gradients = {name: p.grad.detach().clone() for name, p in copy.named_parameters()}
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name]
    with torch.no_grad():
        for words in perturbed:  # the initial one: the copy's has moved, and this one has not
            start = words.perturbation
            words.perturbation = None
            words.perturbation = nn.Parameter(
                torch.renorm(start, p=2, dim=0, maxnorm=settings.epsilon), requires_grad=False
            )
    result = divergence(model(**inputs)[0])
    for words in perturbed:
        words.perturbation = None
    return result


@dataclass
class HigherSALTConfig(TranslationConfig):
    """fairseq's options of translation, and the release's of the game."""

    init_std: float = field(default=1e-3, metadata={"help": "of the initial perturbation"})
    ascent_step_size: float = field(default=0.3, metadata={"help": "of the step of ascent"})
    epsilon: float = field(default=1.0, metadata={"help": "radius of the ball"})


@register_task("higher_salt", dataclass=HigherSALTConfig)
class HigherSALT(TranslationTask):
    """Translation, trained as the release does."""

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """fairseq's, with embeddings that can be perturbed."""
        model = super().build_model(cfg, from_checkpoint)
        make_perturbable(model)
        return model

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool = False,
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq's, with the game between forward and backward pass."""
        model.train()
        model.set_num_updates(update_num)
        output = model(**sample["net_input"])
        loss, nll_loss = criterion.compute_loss(model, output, sample)
        settings = Settings(self.cfg.init_std, self.cfg.ascent_step_size, self.cfg.epsilon)
        adversarial = perturbed_loss(model, sample, output[0], settings)
        if not torch.isnan(adversarial):
            loss = loss + adversarial
        optimizer.backward(loss)
        log = {
            "loss": loss.detach(),
            "nll_loss": nll_loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample["ntokens"],
        }
        return loss, sample["ntokens"], log
