"""The IWSLT corpora: archives in the format of the releases, against the reference's commands."""

import io
import json
import lzma
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.corpora.iwslt import set_pairs
from data_prep.corpora.segments import segment_pairs
from data_prep.preparation import Limits, Preparation
from data_prep.selection.limits import beyond
from data_prep.support.errors import DataPrepError
from data_prep.text.bpe import segmenter
from data_prep.text.tokenization import tokenizer
from tests.support.shared_data import shared

SETS = ["TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"]
WORDS = {"de": "Das Haus ist alt, Herr Müller!", "en": "The house is old, isn't it, Mr. Miller?"}


def tags(lang: str, count: int = 100) -> str:
    """Text of two talks with ``count`` sentences, of which the fifth is too long in German."""
    lines = [f"{WORDS[lang]} {number}." for number in range(count)]
    if lang == "de":
        lines[4] += " und" * 40
    lines[10] = f"<title>{lines[10]}</title>"
    lines[11] = f" <description>{lines[11]}</description> "
    about = ["<url>http://x/1</url>", "<keywords>a, b</keywords>", "<talkid>1</talkid>"]
    return "\n".join([*about, *lines[:50], *about, *lines[50:]]) + "\n"


def xml(lang: str, name: str, segments: int = 4) -> str:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<mteval><srcset setid="{name}">']
    for document in (1, 2):
        lines += [f'<doc docid="{document}" genre="lectures">', "<title>No segment</title>"]
        for number in range(1, segments + 1):
            text = f"{WORDS[lang]} It’s {name} &amp; {document}.{number}"
            lines.append(f'<seg id="{number}"> {text} </seg>')
        lines.append("</doc>")
    return "\n".join([*lines, "</srcset></mteval>"]) + "\n"


def release() -> dict[str, str]:
    files = {f"train.tags.de-en.{lang}": tags(lang) for lang in ("de", "en")}
    for name in SETS:
        for lang in ("de", "en"):
            files[f"IWSLT14.{name}.de-en.{lang}.xml"] = xml(lang, name)
    return files


def packed(directory: Path, files: dict[str, str], name: str = "de-en.tgz") -> Path:
    path = directory / name
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            header = tarfile.TarInfo(f"de-en/{file}")
            content = text.encode()
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def prepare(archive: Path, out: Path, *more: str) -> int:
    options = ["--bpe-merges=50", "--workers=1", f"--out={out}", *more]
    return main(["iwslt14-de-en", f"--archive={archive}", *options])


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return content


def shell(command: str, **files: Path) -> list[str]:
    for name, path in files.items():
        command = command.replace(f"${name}", str(path))
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    return done.stdout.decode().split("\n")[:-1]


TAGS = (
    "grep -v '<url>' $file | grep -v '<talkid>' | grep -v '<keywords>' | sed -e 's/<title>//g'"
    " -e 's/<\\/title>//g' -e 's/<description>//g' -e 's/<\\/description>//g'"
)
SEGMENTS = (
    "grep '<seg id' $file | sed -e 's/<seg id=\"[0-9]*\">\\s*//g' -e 's/\\s*<\\/seg>\\s*//g'"
    ' -e "s/\\’/\\\'/g"'
)


@pytest.mark.usefixtures("no_fairseq")
def test_the_splits_are_those_of_fairseqs_script(tmp_path: Path) -> None:
    """With the script's own commands, but for Moses: that is another test's."""
    assert prepare(packed(tmp_path, release()), tmp_path / "out") == 0
    moses = Preparation(repairs=False, escapes=True)
    train: dict[str, list[str]] = {}
    test: dict[str, list[str]] = {}
    for lang in ("de", "en"):
        for file, text in release().items():
            (tmp_path / file).write_text(text, encoding="utf-8")
        tokenize = tokenizer(lang, moses)
        train[lang] = tokenize(shell(TAGS, file=tmp_path / f"train.tags.de-en.{lang}"))
        test[lang] = []
        for name in SETS:
            sentences = shell(SEGMENTS, file=tmp_path / f"IWSLT14.{name}.de-en.{lang}.xml")
            test[lang] += tokenize(sentences)
    clean = [
        (de.lower(), en.lower())
        for de, en in zip(train["de"], train["en"], strict=True)
        if max(len(de.split()) / len(en.split()), len(en.split()) / len(de.split())) <= 1.5
    ]
    assert len(clean) == 99
    valid = [pair for number, pair in enumerate(clean, start=1) if number % 23 == 0]
    for column, lang in enumerate(("de", "en")):
        tok = {
            split: lines_of(tmp_path / f"out/tok/{split}.{lang}")
            for split in ("train", "valid", "test")
        }
        assert tok["valid"] == [pair[column] for pair in valid]
        assert tok["train"] == [pair[column] for pair in clean if pair not in valid]
        assert tok["test"] == [line.lower() for line in test[lang]]
    assert report(tmp_path / "out")["raw"]["found"] == {"train": 96, "valid": 4, "test": 40}
    assert report(tmp_path / "out")["raw"]["dropped"]["train"] == {"of unequal length": 1}


