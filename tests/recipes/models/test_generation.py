"""What fairseq-generate prints, read back; ranking by length penalty; subwords undone."""

from __future__ import annotations

from functools import partial

import pytest
import sacrebleu
from sacremoses import MosesTokenizer

from recipes.evaluation.evaluate import LENPENS, best_lenpen, bleu_by_lenpen
from recipes.evaluation.scores import Scorer
from recipes.models.generation import Hypothesis, best, detokenize, parse_hypotheses, undo_bpe
from recipes.support.errors import RecipeError

SOURCES = ["ein\x85 Satz"] * 4


def generated(*numbers: int) -> bytes:
    lines = ["2026-11-22 10:23:20 | INFO | fairseq_cli.generate | loading", "Generate test: H-9"]
    for number in numbers:
        lines += [f"S-{number}\tein\x85 Satz", f"T-{number}\ta sentence"]
        lines += [f"H-{number}\t-3.5\tsen@@ tence\u2028 {number}", f"D-{number}\t-3.5\tsentence"]
        lines += [f"P-{number}\t-0.5000 -1.0000 -1.5000 -0.5000"]
        lines += [f"H-{number}\t-4.0\t", f"D-{number}\t-4.0\t", f"P-{number}\t-4.0000"]
    return ("\n".join(lines) + "\n").encode()


def test_hypotheses_come_in_the_order_of_the_sentences() -> None:
    assert parse_hypotheses(generated(2, 0, 1), SOURCES[:3]) == [
        [Hypothesis(f"sen@@ tence\u2028 {number}", -3.5, 4), Hypothesis("", -4.0, 1)]
        for number in range(3)
    ]


def test_the_length_penalty_ranks_hypotheses() -> None:
    short, long = Hypothesis("short", -2.0, 1), Hypothesis("long", -3.0, 2)
    # -3 / 2^p > -2 where 2^p > 1.5, p > log2(1.5) = 0.585
    assert best([[short, long], [long]], 0.58) == ["short", "long"]
    assert best([[short, long], [long]], 0.59) == ["long", "long"]
    assert best([[short, long]], 0.0) == ["short"]


def test_the_length_penalty_with_the_highest_bleu_is_chosen_and_of_equal_ones_the_usual() -> None:
    assert best_lenpen({0.0: 3.0, 1.0: 4.0, 1.2: 5.0, 2.0: 4.5}) == 1.2
    assert best_lenpen({0.0: 4.0, 0.6: 5.0, 1.2: 5.0, 2.0: 5.0}) == 1.2
    assert best_lenpen(dict.fromkeys(LENPENS, 0.0)) == 1.0


def test_bleu_by_length_penalty() -> None:
    """Of two sentences one changes between 0.4 and 0.6; BLEU is sacreBLEU's own."""
    found = [
        [Hypothesis("The file is o@@ pen", -2.0, 1), Hypothesis("The file is o@@ pen .", -3.0, 2)],
        [Hypothesis("Close the window .", -1.0, 5)],
    ]
    references = ["The file is open.", "Close the window."]
    bleu = bleu_by_lenpen(found, references, partial(detokenize, lang="en"), Scorer())
    assert list(bleu) == list(LENPENS)
    shorter = sacrebleu.corpus_bleu(["The file is open", "Close the window."], [references]).score
    assert shorter < 90
    for lenpen, value in bleu.items():
        assert value == pytest.approx(shorter if lenpen < 0.585 else 100.0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 1, 3), "1 of 4 sentences were not translated: ids 2"),
        ((0, 1, 2, 2, 3), "1 of 4 sentences were translated more than once: ids 2"),
        ((0, 1, 2, 3, 7), "1 of 4 sentences were translated, but not in the reference: ids 7"),
        ((), "4 of 4 sentences were not translated: ids 0, 1, 2, 3"),
    ],
)
def test_each_sentence_must_be_translated_once(numbers: tuple[int, ...], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_hypotheses(generated(*numbers), SOURCES)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ein Satz", True),  # \x85 is a space to fairseq
        ("ein </s> Satz", True),
        ("ein Haus", False),
        ("ein", False),
        ("ein ganzer Satz", False),
    ],
)
def test_it_must_be_the_sentence_with_that_number(text: str, same: bool) -> None:
    sources = [SOURCES[0], text]
    if same:
        assert len(parse_hypotheses(generated(0, 1), sources)) == 2
        return
    with pytest.raises(RecipeError) as caught:
        parse_hypotheses(generated(0, 1), sources)
    assert str(caught.value).startswith("1 of 2 sentences were other ones in the binary data")
    assert str(caught.value).endswith("ids 1")


def test_an_unknown_word_may_be_any() -> None:
    output = generated(0).replace(b"Satz", b"<unk>")
    assert len(parse_hypotheses(output, ["ein Saatz"])) == 1


def test_a_long_list_of_ids_is_cut() -> None:
    with pytest.raises(RecipeError, match=r"ids 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.$"):
        parse_hypotheses(b"", SOURCES * 25)


@pytest.mark.parametrize(
    ("coded", "plain"),
    [
        ("Ein@@ fa@@ che Lösung", "Einfache Lösung"),
        ("", ""),
        ("cut o@@", "cut o"),
        ("a @ b", "a @ b"),
        ("@-@ dash", "@-@ dash"),
    ],
)
def test_undo_bpe(coded: str, plain: str) -> None:
    assert undo_bpe(coded) == plain


@pytest.mark.parametrize(
    "raw",
    [
        "Choose Insert, then Table; press Enter.",
        "The file can't be opened!",
        "Values from 0.5 to 1,000 are allowed (see below).",
        "Search & replace, with [Return].",
        "He said: don't.",
        "A naïve café costs 5% more.",
    ],
)
@pytest.mark.parametrize("escape", [False, True])
def test_detokenising_undoes_tokenising_and_bpe(raw: str, escape: bool) -> None:
    words = MosesTokenizer("en").tokenize(raw, escape=escape)
    coded = " ".join(f"{word[:2]}@@ {word[2:]}" if len(word) > 8 else word for word in words)
    assert detokenize([coded], "en") == [raw]
