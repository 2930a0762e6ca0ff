"""Speed and memory: what is quick gives what is slow gives, and nothing grows with a corpus."""

import io
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from subword_nmt.apply_bpe import BPE
from tqdm import tqdm

from data_prep.preparation import Preparation
from data_prep.support import parallel
from data_prep.support import progress as bars
from data_prep.text import bpe
from data_prep.text.bpe import segmenter
from data_prep.text.tokenization import tokenizer
from tests.support.texts import PlainMoses, prepare_files, tree

# Much of what sacremoses' rules look at, often.
_DOTTED = "a A. e.g. Mr. No. 5 5. z.B. usw. U.S . .. 中 中. あ. 한. x.y. Dr. I. i. é. É. Ж. ж. ١."
_OTHERS = "it's d'un über ß Σ ... 3.5 , ( ) ' .' & - / # %"
WORDS = st.sampled_from([*_DOTTED.split(), *_OTHERS.split(), '"'])
SPACES = st.sampled_from(["", " ", "  ", "\u00a0", "\t"])


SLOW = {lang: PlainMoses(lang) for lang in ("en", "de", "fr", "ru", "el")}


@given(st.lists(st.tuples(WORDS, SPACES)), st.sampled_from(sorted(SLOW)), st.booleans())
def test_quick_tokens_are_those_of_sacremoses(
    words: list[tuple[str, str]], lang: str, escapes: bool
) -> None:
    line = "".join(word + space for word, space in words)
    expected = " ".join(SLOW[lang].tokenize(line, escape=escapes))
    assert tokenizer(lang, Preparation(escapes=escapes))([line]) == [expected]


# No words in "@@": to subword-nmt it is a part of them, to us what it writes there itself.
@given(st.lists(st.from_regex(r"([abc \ré]|@(?!@))*", fullmatch=True), max_size=30))
def test_quick_subwords_are_those_of_subword_nmt(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    codes = tmp_path_factory.mktemp("codes") / "codes"
    codes.write_text("#version: 0.2\na b\nab c</w>\nb c\na a</w>\n", encoding="utf-8")
    theirs = BPE(io.StringIO(codes.read_text(encoding="utf-8")))
    assert segmenter(codes)(lines) == [theirs.segment(line) for line in lines]


def test_words_that_are_remembered_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpe, "_WORDS_REMEMBERED", 100)
    codes = tmp_path / "codes"
    codes.write_text("#version: 0.2\n9 9\n1 2\n", encoding="utf-8")
    segment = segmenter(codes)
    segment(["a"])
    tracemalloc.start()
    try:
        for start in range(0, 10_000, 1000):
            segment([f"word{number}" for number in range(start, start + 1000)])
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 500_000  # all of them would take two million


def test_chunks_of_very_long_lines_are_of_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_CHARACTERS", 1000)
    lines = ["x" * 600, "y" * 600, "z" * 5000, *(["s"] * 10)]
    chunks = list(parallel._chunks(lines))
    assert [len(chunk) for chunk in chunks] == [2, 1, 10]
    assert [line for chunk in chunks for line in chunk] == lines


@pytest.mark.usefixtures("no_fairseq")
@pytest.mark.parametrize("given", [["train"], ["train", "valid", "test"]])
@pytest.mark.parametrize("subword", ["bpe", "sentencepiece"])
def test_every_bar_knows_its_end(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], subword: str
) -> None:
    seen: dict[str, tuple[int | None, list[int]]] = {}

    def recorded(items: Iterable[Any] | None, desc: str, total: int | None, **more: Any) -> Any:
        passed = [0]
        seen[desc] = (total, passed)

        def counted() -> Iterator[Any]:
            for item in items or ():
                passed[0] += 1
                yield item

        return tqdm(counted() if items is not None else None, desc=desc, total=total, **more)

    monkeypatch.setattr(bars, "tqdm", recorded)
    options = [f"--subword={subword}", "--hold-out=2", "--train-pairs=10", "--bpe-merges=60"]
    if len(given) == 3:
        options.remove("--hold-out=2")
    assert prepare_files(texts, tmp_path / "out", *options, given=given) == 0
    made = {"read train", "raw: choose", "bpe: train.de", "bpe: test.en"}
    made |= {"raw: hold out"} if given == ["train"] else {"read valid"}
    made |= {"tok: train.en", "bpe: count words"} if subword == "bpe" else {"bpe: read train"}
    assert made <= seen.keys()
    for name, (total, passed) in seen.items():
        assert total == (passed[0] or 60), name  # 60: merges, of which the bar is told


@pytest.mark.slow
def test_more_workers_make_the_same_binary_data(texts: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        assert prepare_files(texts, tmp_path / str(workers), f"--workers={workers}") == 0
    assert tree(tmp_path / "1/bin") == tree(tmp_path / "3/bin")
