"""WMT'16, from archives in the format of Google's and of WMT's own."""

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.corpora.wmt16 import GooglesCorpus
from data_prep.pipeline import Pipeline
from data_prep.preparation import Preparation
from data_prep.selection.raw import Selection
from data_prep.text.tokenization import tokenizer

WORDS = {
    "en": "The old house isn't far, Mr. Miller: number",
    "de": "Das alte Haus ist nah, z.B. Nummer",
}
MOSES = Preparation(repairs=False, escapes=True)


def text(lang: str, start: int, count: int) -> list[str]:
    return [f"{WORDS[lang]} {start + number}." for number in range(count)]


def packed(path: Path, files: dict[str, list[str]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, lines in files.items():
            content = "".join(f"{line}\n" for line in lines).encode()
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def subword_nmt(arguments: list[str], lines: list[str]) -> list[str]:
    tool = [sys.executable, "-c", "from subword_nmt.subword_nmt import main; main()"]
    done = subprocess.run(
        [*tool, *arguments], input="\n".join(lines).encode(), capture_output=True, check=True
    )
    return done.stdout.decode().split("\n")


@pytest.fixture(scope="session")
def googles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The content of Google's archive, made by the tools that made it."""
    folder = tmp_path_factory.mktemp("wmt16")
    sets = {"train.tok.clean": (0, 60), "newstest2013": (60, 8), "newstest2014": (68, 9)}
    files: dict[str, list[str]] = {}
    for name, (start, count) in sets.items():
        for lang in ("en", "de"):
            raw = text(lang, start, count)
            # An older Moses than today's, which leaves abbreviations at the end as they are.
            tokens = [line.replace(" .", ".") for line in tokenizer(lang, MOSES)(raw)]
            if name.startswith("news"):
                files[f"{name}.{lang}"] = raw
                name = f"{name}.tok"
            files[f"{name}.{lang}"] = tokens
            name = name.removesuffix(".tok")
    train = files["train.tok.clean.en"] + files["train.tok.clean.de"]
    files["bpe.32000"] = subword_nmt(["learn-bpe", "-s", "40"], train)[:-1]
    codes = folder / "codes"
    codes.write_text("\n".join(files["bpe.32000"]) + "\n", encoding="utf-8")
    for name, lines in list(files.items()):
        if ".tok." in name:
            prefix, _, lang = name.rpartition(".")
            files[f"{prefix}.bpe.32000.{lang}"] = subword_nmt(
                ["apply-bpe", "-c", str(codes)], lines
            )
    return files


def prepare(archives: list[Path], out: Path, *more: str) -> int:
    copies = [word for archive in archives for word in ("--archive", str(archive))]
    return main(["wmt16-en-de", *copies, f"--out={out}", "--workers=1", *more])


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.usefixtures("no_fairseq")
def test_googles_tokens_and_subwords_are_taken_over(
    tmp_path: Path, googles: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    archive = packed(tmp_path / "wmt16_en_de.tar.gz", googles)
    out = tmp_path / "out"
    assert prepare([archive], out) == 0
    for split, name in (("valid", "newstest2013"), ("test", "newstest2014")):
        for lang in ("en", "de"):
            assert lines_of(out / f"raw/{split}.{lang}") == googles[f"{name}.{lang}"]
            assert lines_of(out / f"tok/{split}.{lang}") == googles[f"{name}.tok.{lang}"]
            assert lines_of(out / f"bpe/{split}.{lang}") == googles[f"{name}.tok.bpe.32000.{lang}"]
    for lang in ("en", "de"):
        assert lines_of(out / f"tok/train.{lang}") == googles[f"train.tok.clean.{lang}"]
        assert lines_of(out / f"bpe/train.{lang}") == googles[f"train.tok.clean.bpe.32000.{lang}"]
    assert lines_of(out / "bpe/codes") == googles["bpe.32000"]
    assert report(out)["bpe"]["as released"] == {"train": True, "valid": True, "test": True}
    assert "not the very subwords" not in capsys.readouterr().out
    assert prepare([archive], out, "--train-pairs=10") == 0
    assert "train: not the very subwords of the release" in capsys.readouterr().out


def test_the_dictionary_is_joined_and_of_a_given_size(
    tmp_path: Path, googles: dict[str, list[str]]
) -> None:
    archive = packed(tmp_path / "wmt16_en_de.tar.gz", googles)
    assert prepare([archive], tmp_path / "out") == 0
    corpus = GooglesCorpus(tmp_path / "out/release")
    small = replace(corpus.preparation, dictionary_size=16)
    Pipeline("small", corpus, small, Selection(None, None), tmp_path / "small", workers=1).run()
    for out, size in (("out", 30), ("small", 16)):
        ours, theirs = (lines_of(tmp_path / out / f"bin/dict.{lang}.txt") for lang in ("en", "de"))
        assert ours == theirs
        assert (len(ours) <= size) == (out == "small")


def sgm(lang: str) -> list[str]:
    lines = [
        '<srcset setid="newstest2014" srclang="any">',
        '<doc sysid="ref" docid="a" genre="news">',
    ]
    for number, line in enumerate(text(lang, 200, 6), start=1):
        lines.append(f'<seg id="{number}">{line} It’s.</seg>')
    return [*lines, "</doc>", "</srcset>"]


@pytest.mark.usefixtures("no_fairseq")
def test_the_way_from_wmts_own_archives(tmp_path: Path) -> None:
    parts = {
        "training-parallel-europarl-v7.tgz": ("training/europarl-v7.de-en", 0),
        "training-parallel-commoncrawl.tgz": ("commoncrawl.de-en", 30),
        "training-parallel-nc-v11.tgz": ("training-parallel-nc-v11/news-commentary-v11.de-en", 60),
    }
    archives: list[Path] = []
    train: dict[str, list[str]] = {"en": [], "de": []}
    for archive, (prefix, start) in parts.items():
        files = {f"{prefix}.{lang}": text(lang, start, 30) for lang in ("en", "de")}
        for lang in ("en", "de"):
            files[f"{prefix}.{lang}"][3] += " word" * 80  # on both sides: too long
            files[f"{prefix}.{lang}"][4] += " word" * (8 if lang == "en" else 0)  # a ratio below 9
            train[lang] += [line for n, line in enumerate(files[f"{prefix}.{lang}"]) if n != 3]
        files[prefix.replace("de-en", "cs-en") + ".cs"] = ["other languages"]
        archives.append(packed(tmp_path / archive, files))
    dev = {f"dev/newstest2013.{lang}": text(lang, 100, 5) for lang in ("en", "de")}
    dev["dev/newstest2014-deen-src.de.sgm"] = sgm("de")
    dev["dev/newstest2014-deen-ref.en.sgm"] = sgm("en")
    archives.append(packed(tmp_path / "dev.tgz", dev))
    out = tmp_path / "out"
    assert prepare(archives, out, "--from-raw", "--bpe-merges=50") == 0
    for lang in ("en", "de"):
        assert lines_of(out / f"raw/train.{lang}") == train[lang]
        assert lines_of(out / f"tok/train.{lang}") == tokenizer(lang, MOSES)(train[lang])
        assert lines_of(out / f"raw/valid.{lang}") == text(lang, 100, 5)
        test = [f"{line} It’s." for line in text(lang, 200, 6)]
        assert lines_of(out / f"raw/test.{lang}") == test
    assert report(out)["raw"]["dropped"]["train"] == {"too long": 3}
    assert report(out)["preparation"]["bpe_merges"] == 50


def test_an_encoded_archive_cannot_be_encoded_otherwise(
    tmp_path: Path, googles: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    archive = packed(tmp_path / "wmt16_en_de.tar.gz", googles)
    assert prepare([archive], tmp_path / "out", "--subword=sentencepiece") == 1
    assert "this archive is BPE-encoded already; --from-raw is not" in capsys.readouterr().err


def test_an_archive_of_the_other_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archives = [tmp_path / "wmt16_en_de.tar.gz"]
    assert prepare(archives, tmp_path / "out", "--from-raw") == 1
    assert "not one of this corpus' archives: training-parallel-" in capsys.readouterr().err
