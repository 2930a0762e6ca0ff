"""Attacks on trained models: what is attacked, what is written, and the command."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics.chrf import CHRF

from data_prep.substitutions.table import Choices, write_table
from data_prep.substitutions.tagging import Tagger
from data_prep.substitutions.words import Substitutions
from recipes.attack import __main__ as command
from recipes.attack.classifying import Rules, attack
from recipes.attack.translating import _outcome, changed
from recipes.models.generation import best, translate
from recipes.models.prepared import Prepared
from recipes.sentences.labelled import Labelled
from recipes.sentences.predictions import predict
from recipes.support.errors import RecipeError
from tests.support import translators

# ---- A trained classifier ------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Substitutions for the words of the corpus of opinions, as data_prep leaves them."""
    words = tmp_path / "substitutions" / "words"
    words.mkdir(parents=True)
    table = {
        ("good", "adj"): Choices(("fine",), ("bad",)),
        ("bad", "adj"): Choices(("awful",), ("good",)),
    }
    write_table(table, words / "substitutions.tsv")
    tags = dict.fromkeys(["good", "bad", "fine", "awful"], "ADJ|-")
    model = {"weights": {}, "tagdict": tags, "classes": ["X|-"]}
    (words / "tagger.json.gz").write_bytes(gzip.compress(json.dumps(model).encode()))
    return tmp_path / "substitutions"


def test_what_is_attacked_is_what_is_right(
    opinions: Path, opinion_model: Path, bert: Path, folder: Path
) -> None:
    """By the predictions of recipes.sentences; antonyms spare the classes that are skipped."""
    from recipes.models.model import load

    corpus = Labelled.of(opinions)
    assert corpus.classes is not None
    predicted = predict(load(opinions, opinion_model, cpu=True), "test", "the test")
    assert predicted.true is not None
    right = predicted.classes == predicted.true
    substitutions = Substitutions.read(folder / "words")
    skipped = corpus.classes[0]
    found, tried = attack(
        *(corpus, "test", opinion_model, bert, ["synonyms", "antonyms"], substitutions),
        *(Rules(None, [skipped], False), None, "x", True),
    )
    assert found.tolist() == right.tolist() and right.sum() > 0
    assert [of.number for of in tried["synonyms"]] == np.flatnonzero(right).tolist()
    labels = [corpus.classes[int(n)] for n in predicted.true]
    spared = [n for n in np.flatnonzero(right).tolist() if labels[n] != skipped]
    assert [of.number for of in tried["antonyms"]] == spared
    powers = np.exp(predicted.outputs - predicted.outputs.max(1, keepdims=True))
    for of in tried["synonyms"]:
        true = powers[of.number][int(predicted.true[of.number])] / powers[of.number].sum()
        assert of.attempt.probability[0] == pytest.approx(true, abs=1e-4)
    first, _ = attack(
        *(corpus, "test", opinion_model, bert, [], substitutions, Rules(None, [], False)),
        *(5, "x", True),
    )
    assert first.tolist() == right[:5].tolist()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["recipes.attack", *map(str, arguments)])
    command._main()


