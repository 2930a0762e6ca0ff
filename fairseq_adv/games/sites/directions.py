"""Sites in other coordinates: what is added there is a combination of given directions.

Such a site is one of alpha (`core.players.directions`): its perturbations, their mask and their
norms are alpha's, and what an edit adds in a pass is r = sum over k of alpha_k d_k. Methods play on
it as on any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fairseq_adv.core.players.directions import OF_SCORES, OF_WORDS, Directions
from fairseq_adv.core.sites import Add, Edit
from fairseq_adv.games.sites.attention import AttentionScores
from fairseq_adv.games.sites.embeddings import Embeddings
from fairseq_adv.games.sites.site import FairseqSite, UnsupportedModel

_ROWS = 1024
"""Of words whose neighbours are looked for at a time."""


@cache
def in_directions(site: type[FairseqSite], directions: Directions) -> type[FairseqSite]:
    """Return a class of sites whose perturbations are combinations of directions."""
    if directions.are_free:
        return site
    if directions.directions in OF_WORDS:
        assert issubclass(site, Embeddings), "Directions.check"
        return type(f"Neighbours{site.__name__}", (Neighbours, site), {"directions": directions})
    assert issubclass(site, AttentionScores) and directions.directions in OF_SCORES
    return type("Differences", (Differences,), {"directions": directions})


class Neighbours(Embeddings):
    """Words that move towards the nearest ones of the vocabulary: alpha is B x T x K.

    Nearest by cosine, as in the code of Sato et al. (aonotas/interpretable-adv), among words alone,
    the word itself and special symbols left out; as they are when the batch is played. Directions
    are of unit length; to a word that has the same embedding there is none.
    """

    directions: Directions

    @classmethod
    def check(cls, model: nn.Module) -> None:
        """See `FairseqSite`. Raises UnsupportedModel without a table of words, or with too few."""
        super().check(model)
        part = cls.looks_up(model)
        if not isinstance(part.embed_tokens, nn.Embedding):
            raise UnsupportedModel(
                f"--directions neighbours: {type(model).__name__} has no table of word embeddings"
            )
        if (words := len(_words_of(part.dictionary))) <= cls.directions.direction_words:
            raise UnsupportedModel(
                f"--direction-words {cls.directions.direction_words}: the vocabulary has {words} "
                "words, give a smaller number"
            )

    @cached_property
    def zero(self) -> Tensor:
        """See `Site`: B x T x K."""
        tokens, embeddings = self.looked_up
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        size = (*tokens.shape, self.directions.direction_words)
        return torch.zeros(size, dtype=dtype, device=embeddings.device)

    @cached_property
    def towards(self) -> Tensor:
        """d_tk, B x T x K x C."""
        part = self.looks_up(self.model)
        table = part.embed_tokens.weight.detach().to(self.zero.dtype)
        tokens, places = self.looked_up[0].unique(return_inverse=True)
        candidates = torch.tensor(_words_of(part.dictionary), device=tokens.device)
        nearest = _nearest(table, tokens, candidates, self.directions.direction_words)
        differences = table[nearest] - table[tokens][:, None]  # U x K x C
        length = differences.norm(dim=-1, keepdim=True)
        return (differences / torch.where(length > 0, length, 1.0))[places]

    @contextmanager
    def apply(self, edit: Edit) -> Iterator[None]:
        """See `FairseqSite`."""
        assert isinstance(edit, Add), "only followers move in directions"
        with super().apply(Add((edit.values.unsqueeze(-2) @ self.towards).squeeze(-2))):
            yield


def _words_of(dictionary: Any) -> list[int]:
    """The numbers of the words of a vocabulary: special symbols and fairseq's fillers are none."""
    symbols = enumerate(dictionary.symbols)
    special = ("<mask>", "madeupword")
    return [n for n, word in symbols if n >= dictionary.nspecial and not word.startswith(special)]


