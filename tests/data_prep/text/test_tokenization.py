"""Tokens: Moses' own in the scripts that it has rules for, and in others such as join again.

Moses' are compared with tokenizer.perl, whose output on these sentences is written down here. Made
with revision 34452895f of mosesdecoder: `tokenizer.perl -q -l LANG`, and
`tokenizer.perl -q -l LANG -a -no-escape | lowercase.perl`. Left out are spaces in excess: Moses
writes some where a sentence ends in `.'`.
"""

import lzma
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.preparation import Preparation
from data_prep.text.bpe import count_words, learn_codes, segmenter
from data_prep.text.cleaning import clean_line
from data_prep.text.tokenization import tokenizer
from recipes.models.generation import detokenize
from tests.support.shared_data import shared
from tests.support.texts import PlainMoses

# language, sentence, tokens, tokens with other options
MOSES = [
    (
        "en",
        "He lives in the U.S.",
        "He lives in the U.S .",
        "he lives in the u.s .",
    ),
    (
        "en",
        "It's Mr. Smith's dog, isn't it?",
        "It &apos;s Mr. Smith &apos;s dog , isn &apos;t it ?",
        "it 's mr. smith 's dog , isn 't it ?",
    ),
    (
        "en",
        "Prices rose 3,500.50 % (from $1,200) in the 1990's.",
        "Prices rose 3,500.50 % ( from $ 1,200 ) in the 1990 &apos;s .",
        "prices rose 3,500.50 % ( from $ 1,200 ) in the 1990 's .",
    ),
    (
        "en",
        "See e.g. p. 5, No. 7, and so on...",
        "See e.g. p . 5 , No. 7 , and so on ...",
        "see e.g. p . 5 , no. 7 , and so on ...",
    ),
    (
        "en",
        "\"Well,\" she said, 'that's AT&T's <b> | [x].'",
        "&quot; Well , &quot; she said , &apos; that &apos;s AT &amp; T &apos;s"
        " &lt; b &gt; &#124; &#91; x &#93; . &apos;",
        "\" well , \" she said , ' that 's at & t 's < b > | [ x ] . '",
    ),
    (
        "en",
        "Wait.... what?! a,b,c and 1,2,3, ok",
        "Wait .... what ? ! a , b , c and 1,2,3 , ok",
        "wait .... what ? ! a , b , c and 1,2,3 , ok",
    ),
    (
        "en",
        "E-mail a@b.org or look at http://x.org/a?b=c.",
        "E-mail a @ b.org or look at http : / / x.org / a ? b = c .",
        "e @-@ mail a @ b.org or look at http : / / x.org / a ? b = c .",
    ),
    (
        "en",
        "Dr. J. R. Ewing vs. the rock 'n' roll band etc.",
        "Dr. J. R. Ewing vs. the rock &apos; n &apos; roll band etc .",
        "dr. j. r. ewing vs. the rock ' n ' roll band etc .",
    ),
    (
        "en",
        "The end of line, 5,",
        "The end of line , 5 ,",
        "the end of line , 5 ,",
    ),
    (
        "en",
        "Σίσυφος and ΟΔΟΣ",
        "Σίσυφος and ΟΔΟΣ",
        "σίσυφος and οδοσ",
    ),
    (
        "en",
        "no full stop",
        "no full stop",
        "no full stop",
    ),
    (
        "de",
        "Das kostet z. B. 3,5 % mehr, usw.",
        "Das kostet z. B. 3,5 % mehr , usw .",
        "das kostet z. b. 3,5 % mehr , usw .",
    ),
    (
        "de",
        "Er kam am 3. Mai 1999 um 5 Uhr, bzw. später.",
        "Er kam am 3. Mai 1999 um 5 Uhr , bzw. später .",
        "er kam am 3. mai 1999 um 5 uhr , bzw. später .",
    ),
    (
        "de",
        "„So ist's“, sagte Dr. Müller-Lüdenscheidt.",
        "„ So ist &apos; s “ , sagte Dr. Müller-Lüdenscheidt .",
        "„ so ist ' s “ , sagte dr. müller @-@ lüdenscheidt .",
    ),
    (
        "de",
        "Am 24.12. ist Weihnachten, i.d.R.",
        "Am 24.12. ist Weihnachten , i.d.R .",
        "am 24.12. ist weihnachten , i.d.r .",
    ),
    (
        "fr",
        "L'homme qu'il a vu aujourd'hui s'appelle « d'Artagnan ».",
        "L&apos; homme qu&apos; il a vu aujourd&apos; hui s&apos; appelle « d&apos; Artagnan » .",
        "l' homme qu' il a vu aujourd' hui s' appelle « d' artagnan » .",
    ),
    (
        "fr",
        "C'est M. Dupont, etc.",
        "C&apos; est M. Dupont , etc .",
        "c' est m. dupont , etc .",
    ),
    (
        "fr",
        "Qu'est-ce que c'est que 3'4 ?",
        "Qu&apos; est-ce que c&apos; est que 3 &apos; 4 ?",
        "qu' est @-@ ce que c' est que 3 ' 4 ?",
    ),
    (
        "vi",
        "TP. Hồ Chí Minh có 9.000.000 người, v.v.",
        "TP . Hồ Chí Minh có 9.000.000 người , v.v .",
        "tp . hồ chí minh có 9.000.000 người , v.v .",
    ),
    (
        "vi",
        "Anh ấy nói: 'Tôi không biết'.",
        "Anh ấy nói : &apos; Tôi không biết &apos; .",
        "anh ấy nói : ' tôi không biết ' .",
    ),
]


