"""Scores and significance, against the command lines of sacreBLEU and of Moses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.scores import score, signatures, tokenized_bleu

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
    ours = score(HYPOTHESES, REFERENCES)
    assert ours.bleu == pytest.approx(bleu["score"], abs=1e-9)
    assert ours.chrf == pytest.approx(chrf["score"], abs=1e-9)
    assert ours.ter == pytest.approx(ter["score"], abs=1e-9)
    assert f"ratio = {ours.length_ratio:.3f}" in bleu["verbose_score"]
    signed = {"bleu": bleu["signature"], "chrf": chrf["signature"], "ter": ter["signature"]}
    assert signatures(REFERENCES, False) == signed


def test_copying_scores_full_marks_where_source_and_reference_agree() -> None:
    ours = score(REFERENCES, REFERENCES)
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
    assert score(hypotheses, references).ter == pytest.approx(100 * 3 / 12)


def test_a_signature_says_what_the_references_are() -> None:
    assert "|case:lc|" in signatures(REFERENCES, lower_cases=True)["bleu"]
    assert "|case:mixed|" in signatures(REFERENCES, lower_cases=False)["bleu"]
    assert set(signatures(REFERENCES, lower_cases=False)) == {"bleu", "chrf", "ter"}
