"""Vectors made fit to tell synonyms from antonyms: counter-fitting (Mrksic et al., NAACL 2016).

Vectors of words that are used alike are near each other, good and bad among them. The objective

    k1 sum over antonyms max(0, 1 - d(u, w))                  (Eq. 1, delta = 1)
    + k2 sum over synonyms max(0, d(u, w) - 0)                (Eq. 2, gamma = 0)
    + k3 sum over neighbours max(0, d(u', w') - d(u, w))      (Eq. 3: those within 0.2 stay near)

with d = 1 - cos pushes antonyms apart, pulls synonyms together and keeps neighbours. As in the
released code a step moves each word by the mean of the gradients of its active terms and makes its
length 1 again, 20 times, with weights of 0.1 that are the step size, too. A pair counts in both of
its directions. Before that we take from all vectors what they have in common, their mean and first
two principal components (Mu and Viswanath, ICLR 2018): in vectors of 50 channels so many words are
within 0.2 of each other that their neighbours would hold antonyms together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_prep.support.progress import progress

if TYPE_CHECKING:
    import numpy as np

Pair = tuple[str, str]


@dataclass(frozen=True)
class CounterFitting:
    """The hyper-parameters, the paper's by default.

    :param weight: k1 = k2 = k3.
    :param apart: delta, how far antonyms have to be from each other.
    :param radius: rho: neighbours are words within it.
    :param common: principal components that are taken away; the paper does not.
    :param most: neighbours of a word that are kept near, for memory; the paper's code has no limit.
    """

    steps: int = 20
    weight: float = 0.1
    apart: float = 1.0
    radius: float = 0.2
    common: int = 2
    most: int = 100

    def fit(
        self,
        vectors: "Mapping[str, np.ndarray]",
        synonyms: Iterable[Pair],
        antonyms: Iterable[Pair],
    ) -> "tuple[list[str], np.ndarray]":
        """Return the words, and their vectors, W x C, of length 1.

        :param synonyms: pairs; those of words without a vector, or of a word with itself, do not
            count, and neither do those that are antonyms, too.
        """
        import numpy as np

        words = list(vectors)
        rows = {word: row for row, word in enumerate(words)}
        table = np.stack([vectors[word] for word in words]).astype(np.float32)
        table = normalised(without_common(table, self.common))
        apart = _indices(antonyms, rows)
        together = _without(_indices(synonyms, rows), apart)
        near = neighbours(table, self.radius, self.most)
        # By the same sums as later: pairs that have not moved are to be as far as they were.
        distances = np.concatenate([1 - _cosines(table, chunk) for chunk in _chunks(near)])
        for _ in progress(range(self.steps), "counter-fitting", "step", self.steps):
            table = self.step(table, apart, together, near, distances)
        return words, table

    def step(
        self,
        table: "np.ndarray",
        apart: "np.ndarray",
        together: "np.ndarray",
        near: "np.ndarray",
        distances: "np.ndarray",
    ) -> "np.ndarray":
        """Return the vectors after one step.

        :param apart, together, near: pairs of rows, P x 2, each in both directions.
        :param distances: of `near` in the original vectors, P.
        """
        import numpy as np

        moves = np.zeros_like(table)
        counts = np.zeros(len(table), dtype=np.int64)
        for pairs, limit, sign in (
            (apart, self.apart, 1),
            (together, 0.0, -1),
            (near, distances, -1),
        ):
            bounds = np.broadcast_to(np.asarray(limit, dtype=table.dtype), len(pairs))
            for chunk, bound in zip(_chunks(pairs), _chunks(bounds), strict=True):
                cosine = _cosines(table, chunk)
                # Antonyms that are nearer than the limit, others that are farther.
                active = sign * (1 - cosine) < sign * bound
                first, second = table[chunk[active, 0]], table[chunk[active, 1]]
                # The derivative of d = 1 - cos in the first vector, of length 1.
                gradient = cosine[active, None] * first - second
                rows, starts = np.unique(chunk[active, 0], return_index=True)
                if len(rows):  # pairs are in the order of their first words
                    moves[rows] += sign * self.weight * np.add.reduceat(gradient, starts)
                    counts[rows] += np.diff([*starts, len(gradient)])
        moved = counts > 0
        table = table.copy()
        table[moved] += moves[moved] / counts[moved, None]
        return normalised(table)


_CHUNK = 1 << 18


def _chunks(rows: "np.ndarray") -> "list[np.ndarray]":
    """Return some rows at a time, for memory; one chunk of none where there are none."""
    return [rows[i : i + _CHUNK] for i in range(0, max(1, len(rows)), _CHUNK)]


def _cosines(table: "np.ndarray", pairs: "np.ndarray") -> "np.ndarray":
    """Return the cosines of pairs of rows of length 1."""
    cosines: np.ndarray = (table[pairs[:, 0]] * table[pairs[:, 1]]).sum(1)
    return cosines


def without_common(table: "np.ndarray", components: int) -> "np.ndarray":
    """Return vectors without their mean and their first principal components; 0: as they are."""
    import numpy as np

    if not components:
        return table
    table = table - table.mean(0)
    directions = np.linalg.svd(table, full_matrices=False)[2][:components]
    return table - table @ directions.T @ directions


def normalised(table: "np.ndarray") -> "np.ndarray":
    """Return vectors of length 1; what has none stays."""
    import numpy as np

    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return table / np.where(lengths > 0, lengths, 1)


def neighbours(table: "np.ndarray", radius: float, most: int) -> "np.ndarray":
    """Return pairs of rows, P x 2, nearer than a radius, of each row the nearest first.

    :param table: of length 1, W x C.
    :param most: of a word.
    """
    import numpy as np

    pairs = []
    at_a_time = max(1, (1 << 25) // max(1, len(table)))
    blocks = range(0, len(table), at_a_time)
    for begin in progress(blocks, "neighbours", "block", len(blocks)):
        block = table[begin : begin + at_a_time]
        cosine = block @ table.T
        cosine[np.arange(len(block)), np.arange(begin, begin + len(block))] = -np.inf
        rows, columns = np.nonzero(cosine > 1 - radius)
        values = cosine[rows, columns]
        order = np.lexsort((columns, -values, rows))
        rows, columns = rows[order], columns[order]
        starts = np.searchsorted(rows, rows)  # where the word's own pairs begin
        kept = np.arange(len(rows)) - starts < most
        pairs.append(np.stack([rows + begin, columns], axis=1)[kept])
    return np.concatenate(pairs)


def _indices(pairs: Iterable[Pair], rows: Mapping[str, int]) -> "np.ndarray":
    """Return pairs of rows, each once and in both directions."""
    import numpy as np

    found = {
        (rows[one], rows[other])
        for first, second in pairs
        if first in rows and second in rows and first != second
        for one, other in ((first, second), (second, first))
    }
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)


def _without(pairs: "np.ndarray", others: "np.ndarray") -> "np.ndarray":
    import numpy as np

    left_out = set(map(tuple, others.tolist()))
    kept: Sequence[list[int]] = [pair for pair in pairs.tolist() if tuple(pair) not in left_out]
    return np.array(kept, dtype=np.int64).reshape(-1, 2)
