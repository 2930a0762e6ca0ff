"""Joint byte-pair encoding by subword-nmt (Sennrich et al., ACL 2016)."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import redirect_stderr
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TextIO

from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe
from tqdm import tqdm

from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_for_writing
from data_prep.support.parallel import LineFunction
from data_prep.support.progress import progress
from data_prep.text.tokenization import JOINT, without_joints

_WORDS_REMEMBERED = 200_000  # some 50 MB


def count_words(lines: Iterable[str]) -> Counter[str]:
    """Return how often each word occurs, with or without a joint (see `tokenization`)."""
    words: Counter[str] = Counter()
    for line in lines:
        words.update(without_joints(line).split(" "))
    del words[""]
    return words


def count_tokens(line: str) -> int:
    """Return the number of words, which single spaces separate."""
    return line.count(" ") + 1 if line else 0


def write_vocabulary(words: Mapping[str, int], path: Path) -> None:
    """Write subword-nmt's vocabulary format: ``word count`` lines, most frequent first."""
    with open_for_writing(path) as stream:
        for word, count in sorted(words.items(), key=lambda item: (-item[1], item[0])):
            stream.write(f"{word} {count}\n")


def learn_codes(words: MutableMapping[str, int], merges: int, path: Path) -> int:
    """Learn at most ``merges`` merge operations, write them to ``path``, return their number.

    The result depends on ``words`` alone, not on their order; they are used up, so that there are
    not two copies in memory. Fewer are learnt when no pair of symbols occurs twice any more. Raises
    DataPrepError if none does.
    """
    with (
        open_for_writing(path) as stream,
        progress(None, "bpe: learn", "merge", total=merges) as bar,
    ):
        codes = _CodesFile(stream, bar)
        # subword-nmt fails on words of one character only, and shows a bar of its own.
        if any(len(word) > 1 for word in words):
            with redirect_stderr(io.StringIO()):
                learn_bpe(_used_up(words), codes, merges, is_dict=True)
    if codes.merges < 1:
        raise DataPrepError("train: no two characters are neighbours twice, so there is no BPE")
    return codes.merges


def _used_up(words: MutableMapping[str, int]) -> Iterator[str]:
    while words:
        word, count = words.popitem()
        yield f"{word} {count}"


def count_codes(path: Path) -> int:
    """Return the number of merge operations in a file of them."""
    with path.open(encoding="utf-8") as stream:
        return sum(not line.startswith("#version") for line in stream)


class _CodesFile:
    """The file that subword-nmt writes its codes to, a line at a time after a version line."""

    def __init__(self, stream: TextIO, bar: "tqdm[Any]") -> None:
        self._stream = stream
        self._bar = bar
        self.merges = -1

    def write(self, line: str) -> None:
        self._stream.write(line)
        self.merges += 1
        if self.merges:
            self._bar.update()


def segmenter(codes: Path) -> LineFunction:
    """Return a function from tokenised lines to their subwords, split words marked by ``@@``."""
    return partial(_segment, codes=codes.read_text(encoding="utf-8"))


def _segment(lines: list[str], codes: str) -> list[str]:
    segment_word = _load(codes)

    def segment(token: str) -> str:
        # A joint is no part of the word.
        if token.endswith(JOINT) and token != JOINT:
            return segment_word(token.removesuffix(JOINT)) + JOINT
        return segment_word(token)

    return [
        " ".join([segment(token) for token in line.strip("\r\n ").split(" ") if token])
        for line in lines
    ]


@lru_cache(maxsize=1)
def _load(codes: str) -> Callable[[str], str]:
    """Return a function from a word to its subwords, joined by spaces."""
    bpe = BPE(io.StringIO(codes, newline="\n"))

    # subword-nmt remembers every word that it meets: gigabytes per process in a large corpus.
    @lru_cache(maxsize=_WORDS_REMEMBERED)
    def segment_word(word: str) -> str:
        bpe.cache.clear()
        return " ".join(bpe.segment_tokens([word]))

    return segment_word
