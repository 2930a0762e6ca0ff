"""Raw text in, translations out: both engines, and every kind of line."""

from __future__ import annotations

import json
import math
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils

from data_prep.corpora.files import FilesCorpus
from data_prep.pipeline import Pipeline
from data_prep.preparation import Preparation
from data_prep.selection.raw import Selection
from recipes.evaluation.evaluate import evaluate
from recipes.models.generation import Hypothesis, best
from recipes.models.prepared import SUBWORDS, preparer
from recipes.serving import engines
from recipes.serving.engines import CTranslate2Engine, FairseqEngine, batches
from recipes.serving.model_folder import read_exported
from recipes.serving.translate import Translator, load_translator
from recipes.support.errors import RecipeError
from recipes.support.files import TRANSLATIONS, read_table
from tests.support.processes import PATIENCE, ROOT

LENPENS = (0.0, 0.6, 1.0, 1.6)


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.fixture(scope="module")
def sentences(clauses: Path) -> list[list[str]]:
    return [line.split(" ") for line in lines_of(clauses / "bpe/test.de")]


@pytest.fixture(scope="module")
def by_fairseq(exported: Path, sentences: list[list[str]]) -> list[list[Hypothesis]]:
    return FairseqEngine(exported, 4, 1, True).translate(sentences)


@pytest.fixture(scope="module")
def by_ctranslate2(exported: Path, sentences: list[list[str]]) -> list[list[Hypothesis]]:
    return CTranslate2Engine(exported, 4, 1024, 1, True).translate(sentences)


def test_fairseqs_translations_are_those_of_recipes_evaluate(
    clauses: Path, trained: Path, exported: Path, tmp_path: Path
) -> None:
    """From raw text, to the last space."""
    evaluate(clauses, trained, tmp_path, beam=3, lenpen=1.2, cpu=True)
    expected = [row["translation"] for row in read_table(tmp_path / TRANSLATIONS)]
    ours = load_translator(
        *(exported,), engine="fairseq", beam=3, lenpen=1.2, cpu=True, threads=1, warn=print
    )
    raw = (clauses / "raw/test.de").read_bytes().splitlines(keepends=True)
    assert list(ours.translate(raw)) == expected


@pytest.mark.parametrize("lenpen", LENPENS)
def test_both_engines_choose_the_same_translations(
    by_fairseq: list[list[Hypothesis]], by_ctranslate2: list[list[Hypothesis]], lenpen: float
) -> None:
    pairs = list(zip(best(by_fairseq, lenpen), best(by_ctranslate2, lenpen), strict=True))
    assert sum(ours == theirs for ours, theirs in pairs) >= 59
    assert len({ours for ours, _ in pairs}) > 20


def test_both_engines_find_the_same_hypotheses(
    by_fairseq: list[list[Hypothesis]], by_ctranslate2: list[list[Hypothesis]]
) -> None:
    both = zip(by_fairseq, by_ctranslate2, strict=True)
    found = [({h.text for h in ours}, {h.text for h in theirs}) for ours, theirs in both]
    assert all(len(ours) == 4 for ours, _ in found)
    assert sum(ours == theirs for ours, theirs in found) >= 55


def test_scores_are_those_of_the_model(
    exported: Path,
    sentences: list[list[str]],
    by_fairseq: list[list[Hypothesis]],
    by_ctranslate2: list[list[Hypothesis]],
) -> None:
    """Against the model's own probabilities of the hypothesis, a token after the other.

    CTranslate2 shares the probability of what must not come (padding, and the end at the beginning)
    among the other words; fairseq does not.
    """
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(exported / "model.pt")], arg_overrides={"data": str(exported)}
    )
    model.eval()
    words = task.source_dictionary
    longest = 0
    for sentence, *both in zip(sentences, by_fairseq, by_ctranslate2, strict=True):
        source = words.encode_line(" ".join(sentence), add_if_not_exist=False).long()[None]
        for hypothesis, redistributes in ((both[0][0], False), (both[1][0], True)):
            target = words.encode_line(hypothesis.text, add_if_not_exist=False).long()[None]
            before = torch.cat([target[:, -1:], target[:, :-1]], dim=1)
            with torch.no_grad():
                logits = model(source, torch.tensor([source.shape[1]]), before)[0]
            if redistributes:
                logits[:, :, words.pad()] = -math.inf
                logits[:, 0, words.eos()] = -math.inf
            each = logits.log_softmax(dim=-1).gather(2, target[:, :, None])
            assert hypothesis.tokens == target.numel()
            assert hypothesis.log_probability == pytest.approx(
                each.sum().item() / math.log(2), abs=1e-4
            )
            longest = max(longest, hypothesis.tokens)
    assert longest > 20