@pytest.mark.usefixtures("no_fairseq")
def test_raw_text_is_as_released_and_in_line_with_the_tokens(tmp_path: Path) -> None:
    assert prepare(packed(tmp_path, release()), tmp_path / "out") == 0
    preparation = Preparation(repairs=False, escapes=True, lower_cases=True)
    for split in ("train", "valid", "test"):
        for lang in ("de", "en"):
            raw = lines_of(tmp_path / f"out/raw/{split}.{lang}")
            assert tokenizer(lang, preparation)(raw) == lines_of(
                tmp_path / f"out/tok/{split}.{lang}"
            )
    raw = lines_of(tmp_path / "out/raw/test.en")
    assert raw[0] == f"{WORDS['en']} It's TED.dev2010 &amp; 1.1"


@pytest.mark.slow
def test_each_language_has_a_dictionary_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare(packed(tmp_path, release()), out) == 0
    ours, theirs = (set(lines_of(out / f"bin/dict.{lang}.txt")) for lang in ("de", "en"))
    assert ours != theirs
    assert f"{len(ours)} (de), {len(theirs)} (en)" in capsys.readouterr().out
    assert main(["bidirectional", str(out)]) == 1
    assert "has a dictionary for each language" in capsys.readouterr().err
    bpe = (out / "bpe/stage.json").read_bytes()
    assert prepare(tmp_path / "de-en.tgz", out, "--joined-dictionary") == 0
    assert (out / "bin/dict.de.txt").read_bytes() == (out / "bin/dict.en.txt").read_bytes()
    assert (out / "bpe/stage.json").read_bytes() == bpe
    assert main(["bidirectional", str(out)]) == 0


@pytest.mark.usefixtures("no_fairseq")
def test_a_second_run_reuses_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = packed(tmp_path, release())
    assert prepare(archive, tmp_path / "out") == 0
    capsys.readouterr()
    assert prepare(archive, tmp_path / "out") == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said if line.endswith("already there")] == [
        "release", "raw", "tok", "bpe", "bin",
    ]  # fmt: skip


@pytest.mark.usefixtures("no_fairseq")
def test_an_archive_in_a_larger_one(tmp_path: Path) -> None:
    inner = packed(tmp_path, release())
    outer = tmp_path / "2014-01.tgz"
    with tarfile.open(outer, "w:gz") as archive:
        archive.add(inner, "2014-01/texts/de/en/de-en.tgz")
    assert prepare(outer, tmp_path / "out") == 0
    assert report(tmp_path / "out")["raw"]["kept"]["test"] == 40


def failure(directory: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    assert prepare(packed(directory, files), directory / "out") == 1
    assert not list((directory / "out").glob("raw*"))
    return capsys.readouterr().err.splitlines()[-1]


DEV = "IWSLT14.TED.dev2010.de-en.en.xml"


@pytest.mark.usefixtures("no_fairseq")
@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (DEV, '<seg id="2">', '<seg id="1">', "line 6: segment 1 of document 1 is there twice"),
        (DEV, "2.4 </seg>\n", "2.4\n", 'line 15: no whole <seg id="...">...</seg>'),
        (DEV, '<seg id="2">', '<seg id="7">', "is segment 7 of document 1"),
        (DEV, '<seg id="4">', '<sgm id="4">', "line 12, is segment 1 of document 2"),
        ("train.tags.de-en.de", f"{WORDS['de']} 99.\n", "", "has fewer sentences than"),
    ],
)
def test_bad_releases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, message: str
) -> None:
    files = release()
    assert old in files[file]
    files[file] = files[file].replace(old, new, 1)
    said = failure(tmp_path, files, capsys)
    assert said.startswith("data_prep: error: ") and file in said and message in said


