"""Correlations beside scipy's; words, alignments and pages against what is worked out by hand."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from recipes.attention.agreement import (
    FEW,
    FLAT_ATTENTION,
    FLAT_IMPORTANCE,
    SENTENCE,
    TARGET_WORD,
    Explained,
    agreement,
    pearson,
    to_show,
    undefined,
)
from recipes.attention.alignment import (
    alignment_error,
    check_alignments,
    hard_alignment,
    read_alignments,
)
from recipes.attention.page import shades, write_page
from recipes.attention.picture import plot_sentences
from recipes.attention.words import KINDS, NO_WORD, WHOLE, subwords_of, words_of
from recipes.support.errors import RecipeError


def made(words: int, outputs: int, number: int = 0, seed: int = 1) -> Explained:
    rng = np.random.default_rng((seed, number))
    attention, importance = rng.dirichlet(np.ones(words), (2, outputs))
    return Explained(
        number,
        [f"word{place}" for place in range(words)],
        [f"said{place}" for place in range(outputs)],
        attention,
        importance,
    )


@pytest.mark.parametrize("words", [2, 3, 40])
def test_correlations_are_scipys(words: int) -> None:
    for seed in range(20):
        of = made(words, 1, seed=seed)
        expected = stats.pearsonr(of.attention[0], of.importance[0]).statistic
        assert pearson(of.attention[0], of.importance[0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("attention", "importance", "why"),
    [
        ([], [], FEW),
        ([1.0], [1.0], FEW),
        ([0.25] * 4, [0.1, 0.2, 0.3, 0.4], FLAT_ATTENTION),
        ([0.1, 0.1 + 1e-9, 0.1], [0.1, 0.2, 0.7], FLAT_ATTENTION),  # float32 has no such digits
        ([0.1, 0.2, 0.7], [0.0, 0.0, 0.0], FLAT_IMPORTANCE),
        ([0.5, 0.5], [0.5, 0.5], FLAT_ATTENTION),
        ([0.1, 0.2, 0.7], [0.2, 0.3, 0.5], None),
        ([1e-7, 2e-7, 1e-7], [0.2, 0.3, 0.5], None),  # little attention, but not constant
    ],
)
def test_where_there_is_no_correlation(
    attention: list[float], importance: list[float], why: str | None
) -> None:
    assert undefined(np.array(attention), np.array(importance)) == why


def test_means_are_those_of_a_loop_and_what_is_undefined_is_counted() -> None:
    explained = [made(words, outputs, words) for words, outputs in ((5, 3), (7, 2), (4, 1), (1, 2))]
    explained[0].attention[1] = 0.2
    explained[1].importance[:] = 0
    found = agreement(explained, TARGET_WORD)
    first = np.mean(
        [
            stats.pearsonr(explained[0].attention[row], explained[0].importance[row]).statistic
            for row in (0, 2)
        ]
    )
    third = stats.pearsonr(explained[2].attention[0], explained[2].importance[0]).statistic
    assert (found.sentences, found.counted, found.units) == (4, 2, 8)
    assert found.undefined == {FEW: 2, FLAT_ATTENTION: 1, FLAT_IMPORTANCE: 2}
    assert found.correlation == pytest.approx((first + third) / 2)
    assert found.standard_error == pytest.approx(stats.sem([first, third]))
    assert found.attention_on_words == pytest.approx(1)


def test_nothing_defined_is_no_figure() -> None:
    found = agreement([made(1, 1)], SENTENCE)
    assert (found.counted, found.correlation, found.standard_error) == (0, None, None)
    assert agreement([made(4, 1)], SENTENCE).standard_error is None


def test_sentences_are_shown_from_low_to_high() -> None:
    explained = [made(6, 1, number) for number in range(30)] + [made(1, 1), made(99, 1)]
    order = sorted(range(30), key=lambda place: explained[place].correlation or 0)
    assert to_show(explained, 4, 40) == [order[0], order[10], order[19], order[29]]
    assert to_show(explained, 100, 40) == order
    assert to_show([made(1, 1)], 4, 40) == []


@pytest.mark.parametrize(
    ("kind", "pieces", "numbers", "words"),
    [
        ("subword-nmt", ["Haus@@", "tür", "auf", "@@", "x"], [0, 0, 1, 2, 2], "Haustür auf x"),
        ("SentencePiece", ["▁Haus", "tür", "▁auf", "."], [0, 0, 1, 1], "Haustür auf."),
        (
            "WordPiece",
            ["film", "##s", ",", "un", "##w", "##ise"],
            [0, 0, 1, 2, 2, 2],
            "films , unwise",
        ),
        ("byte-level", ["Stra", "ÃŁe", "ĠÃ¼", "ber", "."], [0, 0, 1, 1, 1], "Straße über."),
    ],
)
def test_subwords_are_put_together(
    kind: str, pieces: list[str], numbers: list[int], words: str
) -> None:
    assert words_of(pieces, KINDS[kind]) == (numbers, words.split(" "))
    assert words_of(["a@@", None, "b", "c"], KINDS["subword-nmt"])[0] == [0, NO_WORD, 1, 2]
    symbols = ["<s>", "<pad>", "other", *pieces, "##", "x@@"]
    assert subwords_of([*symbols, *pieces]) is KINDS[kind]


def test_words_are_whole_without_marks() -> None:
    assert subwords_of([f"w{number}" for number in range(500)] + ["##"]) is WHOLE
    assert words_of(["a", "##b"], WHOLE) == ([0, 1], ["a", "##b"])


def aligned(rows: list[list[float]], number: int = 0) -> Explained:
    values = np.array(rows)
    said, words = (list(map(str, range(size))) for size in values.shape)
    return Explained(number, words, said, values, values)


def test_an_alignment_worked_out_by_hand(tmp_path: Path) -> None:
    """Found: 1-0 0-1 1-2 and 0-0. Right: 1-0 2-1 1-2 2-2 and 0-0. A = 4, S = 5, both 3."""
    path = tmp_path / "links"
    path.write_text("1-0 2-1 1-2 2-2\n\n0-0\n")
    explained = [
        aligned([[0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.0, 0.6, 0.4]]),
        Explained(1, [], [], np.zeros((0, 0)), np.zeros((0, 0))),
        aligned([[0.9]], 2),
    ]
    right = read_alignments(path)
    check_alignments(path, right, explained)
    assert hard_alignment(explained[0]) == {(1, 0), (0, 1), (1, 2)}
    found = alignment_error(right, explained)
    assert found is not None
    assert found.error_rate == pytest.approx(1 - 2 * 3 / 9)
    assert (found.precision, found.recall) == (3 / 4, 3 / 5)
    assert (found.found, found.right) == (4, 5)
    assert alignment_error([set(), set(), set()], explained) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0-0\n1-x 0-0\n", r"links: line 2: '1-x' is no link; .* 0-0 1-2$"),
        ("0-0\n", r"links: has 1 lines, and the split 2 sentences"),
        ("0-0\n0-1\n", r"links: line 2: 0-1 is beyond its sentences of 2 and 1 words"),
        ("2-0\n\n", r"links: line 1: 2-0 is beyond its sentences of 2 and 1 words"),
    ],
)
def test_wrong_alignments(text: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "links"
    path.write_text(text)
    with pytest.raises(RecipeError, match=error):
        check_alignments(path, read_alignments(path), [made(2, 1), made(2, 1, 1)])


def test_shades_are_shares_of_the_most_in_a_row() -> None:
    values = np.array([[0.1, 0.2, 0.4], [0.0, 0.0, 0.0]])
    assert shades(values).tolist() == [[0.25, 0.5, 1.0], [0.0, 0.0, 0.0]]
    assert shades(np.zeros((1, 0))).shape == (1, 0)


NASTY = '<script src="x">&"\'\ud800'


class Page(HTMLParser):
    """The text of a page, and what it would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.foreign: list[str] = []
        self.styles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.foreign += [tag] * (tag in ("script", "link", "img", "iframe"))
        self.foreign += [name for name in names if name.startswith("on") or name in ("src", "href")]
        if names.get("class") == "w" and names.get("title"):
            self.styles.append(f"{names['style']} {names['title']}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("unit", [SENTENCE, TARGET_WORD])
def test_a_page_has_all_text_and_nothing_foreign(unit: str, tmp_path: Path) -> None:
    of = Explained(
        3,
        [NASTY, "b"],
        [NASTY],
        np.array([[0.2, 0.8]]),
        np.array([[0.5, 0.5]]),
        label=NASTY if unit == SENTENCE else "",
    )
    found = {NASTY: agreement([of, made(4, 1)], unit)}
    write_page({NASTY: [of]}, found, NASTY, [NASTY], tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text("utf-8")
    page = Page()
    page.feed(text)
    assert page.foreign == []
    assert not re.search(r"url\(|@import|http", text)
    shown = NASTY.replace("\ud800", "\\ud800")
    exact = sum(shown == data for data in page.text)
    assert exact == 2 + 1 + 1 + (2 if unit == SENTENCE else 4)  # titles, definition, model, words
    assert page.styles == ["--v:25 0.200", "--v:100 0.800", "--v:100 0.500", "--v:100 0.500"]
    body = text[text.index("<body") : text.index("</html>")].replace("&emsp;", " ")
    ElementTree.fromstring(body)  # all that is opened is closed


@pytest.mark.parametrize("unit", [SENTENCE, TARGET_WORD])
@pytest.mark.parametrize("models", [0, 2])
def test_a_picture_smoke(unit: str, models: int, tmp_path: Path) -> None:
    """Of long sentences and short ones, of odd words, and of none."""
    outputs = 1 if unit == SENTENCE else 4
    shown = [made(25, outputs), made(3, outputs, 1)]
    shown[1].words[:] = ["$x", "好", NASTY.encode("utf-8", "replace").decode()]
    names = [f"model {number}" for number in range(max(1, models))]
    found = {name: agreement(shown, unit) for name in names}
    sentences = {name: shown if models else [] for name in names}
    plot_sentences(sentences, found, "Title $x", tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
