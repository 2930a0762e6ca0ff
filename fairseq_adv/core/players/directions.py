"""In which directions a follower may move: what its perturbations are combinations of.

With directions d_tk of a place, or a component, t, what is added there is (Kitada and Iyatomi 2021,
Eq. 15; Sato et al., IJCAI 2018, Eq. 9)

    r_t = sum over k of alpha_tk d_tk,

and the follower moves alpha: its gradient, its steps and its ball are alpha's. Directions are
constants to both players. They are what a site makes of itself, in the units of alpha: nobody else
knows of them (`games/sites/directions.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from fairseq_adv.core.settings import InvalidSetting, at_least, means, one_of
from fairseq_adv.core.sites import ATTENTION

DirectionsName = Literal["free", "differences", "raw-differences", "neighbours"]
DIRECTIONS: tuple[DirectionsName, ...] = get_args(DirectionsName)
OF_SCORES = ("differences", "raw-differences")
OF_WORDS = ("neighbours",)


@dataclass(frozen=True, kw_only=True)
class Directions:
    """What a follower's perturbations are combinations of.

    :param directions: `free`: anything, a component a direction. Of attention scores `differences`,
        d_tk = (a_t - a_k) / ||a_t - a||: those between the scores of a query, of unit length (Eqs.
        13 and 14), or `raw-differences`, a_t - a_k (Eq. 13 alone; ours). Of words `neighbours`,
        d_tk = (w_k - w_t) / ||w_k - w_t||: to the nearest words of the vocabulary (Sato et al.).
    :param direction_words: how many those are.
    """

    directions: DirectionsName = field(
        metadata=means(
            "what perturbations are combinations of: anything (free); of attention scores, their "
            "differences, of unit length or raw; of words, directions to their neighbours"
        )
    )
    direction_words: int = field(
        metadata=means("number of neighbours, the nearest words of the vocabulary by cosine")
    )

    def __post_init__(self) -> None:
        one_of("directions", self.directions, DIRECTIONS)
        at_least("direction_words", self.direction_words, 1)

    @property
    def are_free(self) -> bool:
        """Whether a perturbation is what the follower moves."""
        return self.directions == "free"

    def check(self, sites: Sequence[str]) -> None:
        """Raise InvalidSetting if one of the sites has no such directions."""
        of_scores = {site == ATTENTION for site in sites}
        if self.directions in OF_SCORES and False in of_scores:
            raise InvalidSetting("directions", self.directions, "free, neighbours for words")
        if self.directions in OF_WORDS and True in of_scores:
            allowed = ", ".join(["free", *OF_SCORES])
            raise InvalidSetting("directions", self.directions, f"{allowed} for attention")


FREE = Directions(directions="free", direction_words=1)
