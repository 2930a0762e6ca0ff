"""The readers of data_prep: packages, archives, corpora and their lines."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from data_prep import __main__ as command_line
from data_prep import pipeline
from data_prep.corpora.files import FilesCorpus
from data_prep.corpora.help_pages import read_page
from data_prep.corpora.iwslt import set_pairs, tagged_pairs
from data_prep.corpora.libreoffice_help import HelpCorpus
from data_prep.corpora.segments import segment_pairs
from data_prep.selection.counts import Counts
from data_prep.sources.archives import extract, gather
from data_prep.sources.deb import read_deb
from data_prep.support.errors import DataPrepError
from data_prep.text.cleaning import clean_line, strip_line
from data_prep.text.sentences import split_sentences
from tests.fuzzing.promises import Reader, choose, expect, for_each_choice, is_for_the_user, only
from tests.support.texts import HELP, ar, help_page, tar

_LANGUAGES = ("de", "en")


def _with_checksums(content: bytes) -> bytes:
    """Make the checksums of a tar's headers right, as someone who means harm would."""
    blocks = bytearray(content)
    for start in range(0, len(blocks) - 511, 512):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            total = sum(blocks[start : start + 512])
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


# How a tar is packed, by an input's first byte.
_COMPRESSIONS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", lambda content: content),
    (".gz", lambda content: gzip.compress(content, 1)),
    (".xz", lambda content: lzma.compress(content, preset=0)),
    (".bz2", lambda content: bz2.compress(content, 1)),
    (".zst", lambda content: zstandard.ZstdCompressor(1).compress(content)),
]
_UNPACKED = len(_COMPRESSIONS)


def _package(content: bytes) -> bytes:
    choice, payload = choose(content, _UNPACKED + 1)
    if choice == _UNPACKED:
        return payload
    suffix, compress = _COMPRESSIONS[choice]
    data = compress(_with_checksums(payload))
    return ar({"debian-binary": b"2.0\n", f"data.tar{suffix}": data})


def debian_package(content: bytes, scratch: Path) -> None:
    """`read_deb`: names that begin as asked, and their contents; nothing is written."""
    package = scratch / "a.deb"
    package.write_bytes(_package(content))
    try:
        for name, text in read_deb(package, "usr/"):
            expect(name.startswith("usr/") and isinstance(text, bytes), f"{name!r} was yielded")
    except DataPrepError as error:
        is_for_the_user(error, [str(package)])
    only(scratch, {"a.deb"})


def _package_seeds() -> list[bytes]:
    plain = tar({"usr/a.html": b"<p>1</p>", "usr/b": b"x" * 600, "etc/c": b"no"})
    packages = [ar({"data.tar": plain}), ar({"data.tar.xz": lzma.compress(plain)})]
    packages.append(ar({"data.tar.zst": zstandard.ZstdCompressor().compress(plain)}))
    return for_each_choice(plain, choices=_UNPACKED) + [
        bytes([_UNPACKED]) + each for each in packages
    ]


def archive(content: bytes, scratch: Path) -> None:
    """`extract`: the wanted files, whole, in the directory; nothing anywhere else, no links."""
    choice, payload = choose(content, _UNPACKED + 2)
    path = scratch / ("a.de.gz" if choice == _UNPACKED + 1 else "archive")
    if choice < _UNPACKED:
        payload = _COMPRESSIONS[choice][1](_with_checksums(payload))
    path.write_bytes(payload)
    out = scratch / "out"
    out.mkdir()
    wanted = ("a.de", "b.en")
    try:
        extract(path, wanted, out, inner="x.tgz")
        expect({each.name for each in out.iterdir()} == set(wanted), "files are missing")
    except DataPrepError as error:
        is_for_the_user(error, [str(path)])
    only(scratch, {path.name, "out", "out/a.de", "out/b.en", "out/x.tgz", "out/.x.tgz"})


def _archive_seeds() -> list[bytes]:
    files = {"de-en/a.de": b"a\n" * 300, "./b.en": b"b\n", "README": b"r"}
    plain = tar(files)
    nested = tar({"2014/x.tgz": gzip.compress(plain)})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, text in files.items():
            pack.writestr(name, text)
    others = [stream.getvalue(), gzip.compress(plain), lzma.compress(nested), bz2.compress(plain)]
    return [
        *for_each_choice(plain, nested, choices=_UNPACKED),
        *(bytes([_UNPACKED]) + each for each in others),
        bytes([_UNPACKED + 1]) + gzip.compress(b"a\n" * 300),
    ]


