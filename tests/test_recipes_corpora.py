"""Evaluation on corpora in pieces and in lower case; the search is a stand-in's."""

from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from data_prep.files import FilesCorpus
from data_prep.pipeline import Pipeline
from data_prep.preparation import Preparation
from data_prep.raw import Selection
from recipes import evaluate
from recipes.generation import Hypothesis

pytestmark = pytest.mark.usefixtures("no_fairseq")


def scores_of_the_reference(
    texts: Path, directory: Path, preparation: Preparation, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Scores where the model finds the very subwords of the test set's target side."""
    data = directory / "data"
    prefixes = {split: str(texts / split) for split in ("train", "valid", "test")}
    corpus = FilesCorpus("de", "en", prefixes, preparation=preparation)
    Pipeline("toy", corpus, preparation, Selection(None, None), data, workers=1).run()
    subwords = (data / "bpe/test.en").read_text(encoding="utf-8").split("\n")[:-1]
    found = [[Hypothesis(line, -1.0, line.count(" ") + 2)] for line in subwords]
    monkeypatch.setattr(evaluate, "translate", lambda *_: found)
    checkpoint = directory / "checkpoint.pt"
    checkpoint.touch()
    return evaluate.evaluate(data, checkpoint, directory / "results", trivial=True)


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
