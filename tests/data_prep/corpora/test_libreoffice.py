"""The LibreOffice corpus on hand-written help pages, and its download with a stand-in for apt."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.corpora.corpus import Example
from data_prep.corpora.libreoffice_help import HelpCorpus, split_of_page
from data_prep.selection.counts import Counts
from data_prep.sources import apt
from data_prep.sources.apt import download_packages
from data_prep.support.errors import DataPrepError
from tests.support.texts import help_deb, help_page, tree

Row = tuple[str, str | None, str | None]  # id, German, English

# Two pages with everything that is decided about a paragraph.
PAGE_ONE: list[Row] = [
    ("p1", "Öffnet die Datei.", "Opens the file."),
    (
        "p2",
        "Wählen Sie z. B. Datei. Klicken Sie dann auf OK.",
        "Choose File, for example. Click OK.",
    ),
    ("p3", "Ein Satz. Noch ein Satz.", "Two German sentences, but one in English."),
    ("p4", "Not translated yet.", "Not translated yet."),
    ("p5", "=SUMME(A1;B1)", "=SUM(A1;B1)"),
    ("p6", "Der Wert 5 gilt. Das Ende ist gut.", "The value 6 holds. The end is good."),
    ("p7", "öffnet die Datei!", "Opens the other file."),
    ("p8", "Lädt etwas.", "OPENS THE FILE"),
    ("only-german", "Fehlt auf Englisch.", None),
    ("only-english", None, "Missing in German."),
]
PAGE_TWO: list[Row] = [
    ("p1", "Schließt die Datei.", "Closes the file."),
    ("p2", "Öffnet die Datei.", "Opens the file."),
]


def _debs(directory: Path, pages: Mapping[str, Sequence[Row]]) -> list[Path]:
    paths = []
    for column, lang in ((1, "de"), (2, "en-US")):
        files = {
            name: help_page([(row[0], text) for row in rows if (text := row[column]) is not None])
            for name, rows in pages.items()
        }
        path = directory / f"{lang}.deb"
        path.write_bytes(help_deb(lang, files, "zst" if lang == "de" else "xz"))
        paths.append(path)
    return paths


def _page_in(split: str, number: int = 0) -> str:
    """The name of a page that the hash puts into ``split``."""
    names = (f"text/page{i}.html" for i in range(10000))
    return [name for name in names if split_of_page(name) == split][number]


def _corpus(paths: list[Path]) -> HelpCorpus:
    return HelpCorpus("de", tuple(paths))


def test_known_pages_give_known_pairs_and_counts(tmp_path: Path) -> None:
    one, two = sorted([_page_in("train", 0), _page_in("train", 1)])
    counts = Counts()
    pages = {two: PAGE_TWO, one: PAGE_ONE, "notes.txt": PAGE_TWO}
    assert list(_corpus(_debs(tmp_path, pages)).read(counts)) == [
        Example("train", "Öffnet die Datei.", "Opens the file."),
        Example("train", "Wählen Sie z. B. Datei.", "Choose File, for example."),
        Example("train", "Klicken Sie dann auf OK.", "Click OK."),
        Example("train", "Schließt die Datei.", "Closes the file."),
    ]
    assert counts.found == {"train": 11}
    assert counts.dropped["train"] == {
        "source equals target": 1,
        "code-like": 1,
        "badly matched": 2,  # the whole paragraph p6
        "duplicate": 3,
    }
    assert counts.corpus == {
        "pages": 2,
        "pages train": 2,
        "paragraphs": 10,
        "paragraphs with unequal sentence counts": 1,
    }


def test_no_page_and_no_sentence_is_in_two_splits(tmp_path: Path) -> None:
    pages = {
        f"text/{i}.html": [
            ("p", f"Das Tier {i} schläft.", f"The animal {i} sleeps."),
            ("q", f"Der Ort {i % 50} ist schön.", f"The place {i} is nice."),
            ("r", f"Der Weg {i} ist lang.", f"The way {i % 50} is long."),
        ]
        for i in range(400)
    }
    examples = list(_corpus(_debs(tmp_path, pages)).read(Counts()))
    for side in ("source", "target"):
        sentences = [getattr(example, side) for example in examples]
        assert len(set(sentences)) == len(sentences)
    split_of = {
        example.source.split()[2]: example.split for example in examples if "Tier" in example.source
    }
    assert len(split_of) == 400
    assert set(split_of.values()) == {"train", "valid", "test"}
    for number, split in split_of.items():
        assert split == split_of_page(f"text/{number}.html")


def test_splits_are_a_hash_of_the_page_name() -> None:
    names = [f"text/swriter/{i}.html" for i in range(20000)]
    # Independent of the code: the first byte pair of the digest as a fraction.
    for name in names[:200]:
        fraction = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12
        expected = "valid" if fraction < 0.03 else "test" if fraction < 0.06 else "train"
        assert split_of_page(name) == expected
    shares = {s: sum(split_of_page(n) == s for n in names) / len(names) for s in ("valid", "test")}
    assert shares["valid"] == pytest.approx(0.03, abs=0.005)
    assert shares["test"] == pytest.approx(0.03, abs=0.005)


def test_the_order_of_packages_and_of_files_in_them_does_not_matter(tmp_path: Path) -> None:
    pages = {
        f"text/{i}.html": [("p", f"Satz {i} ist da.", f"Sentence {i} is there.")] for i in range(50)
    }
    examples = list(_corpus(_debs(tmp_path, pages)).read(Counts()))
    reordered = _debs(tmp_path, dict(reversed(pages.items())))
    assert list(_corpus(reordered[::-1]).read(Counts())) == examples


def test_packages_of_the_wrong_language_or_twice(tmp_path: Path) -> None:
    german, english = _debs(tmp_path, {"text/a.html": PAGE_TWO})
    with pytest.raises(DataPrepError, match=r"no help pages in en-US .*libreoffice-help-en-us"):
        list(_corpus([german]).read(Counts()))
    again = tmp_path / "again.deb"
    again.write_bytes(german.read_bytes())
    with pytest.raises(DataPrepError, match="both hold the help in de"):
        list(_corpus([german, again, english]).read(Counts()))


def test_a_corrupt_package_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    german, english = _debs(tmp_path, {"text/a.html": PAGE_TWO})
    english.write_bytes(english.read_bytes()[:-100])
    out = tmp_path / "out"
    debs = ["--archive", str(german), str(english)]
    assert main(["libreoffice-help-de-en", *debs, "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"data_prep: error: {english}: not a whole Debian package")
    assert message.count("\n") <= 2
    assert not out.exists()


FAKE_APT = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
*update*) echo "E: one source is out of reach"; exit 100;;
*download*) {download};;
esac
"""


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on PATH; tests put an ``apt-get`` there."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return directory


