"""Files taken out of archives, benign, damaged and hostile ones."""

import bz2
import errno
import gzip
import io
import lzma
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from data_prep.sources import unpacking
from data_prep.sources.archives import extract, gather
from data_prep.support.errors import DataPrepError

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


def sparse(size: int) -> tarfile.TarInfo:
    """A file of zeros, of which the archive holds none."""
    info = header(tarfile.REGTYPE)
    info.pax_headers = {"GNU.sparse.map": f"{size},0", "GNU.sparse.size": str(size)}
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


@pytest.mark.parametrize("kind", ["tgz", "tar.bz2", "tar.xz", "tar.zst", "zip", "gz", "in tgz"])
def test_a_bomb_is_unpacked_no_further_than_it_may(
    tmp_path: Path, out: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte of zeros, where ten thousand bytes are allowed, is a bomb on a small scale."""
    monkeypatch.setattr(unpacking, "ALWAYS", 10_000)
    zeros = bytes(1 << 20)
    bombs: dict[str, Callable[[], bytes]] = {
        "tgz": lambda: gzip.compress(tar(("a.de", zeros))),
        "tar.bz2": lambda: bz2.compress(tar(("a.de", zeros))),
        "tar.xz": lambda: lzma.compress(tar(("a.de", zeros))),
        "tar.zst": lambda: zstandard.ZstdCompressor().compress(tar(("a.de", zeros))),
        "zip": lambda: zipped(("a.de", zeros)),
        "gz": lambda: gzip.compress(zeros),
        "in tgz": lambda: gzip.compress(tar(("x.tgz", gzip.compress(tar(("a.de", zeros)))))),
    }
    archive = tmp_path / ("a.de.gz" if kind == "gz" else "archive")
    archive.write_bytes(bombs[kind]())
    with pytest.raises(DataPrepError, match=rf"{archive.name}.*unpacks to more than \d+") as caught:
        extract(archive, ["a.de"], out, inner="x.tgz")
    assert "\n" not in str(caught.value)
    limit = max(10_000, unpacking.RATIO * archive.stat().st_size)
    assert sum(path.stat().st_size for path in out.iterdir()) <= limit < len(zeros)


def test_zeros_that_are_nowhere_in_the_archive(tmp_path: Path, out: Path) -> None:
    archive = packed(tmp_path, tar(("a.de", sparse(1 << 50))))
    with pytest.raises(DataPrepError, match=r"archive: a\.de is not a regular file in it"):
        extract(archive, ["a.de"], out)
    assert not list(out.iterdir())


def test_a_bomb_in_what_nobody_asked_for(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is passed over without being written, but it has to be unpacked."""
    monkeypatch.setattr(unpacking, "ALWAYS", 10_000)
    archive = packed(tmp_path, gzip.compress(tar(("z", bytes(1 << 20)), ("a.de", b"x"))))
    with pytest.raises(DataPrepError, match="archive: unpacks to more than"):
        extract(archive, ["a.de"], out)


def test_a_bomb_in_a_header(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tarfile reads the name of a member at once, however long it claims to be."""
    monkeypatch.setattr(unpacking, "ALWAYS", 10_000)
    name = header(tarfile.GNUTYPE_LONGNAME)
    name.size = 1 << 20
    archive = packed(tmp_path, gzip.compress(tar(("name", name)) + bytes(1 << 20)))
    with pytest.raises(DataPrepError, match="archive: unpacks to more than"):
        extract(archive, ["a.de"], out)


def test_a_repetitive_text_is_no_bomb(tmp_path: Path, out: Path) -> None:
    """Packed as well as text ever is: a fiftieth of its size."""
    text = "".join(
        f"Klicken Sie auf Datei - Öffnen ({i % 500}).\n" for i in range(400_000)
    ).encode()
    archive = packed(tmp_path, gzip.compress(tar(("a.de", text))))
    assert len(text) > 50 * archive.stat().st_size
    extract(archive, ["a.de"], out)
    assert (out / "a.de").read_bytes() == text


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


def zip_with(changes: dict[int, bytes]) -> bytes:
    """A zip of one file; what is changed is counted from the begin of its central directory."""
    content = bytearray(zipped(("a.de", TEXT)))
    directory = content.index(b"PK\x01\x02")
    for offset, value in changes.items():
        content[directory + offset : directory + offset + len(value)] = value
    return bytes(content)


# As found by fuzzing: zipfile raises something of its own for each.
@pytest.mark.parametrize(
    "changes",
    [
        {46: b"\0"},  # no name: IndexError
        {10: b"\x63\0"},  # a compression that nobody knows: NotImplementedError
        {8: b"\1\0"},  # encrypted: RuntimeError
        {46 + 4 + 16: b"\xff\xff\0\0"},  # a directory that begins before the file does: OSError
    ],
)
def test_a_zip_with_odd_headers(tmp_path: Path, out: Path, changes: dict[int, bytes]) -> None:
    with pytest.raises(
        DataPrepError, match=r"archive: (is cut short or damaged|there is no a\.de)"
    ):
        extract(packed(tmp_path, zip_with(changes)), ["a.de"], out)


def test_a_disk_that_is_full_is_not_a_damaged_archive(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        extract(packed(tmp_path, tar(*MEMBERS)), ["a.de"], out)


@pytest.mark.parametrize("name", ["/tmp/evil/a.de", "../../a.de", "x/../../../a.de"])
def test_a_path_in_a_zip_that_leads_outside_does_not(tmp_path: Path, out: Path, name: str) -> None:
    extract(packed(tmp_path, zipped((name, b"x"))), ["a.de"], out)
    assert {path.name for path in tmp_path.rglob("*")} == {"archive", "out", "a.de"}
    assert not Path("/tmp/evil").exists()


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


FOLDERS = {"train/pos": "a", "train/neg": "b"}
REVIEWS = (("x/train/pos/1.txt", b"good\nfilm"), ("x/train/neg/1.txt", b"bad"))


@pytest.mark.parametrize("pack", [tar, lambda *files: gzip.compress(tar(*files)), zipped])
def test_folders_are_gathered(pack: Callable[..., bytes], tmp_path: Path) -> None:
    others = (("x/train/pos/deep/2.txt", b"\xff"), ("x/train/posh/3.txt", b"no"), ("x/pos/4", b""))
    (tmp_path / "archive").write_bytes(
        pack(*REVIEWS, *others, ("x/train/pos/0.txt", b"caf\xc3\xa9"))
    )
    (tmp_path / "out").mkdir()
    gather(tmp_path / "archive", FOLDERS, "utf-8", tmp_path / "out")
    found = {path.name: path.read_text().splitlines() for path in (tmp_path / "out").iterdir()}
    assert found == {"a": ['"good\\nfilm"', '"caf\\u00e9"'], "b": ['"bad"']}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tar(*REVIEWS[:1]), "has no texts in train/neg; is it the right archive?"),
        (tar(*REVIEWS, REVIEWS[0]), "has two files called x/train/pos/1.txt"),
        (tar(*REVIEWS, ("x/train/pos/2", header(tarfile.SYMTYPE, "1.txt"))), "is not a regular"),
        (tar(*REVIEWS, ("x/train/pos/2", b"\xff")), "x/train/pos/2 in it is not UTF-8 (byte 0xff"),
        (gzip.compress(tar(*REVIEWS))[:-12], "is cut short or damaged"),
        (
            gzip.compress(tar(("x/train/pos/1", bytes(70 << 20))), 9),
            "unpacks to more than 67,108,864",
        ),
    ],
)
def test_folders_of_something_else(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataPrepError, match=re.escape(expected)) as caught:
        gather(tmp_path / "archive", FOLDERS, "utf-8", tmp_path / "out")
    assert str(tmp_path / "archive") in str(caught.value)