@pytest.mark.parametrize(("lang", "sentence", "tokens", "others"), MOSES)
def test_tokens_are_those_of_moses(lang: str, sentence: str, tokens: str, others: str) -> None:
    assert tokenizer(lang, Preparation(escapes=True))([sentence]) == [tokens]
    variant = Preparation(splits_dashes=True, lower_cases=True)
    assert tokenizer(lang, variant)([sentence]) == [others]


@pytest.mark.parametrize("code", ["fr", "FR", "fr-CA", "fr_FR", "fra", "fre", "fra_Latn"])
def test_a_language_is_known_by_any_of_its_codes(code: str) -> None:
    assert tokenizer(code, Preparation())(["C'est l'ami d'hier."]) == ["C' est l' ami d' hier ."]
    assert detokenize(["C' est l' ami d' hier ."], code) == ["C'est l'ami d'hier."]


MOSES_OF = {lang: PlainMoses(lang) for lang in ("de", "en", "fr", "vi")}


@given(
    st.text(st.sampled_from("aéý .'😀\u0301\u0323\u200d\ufe0f🇩🇪🏽") | st.characters(codec="utf-8")),
    st.sampled_from(sorted(MOSES_OF)),
)
def test_corpora_with_a_reference_keep_its_tokens_of_any_text(line: str, lang: str) -> None:
    """Torn marks and emoji too."""
    tokenize = tokenizer(lang, Preparation(repairs=False, escapes=True))
    assert tokenize([line]) == [" ".join(MOSES_OF[lang].tokenize(line))]


def test_european_text_keeps_moses_tokens() -> None:
    """Of 9,000 captions in German, English and French, every line."""
    folder = shared("multi30k")
    for lang in ("de", "en", "fr"):
        with lzma.open(folder / f"train.{lang}.xz", "rt", encoding="utf-8", newline="\n") as stream:
            lines = [clean_line(next(stream), {}) for _ in range(3000)]
        expected = [" ".join(MOSES_OF[lang].tokenize(line, escape=False)) for line in lines]
        assert tokenizer(lang, Preparation())(lines) == expected


# A letter and its accent that have no character of their own; family and flag; a digit in a box.
@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("Ọ̀rọ̀ náà, ẹ̀gbọ́n.", "Ọ̀rọ̀ náà , ẹ̀gbọ́n ."),
        ("Das ist 👨‍👩‍👧!", "Das ist 👨‍👩‍👧 !"),
        ("Hallo 🇩🇪🇫🇷, ihr", "Hallo 🇩🇪 🇫🇷 , ihr"),
        ("Gut 👍🏽, ja", "Gut 👍🏽 , ja"),
        ("Taste 1️⃣ ❤️", "Taste 1️⃣ ❤️"),
        ("Auf\u200clage (neu)", "Auf\u200clage ( neu )"),
    ],
)
def test_what_belongs_to_a_character_stays_with_it(sentence: str, tokens: str) -> None:
    assert tokenizer("yo", Preparation())([sentence]) == [tokens]


