"""Attention weights of a model, and gradient-based importance of the words it attends to.

The importance of word t is that of Jain and Wallace (NAACL 2019, Algorithm 1), whom Kitada and
Iyatomi (2021) follow: g_t = |sum over channels of gradient times embedding|, the derivative by the
word's one in a one-hot input. The embedding is what the model looks up; a word of several subwords
has the sum over them, so that g_t is the derivative by a factor of all of the word. Divided by its
sum over the words of the sentence, it is the same for a probability and its logarithm.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.attention.agreement import Explained
from recipes.attention.words import NO_WORD, subwords_of, words_of
from recipes.models.model import Loaded, batches
from recipes.support.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from fairseq_adv.games.sites.attention import AttentionScores


def explain(loaded: Loaded, split: str, what: str, *, held: bool) -> list[Explained]:
    """Explain what a model says of each sentence of a split, in their order.

    A classifier's prediction is its most probable class. A translation model is given the reference
    up to a word, and what is explained is the probability of that word, of all its subwords.

    :param what: the model's name, for the progress bar and errors.
    :param held: let no gradient flow through the attention weights that are compared.

    Raises RecipeError for a model without such attention, or one that has diverged.
    """
    from fairseq_adv.games.sites import UnsupportedModel
    from fairseq_adv.games.sites.attention import layers_of

    try:
        layers_of(loaded.model)
    except UnsupportedModel as error:
        raise RecipeError(f"{what}: {error}") from None
    classifies = hasattr(loaded.model, "classification_heads")
    explained = explain_classes if classifies else explain_translations
    found = [
        of
        for sample in batches(loaded, split, f"attention: {what}")
        for of in explained(loaded, sample, held)
    ]
    if not found:
        raise RecipeError(f"--split {split}: has no sentences")
    if not all(
        np.isfinite(of.attention).all() and np.isfinite(of.importance).all() for of in found
    ):
        raise RecipeError(f"{what}: gives gradients that are not numbers: it has diverged")
    return sorted(found, key=lambda of: of.number)


class _Pass:
    """One pass of a model, whose source words and attention are known.

    :param run: makes the pass; returns what is predicted.

    After it: the words of each sentence; `attention`, B x T x W of T queries, means over layers and
    heads, of whole words; and what gradients need.
    """

    def __init__(
        self, loaded: Loaded, sample: dict[str, Any], held: bool, run: Callable[[], "Tensor"]
    ) -> None:
        import torch
        from torch.backends import cudnn

        from fairseq_adv.core.sites import Add
        from fairseq_adv.games.sites.attention import AttentionScores
        from fairseq_adv.games.sites.embeddings import SourceEmbeddings

        source = SourceEmbeddings(loaded.model, sample)
        tokens, self._embeddings = source.looked_up
        self._added = source.zero.requires_grad_()
        scores = AttentionScores(loaded.model, sample)
        # cuDNN has no gradient of an LSTM that is not in training.
        with (
            torch.enable_grad(),
            cudnn.flags(enabled=False),
            source.apply(Add(self._added)),
            scores.watched(held=held) as weights,
        ):
            self.predicted = run()
        is_word = _attended(scores, tokens) & _is_word(loaded, tokens)
        self.words, self._pooling = _pooled(loaded.task.source_dictionary, tokens, is_word)
        self.attention = weights().mean((1, 2)).double() @ self._pooling

    def importance(self, value: "Tensor") -> "Tensor":
        """Return that of whole words, B x W, to a sum of values of one sentence each."""
        import torch
        from torch.backends import cudnn

        with cudnn.flags(enabled=False):
            (gradient,) = torch.autograd.grad(value, self._added, retain_graph=True)
        products = (gradient.double() * self._embeddings.double()).sum(-1)
        found = (products[:, None] @ self._pooling).squeeze(1).abs()
        # Where nothing matters the sum is 0, and stays it.
        return found / found.sum(1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)


def explain_translations(loaded: Loaded, sample: dict[str, Any], held: bool) -> Iterator[Explained]:
    """Explain the words of the reference of a batch, as fairseq collates it."""
    from fairseq_adv.games.encoder_gradient import with_true_gradients

    def run() -> "Tensor":  # B x T
        logits = with_true_gradients(loaded.model, sample["net_input"])
        found = loaded.model.get_normalized_probs((logits, None), True, sample)
        return found.gather(2, sample["target"].unsqueeze(2)).squeeze(2)

    reference = sample["target"]
    made = _Pass(loaded, sample, held, run)
    dictionary = loaded.task.target_dictionary
    is_word = reference.ne(dictionary.pad()) & reference.ne(dictionary.eos())
    said, pooling = _pooled(dictionary, reference, is_word)  # B x T x R
    # The mean over the subwords of a word, each of which asks on its own.
    means = pooling / pooling.sum(1, keepdim=True).clamp(min=1)
    attention = means.mT @ made.attention  # B x R x W
    importance = attention.clone()
    for word in range(pooling.size(2)):
        importance[:, word] = made.importance((made.predicted * pooling[:, :, word]).sum())
    for row, number in enumerate(sample["id"].tolist()):
        words, outputs = made.words[row], said[row]
        used = (row, slice(len(outputs)), slice(len(words)))
        yield Explained(
            number, words, outputs, attention[used].cpu().numpy(), importance[used].cpu().numpy()
        )


def explain_classes(loaded: Loaded, sample: dict[str, Any], held: bool) -> Iterator[Explained]:
    """Explain the predicted class of each sentence of a batch, as fairseq collates it."""

    def run() -> "Tensor":  # B x K
        logits, _ = loaded.model(
            **sample["net_input"],
            features_only=True,
            classification_head_name=loaded.task.cfg.classification_head_name,
        )
        return logits.log_softmax(-1)

    made = _Pass(loaded, sample, held, run)
    best, classes = made.predicted.max(-1)
    importance = made.importance(best.sum()).cpu().numpy()
    # What the prediction is made of: the first token, which a head reads, or all there is to ask.
    attention = made.attention[:, 0].cpu().numpy()
    right = sample["target"].view(-1).tolist() if "target" in sample else None
    for row, number in enumerate(sample["id"].tolist()):
        words = made.words[row]
        yield Explained(
            number,
            words,
            [_class(loaded, int(classes[row]))],
            attention[row : row + 1, : len(words)],
            importance[row : row + 1, : len(words)],
            _class(loaded, right[row]) if right else "",
        )


def _class(loaded: Loaded, number: int) -> str:
    dictionary = loaded.task.label_dictionary
    return str(dictionary[number + dictionary.nspecial])


def _attended(scores: "AttentionScores", tokens: "Tensor") -> "Tensor":
    """Return which tokens, B x S, can be attended to."""
    return scores.mask.any(1).unflatten(-1, (-1, tokens.size(1))).any(1)


def _is_word(loaded: Loaded, tokens: "Tensor") -> "Tensor":
    """Return which tokens, B x S, are no marks."""
    import torch

    dictionary = loaded.task.source_dictionary
    cfg = loaded.task.cfg
    marks = [dictionary.bos(), dictionary.eos(), dictionary.pad()]
    marks += [getattr(cfg, name, None) for name in ("init_token", "separator_token")]
    known = [mark for mark in marks if mark is not None]
    return torch.isin(tokens, tokens.new_tensor(known), invert=True)


def _pooled(
    dictionary: Any, tokens: "Tensor", is_word: "Tensor"
) -> "tuple[list[list[str]], Tensor]":
    """Return the words of each sentence, and what sums up the tokens of each, B x T x W of 0 and 1.

    :param tokens: B x T.
    :param is_word: B x T, which of them belong to words.
    """
    import torch

    subwords = subwords_of(dictionary.symbols)
    numbers, words = [], []
    for row, of_words in zip(tokens.tolist(), is_word.tolist(), strict=True):
        pieces = [dictionary[t] if w else None for t, w in zip(row, of_words, strict=True)]
        found = words_of(pieces, subwords)
        numbers.append(found[0])
        words.append(found[1])
    # NO_WORD is before the first.
    places = torch.tensor(numbers, device=tokens.device) - NO_WORD
    count = max(map(len, words), default=0)
    pooling = torch.nn.functional.one_hot(places, count + 1)[:, :, 1:]
    return words, pooling.to(torch.float64)
