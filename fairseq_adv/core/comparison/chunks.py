"""The rows of predictions, some at a time: their logits, what is known of them, what goes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from fairseq_adv.core.comparison.predictions import Predictions


class Chunk:
    """Some rows of predictions, and the derivative in their logits of what is evaluated."""

    def __init__(self, rows: slice, at: _Walk) -> None:
        self.rows = rows
        self.wanted = at.wanted
        """Whether that derivative is."""
        self.to_logits: Tensor | None = None
        self._at = at
        kept = at.predictions.kept
        if kept is None:
            predictions = at.predictions
            self.logits = predictions.logits(predictions.vectors, rows, self.space("logits"))
            self._known: dict[str, Tensor] = {}
        else:
            self.logits = kept.logits[rows]
            self._known = {name: values[rows] for name, values in kept.known.items()}

    def once(self, name: str, find: Callable[[], Tensor]) -> Tensor:
        """What is found, of this name: it is kept, or looked for once only."""
        if name not in self._known:
            self._known[name] = find()
        return self._known[name]

    def space(self, name: str) -> Tensor:
        """Uninitialised, n x V, of that name; the next rows will have the same."""
        spaces = self._at.spaces
        if name not in spaces:
            spaces[name] = self._at.predictions.workspace()
        return spaces[name][: self.rows.stop - self.rows.start]

    def add(self, to_logits: Tensor) -> None:
        """Add a term's derivative up: n x V, which is overwritten."""
        self.to_logits = to_logits if self.to_logits is None else self.to_logits.add_(to_logits)


class _Walk:
    """A walk through the rows of some predictions."""

    def __init__(self, predictions: Predictions, wanted: bool) -> None:
        self.predictions, self.wanted = predictions, wanted
        self.spaces: dict[str, Tensor] = {}


def chunks(
    predictions: Sequence[Predictions], wanted: Sequence[bool] | None = None
) -> Iterator[list[Chunk]]:
    """The same rows of all predictions; what comes next overwrites it.

    :param wanted: see `Chunk`; of no predictions unless it says so.
    """
    wanted = [False] * len(predictions) if wanted is None else wanted
    walks = [_Walk(p, w) for p, w in zip(predictions, wanted, strict=True)]
    for rows in predictions[0].rows():
        yield [Chunk(rows, walk) for walk in walks]
