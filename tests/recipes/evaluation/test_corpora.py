"""Evaluation on corpora in pieces and in lower case; the search is a stand-in's."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from data_prep.corpora.files import FilesCorpus
from data_prep.pipeline import Pipeline
from data_prep.preparation import Preparation
from data_prep.selection.raw import Selection
from data_prep.text.bpe import count_words, learn_codes, segmenter
from data_prep.text.tokenization import tokenizer
from recipes.evaluation import evaluate
from recipes.models.generation import Hypothesis
from tests.support.processes import ROOT

pytestmark = pytest.mark.usefixtures("no_fairseq")


def scores_of_the_reference(
    texts: Path,
    directory: Path,
    preparation: Preparation,
    monkeypatch: pytest.MonkeyPatch,
    target: str = "en",
    **options: Any,
) -> dict[str, Any]:
    """Scores where the model finds the very subwords of the test set's target side."""
    data = directory / "data"
    prefixes = {split: str(texts / split) for split in ("train", "valid", "test")}
    corpus = FilesCorpus("de", target, prefixes, preparation=preparation)
    Pipeline("toy", corpus, preparation, Selection(None, None), data, 1, **options).run()

    def reference(_data: Path, _languages: Any, split: str, *_: Any) -> list[list[Hypothesis]]:
        subwords = (data / f"bpe/{split}.{target}").read_text(encoding="utf-8").split("\n")[:-1]
        return [[Hypothesis(line, -1.0, line.count(" ") + 2)] for line in subwords]

    monkeypatch.setattr(evaluate, "translate", reference)
    monkeypatch.setattr(evaluate, "direction", lambda *_: ("de", target))
    checkpoint = directory / "checkpoint.pt"
    checkpoint.touch()
    lenpen = None if target != "en" else 1.0
    return evaluate.evaluate(data, checkpoint, directory / "results", trivial=True, lenpen=lenpen)


def test_pieces_become_text(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preparation = Preparation(subword="sentencepiece", bpe_merges=60)
    scores = scores_of_the_reference(texts, tmp_path, preparation, monkeypatch)
    assert scores["systems"]["model"]["bleu"] == pytest.approx(100)
    assert "|case:mixed|" in scores["signatures"]["bleu"]
    assert "tokenized_bleu" not in scores


@pytest.mark.parametrize("subword", ["bpe", "sentencepiece"])
def test_a_corpus_in_lower_case_is_scored_in_lower_case(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subword: str
) -> None:
    preparation = Preparation(subword=subword, bpe_merges=60, lower_cases=True, escapes=True)
    scores = scores_of_the_reference(texts, tmp_path, preparation, monkeypatch)
    assert scores["systems"]["model"]["bleu"] == pytest.approx(100)
    assert "|case:lc|" in scores["signatures"]["bleu"]
    assert scores.get("tokenized_bleu", 100) == pytest.approx(100)
    source, reference = (
        (texts / f"test.{lang}").read_text(encoding="utf-8").split("\n")[:-1]
        for lang in ("de", "en")
    )
    copied = sacrebleu.corpus_bleu(source, [reference], lowercase=True).score
    assert scores["systems"]["copy"]["bleu"] == pytest.approx(copied)


SENTENCES = {
    "zh": "今天{}号，天气很好（真的）。",
    "th": "วันนี้วันที่ {} อากาศดี เราไปสวนกันเถอะ",
    "fa": "امروز {} است؛ به کتاب‌خانه می‌روم؟",
    "hi": "आज {} तारीख़ है, मौसम अच्छा है।",
    "ko": '"오늘은 {}일"이라고 말했다.',
}


@pytest.mark.parametrize("subword", ["bpe", "sentencepiece"])
@pytest.mark.parametrize("lang", SENTENCES)
def test_a_perfect_translation_has_full_marks_in_any_script(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lang: str, subword: str
) -> None:
    """Through all stages and back; the length penalty is tuned by the same BLEU."""
    for split in ("train", "valid", "test"):
        size = len((texts / f"{split}.de").read_text(encoding="utf-8").split("\n")[:-1])
        lines = [SENTENCES[lang].format(number) for number in range(size)]
        (texts / f"{split}.{lang}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    scores = scores_of_the_reference(
        texts, tmp_path, Preparation(subword=subword, bpe_merges=60), monkeypatch, lang
    )
    assert scores["systems"]["model"]["bleu"] == pytest.approx(100)
    assert list(scores["bleu_by_lenpen"].values()) == [pytest.approx(100)] * 11
    tokenizers = {"zh": "zh", "th": "char"}
    assert f"|tok:{tokenizers.get(lang, '13a')}|" in scores["signatures"]["bleu"]
    assert "tokenized_bleu" not in scores  # it is of Moses' tokens


@pytest.mark.parametrize(
    ("lang", "subword", "options"),
    [
        ("en", "bpe", "--eval-bleu --eval-bleu-detok moses --eval-bleu-remove-bpe"),
        ("fa", "bpe", "--eval-bleu --eval-bleu-detok space --eval-bleu-remove-bpe"),
        (
            "en",
            "sentencepiece",
            "--eval-bleu --eval-bleu-detok space --eval-bleu-remove-bpe sentencepiece",
        ),
        ("zh", "bpe", "--eval-bleu --eval-bleu-detok space --eval-tokenized-bleu"),
        ("th", "sentencepiece", "--eval-bleu --eval-bleu-detok space --eval-tokenized-bleu"),
    ],
)
def test_what_fairseq_train_is_told_of_the_subwords(
    texts: Path, tmp_path: Path, lang: str, subword: str, options: str
) -> None:
    for split in ("train", "valid", "test"):
        (texts / f"{split}.{lang}").write_bytes((texts / f"{split}.en").read_bytes())
    preparation = Preparation(subword=subword, bpe_merges=60)
    prefixes = {split: str(texts / split) for split in ("train", "valid", "test")}
    corpus = FilesCorpus("de", lang, prefixes, preparation=preparation)
    Pipeline("toy", corpus, preparation, Selection(None, None), tmp_path / "data", 1).run()
    script = 'source recipes/training/job.sh; set_eval_bleu "$1"; echo "${eval_bleu[*]}"'
    said = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script, "bash", str(tmp_path / "data")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout == options + "\n"


def test_fairseq_restores_sentences_of_other_scripts(tmp_path: Path) -> None:
    """As it does in validation with the options above."""
    from fairseq.data.data_utils import post_process
    from fairseq.data.encoders.space_tokenizer import SpaceTokenizer

    for lang, sentence in SENTENCES.items():
        tokens = tokenizer(lang, Preparation())([sentence])
        codes = tmp_path / "codes"
        learn_codes(count_words(["aa aa", *tokens]), 20, codes)
        (subwords,) = segmenter(codes)(tokens)
        assert SpaceTokenizer(None).decode(post_process(subwords, "@@ ")) == sentence


def test_the_tokeniser_that_was_asked_for_is_bleu_s(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = Preparation(bpe_merges=60)
    scores = scores_of_the_reference(
        texts, tmp_path, preparation, monkeypatch, bleu_tokenizer="char"
    )
    source, reference = (
        (texts / f"test.{lang}").read_text(encoding="utf-8").split("\n")[:-1]
        for lang in ("de", "en")
    )
    copied = sacrebleu.corpus_bleu(source, [reference], tokenize="char").score
    assert scores["systems"]["copy"]["bleu"] == pytest.approx(copied)
    assert "|tok:char|" in scores["signatures"]["bleu"]
