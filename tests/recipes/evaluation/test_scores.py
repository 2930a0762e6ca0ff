"""Scores and significance, against the command lines of sacreBLEU and of Moses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.preparation import Preparation
from data_prep.text.tokenization import tokenizer
from recipes.evaluation.scores import Scorer, tokenized_bleu
from recipes.models.generation import detokenize
from recipes.support.errors import RecipeError

REFERENCES = [
    'Click the "Insert" tab, then choose Table.',
    "The file can't be opened (read-only)!",
    "See also: Fontwork.",
]
HYPOTHESES = [
    'Click on the "Insert" tab and choose Tables.',
    "The file cannot be opened!",
    "See also: Fontwork.",
]


def test_tokenised_bleu_is_that_of_multi_bleu_perl() -> None:
    """Its output on these sentences, with two decimals, is written down here."""
    references = [
        "the cat sat on the mat .",
        "a cat is on the mat by the door .",
        "he opens the file and closes it again .",
        "a b c d",
        "quite other words",
    ]
    hypotheses = [
        "the cat sat on the mat .",
        "there is a cat on the mat near the door .",
        "he &apos;s open the file , and close it again .",
        "a b",
        "nothing in common here",
    ]
    assert f"{tokenized_bleu(hypotheses, references):.2f}" == "38.41"
    assert tokenized_bleu(["the dog is in the mat ."], references[:1]) == 0


def test_scores_are_those_of_sacrebleu_s_command_line(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("references", "hypotheses")}
    files["references"].write_text("\n".join(REFERENCES) + "\n", "utf-8")
    files["hypotheses"].write_text("\n".join(HYPOTHESES) + "\n", "utf-8")
    said = subprocess.run(
        [
            *(sys.executable, "-m", "sacrebleu", files["references"], "-i", files["hypotheses"]),
            *("-m", "bleu", "chrf", "ter", "-w", "10"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    bleu, chrf, ter = json.loads(said)
    ours = Scorer().score(HYPOTHESES, REFERENCES)
    assert ours.bleu == pytest.approx(bleu["score"], abs=1e-9)
    assert ours.chrf == pytest.approx(chrf["score"], abs=1e-9)
    assert ours.ter == pytest.approx(ter["score"], abs=1e-9)
    assert f"ratio = {ours.length_ratio:.3f}" in bleu["verbose_score"]
    signed = {"bleu": bleu["signature"], "chrf": chrf["signature"], "ter": ter["signature"]}
    assert Scorer().signatures(REFERENCES, False) == signed


def test_copying_scores_full_marks_where_source_and_reference_agree() -> None:
    ours = Scorer().score(REFERENCES, REFERENCES)
    assert ours.bleu == pytest.approx(100)
    assert ours.chrf == pytest.approx(100)
    assert ours.length_ratio == 1


def test_splitting_compounds_is_that_of_fairseq_s_script() -> None:
    """What multi-bleu.perl prints of these lines, and after the Perl of compound_split_bleu.sh."""
    references = [
        "die bundes-regierung hat am montag getagt .",
        "ein nord-süd-gefälle gibt es auch in der e-mail von heute .",
        "ganz andere worte",
        "das ist der 20-jährige fahrer des autos - er lacht .",
    ]
    hypotheses = [
        "die bundes regierung hat am montag getagt .",
        "ein nord-süd-gefälle gibt es auch in der e-mail von gestern .",
        "gar nichts gleiches hier",
        "das ist der 30-jährige fahrer des wagens - er lacht .",
    ]
    assert f"{tokenized_bleu(hypotheses, references):.2f}" == "54.81"
    assert f"{tokenized_bleu(hypotheses, references, split_compounds=True):.2f}" == "68.88"


def test_ter_by_hand() -> None:
    """One word in place of another, one left out, one block moved: 3 edits of 12 words."""
    references = ["a b c d", "the file is open", "x y z w"]
    hypotheses = ["a b c e", "the file open", "z w x y"]
    assert Scorer().score(hypotheses, references).ter == pytest.approx(100 * 3 / 12)


def test_a_signature_says_what_the_references_are() -> None:
    assert "|case:lc|" in Scorer().signatures(REFERENCES, lower_cases=True)["bleu"]
    assert "|case:mixed|" in Scorer().signatures(REFERENCES, lower_cases=False)["bleu"]
    assert set(Scorer().signatures(REFERENCES, lower_cases=False)) == {"bleu", "chrf", "ter"}


# Two sentences, a word of the first and another in its place; and sacreBLEU's tokeniser.
SCRIPTS = {
    "zh": ("今天天气很好，我们去公园散步吧。\n请把书放在桌子上，然后关门。", "公园", "学校", "zh"),
    "zh-Hant": ("今天天氣很好，我們去公園散步吧。\n請把書放在桌子上。", "公園", "學校", "zh"),
    "yue": ("今日天氣好好，我哋去公園行吓啦。\n唔該將本書放喺枱面。", "公園", "學校", "zh"),
    "ja": ("今日は天気がいいので、公園へ行きましょう。\n本を机に置く。", "公園", "学校", "char"),
    "th": ("วันนี้อากาศดี เราไปสวนกันเถอะ\nกรุณาวางหนังสือไว้บนโต๊ะ", "สวน", "ตลาด", "char"),
    "km": ("ថ្ងៃនេះអាកាសធាតុល្អ តោះទៅសួន។\nសូមដាក់សៀវភៅលើតុ។", "សួន", "ផ្សារ", "char"),
    "lo": ("ມື້ນີ້ອາກາດດີ ພວກເຮົາໄປສວນກັນເທາະ.\nກະລຸນາວາງປຶ້ມໄວ້ເທິງໂຕະ.", "ສວນ", "ຕະຫຼາດ", "char"),
    "my": ("ဒီနေ့ရာသီဥတုကောင်းတယ်၊ ပန်းခြံသွားရအောင်။\nစာအုပ်ကိုတင်ပါ။", "ပန်းခြံ", "ဈေး", "char"),
    "ko": (
        "오늘은 날씨가 좋으니까 공원에 갑시다.\n책을 책상 위에 놓고 문을 닫으세요.",
        "공원에",
        "학교에",
        "13a",
    ),
    "fa": (
        "امروز هوا خوب است، به پارک می‌رویم.\nلطفاً کتاب را روی میز بگذارید.",
        "پارک",
        "بازار",
        "13a",
    ),
    "ar": (
        "الطقس جميل اليوم، هيا نذهب إلى الحديقة.\nضع الكتاب على الطاولة؟",
        "الحديقة",
        "السوق",
        "13a",
    ),
    "he": (
        'מזג האוויר יפה היום, בואו נלך לפארק.\nמפקד צה"ל לא בא אתמול לבית־הספר.',
        "לפארק",
        "לשוק",
        "13a",
    ),
    "hi": ("आज मौसम अच्छा है, चलो पार्क चलते हैं।\nकृपया किताब मेज़ पर रख दीजिए।", "पार्क", "बाज़ार", "13a"),
    "bn": ("আজ আবহাওয়া ভালো, চলো পার্কে যাই।\nদয়া করে বইটা টেবিলের উপর রাখুন।", "পার্কে", "বাজারে", "13a"),
    "ta": (
        "இன்று வானிலை நன்றாக இருக்கிறது, கடைக்குப் போகலாம்.\nஅவர் நேற்று வீட்டிற்கு வரவில்லை.",
        "கடைக்குப்",
        "பள்ளிக்குப்",
        "13a",
    ),
    "de": (
        "Heute ist das Wetter gut, gehen wir in den Park.\nLeg das Buch auf den Tisch.",
        "Park",
        "Wald",
        "13a",
    ),
}


@pytest.mark.parametrize("lang", SCRIPTS)
def test_a_perfect_system_has_full_marks_and_one_with_a_wrong_word_nearly(lang: str) -> None:
    """Perfect is one that says the tokens that the reference is made of."""
    text, word, other, name = SCRIPTS[lang]
    references = text.split("\n")
    scorer = Scorer.of(lang)
    perfect = detokenize(tokenizer(lang, Preparation())(references), lang)
    assert perfect == references
    scores = scorer.score(perfect, references)
    assert scores.bleu == pytest.approx(100) and scores.chrf == pytest.approx(100)
    assert scores.ter == 0 and scores.length_ratio == 1
    worse = scorer.score([line.replace(word, other) for line in references], references)
    assert 70 < worse.bleu < 95 and 75 < worse.chrf < 97 and 0 < worse.ter <= 34
    assert scorer.bleu(references, references) == pytest.approx(100)
    assert f"|tok:{name}|" in scorer.signatures(references, lower_cases=False)["bleu"]


@pytest.mark.parametrize("lang", ["zh", "ja", "th", "hi"])
def test_scores_of_other_scripts_are_those_of_sacrebleu_s_command_line(
    lang: str, tmp_path: Path
) -> None:
    """With the tokeniser of the signature, and TER's options."""
    text, word, other, name = SCRIPTS[lang]
    (tmp_path / "references").write_text(text + "\n", "utf-8")
    hypotheses = text.replace(word, other)
    (tmp_path / "hypotheses").write_text(hypotheses + "\n", "utf-8")
    options = ["--tokenize", name]
    if lang in ("zh", "ja"):
        options += ["--ter-normalized", "--ter-asian-support"]
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "hypotheses", *options]
    said = subprocess.run(
        [*command, "-m", "bleu", "chrf", "ter", "-w", "10"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    ).stdout
    bleu, chrf, ter = json.loads(said)
    references = text.split("\n")
    ours = Scorer.of(lang).score(hypotheses.split("\n"), references)
    assert ours.bleu == pytest.approx(bleu["score"], abs=1e-9)
    assert ours.chrf == pytest.approx(chrf["score"], abs=1e-9)
    assert ours.ter == pytest.approx(ter["score"], abs=1e-9)
    signed = {"bleu": bleu["signature"], "chrf": chrf["signature"], "ter": ter["signature"]}
    assert Scorer.of(lang).signatures(references, False) == signed


def test_ter_in_chinese_by_hand() -> None:
    """One character of seven in place of another; the full stop is a word of its own."""
    assert Scorer.of("zh").score(["我去市场买水。"], ["我去市场买菜。"]).ter == pytest.approx(
        100 / 7
    )


def test_significance_is_of_the_language_s_tokens(tmp_path: Path) -> None:
    """As sacreBLEU's command line has it, told the tokeniser."""
    references = [f"第{number}天，我们去公园散步，然后回家。" for number in "一二三四五六七八九十"]
    baseline = [references[0].replace("公园", "学校"), *references[1:]]
    system = [line.replace("然后回家", "回家") if "四" in line else line for line in references]
    files = {"references": references, "baseline": baseline, "system": system}
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "baseline", "system"]
    command += ["-m", "bleu", "chrf", "--paired-bs", "--tokenize", "zh", "-f", "text"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    bleu, chrf = map(float, re.findall(r"\(p = ([\d.]+)\)", said))  # four digits
    ours = Scorer.of("zh").paired_bootstrap(baseline, system, references)
    assert ours["BLEU"] == pytest.approx(bleu, abs=1e-4)
    assert ours["chrF2"] == pytest.approx(chrf, abs=1e-4)
    assert bleu > 0.05  # to 13a no line has four tokens, all scores are 0, and p is 0.001


@pytest.mark.parametrize("name", ["ja-mecab", "ko-mecab"])
def test_a_tokeniser_that_needs_more_packages_says_which(name: str) -> None:
    lang = name[:2]
    try:
        scorer = Scorer.of(lang, name)
    except RecipeError as error:
        assert str(error).startswith(f"--bleu-tokenizer {name}: ")
        assert f"pip install 'sacrebleu[{lang}]'" in str(error) and str(error).count("\n") == 1
    else:  # they are installed
        text = SCRIPTS[lang][0].split("\n")
        assert f"|tok:{name}" in scorer.signatures(text, lower_cases=False)["bleu"]


def test_the_user_s_tokeniser_comes_before_the_language_s() -> None:
    assert Scorer.of("th", "intl").tokenizer == "intl"
    assert Scorer.of("de", "char").tokenizer == "char"