def _nearest(table: Tensor, tokens: Tensor, candidates: Tensor, number: int) -> Tensor:
    """Return the candidates that are nearest to each token by cosine, but for itself: U x K."""
    unit = functional.normalize(table[candidates])
    found = []
    for rows in tokens.split(_ROWS):
        cosines = functional.normalize(table[rows]) @ unit.T
        cosines.masked_fill_(rows[:, None] == candidates, -torch.inf)
        found.append(candidates[cosines.topk(number, dim=1).indices])
    return torch.cat(found)


class Differences(AttentionScores):
    """Scores that move by their differences to the others of the same query, layer and head.

    The directions of score t are d_tk, k = 1 .. S, whose sum of alpha_tk d_tk moves a_t alone: of
    alpha_t only its part along d_t does anything. That part is what the follower moves,
    alpha_t = gamma_t d_t / ||d_t||, and r_t = gamma_t ||d_t||. Its length is that of alpha, and a
    step along gradients keeps alpha there (l2; `sgd` and `normalized`): this is the paper's
    perturbation without its T x T weights.

    `differences` have ||d_t|| = 1 by Eq. 14, and r = gamma: all scores move as they would freely.
    Only where all scores of a query are the same, there is no difference, and nothing moves.
    With `raw-differences`, Eq. 13 alone, r_t after one normalized step is proportional to
    g_t ||d_t||^2.

    Differences are those of the first pass of a game, which is the clean one; to both players they
    are constants.
    """

    directions: Directions

    @property
    def is_known(self) -> bool:
        """See `FairseqSite`."""
        return self._is_known

    def __init__(self, model: nn.Module, sample: dict[str, Any]) -> None:
        super().__init__(model, sample)
        self._is_known = False

    @cached_property
    def lengths(self) -> Tensor:
        """||d_t||, B x T x C; 0 as long as it is not known."""
        return torch.zeros_like(self.zero)

    def open(self) -> AbstractContextManager[None]:
        """See `FairseqSite`. The first pass is looked at."""
        return super().open() if self._is_known else self._learning()

    @contextmanager
    def _learning(self) -> Iterator[None]:
        with ExitStack() as blocks:
            blocks.enter_context(super().open())
            blocks.enter_context(self._layers.changed(self._looked))
            yield
        self._is_known = True

    def apply(self, edit: Edit) -> AbstractContextManager[None]:
        """See `FairseqSite`."""
        assert isinstance(edit, Add), "only followers move in directions"
        gamma = self.by_layer(edit.values)

        def change(layer: int, scores: Tensor, first: int) -> Tensor:
            queries = slice(first, first + scores.size(2))
            if self._is_known:
                length = self.by_layer(self.lengths)[:, queries, layer]
            else:
                length = self._look(layer, scores, first)
            moved = gamma[:, queries, layer] * length
            return scores + moved.transpose(1, 2).to(scores.dtype)

        return self._layers.changed(change)

    def _looked(self, layer: int, scores: Tensor, first: int) -> Tensor:
        """Scores as they are; see `Change`."""
        self._look(layer, scores, first)
        return scores

    def _look(self, layer: int, scores: Tensor, first: int) -> Tensor:
        """Take down the lengths of differences, B x T x H x S of these queries, and return them."""
        queries = slice(first, first + scores.size(2))
        there = self.by_layer(self.mask)[:, queries, layer].transpose(1, 2)
        known = scores.detach().to(self.lengths.dtype).masked_fill(~there, 0)
        number = there.sum(-1, keepdim=True)
        centred = (known - known.sum(-1, keepdim=True) / number.clamp(min=1)) * there
        # Of scores less their mean: sum over k of (c_t - c_k)^2 = S c_t^2 + sum over k of c_k^2.
        squares = centred.square()
        length = (number * squares + squares.sum(-1, keepdim=True)).sqrt() * there
        if self.directions.directions == "differences":
            length = (length > 0).to(length.dtype)
        length = length.transpose(1, 2)
        self.by_layer(self.lengths)[:, queries, layer] = length
        return length
