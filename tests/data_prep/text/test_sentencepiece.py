"""SentencePiece in place of BPE, against SentencePiece's own tools."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from data_prep.__main__ import main
from data_prep.corpora.files import FilesCorpus
from data_prep.pipeline import Pipeline
from data_prep.preparation import Preparation
from data_prep.selection.raw import Selection
from data_prep.support.errors import DataPrepError
from data_prep.text.cleaning import clean_line
from data_prep.text.pieces import learn_pieces, piece_encoder
from recipes.models.generation import detokenize
from tests.support.texts import prepare_files

OPTIONS = ("--subword=sentencepiece", "--bpe-merges=60")


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.usefixtures("no_fairseq")
def test_pieces_are_those_of_sentencepieces_command_lines(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (texts / "train.de").open("a") as de, (texts / "train.en").open("a") as en:
        de.write("½ Haus…\n")
        en.write("½ house…\n")
    assert prepare_files(texts, out, *OPTIONS) == 0
    assert not (out / "tok").exists()
    train = ",".join(str(out / f"raw/train.{lang}") for lang in ("de", "en"))
    program = (
        "import sentencepiece as s; s.SentencePieceTrainer.train("
        f"'--input={train} --model_prefix={tmp_path}/m --vocab_size=60 --model_type=bpe"
        " --character_coverage=1.0 --normalization_rule_name=identity --minloglevel=2')"
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


SENTENCES = ["Es sind 10⁵ m² … zum ½ Preis.", "你好！你是谁？", "می‌خواهم کتاب‌خانه", "ﬁn ①"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pieces") / "model"
    learn_pieces(SENTENCES * 3, 70, path)
    return path


@pytest.mark.parametrize("sentence", SENTENCES)
def test_pieces_keep_the_sentence(sentence: str, model: Path) -> None:
    assert detokenize(piece_encoder(model, False)([sentence]), "de", "sentencepiece") == [sentence]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\u2581")))
def test_pieces_keep_any_clean_line(model: Path, text: str) -> None:
    line = clean_line(text, {})
    pieces = piece_encoder(model, False)([line])
    assert detokenize(pieces, "de", "sentencepiece") == [line]
    assert pieces[0].split() == [piece for piece in pieces[0].split(" ") if piece]  # as fairseq


def test_pieces_of_a_corpus_that_is_not_repaired_end_at_no_space(model: Path) -> None:
    """fairseq would end a word there, and its parts would be put together without the space."""
    pieces = piece_encoder(model, False)(["zum\u00a0½\u2009Preis\u3000."])
    assert detokenize([" ".join(pieces[0].split())], "de", "sentencepiece") == ["zum ½ Preis ."]


def test_more_pieces_than_there_are(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        prepare_files(texts, tmp_path / "out", "--subword=sentencepiece", "--bpe-merges=999") == 1
    )
    said = capsys.readouterr().err
    assert "--bpe-merges 999: more pieces than the text has; allowed is up to " in said
    assert int(said.split()[-1]) > 60


# Joiners; the block that stands for a space in pieces; a mark of direction; a variation selector.
BLANK = ["\u200c", "\u200d \u200c", "\u2581", "\u061c", "\ufe0f", "\u3164"]


@pytest.mark.usefixtures("no_fairseq")
@pytest.mark.parametrize(
    ("preparation", "dropped"),
    [
        (Preparation(bpe_merges=60, subword="sentencepiece"), len(BLANK)),
        (Preparation(bpe_merges=60), len(BLANK)),
        (Preparation(bpe_merges=60, subword="sentencepiece", repairs=False), len(BLANK)),
        # The reference scripts keep what is not empty, and their corpora are to be theirs.
        (Preparation(bpe_merges=60, repairs=False), 0),
    ],
)
def test_pairs_with_nothing_to_see_on_a_side_are_dropped_in_every_split(
    texts: Path, tmp_path: Path, preparation: Preparation, dropped: int
) -> None:
    for split in ("train", "test"):
        with (texts / f"{split}.de").open("a") as de, (texts / f"{split}.en").open("a") as en:
            for number, blank in enumerate(BLANK):
                de.write(f"{blank if number % 2 else 'Wort'}\n")
                en.write(f"{'word' if number % 2 else blank}\n")
    prefixes = {split: str(texts / split) for split in ("train", "valid", "test")}
    corpus = FilesCorpus("de", "en", prefixes)
    report = Pipeline(
        "toy", corpus, preparation, Selection(None, None), tmp_path / "out", workers=1
    ).run()
    for split in ("train", "test"):
        assert report["raw"]["dropped"][split].get("empty", 0) == dropped
        for lang in ("de", "en"):
            lines = lines_of(tmp_path / f"out/bpe/{split}.{lang}")
            assert all(lines) and len(lines) == report["raw"]["kept"][split]


def test_fewer_pieces_than_characters(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what is allowed, in options of ours; and that is."""
    options = ("--subword=sentencepiece", "--bpe-merges=9")
    assert prepare_files(texts, tmp_path / "out", *options) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    _, fewest = said.split(
        "--bpe-merges 9: fewer pieces than the text has characters; allowed is from "
    )
    fewest = fewest.removesuffix(" on")
    sentences = [line for lang in ("de", "en") for line in lines_of(texts / f"train.{lang}")]
    with pytest.raises(DataPrepError):
        learn_pieces(sentences, int(fewest) - 1, tmp_path / "model")
    assert learn_pieces(sentences, int(fewest), tmp_path / "model") == int(fewest)


def test_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["multi30k-en-de", "--subword=words"]) == 1
    assert "argument --subword: invalid choice: 'words'" in capsys.readouterr().err
