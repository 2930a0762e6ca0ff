"""Which pairs of train are within the limits of a corpus' preparation."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import tee

from data_prep.corpora.corpus import Example
from data_prep.preparation import Limits, Preparation
from data_prep.selection.counts import EMPTY, TOO_LONG
from data_prep.support.parallel import LineMapper
from data_prep.text.cleaning import is_blank
from data_prep.text.tokenization import tokenizer

UNEQUAL = "of unequal length"


def judged(
    pairs: Iterable[Example], languages: tuple[str, str], preparation: Preparation, workers: int
) -> Iterator[tuple[Example, str | None]]:
    """Yield each pair with the reason to drop it, or None.

    In all splits a pair with an empty side is dropped, and in train one beyond the limits. They
    are in tokens, so that train is tokenised for it, in ``workers`` processes.
    """
    if preparation.limits is None:
        for pair in pairs:
            yield pair, _emptiness(pair, preparation)
        return
    judge = partial(_judge, languages=languages, preparation=preparation)
    ours, theirs = tee(pairs)
    with LineMapper(workers) as mapper:
        verdicts = mapper.map(judge, map("\n".join, theirs))
        for pair, verdict in zip(ours, verdicts, strict=True):
            yield pair, verdict or None


def _emptiness(pair: Example, preparation: Preparation) -> str | None:
    sides = (pair.source, pair.target)
    is_empty = any(map(is_blank, sides)) if preparation.drops_blank else not all(sides)
    return EMPTY if is_empty else None


def _judge(lines: list[str], languages: tuple[str, str], preparation: Preparation) -> list[str]:
    """Return a reason, or "", for each line that is an Example's fields, joined by LF."""
    assert preparation.limits is not None
    pairs = [Example(*line.split("\n")) for line in lines]
    sides = []
    for lang, column in zip(languages, ("source", "target"), strict=True):
        tokenize = tokenizer(lang, preparation)
        sides.append(tokenize([getattr(p, column) if p.split == "train" else "" for p in pairs]))
    return [
        _emptiness(pair, preparation)
        or (pair.split == "train" and beyond(preparation.limits, source, target))
        or ""
        for pair, source, target in zip(pairs, *sides, strict=True)
    ]


def beyond(limits: Limits, source: str, target: str) -> str | None:
    """Return why a pair of sentences, of tokens separated by single spaces, is beyond the limits.

    None if it is not. As Moses' clean-corpus-n.perl: a pair at a limit stays.
    """
    lengths = [side.count(" ") + 1 for side in (source, target)]
    if max(lengths) > limits.max_tokens:
        return TOO_LONG
    if max(lengths) / min(lengths) > limits.max_ratio:
        return UNEQUAL
    if any(len(t) > limits.max_characters for s in (source, target) for t in s.split(" ")):
        return TOO_LONG
    return None
