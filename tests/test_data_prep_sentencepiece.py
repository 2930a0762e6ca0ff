"""SentencePiece in place of BPE, against SentencePiece's own tools."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from data_prep.__main__ import main
from recipes.generation import detokenize
from tests.data_prep_fixtures import prepare_files

OPTIONS = ("--subword=sentencepiece", "--bpe-merges=60")


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.usefixtures("no_fairseq")
def test_pieces_are_those_of_sentencepieces_command_lines(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out, *OPTIONS) == 0
    assert not (out / "tok").exists()
    train = ",".join(str(out / f"raw/train.{lang}") for lang in ("de", "en"))
    program = (
        "import sentencepiece as s; s.SentencePieceTrainer.train("
        f"'--input={train} --model_prefix={tmp_path}/m --vocab_size=60 --model_type=bpe"
        " --character_coverage=1.0 --minloglevel=2')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    theirs, ours = (
        SentencePieceProcessor(model_file=str(model))
        for model in (tmp_path / "m.model", out / "bpe/sentencepiece.model")
    )
    assert ours.get_piece_size() == 60
    pieces = [[sp.id_to_piece(i) for i in range(60)] for sp in (ours, theirs)]
    assert pieces[0] == pieces[1]
    for split in ("train", "valid", "test"):
        for lang in ("de", "en"):
            raw = lines_of(out / f"raw/{split}.{lang}")
            encoded = lines_of(out / f"bpe/{split}.{lang}")
            assert encoded == [" ".join(theirs.encode(line, out_type=str)) for line in raw]
            assert detokenize(encoded, lang, "sentencepiece") == raw


@pytest.mark.usefixtures("no_fairseq")
def test_one_after_the_other_in_the_same_directory(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    assert prepare_files(texts, out, *OPTIONS) == 0
    assert "60 pieces, dictionary entries" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["preparation"]["subword"] == "sentencepiece"
    assert not (out / "bpe/codes").exists()
    assert prepare_files(texts, out) == 0
    assert (out / "bpe/codes").exists() and not (out / "bpe/sentencepiece.model").exists()


def test_more_pieces_than_there_are(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        prepare_files(texts, tmp_path / "out", "--subword=sentencepiece", "--bpe-merges=999") == 1
    )
    said = capsys.readouterr().err
    assert "--bpe-merges 999: more pieces than the text has; allowed is up to " in said
    assert int(said.split()[-1]) > 60


def test_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["multi30k-en-de", "--subword=words"]) == 1
    assert "argument --subword: invalid choice: 'words'" in capsys.readouterr().err
