"""Files taken out of archives, benign, damaged and hostile ones."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.archives import extract
from data_prep.errors import DataPrepError

TEXT = "".join(f"line {i}\n" for i in range(5000)).encode()


def tar(*members: tuple[str, bytes | tarfile.TarInfo]) -> bytes:
    """Each member is a name with its content, or with a header without any."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                header = tarfile.TarInfo(name)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


def header(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type = kind
    info.linkname = target
    return info


def zipped(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


MEMBERS = (("de-en/a.de", TEXT), ("./de-en/b.en", b"b\n"), ("de-en/README", b"r\n"))
PACKERS: dict[str, Callable[[], bytes]] = {
    "tar": lambda: tar(("de-en", header(tarfile.DIRTYPE)), *MEMBERS),
    "tgz": lambda: gzip.compress(tar(*MEMBERS)),
    "tar.bz2": lambda: bz2.compress(tar(*MEMBERS)),
    "tar.xz": lambda: lzma.compress(tar(*MEMBERS)),
    "zip": lambda: zipped(*MEMBERS),
    "tgz in tgz": lambda: gzip.compress(tar(("2014/x.tgz", gzip.compress(tar(*MEMBERS))))),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def packed(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", PACKERS)
def test_wanted_files_are_taken_out(tmp_path: Path, out: Path, kind: str) -> None:
    extract(packed(tmp_path, PACKERS[kind]()), ["a.de", "b.en"], out, inner="x.tgz")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        "a.de": TEXT,
        "b.en": b"b\n",
    }


def test_a_compressed_file(tmp_path: Path, out: Path) -> None:
    archive = tmp_path / "a.de.gz"
    archive.write_bytes(gzip.compress(TEXT))
    extract(archive, ["a.de"], out)
    assert (out / "a.de").read_bytes() == TEXT
    archive.write_bytes(gzip.compress(TEXT)[:-4])
    with pytest.raises(DataPrepError, match=r"a\.de\.gz: is cut short or damaged"):
        extract(archive, ["a.de"], out)


@pytest.mark.parametrize("name", ["/tmp/evil/a.de", "../../a.de", "x/../../../a.de", "..\\a.de"])
def test_a_path_that_leads_outside_does_not(tmp_path: Path, out: Path, name: str) -> None:
    archive = packed(tmp_path, tar((name, b"x"), ("good/b.en", b"b\n")))
    if "\\" in name:  # one strange file name, on the systems that this runs on
        extract(archive, ["b.en"], out)
    else:
        extract(archive, ["a.de"], out)
    assert {path.name for path in tmp_path.rglob("*")} == {
        "archive", "out", "b.en" if "\\" in name else "a.de"
    }  # fmt: skip
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, out: Path, kind: bytes) -> None:
    archive = packed(tmp_path, tar(("a.de", header(kind, "/etc/passwd"))))
    with pytest.raises(DataPrepError, match=r"archive: a\.de is not a regular file in it"):
        extract(archive, ["a.de"], out)
    assert not list(out.iterdir())


def test_a_link_in_a_zip_is_refused(tmp_path: Path, out: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("a.de")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataPrepError, match="not a regular file"):
        extract(packed(tmp_path, stream.getvalue()), ["a.de"], out)


def test_links_that_nobody_asked_for_do_not_matter(tmp_path: Path, out: Path) -> None:
    archive = tar(("z", header(tarfile.SYMTYPE, "/etc")), ("z/a.de", b"x"))
    extract(packed(tmp_path, archive), ["a.de"], out)
    assert [path.name for path in out.iterdir()] == ["a.de"]


@pytest.mark.parametrize("kind", ["tar", "tgz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_one_that_is_cut_short(tmp_path: Path, out: Path, kind: str, share: float) -> None:
    content = PACKERS[kind]()
    # A tar ends with blocks of zeros that nobody misses.
    end = len(content.rstrip(b"\0")) if kind == "tar" else len(content)
    archive = packed(tmp_path, content[: int(end * share)])
    with pytest.raises(DataPrepError, match="archive: is cut short or damaged"):
        extract(archive, ["a.de", "b.en"], out)


@pytest.mark.parametrize("kind", ["tgz", "tar.bz2", "tar.xz", "zip"])
def test_one_that_is_damaged(tmp_path: Path, out: Path, kind: str) -> None:
    content = bytearray(PACKERS[kind]())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    with pytest.raises(DataPrepError, match="archive: is cut short or damaged"):
        extract(packed(tmp_path, bytes(content)), ["a.de"], out)


def test_what_is_no_archive(tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataPrepError, match="archive: is cut short or damaged"):
        extract(packed(tmp_path, b"<html>Not found</html>"), ["a.de"], out)


def test_a_file_that_is_missing(tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataPrepError, match=r"there is no c\.fr in it; is it the right archive\?"):
        extract(packed(tmp_path, tar(*MEMBERS)), ["a.de", "c.fr"], out)


def test_a_file_that_is_there_twice(tmp_path: Path, out: Path) -> None:
    archive = packed(tmp_path, tar(("1/a.de", b"1"), ("2/a.de", b"2")))
    with pytest.raises(DataPrepError, match=r"archive: has two files called a\.de"):
        extract(archive, ["a.de"], out)