def _install_apt(directory: Path, download: str) -> Path:
    log = directory / "log"
    (directory / "apt-get").write_text(FAKE_APT.format(log=log, download=download))
    (directory / "apt-get").chmod(0o755)
    return log


def test_download_survives_a_failing_source_and_is_kept(
    tmp_path: Path, fake_apt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _install_apt(fake_apt, "touch one_2%3a1_all.deb two_2%3a1_all.deb")
    kept = tmp_path / "out" / "download"
    paths = download_packages(["two", "one"], kept)
    assert [path.name for path in paths] == ["two_2%3a1_all.deb", "one_2%3a1_all.deb"]
    commands = log.read_text().splitlines()
    assert [command.split()[-1] for command in commands] == ["update", "one"]
    assert all(" -c " in f" {command}" for command in commands)  # the private configuration
    assert download_packages(["two", "one"], kept) == paths
    assert log.read_text().splitlines() == commands
    assert "download: already there" in capsys.readouterr().err


def test_a_download_that_fails_shows_what_apt_said_last(tmp_path: Path, fake_apt: Path) -> None:
    _install_apt(fake_apt, 'echo "E: Unable to locate package two"; exit 100')
    with pytest.raises(DataPrepError, match=r"(?s)E: Unable to locate package two.*--archive"):
        download_packages(["two"], tmp_path / "out" / "download")
    assert not tree(tmp_path / "out")


def test_without_apt_the_error_says_what_to_fetch_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "out"
    assert main(["libreoffice-help-vi-en", "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert "libreoffice-help-vi and libreoffice-help-en-us" in message
    assert "package pages" in message and "--archive" in message
    assert not out.exists()


def test_the_distributions_own_sources_are_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_apt: Path
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").touch()
    monkeypatch.setattr(apt, "_ETC", tmp_path)
    log = _install_apt(fake_apt, "exit 100")
    with pytest.raises(DataPrepError):
        download_packages(["two"], tmp_path / "download")
    own_sources = ["Dir::Etc::sourceparts=-" in command for command in log.read_text().splitlines()]
    assert own_sources == [True, True, False, False]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="this system has no apt-get")
def test_the_real_packages(tmp_path: Path) -> None:
    packages = ["libreoffice-help-de", "libreoffice-help-en-us"]
    paths = download_packages(packages, tmp_path / "download")
    examples = list(HelpCorpus("de", paths).read(Counts()))
    sizes = {s: sum(example.split == s for example in examples) for s in ("train", "valid", "test")}
    assert sizes["train"] > 30000 and sizes["valid"] > 900 and sizes["test"] > 900