def folders(content: bytes, scratch: Path) -> None:
    """`gather`: a file for each folder, with at least one text on a line each; nothing else."""
    choice, payload = choose(content, _UNPACKED + 1)
    path = scratch / "archive"
    if choice < _UNPACKED:
        payload = _COMPRESSIONS[choice][1](_with_checksums(payload))
    path.write_bytes(payload)
    out = scratch / "out"
    out.mkdir()
    try:
        gather(path, {"train/pos": "a", "train/neg": "b"}, "utf-8", out)
        for name in ("a", "b"):
            lines = (out / name).read_text("utf-8").splitlines()
            expect(len(lines) > 0, f"{name}: no text")
            expect(all(isinstance(json.loads(line), str) for line in lines), f"{name}: no text")
    except DataPrepError as error:
        is_for_the_user(error, [str(path)])
    only(scratch, {"archive", "out", "out/a", "out/b"})


def _folder_seeds() -> list[bytes]:
    files = {
        "x/train/pos/1_9.txt": "Gut\u2028,\nsehr".encode(),
        "x/train/neg/1_2.txt": b"bad",
        "x/train/neg/deep/3.txt": b"\xff",
        "x/README": b"r",
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, text in files.items():
            pack.writestr(name, text)
    seeds = for_each_choice(tar(files), choices=_UNPACKED)
    return [*seeds, bytes([_UNPACKED]) + stream.getvalue()]


def _two_files(content: bytes, scratch: Path, name: str) -> tuple[Path, Path]:
    """Of an input with a zero byte in it the first part and the rest."""
    parts = content.split(b"\0", 1) if b"\0" in content else [content, content]
    paths = (scratch / f"{name}.de", scratch / f"{name}.en")
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    return paths


def segments(content: bytes, scratch: Path) -> None:
    """`segment_pairs`, `set_pairs` and `tagged_pairs`: XML and SGM of the campaigns, in pairs."""
    choice, payload = choose(content, 3)
    paths = _two_files(payload, scratch, "set")
    try:
        for pair in (segment_pairs, set_pairs, tagged_pairs)[choice](*paths):
            source, target = pair
            expect("\n" not in source + target, f"{pair!r} is of several lines")
            expect(choice == 2 or all(side == side.strip() for side in pair), f"{pair!r}: space")
    except DataPrepError as error:
        is_for_the_user(error, list(map(str, paths)))


def _segment_seeds() -> list[bytes]:
    sets = []
    for text in ("Das Haus ist’s &amp; gut.", "The house is good."):
        lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<mteval><srcset setid="a">']
        for document in (1, 2):
            lines.append(f'<doc docid="{document}" genre="lectures">')
            lines += [f'<seg id="{number}"> {text} </seg>' for number in (1, 2)]
            lines.append("</doc>")
        sets.append("\n".join(lines).encode())
    talk = b"<url>http://x/1</url>\n<talkid>1</talkid>\n<title>Titel</title>\nEin Satz.\n"
    return [*for_each_choice(b"\x00".join(sets), choices=2), bytes([2]) + talk + b"\x00" + talk]


def help_pages(content: bytes, scratch: Path) -> None:
    """`read_page` and `HelpCorpus`: paragraphs by their ids, paired sentences of one line each."""
    pages = content.split(b"\0", 1) if b"\0" in content else [content, content]
    for page in pages:
        paragraphs = read_page(page)
        keys = [paragraph.key for paragraph in paragraphs]
        expect(len(keys) == len(set(keys)), "two paragraphs with one id")
        expect(all(each.text == " ".join(each.text.split()) for each in paragraphs), "odd spaces")
        expect(all(each.text for each in paragraphs), "an empty paragraph")
    package = scratch / "help.deb"
    names = [f"{HELP}/{lang}/text/a.html" for lang in ("de", "en-US")]
    package.write_bytes(ar({"data.tar": tar(dict(zip(names, pages, strict=True)))}))
    for example in HelpCorpus("de", (package,)).read(Counts()):
        expect(example.split in ("train", "valid", "test"), f"{example.split}: what split?")
        for text in (example.source, example.target):
            expect(len(text.splitlines()) == 1, f"{text!r} is not one line")


def _help_seeds() -> list[bytes]:
    german = [
        ("id1", "Klicken Sie auf <b>Datei</b> - z. B. <i>Öffnen</i>. Das geht."),
        ("id2", "a"),
    ]
    english = [("id1", "Click <b>File</b> - e.g. <i>Open</i>. That works."), ("id2", "b<br/>c")]
    switch = '<span class="switchinline"><span id="default1">Strg</span><span>Cmd</span></span>'
    switched = help_page([("id3", f"Drücken Sie {switch} und dann die Taste."), *german])
    return [
        help_page(german) + b"\0" + help_page(english),
        switched + b"\0" + help_page([("id3", f"Press {switch} and then the key."), *english]),
    ]


def _no_binarisation(_bpe: Path, languages: Any, directory: Path, *_: Any, **__: Any) -> Any:
    (directory / "dict.txt").touch()
    return {"dictionary": dict.fromkeys(languages, 0)}


def text_files(content: bytes, scratch: Path) -> None:
    """`FilesCorpus`, the repairs of lines and, for some, all of `data_prep files`."""
    choice, payload = choose(content, 8)
    paths = _two_files(payload, scratch, "train")
    if choice == 0:
        _prepare(paths, scratch)
        return
    corpus = FilesCorpus(*_LANGUAGES, {"train": str(scratch / "train")})
    try:
        for example in corpus.read(Counts()):
            for line, lang in ((example.source, "de"), (example.target, "en")):
                expect("\n" not in line, f"{line!r} is of several lines")
                clean = clean_line(line, {})
                expect(clean_line(clean, {}) == clean, f"{line!r}: not clean when cleaned")
                expect(len(clean.splitlines()) <= 1, f"{clean!r} is of several lines")
                expect("\n" not in strip_line(line, {}), f"{line!r} is of several lines")
                sentences = split_sentences(clean, lang)
                joined = "".join("".join(sentences).split())
                expect(joined == "".join(clean.split()), f"{clean!r}: sentences lose something")
    except DataPrepError as error:
        is_for_the_user(error, list(map(str, paths)))


def _prepare(paths: Sequence[Path], scratch: Path) -> None:
    out = scratch / "out"
    said, shown = io.StringIO(), io.StringIO()
    given = [f"--{split}={scratch / 'train'}" for split in ("train", "valid", "test")]
    words = ["files", "--source-lang=de", "--target-lang=en", *given, "--workers=1"]
    binarize, pipeline.binarize = pipeline.binarize, _no_binarisation
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
            status = command_line.main([*words, f"--out={out}", "--bpe-merges=20"])
    finally:
        pipeline.binarize = binarize
    if status == 0:
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        for stage in ("raw", "tok", "bpe"):
            counts = [
                (out / stage / f"train.{lang}").read_bytes().count(b"\n") for lang in _LANGUAGES
            ]
            expect(counts == [report["raw"]["kept"]["train"]] * 2, f"{stage}: {counts} lines")
    else:
        message = said.getvalue().split("data_prep: error: ", 1)
        expect(status == 1 and len(message) == 2, f"status {status}: {said.getvalue()!r}")
        is_for_the_user(DataPrepError(message[1].removesuffix("\n")), [])


def _text_seeds() -> list[bytes]:
    german = "Das ist ein Haus.\nDer Hund (z. B.) schläft\u00a0– „gut“.\r\n\u200bEi\u0301n Satz\n"
    english = "This is a house.\nThe dog's asleep; it isn't, Mr. X.\nA sentence\u2028more\n"
    both = german.encode() + b"\0" + english.encode()
    return [bytes([choice]) + both for choice in (0, 1)]


DATA_PREP = {
    "deb": Reader(debian_package, _package_seeds),
    "archive": Reader(archive, _archive_seeds),
    "folders": Reader(folders, _folder_seeds),
    "segments": Reader(segments, _segment_seeds),
    "help": Reader(help_pages, _help_seeds),
    "text": Reader(text_files, _text_seeds),
}