@pytest.mark.usefixtures("no_fairseq")
def test_a_set_that_ends_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = release()
    files[DEV] = files[DEV].rsplit("<seg", 1)[0]
    said = failure(tmp_path, files, capsys)
    assert re.search(rf"{DEV} ends before segment 4 of document 2, .*de\.xml, line 15", said)


@pytest.mark.usefixtures("no_fairseq")
def test_a_missing_file_and_a_wrong_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = release()
    del files[DEV]
    assert f"there is no {DEV} in it; is it the right archive?" in failure(tmp_path, files, capsys)
    assert prepare(tmp_path / "nowhere.tgz", tmp_path / "out") == 1
    assert "nowhere.tgz: No such file" in capsys.readouterr().err


def test_limits_by_hand() -> None:
    limits = Limits(max_tokens=6, max_ratio=1.5, max_characters=4)
    for source, target, reason in [
        ("a b c", "a b", None),
        ("a b", "a b c", None),
        ("a b c d", "a b", "of unequal length"),
        ("a", "a b", "of unequal length"),
        ("a b c d e f", "a b c d", None),
        ("a b c d e f g", "a b c d e", "too long"),
        ("a b c d e", "a b c d e f g", "too long"),
        ("abcd", "a", None),
        ("abcde", "a", "too long"),
    ]:
        assert beyond(limits, source, target) == reason


def test_subwords_are_the_references_on_its_own_text(tmp_path: Path) -> None:
    """fairseq's script has tokenised and encoded these dev and test sets."""
    folder = shared("iwslt14_de-en")

    def lines(name: str) -> list[str]:
        with lzma.open(folder / f"{name}.xz", "rt", encoding="utf-8", newline="\n") as stream:
            return stream.read().split("\n")[:-1]

    with lzma.open(folder / "code.xz") as codes, (tmp_path / "codes").open("wb") as copy:
        shutil.copyfileobj(codes, copy)
    encode = segmenter(tmp_path / "codes")
    for split in ("valid", "test"):
        for lang in ("de", "en"):
            assert encode(lines(f"{split}.tok.{lang}")) == lines(f"{split}.{lang}")


def test_released_sets_are_tokenised_as_elsewhere() -> None:
    """Stanford's tokenised version of two sets was made with a Moses of 2015.

    8 of 5,642 lines differ. 7 end in an abbreviation: since November 2018 Moses splits that full
    stop as well, as in fairseq's reference of IWSLT'14 ("u.s ."). One ends in a number and a comma.
    """
    folder = shared("iwslt15_en-vi")
    differing = 0
    for name, archive in (("tst2012", "dev-2012-en-vi.tgz"), ("tst2013", "test-2013-en-vi.tgz")):
        files = [folder / f"IWSLT15.TED.{name}.en-vi.{lang}.xml" for lang in ("en", "vi")]
        with tarfile.open(folder / archive) as tar:
            for lang, sentences in zip(
                ("en", "vi"), zip(*set_pairs(*files), strict=True), strict=True
            ):
                member = tar.extractfile(f"{name}.{lang}")
                assert member is not None
                theirs = member.read().decode().split("\n")[:-1]
                ours = tokenizer(lang, Preparation(repairs=False, escapes=True))(list(sentences))
                different = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
                assert all(a == f"{b[:-1]} {b[-1]}" and b[-1] in ".," for a, b in different)
                differing += len(different)
    assert differing == 8


def test_segments_are_those_of_the_references_sed() -> None:
    folder = shared("iwslt15_en-vi")
    for name in ("dev2010", "tst2012", "tst2013"):
        files = [folder / f"IWSLT15.TED.{name}.en-vi.{lang}.xml" for lang in ("en", "vi")]
        sides: Sequence[Sequence[str]] = list(zip(*set_pairs(*files), strict=True))
        for path, sentences in zip(files, sides, strict=True):
            assert list(sentences) == shell(SEGMENTS, file=path)


def test_a_message_for_files_that_are_no_pair(tmp_path: Path) -> None:
    paths = [tmp_path / f"set.{lang}.xml" for lang in ("de", "en")]
    paths[0].write_text(xml("de", "x"), encoding="utf-8")
    paths[1].write_text("", encoding="utf-8")
    with pytest.raises(DataPrepError, match=r"set\.en\.xml ends before segment 1 of document 1"):
        list(segment_pairs(*paths))