def test_translations_that_are_cut_off_are_charged_for_their_end_alike(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end comes after 2 words at the latest, where it is improbable."""
    monkeypatch.setattr(engines, "MAX_LEN_A", 0)
    monkeypatch.setattr(engines, "MAX_LEN_B", 2)
    sentence = ["Die", "n@@", "e@@", "u@@", "e", "D@@", "at@@", "ei"]
    ours, theirs = (
        engine.translate([sentence])[0]
        for engine in (
            FairseqEngine(exported, 4, 1, True),
            CTranslate2Engine(exported, 4, 1024, 1, True),
        )
    )
    assert {h.tokens for h in ours} == {3}
    scores = {h.text: (h.log_probability, h.tokens) for h in ours}
    assert scores.keys() == {h.text for h in theirs}
    for hypothesis in theirs:
        log_probability, tokens = scores[hypothesis.text]
        assert hypothesis.tokens == tokens
        assert hypothesis.log_probability == pytest.approx(log_probability, abs=1e-4)


def test_greedy_search(exported: Path, sentences: list[list[str]]) -> None:
    found = [
        engine.translate(sentences)
        for engine in (
            FairseqEngine(exported, 1, 1, True),
            CTranslate2Engine(exported, 1, 1024, 1, True),
        )
    ]
    assert best(found[0], 1.0) == best(found[1], 1.0)


@pytest.mark.parametrize("engine", ["fairseq", "ctranslate2"])
def test_sentences_beyond_the_models_positions_and_words_that_it_does_not_know(
    exported: Path, engine: str
) -> None:
    warnings: list[str] = []
    ours = load_translator(
        *(exported,), engine=engine, beam=2, cpu=True, threads=1, warn=warnings.append
    )
    long = " ".join(["Die große Datei sieht Baum."] * 300)
    same = long + " Die kleine Zelle."
    odd = "東京 <unk> </s> <pad> <blank> @@ ▁"
    one, other, unknown, plain = ours.translate(
        line.encode() for line in (long, same, odd, "Die neue Datei druckt Baum.")
    )
    assert one == other and one and unknown and plain
    assert len(warnings) == 2
    assert warnings[0].startswith("line 1 has ")
    assert warnings[1].endswith("subwords, the model takes 1023: the rest is not translated")


@pytest.mark.usefixtures("no_fairseq")
@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(bpe_merges=60),
        Preparation(bpe_merges=60, repairs=False, escapes=True, splits_dashes=True),
        Preparation(bpe_merges=60, lower_cases=True, escapes=True),
        Preparation(bpe_merges=70, subword="sentencepiece"),
        Preparation(bpe_merges=70, subword="sentencepiece", lower_cases=True, repairs=False),
    ],
)
def test_sentences_are_prepared_as_the_corpus_was(
    texts: Path, tmp_path: Path, preparation: Preparation
) -> None:
    """The text that data_prep was given, spaces and soft hyphens and all, becomes its subwords."""
    for lang in ("de", "en"):
        with (texts / f"test.{lang}").open("a", encoding="utf-8") as stream:
            stream.write(" Ha\u00adus-Tür \u00a0 & \"Hund\"  'n' [Taste]: 5 < 7%\t\n")
            stream.write("ÄRGER mit A\u0308pfeln\u2028und \ufeffΣΑΣ.\r\n")
    prefixes = {split: str(texts / split) for split in ("train", "valid", "test")}
    corpus = FilesCorpus("de", "en", prefixes, preparation=preparation)
    out = tmp_path / "out"
    Pipeline("files", corpus, preparation, Selection(None, None), out, 1).run()
    prepare = preparer(preparation, "de", out / "bpe" / SUBWORDS[preparation.subword])
    prepared = prepare(lines_of(texts / "test.de"))
    assert prepared == lines_of(out / "bpe/test.de")


class Echo:
    """An engine whose best translation is the source; it remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[list[str]]] = []

    def translate(self, batch: list[list[str]]) -> list[list[Hypothesis]]:
        self.batches.append(batch)
        return [[Hypothesis("bad", -9.0, 1), Hypothesis(" ".join(s), -1.0, 1)] for s in batch]


def echo(warnings: list[str], max_subwords: int = 100, batch_tokens: int = 12) -> Translator:
    return Translator(
        *(Echo(), list, "en", "bpe", 1.0, max_subwords, batch_tokens, warnings.append)
    )


def test_a_line_out_for_each_line_in_and_in_order() -> None:
    warnings: list[str] = []
    lines = [b"a b@@ c d e\n", b"\n", b"f\n", b"  \n", b"b\xff\xffad\n", b"g h\r\n", b"last"]
    ours = echo(warnings)
    expected = ["a bc d e", "", "f", "", "b\ufffd\ufffdad", "g h", "last"]
    assert list(ours.translate(lines)) == expected
    assert list(ours.translate(lines, at_a_time=2)) == expected
    assert list(ours.translate([])) == []
    assert warnings[0] == (
        "line 5 is not UTF-8 (byte 0xff, number 2 of the line): such bytes become U+FFFD"
    )
    assert warnings == 2 * warnings[:1]