def test_the_command(
    opinions: Path,
    opinion_model: Path,
    bert: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    given = [opinions, "--checkpoint", opinion_model, "--label", "ours", "--cpu", "--out", out]
    given += ["--encoder", bert, "--substitutions", folder, "--sentences", "20"]
    run(monkeypatch, *given, "--attack", "antonyms", "synonyms", "negation")
    assert "| ours" in capsys.readouterr().out
    (model,) = json.loads((out / "attack.json").read_text("utf-8"))["models"].values()
    assert list(model["attacks"]) == ["antonyms", "synonyms", "negation"]
    rows = (out / "attacks.tsv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + sum(of["attacked"] for of in model["attacks"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--skip-classes", "neutral"], "--skip-classes neutral: .* has "),
        (["--split", "test1"], "--split test1: it has no labels"),
        (["--split", "other"], "--split other: "),
        (["--substitutions", "nowhere"], "nowhere/words/substitutions.tsv: not there"),
    ],
)
def test_a_wrong_command(
    options: list[str],
    message: str,
    opinions: Path,
    opinion_model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = [opinions, "--checkpoint", opinion_model, "--out", tmp_path / "out"]
    with pytest.raises(RecipeError, match=message):
        run(monkeypatch, *given, "--substitutions", folder, *options)
    assert not (tmp_path / "out").exists()


def test_scores_are_not_attacked(
    scored: Path, score_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="has scores: attacks are on classes"):
        run(monkeypatch, scored, "--checkpoint", score_model, "--out", tmp_path / "out")


# ---- Translators ---------------------------------------------------------------------------------

CLAUSES = {
    ("house", "noun"): Choices(("tree",), ()),
    ("big", "adj"): Choices(("new",), ("small",)),
    ("small", "adj"): Choices((), ("big",)),
    ("opens", "verb"): Choices(("sees",), ("closes",)),
}
CLAUSE_TAGS = {
    **dict.fromkeys(["house", "tree"], "NOUN|-"),
    **dict.fromkeys(["big", "new", "small"], "ADJ|-"),
    **dict.fromkeys(["opens", "closes"], "VERB|Fin"),
    "sees": "NOUN|-",  # is no verb to this tagger
}
OF_CLAUSES = Substitutions(CLAUSES, Tagger({}, CLAUSE_TAGS, ["X|-"]))


def test_one_word_is_drawn_and_one_that_stands_for_it() -> None:
    sentences = ["The big house opens.", "Nothing.", "The cell opens."] * 30
    found = changed(sentences, OF_CLAUSES, "synonyms", 1)
    assert {number % 3 for number in found} == {0}  # sees would be no verb
    texts = {change.sentence for change in found.values()}
    assert texts == {"The new house opens.", "The big tree opens."}
    for change in found.values():
        assert change.words in (("big", "new"), ("house", "tree"))
    antonyms_of = changed(sentences, OF_CLAUSES, "antonyms", 1)
    assert len(antonyms_of) == 60
    assert {c.sentence for n, c in antonyms_of.items() if n % 3 == 2} == {"The cell closes."}
    assert changed(sentences, OF_CLAUSES, "synonyms", 1) == found
    assert changed(sentences, OF_CLAUSES, "synonyms", 2) != found
    negated_ones = changed(["It is.", "It is so."], OF_CLAUSES, "negation", 1)
    assert [(n, c.sentence, c.words) for n, c in negated_ones.items()] == [
        (1, "It is not so.", None)
    ]


@pytest.mark.slow
def test_translators_are_attacked(tmp_path: Path) -> None:
    """What is written is what sacreBLEU and a look at the translations say."""
    (tmp_path / "corpus").mkdir()
    data = translators.make_corpus(tmp_path / "corpus", "en", "de")
    checkpoint = translators.train(data, tmp_path / "model")
    words = tmp_path / "substitutions" / "words"
    words.mkdir(parents=True)
    write_table(CLAUSES, words / "substitutions.tsv")
    model = {"weights": {}, "tagdict": CLAUSE_TAGS, "classes": ["X|-"]}
    (words / "tagger.json.gz").write_bytes(gzip.compress(json.dumps(model).encode()))
    with pytest.MonkeyPatch.context() as patch:
        options = ["--substitutions", tmp_path / "substitutions", "--beam", "2", "--cpu"]
        run(patch, data, "--checkpoint", checkpoint, "--out", tmp_path / "out", *options)
    with (tmp_path / "out/attacks.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    source = (data / "raw/test.en").read_text("utf-8").splitlines()
    (of,) = json.loads((tmp_path / "out/attack.json").read_text("utf-8"))["models"].values()
    for kind, same in (("synonyms", "no"), ("antonyms", "yes")):
        of_kind = [row for row in rows if row["attack"] == kind]
        expected = changed(source, OF_CLAUSES, kind, 1)
        assert [int(row["id"]) for row in of_kind] == list(expected)
        for row in of_kind:
            assert row["source"] == source[int(row["id"])]
            assert row["changed source"] == expected[int(row["id"])].sentence
            equal = row["translation"] == row["changed translation"]
            assert row["same"] == ("yes" if equal else "no")
        outcome = of["attacks"][kind]
        succeeded = [row["same"] == same for row in of_kind]
        assert outcome["rate"]["value"] == pytest.approx(100 * np.mean(succeeded))
        old, new = ([row[n] for row in of_kind] for n in ("translation", "changed translation"))
        assert outcome["chrf"] == pytest.approx(CHRF().corpus_score(new, [old]).score)
        assert outcome["sentences"] == len(of_kind) > 20
    assert of["attacks"]["synonyms"]["rate"]["value"] > 0  # it has learnt that words matter
    before = {row["id"]: row["translation"] for row in rows}
    subwords = Prepared.of(data, ("en", "de")).subwords("test")
    theirs = translate(data / "bin", ("en", "de"), "test", subwords, checkpoint, 2, True)
    plain = Prepared.of(data, ("en", "de")).plain(best(theirs, 1.0))
    assert all(plain[int(number)] == text for number, text in before.items())
    table = (tmp_path / "out/attack.md").read_text("utf-8")
    assert "| synonyms | change" in table and "| antonyms | stay" in table
    assert (tmp_path / "out/attack.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_says_nothing_is_compared_with_nothing(clauses: Path) -> None:
    prepared = Prepared.of(clauses, ("de", "en"))
    found = _outcome(prepared, "synonyms", [("", ""), ("", "a")])
    assert found.chrf is None and found.rate.value == 50.0
    assert _outcome(prepared, "antonyms", [("a b c d", "a b c d")]).rate.value == 100.0


def test_substitutions_are_english(
    clauses: Path, trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [clauses, "--checkpoint", trained, "--out", tmp_path / "out"]
    given += ["--substitutions", folder]
    with pytest.raises(RecipeError, match="its source is in de; substitutions are English"):
        run(monkeypatch, *given)
    with pytest.raises(RecipeError, match=r"--most-words: .* has translations"):
        run(monkeypatch, *given, "--most-words", "2")


def test_options_of_translators_are_not_for_classifiers(
    opinions: Path, opinion_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [opinions, "--checkpoint", opinion_model, "--out", tmp_path / "out", "--beam", "2"]
    with pytest.raises(RecipeError, match=r"--beam: .* has classes of sentences"):
        run(monkeypatch, *given)