# Words, and signs that join again. Where a sentence has neither spaces nor signs it is one word.
JOINABLE = [
    ("zh", "他说：“走吧！”然后…", "他说@@ ：@@ “@@ 走吧@@ ！@@ ”@@ 然后@@ …"),
    ("zh-Hant", "我用Python 3.11寫。", "我用Python 3.11寫@@ 。"),
    ("cmn_Hans", "好（吗）？", "好@@ （@@ 吗@@ ）@@ ？"),
    ("yue", "係咪呀？", "係咪呀@@ ？"),
    ("ja", "「これはペン・ー々」です。", "「@@ これはペン@@ ・@@ ー々@@ 」@@ です@@ 。"),
    ("ko", '"안녕"이라고 3,500원.', '"@@ 안녕@@ "@@ 이라고 3,500원@@ .'),
    ("th", "วันนี้ฉันไปตลาด (แล้ว) ๆ", "วันนี้ฉันไปตลาด (@@ แล้ว@@ ) ๆ"),
    ("km", "ខ្ញុំទៅផ្សារ។", "ខ្ញុំទៅផ្សារ@@ ។"),
    ("my", "ကျွန်တော်ဈေးသွားတယ်။", "ကျွန်တော်ဈေးသွားတယ်@@ ။"),
    ("lo", "ຂ້ອຍໄປຕະຫຼາດ.", "ຂ້ອຍໄປຕະຫຼາດ@@ ."),
    ("bo", "བོད་སྐད་ཡིན།", "བོད་སྐད་ཡིན@@ །"),
    ("fa", "می‌خواهم کتاب‌خانه، چرا؟", "می‌خواهم کتاب‌خانه@@ ، چرا@@ ؟"),
    ("ar", "ذَهَبَ إلى السوق؛ لماذا؟", "ذَهَبَ إلى السوق@@ ؛ لماذا@@ ؟"),
    ("arb_Arab", "نعم، لا", "نعم@@ ، لا"),
    ("he", 'צה"ל, בית־ספר שָׁלוֹם.', 'צה@@ "@@ ל@@ , בית@@ ־@@ ספר שָׁלוֹם@@ .'),
    ("hi", "डॉ. शर्मा हैं? हाँ।", "डॉ@@ . शर्मा हैं@@ ? हाँ@@ ।"),
    ("bn", "আমি বাজারে যাই।", "আমি বাজারে যাই@@ ।"),
    ("ta", "நான் கடைக்குச் செல்கிறேன்!", "நான் கடைக்குச் செல்கிறேன்@@ !"),
    ("am", "ሰላም፡ዓለም።", "ሰላም@@ ፡@@ ዓለም@@ ።"),
    ("uz-Arab", "نعم، a+b 👨‍👩‍👧🇩🇪", "نعم@@ ، a@@ +@@ b 👨‍👩‍👧@@ 🇩🇪"),
]


@pytest.mark.parametrize(("lang", "sentence", "tokens"), JOINABLE)
def test_tokens_in_other_scripts(lang: str, sentence: str, tokens: str) -> None:
    assert unicodedata.is_normalized("NFC", sentence)
    assert tokenizer(lang, Preparation())([sentence]) == [tokens]
    assert detokenize([tokens], lang) == [sentence]


@given(
    st.lists(
        st.text(
            st.sampled_from("我かก้क्‌‍ام۔、。་@.,3٣ '\"()￭👨‍👩🏽🇩🇪") | st.characters(codec="utf-8")
        ),
        min_size=1,
    ),
    st.sampled_from(sorted({lang for lang, *_ in JOINABLE})),
)
def test_any_text_in_other_scripts_joins_again_after_bpe(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], lang: str
) -> None:
    lines = [clean_line(text, {}) for text in [*texts, "aa aa"]]
    tokens = tokenizer(lang, Preparation())(lines)
    codes = tmp_path_factory.mktemp("codes") / "codes"
    learn_codes(count_words(tokens), 20, codes)
    assert detokenize(segmenter(codes)(tokens), lang) == lines


def test_a_joint_is_no_part_of_the_word(tmp_path: Path) -> None:
    """The word before a sign is cut as any other, with what was learnt of both."""
    tokens = tokenizer("hi", Preparation())(["abcd", "abcd।", "@@"])
    assert tokens == ["abcd", "abcd@@ ।", "@@@ @"]
    assert count_words(tokens) == {"abcd": 2, "।": 1, "@": 2}
    codes = tmp_path / "codes"
    codes.write_text("#version: 0.2\na b\nc d</w>\n", encoding="utf-8")
    assert segmenter(codes)(tokens) == ["ab@@ cd", "ab@@ cd@@ ।", "@@@ @"]
