"""Helpers of the data_prep tests: packages, help pages and text files made on the spot."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard
from sacremoses import MosesTokenizer

from data_prep import pipeline
from data_prep.__main__ import main

HELP = "usr/share/libreoffice/help"


class PlainMoses(MosesTokenizer):
    """sacremoses with Moses' last full stop, nothing else."""

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        text = super().handles_nonbreaking_prefixes(text)
        head, dot, tail = text.rpartition(".")
        return f"{head} ." if dot and not tail and head and head[-1] != " " else text


def deb(files: Mapping[str, bytes], compression: str = "xz") -> bytes:
    """Return a Debian package with ``files``, its data member compressed with xz, gz or zst."""
    data = tar(files, "" if compression == "zst" else compression)
    if compression == "zst":
        data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    return ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar.xz": tar({"control": b"Package: test\n"}, "xz"),
            f"data.tar.{compression}".rstrip("."): data,
        }
    )


def ar(members: Mapping[str, bytes]) -> bytes:
    """Return an ar archive, as deb(5) has it."""
    archive = b"!<arch>\n"
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        archive += header.encode() + content + b"\n" * (len(content) % 2)
    return archive


def tar(files: Mapping[str, bytes], compression: str = "") -> bytes:
    """Return a tar of ``files``, their names behind ``./``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def help_page(paragraphs: Iterable[tuple[str, str]]) -> bytes:
    """Return a help page of (id, HTML text) paragraphs, with the furniture of the real ones."""
    body = "\n".join(f'<p id="{name}" class="paragraph">{text}</p>' for name, text in paragraphs)
    return (
        '<!DOCTYPE html><html><head><meta charset="utf-8"><title>t</title></head><body>'
        '<div id="Index"><p id="bm_x">navigation</p></div>'
        f'<div id="DisplayArea">{body}</div><footer><p id="bm_module">footer</p></footer>'
        "</body></html>"
    ).encode()


def help_deb(lang: str, pages: Mapping[str, bytes], compression: str = "xz") -> bytes:
    """Return a package with the help ``pages`` of ``lang`` where LibreOffice has them."""
    files = {f"{HELP}/{lang}/{name}": page for name, page in pages.items()}
    return deb({"usr/share/doc/copyright": b"MPL-2.0\n", **files}, compression)


SENTENCES = {
    "de": ["Das ist ein {} Haus.", "Wir sehen den {} Baum.", "Der {} Hund schläft heute."],
    "en": ["This is a {} house.", "We see the {} tree.", "The {} dog sleeps today."],
}


def write_texts(directory: Path, train: int = 30, held_out: int = 5) -> Path:
    """Write a small German-English corpus in three splits; return its directory."""
    number = 0
    for split, size in (("train", train), ("valid", held_out), ("test", held_out)):
        for lang, patterns in SENTENCES.items():
            lines = [patterns[i % 3].format(f"{number + i}.") for i in range(size)]
            (directory / f"{split}.{lang}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        number += size
    return directory


def prepare_files(
    texts: Path, out: Path, *options: str, given: Iterable[str] = ("train", "valid", "test")
) -> int:
    """Run ``data_prep files`` on the ``given`` ``texts``/SPLIT.{de,en}; return its exit status."""
    splits = [f"--{split}={texts / split}" for split in given]
    languages = ["--source-lang=de", "--target-lang=en"]
    return main(
        ["files", *languages, *splits, f"--out={out}", "--bpe-merges=50", "--workers=1", *options]
    )


def tree(directory: Path) -> dict[str, bytes]:
    """Return the content of every file under ``directory``."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def without_fairseq(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the bin stage: starting fairseq takes seconds, and most tests are not about it."""

    def stand_in(bpe: Path, languages: Any, directory: Path, *rest: Any, **more: Any) -> Any:
        (directory / "dict.txt").write_bytes((bpe / f"train.{languages[0]}").read_bytes())
        return {"dictionary": {"de": 0, "en": 0}}

    monkeypatch.setattr(pipeline, "binarize", stand_in)