def test_long_lines_are_cut_and_named() -> None:
    warnings: list[str] = []
    ours = echo(warnings, max_subwords=3)
    assert list(ours.translate([b"a b c\n", b"\n", b"d e f g\n"], 1)) == ["a b c", "", "d e f"]
    assert warnings == ["line 3 has 4 subwords, the model takes 3: the rest is not translated"]


def test_no_more_lines_are_read_than_are_translated_at_a_time() -> None:
    read = []

    def endless() -> Iterator[bytes]:
        while True:
            read.append(1)
            yield b"a\n"

    translations = echo([]).translate(endless(), at_a_time=10)
    for count in (1, 11, 21):
        next(translations)
        assert len(read) == -(-count // 10) * 10
        for _ in range(9):
            next(translations)


def test_batches_hold_like_lengths_and_no_more_than_they_may() -> None:
    lengths = [3, 1, 9, 3, 2, 30, 5, 3]
    found = list(batches([["w"] * length for length in lengths], 12))
    assert sorted(i for batch in found for i in batch) == list(range(8))
    for batch in found:
        padded = len(batch) * (max(lengths[i] for i in batch) + 1)
        assert padded <= 12 or len(batch) == 1
    # 30 and 9 alone; then 5 with one of 3 (2 x 6); two of 3 with 2 (3 x 4); 1
    assert [[lengths[i] for i in batch] for batch in found] == [[30], [9], [5, 3], [3, 3, 2], [1]]


def command(exported: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "recipes.serving.translate",
        str(exported),
        "--threads=1",
        *options,
    ]


def test_the_command_and_a_reader_that_goes_away(clauses: Path, exported: Path) -> None:
    text = (clauses / "raw/test.de").read_bytes()
    done = subprocess.run(
        command(exported, "--cpu"), cwd=ROOT, input=text, capture_output=True, check=True
    )
    ours = load_translator(exported, cpu=True, threads=1, warn=print)
    expected = list(ours.translate(text.splitlines(keepends=True)))
    assert done.stdout.decode().split("\n") == [*expected, ""]
    assert done.stderr == b""
    process = subprocess.Popen(
        command(exported, "--beam=1"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate(text * 10)
    assert (process.returncode, said) == (0, b"")


def test_a_line_typed_is_translated_at_once_and_ctrl_c_ends_it_quietly(exported: Path) -> None:
    terminal, ours = pty.openpty()
    process = subprocess.Popen(
        command(exported), cwd=ROOT, stdin=ours, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.close(ours)
    os.write(terminal, "Die große Datei sieht Baum.\n".encode())
    assert process.stdout is not None
    assert process.stdout.readline().decode().startswith("The big ")
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=PATIENCE)
    os.close(terminal)
    assert (process.returncode, rest, said) == (130, b"", b"")


def test_mistakes(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"model\.json: not there; python -m recipes\.serving\.export"
    ):
        load_translator(tmp_path, warn=print)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"model\.json: does not describe a model"):
        load_translator(tmp_path, warn=print)
    (tmp_path / "model.json").write_bytes((exported / "model.json").read_bytes())
    with pytest.raises(RecipeError, match=r"ctranslate2: not there; .* use --engine fairseq"):
        load_translator(tmp_path, engine="ctranslate2", warn=print)
    with pytest.raises(RecipeError, match=r"model\.pt: not there"):
        load_translator(tmp_path, engine="fairseq", warn=print)
    done = subprocess.run(
        command(exported, "--beam=0"), cwd=ROOT, input=b"", capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.decode().endswith("error: --beam 0: allowed is 1, 2, 3, ...\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("languages", value) for value in (["de"], ["de", 1], "de-en", 3)),
        *(("max_positions", value) for value in ([1024], ["a", "b"], [0, 0], None)),
        *(("beam", 0), ("beam", "5"), ("lenpen", "1"), ("lenpen", None)),
        *(("preparation", value) for value in (None, {}, {"limits": None, "subword": "../codes"})),
    ],
)
def test_a_description_of_something_else(
    exported: Path, tmp_path: Path, name: str, value: Any
) -> None:
    """A folder of a model may come from anywhere."""
    described = json.loads((exported / "model.json").read_text("utf-8"))
    if name == "preparation" and value:
        value = described[name] | value
    (tmp_path / "model.json").write_text(json.dumps(described | {name: value}), "utf-8")
    with pytest.raises(RecipeError, match=r"model\.json: does not describe a model \(") as caught:
        read_exported(tmp_path)
    assert "\n" not in str(caught.value)
