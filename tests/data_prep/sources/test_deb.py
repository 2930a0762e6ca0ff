"""Debian packages and help pages, from bytes to paragraphs."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.corpora.help_pages import read_page
from data_prep.sources import unpacking
from data_prep.sources.deb import read_deb
from data_prep.support.errors import DataPrepError
from tests.support.texts import ar, deb, help_page

FILES = {"usr/share/a/one.html": b"<p>1</p>", "usr/share/a/odd": b"x" * 30001, "etc/b": b"no"}


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2", "zst"])
def test_a_package_gives_back_its_files(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(deb(FILES, compression))
    wanted = {name: content for name, content in FILES.items() if name.startswith("usr/")}
    assert dict(read_deb(path, "usr/")) == wanted


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")
@pytest.mark.parametrize("compression", ["xz", "gzip", "none"])
def test_a_package_that_dpkg_built(tmp_path: Path, compression: str) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: t\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: t\n"
    )
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    path = tmp_path / "t.deb"
    command = ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "-b", str(root), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    assert dict(read_deb(path, "")) == FILES


@pytest.mark.parametrize("compression", ["xz", "zst"])
def test_every_truncation_is_noticed(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "cut.deb"
    whole = deb(FILES, compression)
    for size in [*range(0, len(whole) - 1, 37), len(whole) - 2]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataPrepError, match=r"cut\.deb: not a whole Debian package"):
            list(read_deb(path, "usr/"))


@pytest.mark.parametrize("compression", ["xz", "zst"])
def test_a_flipped_bit_in_the_data_is_noticed(tmp_path: Path, compression: str) -> None:
    whole = bytearray(deb(FILES, compression))
    whole[-40] ^= 1
    path = tmp_path / "flipped.deb"
    path.write_bytes(whole)
    with pytest.raises(DataPrepError, match=r"flipped\.deb") as caught:
        list(read_deb(path, "usr/"))
    assert len(str(caught.value).splitlines()) <= 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_packages_never_escape_as_another_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(deb(FILES, data.draw(st.sampled_from(["xz", "gz", "bz2", "zst", ""]))))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.deb"
    path.write_bytes(content)
    try:
        list(read_deb(path, ""))
    except DataPrepError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2", "zst"])
def test_a_bomb_is_unpacked_no_further_than_it_may(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "ALWAYS", 10_000)
    path = tmp_path / "bomb.deb"
    path.write_bytes(deb({"usr/share/a": bytes(1 << 20)}, compression))
    with pytest.raises(
        DataPrepError, match=r"bomb\.deb: unpacks to more than \d+.*right package\?$"
    ):
        list(read_deb(path, "usr/"))


def test_what_is_in_memory_has_a_limit_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.sources.deb._LARGEST", 10_000)
    path = tmp_path / "large.deb"
    path.write_bytes(deb(FILES))
    with pytest.raises(DataPrepError, match=r"large\.deb: unpacks to more than 10,000 bytes"):
        list(read_deb(path, "usr/"))


def test_zeros_that_are_nowhere_in_the_package(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("usr/a")
    entry.pax_headers = {"GNU.sparse.map": f"{1 << 50},0", "GNU.sparse.size": str(1 << 50)}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(entry)
    path = tmp_path / "sparse.deb"
    path.write_bytes(ar({"data.tar": stream.getvalue()}))
    with pytest.raises(DataPrepError, match=r"sparse\.deb: not a whole Debian package \(usr/a is"):
        list(read_deb(path, "usr/"))


def test_links_and_paths_that_lead_outside_are_names_and_no_more(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("usr/link")
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
        archive.addfile(tarfile.TarInfo("usr/../../../evil"))
    path = tmp_path / "hostile.deb"
    path.write_bytes(ar({"data.tar": stream.getvalue()}))
    assert dict(read_deb(path, "usr/")) == {"usr/../../../evil": b""}
    assert list(tmp_path.iterdir()) == [path]


COMMAND_OR_CTRL = """<span id="s" class="switchinline"
><span hidden="true" class="MAC">Command</span>
<span hidden="true" id="default1">Ctrl</span></span>"""
CELLS_OR_SHAPES = """<span class="switchinline"><span class="CALC">cells</span
><span class="DRAW">shapes</span></span>"""


def test_paragraphs_of_a_page() -> None:
    page = help_page(
        [
            ("par_1", "One <b>bold</b>\n   word.<br>Next line &amp; more"),
            ("par_2", "  "),
            ("par_3", f"Press {COMMAND_OR_CTRL}+F."),
            ("par_4", f"{CELLS_OR_SHAPES} here"),
            ("par_1", "The same id again"),
        ]
    ).replace(
        b"</div><footer>", b'<p>no id</p><p id="c" class="codeintable">x = 1</p></div><footer>'
    )
    paragraphs = read_page(page)
    assert [(p.key, p.text, p.is_code) for p in paragraphs] == [
        (("par_1", 0), "One bold word. Next line & more", False),
        (("par_3", 0), "Press Ctrl+F.", False),
        (("par_4", 0), "cells here", False),
        (("par_1", 1), "The same id again", False),
        (("c", 0), "x = 1", True),
    ]


@given(st.binary())
def test_any_bytes_are_a_page(content: bytes) -> None:
    read_page(content)
    read_page(b'<div id="DisplayArea"><p id="x">' + content)


# As found by fuzzing.
@pytest.mark.parametrize(
    "variants", ["<!-- none -->", "<!-- none --><b>x</b>", "<b>x</b><i>y</i>\x01"]
)
def test_switches_with_other_things_in_them(variants: str) -> None:
    page = help_page([("a", f'one <span class="switchinline">{variants}</span>\x02 two')])
    (paragraph,) = read_page(page)
    assert paragraph.text.startswith("one") and paragraph.text.endswith("two")
    assert ("x" in paragraph.text) == ("x" in variants.replace("-", ""))
    assert "y" not in paragraph.text
