"""Encoders' files that are no such: one message, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_prep.__main__ import main
from tests.support import encoders


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each family, in Hugging Face's layout."""
    folder = tmp_path_factory.mktemp("files")
    for name, kind in (("bert", "BertModel"), ("roberta", "RobertaModel")):
        encoders.save_encoder(folder / name, kind)
    return {name: folder / name for name in ("bert", "roberta")}


def edit_json(name: str, **changes: Any) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(content))

    return edit


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return edit


def write(name: str, text: str | bytes) -> Callable[[Path], object]:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda folder: (folder / name).write_bytes(content)


def sharded(**named: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        index = {"weight_map": {key.replace("__", "."): value for key, value in named.items()}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return edit


VOCAB = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
TABLE = "embeddings.word_embeddings.weight"

CASES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no config": ("bert", lambda f: (f / "config.json").unlink(), "config.json: is missing"),
    "no json": ("bert", write("config.json", "{"), "config.json: is no JSON"),
    "deep json": ("bert", write("config.json", "[" * 100_000), "config.json: is no JSON"),
    "a list": ("bert", write("config.json", "[]"), "config.json: is no JSON object"),
    "another model": ("bert", edit_json("config.json", model_type="xlm"), "model_type is 'xlm'"),
    "a size": ("bert", edit_json("config.json", hidden_size="32"), "hidden_size is '32', which is"),
    "heads": ("bert", edit_json("config.json", num_attention_heads=5), "5 heads"),
    "relu": ("bert", edit_json("config.json", hidden_act="relu"), "hidden_act is 'relu'"),
    "epsilon": ("roberta", edit_json("config.json", layer_norm_eps=1e-12), "layer_norm_eps is"),
    "layers": ("bert", edit_json("config.json", num_hidden_layers=3), "has no encoder.layer.2."),
    "no weights": ("bert", lambda f: (f / "model.safetensors").unlink(), "has neither model.saf"),
    "cut weights": (
        "bert",
        lambda f: write("model.safetensors", (f / "model.safetensors").read_bytes()[:-9])(f),
        "model.safetensors: is cut short or damaged",
    ),
    "empty weights": ("bert", write("model.safetensors", ""), "is cut short or damaged"),
    "a pickle": ("bert", write("model.safetensors", b"\x80\x02}q\x00."), "is cut short or damaged"),
    "a missing tensor": ("bert", edit_weights(lambda w: w.pop(TABLE)), f"has no {TABLE}"),
    "a shape": (
        "bert",
        edit_weights(lambda w: w.update({TABLE: w[TABLE][:, :5].contiguous()})),
        "x 32",
    ),
    "few rows": (
        "bert",
        edit_weights(lambda w: w.update({TABLE: w[TABLE][:9].contiguous()})),
        "the embedding has 9 rows",
    ),
    "nan": ("bert", edit_weights(lambda w: w[TABLE].fill_(torch.nan)), "are no finite numbers"),
    "integers": (
        "bert",
        edit_weights(lambda w: w.update({TABLE: w[TABLE].long()})),
        "are no finite numbers",
    ),
    "no vocabulary": (
        "bert",
        lambda f: [path.unlink() for path in f.glob("*") if path.name.startswith("vocab")],
        "has neither tokenizer.json nor vocab.txt",
    ),
    "a vocabulary without": ("bert", write("vocab.txt", "a\nb\n"), "has no piece [CLS]"),
    "a piece twice": ("bert", write("vocab.txt", VOCAB + "a\na\n"), "the piece 'a' is there twice"),
    "an empty piece": ("bert", write("vocab.txt", VOCAB + "\na\n"), "the piece '' is empty"),
    "a space": ("bert", write("vocab.txt", VOCAB + "a\u2003b\n"), "has a space"),
    "a separator": ("bert", write("vocab.txt", VOCAB + "a\u2028b\n"), "has a space"),
    "fairseq's name": ("bert", write("vocab.txt", VOCAB + "</s>\n"), "special symbol of fairseq"),
    "not UTF-8": ("bert", write("vocab.txt", b"a\n\xff\n"), "vocab.txt: line 2 is not UTF-8"),
    "half a character": ("roberta", edit_json("vocab.json", **{"\ud800": 0}), "number"),
    "a number": ("roberta", edit_json("vocab.json", good=-1), "'good' has the number -1"),
    "a merge": ("roberta", write("merges.txt", "a b c\n"), "merge 1 is not of two pieces"),
    "merges of nothing": ("roberta", write("merges.txt", "é x\n"), "damaged"),
    "special merges": (
        "roberta",
        write("merges.txt", "< s\n<s >\n"),
        "merges <s>, a special symbol",
    ),
    "another tokeniser": (
        "bert",
        write("tokenizer.json", '{"model": {"type": "Unigram"}}'),
        "model.type is 'Unigram'; only 'WordPiece' is known",
    ),
    "another cut": (
        "bert",
        write(
            "tokenizer.json",
            json.dumps(
                {
                    "model": {"type": "WordPiece", "continuing_subword_prefix": "##"},
                    "normalizer": {"type": "BertNormalizer"},
                    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}},
                }
            ),
        ),
        "pre_tokenizer.type is 'Split'",
    ),
    "a part outside": ("bert", sharded(a="../a.safetensors"), "is no name of a file beside it"),
    "a part missing": ("bert", sharded(a="b.safetensors"), "names b.safetensors, which is missing"),
    "no parts": ("bert", sharded(), "has no weight_map"),
}


@pytest.mark.parametrize("case", CASES)
def test_files_that_are_none_of_an_encoder(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    family, edit, expected = CASES[case]
    copy = tmp_path / "copy"
    shutil.copytree(files[family], copy)
    edit(copy)
    out = tmp_path / "out"
    assert main(["encoder", "files", "--from", str(copy), "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("data_prep: error: ") and message.count("\n") <= 2
    assert expected in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["encoder", "files"], "needs --from DIR"),
        (["encoder", "files", "--from", "nowhere"], "there is no such directory"),
        (["encoder", "minilm", "--from", "x"], "for the encoder files only"),
        (["encoder", "files", "--from", ".", "--archive", "x"], "not for the encoder files"),
        (["encoder", "minilm", "--random-init", "-1"], "is no seed"),
        (["encoder", "minilm", "--layers", "0"], "whole number above 0"),
        (["encoder", "gpt"], "invalid choice"),
    ],
)
def test_options(
    words: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert expected in capsys.readouterr().err


def test_more_layers_than_there_are(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["encoder", "files", "--from", str(files["bert"]), "--out", str(tmp_path / "out")]
    assert main([*words, "--layers", "3"]) == 1
    assert "--layers 3: the encoder has 2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_stays_what_it_is(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reused; another one does not take its place."""
    words = ["encoder", "files", "--from", str(files["bert"]), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert "already there" in capsys.readouterr().err
    assert main([*words, "--random-init", "1"]) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path / 'out'}: holds data of the encoder files {files['bert']}" in message
    assert "choose another directory (--out), or remove this one" in message
    (tmp_path / "out/dict.txt").write_text("damaged")
    assert main(words) == 0
    assert "already there" not in capsys.readouterr().err
