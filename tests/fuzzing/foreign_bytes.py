"""What is promised of each reader of foreign bytes, and inputs to begin from.

A promise takes any bytes and reads them: either the result has the documented shape, or there is
the documented error, which names what was read. Anything else raises. It is asked by random tests
(`test_foreign_bytes.py`) and by a fuzzer for as long as one likes (`fuzzing.py`).

The first byte of an input says how the rest is packed, so that a fuzzer gets past checksums and
compression: it changes what is inside of them.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import shutil
import time
import zipfile
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
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
from data_prep.counts import Counts
from data_prep.sources.archives import extract
from data_prep.sources.deb import read_deb
from data_prep.support.errors import DataPrepError
from data_prep.text.cleaning import clean_line, strip_line
from data_prep.text.sentences import split_sentences
from recipes.comparison.contenders import Contender, contender, read_preset
from recipes.support.errors import RecipeError
from recipes.training.training_log import column, parse_log
from tests.support.texts import HELP, ar, help_page, tar

_LANGUAGES = ("de", "en")


@dataclass(frozen=True)
class Reader:
    """A reader of foreign bytes.

    :param promise: reads an input, in an empty directory; raises if the promise is broken.
    :param seeds: valid inputs.
    """

    promise: Callable[[bytes, Path], None]
    seeds: Callable[[], list[bytes]]


class BrokenPromise(AssertionError):
    """A reader did what it should not."""


def _expect(kept: bool, what: str) -> None:
    if not kept:
        raise BrokenPromise(what)


def _is_for_the_user(error: Exception, named: Collection[str]) -> None:
    """It is one or two short lines and names what is wrong."""
    text = str(error)
    _expect(text.count("\n") <= 1, f"an error of many lines: {text!r}")
    _expect(not named or any(name in text for name in named), f"an error of what? {text!r}")


def _only(directory: Path, allowed: Collection[str]) -> None:
    """Nothing else is in the directory, and nothing but files and folders."""
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*")}
    _expect(found.keys() <= set(allowed), f"written: {sorted(found.keys() - set(allowed))}")
    for name, path in found.items():
        _expect(not path.is_symlink() and (path.is_file() or path.is_dir()), f"{name}: what is it?")


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


def _choice(content: bytes, choices: int) -> tuple[int, bytes]:
    return (content[0] % choices if content else 0), content[1:]


def _seeds(*contents: bytes, choices: int) -> list[bytes]:
    return [bytes([choice]) + content for content in contents for choice in range(choices)]


def _package(content: bytes) -> bytes:
    choice, payload = _choice(content, _UNPACKED + 1)
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
            _expect(name.startswith("usr/") and isinstance(text, bytes), f"{name!r} was yielded")
    except DataPrepError as error:
        _is_for_the_user(error, [str(package)])
    _only(scratch, {"a.deb"})


def _package_seeds() -> list[bytes]:
    plain = tar({"usr/a.html": b"<p>1</p>", "usr/b": b"x" * 600, "etc/c": b"no"})
    packages = [ar({"data.tar": plain}), ar({"data.tar.xz": lzma.compress(plain)})]
    packages.append(ar({"data.tar.zst": zstandard.ZstdCompressor().compress(plain)}))
    return _seeds(plain, choices=_UNPACKED) + [bytes([_UNPACKED]) + each for each in packages]


def archive(content: bytes, scratch: Path) -> None:
    """`extract`: the wanted files, whole, in the directory; nothing anywhere else, no links."""
    choice, payload = _choice(content, _UNPACKED + 2)
    path = scratch / ("a.de.gz" if choice == _UNPACKED + 1 else "archive")
    if choice < _UNPACKED:
        payload = _COMPRESSIONS[choice][1](_with_checksums(payload))
    path.write_bytes(payload)
    out = scratch / "out"
    out.mkdir()
    wanted = ("a.de", "b.en")
    try:
        extract(path, wanted, out, inner="x.tgz")
        _expect({each.name for each in out.iterdir()} == set(wanted), "files are missing")
    except DataPrepError as error:
        _is_for_the_user(error, [str(path)])
    _only(scratch, {path.name, "out", "out/a.de", "out/b.en", "out/x.tgz", "out/.x.tgz"})


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
        *_seeds(plain, nested, choices=_UNPACKED),
        *(bytes([_UNPACKED]) + each for each in others),
        bytes([_UNPACKED + 1]) + gzip.compress(b"a\n" * 300),
    ]


def _two_files(content: bytes, scratch: Path, name: str) -> tuple[Path, Path]:
    """Of an input with a zero byte in it the first part and the rest."""
    parts = content.split(b"\0", 1) if b"\0" in content else [content, content]
    paths = (scratch / f"{name}.de", scratch / f"{name}.en")
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    return paths


def segments(content: bytes, scratch: Path) -> None:
    """`segment_pairs`, `set_pairs` and `tagged_pairs`: XML and SGM of the campaigns, in pairs."""
    choice, payload = _choice(content, 3)
    paths = _two_files(payload, scratch, "set")
    try:
        for pair in (segment_pairs, set_pairs, tagged_pairs)[choice](*paths):
            source, target = pair
            _expect("\n" not in source + target, f"{pair!r} is of several lines")
            _expect(choice == 2 or all(side == side.strip() for side in pair), f"{pair!r}: space")
    except DataPrepError as error:
        _is_for_the_user(error, list(map(str, paths)))


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
    return [*_seeds(b"\x00".join(sets), choices=2), bytes([2]) + talk + b"\x00" + talk]


def help_pages(content: bytes, scratch: Path) -> None:
    """`read_page` and `HelpCorpus`: paragraphs by their ids, paired sentences of one line each."""
    pages = content.split(b"\0", 1) if b"\0" in content else [content, content]
    for page in pages:
        paragraphs = read_page(page)
        keys = [paragraph.key for paragraph in paragraphs]
        _expect(len(keys) == len(set(keys)), "two paragraphs with one id")
        _expect(all(each.text == " ".join(each.text.split()) for each in paragraphs), "odd spaces")
        _expect(all(each.text for each in paragraphs), "an empty paragraph")
    package = scratch / "help.deb"
    names = [f"{HELP}/{lang}/text/a.html" for lang in ("de", "en-US")]
    package.write_bytes(ar({"data.tar": tar(dict(zip(names, pages, strict=True)))}))
    for example in HelpCorpus("de", (package,)).read(Counts()):
        _expect(example.split in ("train", "valid", "test"), f"{example.split}: what split?")
        for text in (example.source, example.target):
            _expect(len(text.splitlines()) == 1, f"{text!r} is not one line")


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
    choice, payload = _choice(content, 8)
    paths = _two_files(payload, scratch, "train")
    if choice == 0:
        _prepare(paths, scratch)
        return
    corpus = FilesCorpus(*_LANGUAGES, {"train": str(scratch / "train")})
    try:
        for example in corpus.read(Counts()):
            for line, lang in ((example.source, "de"), (example.target, "en")):
                _expect("\n" not in line, f"{line!r} is of several lines")
                clean = clean_line(line, {})
                _expect(clean_line(clean, {}) == clean, f"{line!r}: not clean when cleaned")
                _expect(len(clean.splitlines()) <= 1, f"{clean!r} is of several lines")
                _expect("\n" not in strip_line(line, {}), f"{line!r} is of several lines")
                sentences = split_sentences(clean, lang)
                joined = "".join("".join(sentences).split())
                _expect(joined == "".join(clean.split()), f"{clean!r}: sentences lose something")
    except DataPrepError as error:
        _is_for_the_user(error, list(map(str, paths)))


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
            _expect(counts == [report["raw"]["kept"]["train"]] * 2, f"{stage}: {counts} lines")
    else:
        message = said.getvalue().split("data_prep: error: ", 1)
        _expect(status == 1 and len(message) == 2, f"status {status}: {said.getvalue()!r}")
        _is_for_the_user(DataPrepError(message[1].removesuffix("\n")), [])


def _text_seeds() -> list[bytes]:
    german = "Das ist ein Haus.\nDer Hund (z. B.) schläft\u00a0– „gut“.\r\n\u200bEi\u0301n Satz\n"
    english = "This is a house.\nThe dog's asleep; it isn't, Mr. X.\nA sentence\u2028more\n"
    both = german.encode() + b"\0" + english.encode()
    return [bytes([choice]) + both for choice in (0, 1)]


def options(content: bytes, scratch: Path) -> None:
    """The options of data_prep, of methods to compare, in presets, and of our criterions."""
    choice, payload = _choice(content, 4)
    words = payload.decode("utf-8", "surrogateescape").split("\n")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            if choice == 0:
                args = command_line._parser().parse_args(words)
                _expect(callable(args.run), "nothing to run")
            elif choice == 1:
                found = contender(words[0])
                _expect(isinstance(found, Contender) and "/" not in found.name, "a path")
            elif choice == 2:
                (scratch / "preset.txt").write_bytes(payload)
                _expect(all(isinstance(w, str) for w in read_preset(scratch / "preset.txt")), "?")
            else:
                _criterion_options(words)
    except (DataPrepError, RecipeError) as error:
        _is_for_the_user(error, [str(scratch / "preset.txt")] if choice == 2 else [])
    except SystemExit as ended:
        _expect(ended.code in (0, 2), f"exit status {ended.code}")
        _expect(bool(said.getvalue()), "it ended without a word")


def _criterion_options(words: Sequence[str]) -> None:
    """An option by its number, and a value: fairseq evaluates the values of some of its own."""
    from fairseq import options as of_fairseq

    name, known = _criterions()
    given = []
    for word in words:
        if word:
            criterion = name[ord(word[0]) % len(name)]
            option = known[criterion][ord(word[0]) % len(known[criterion])]
            given.append(f"{option}={word[1:]}" if word[1:] else option)
    fixed = ["nowhere", "--task", "adversarial_translation", "--arch", "transformer"]
    chosen = criterion if given else name[0]
    parsed = of_fairseq.parse_args_and_arch(
        of_fairseq.get_training_parser(), [*fixed, "--criterion", chosen, *given]
    )
    _expect(isinstance(parsed, Namespace) and parsed.criterion == chosen, "another criterion")


@cache
def _criterions() -> tuple[list[str], dict[str, list[str]]]:
    from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
    from fairseq.dataclass.utils import gen_parser_from_dataclass

    import fairseq_adv.tasks  # noqa: F401  (registers them)

    known = {}
    for name, settings in CRITERION_DATACLASS_REGISTRY.items():
        if settings.__module__.startswith("fairseq_adv."):
            from argparse import ArgumentParser

            parser = ArgumentParser(add_help=False)
            gen_parser_from_dataclass(parser, settings())
            known[name] = sorted(parser._option_string_actions)
    return sorted(known), known


def _option_seeds() -> list[bytes]:
    files = "files\n--source-lang=de\n--target-lang\nen\n--train=a\n--hold-out\n10\n--out=b"
    release = "iwslt14-de-en\n--archive\na\nb\n--max-words=3\n--subword\nsentencepiece"
    preset = b"--criterion salt  # the method\n--adv-weight 0.5 --norm 'l2'\n"
    return [
        *(b"\0" + text.encode() for text in (files, release, "bidirectional\ndata\n--workers=1")),
        b"\x01salt,--dropout-masks=shared,--ascent-step-size=1",
        b"\x02" + preset,
        *(b"\x03" + bytes([start]) + b"0.5\n" + bytes([start + 1]) for start in range(65, 90, 3)),
    ]


def training_log(content: bytes, scratch: Path) -> None:
    """`parse_log`: records in the order of their updates, finite numbers."""
    try:
        log = parse_log(content, "some.log")
    except RecipeError as error:
        _is_for_the_user(error, ["some.log"])
        return
    for records in (log.train, log.valid):
        updates = [record.update for record in records]
        _expect(updates == sorted(set(updates)), f"updates {updates}")
        names = {name for record in records for name in record.values}
        for name in names:
            at, values = column(records, name)
            _expect(len(at) == len(values), f"{name}: {len(at)} updates, {len(values)} values")
            _expect(all(abs(value) < float("inf") for value in values), f"{name}: {values}")


def _log_seeds() -> list[bytes]:
    stamp = "2026-11-22 10:23:40 | INFO | {} | "
    train = {"epoch": 1, "update": 0.1, "loss": "13.06", "adv_gain": None, "num_updates": "10"}
    valid = {"epoch": 1, "valid_loss": "11.3", "valid_bleu": "0.01", "valid_num_updates": "20"}
    lines = [
        stamp.format("train_inner") + json.dumps({**train, "num_updates": n}) for n in (10, 20)
    ]
    lines.append(stamp.format("valid") + json.dumps(valid))
    return [
        "\n".join(lines).encode(),
        json.dumps(train).encode() + b"\n" + json.dumps(valid).encode(),
    ]


READERS = {
    "deb": Reader(debian_package, _package_seeds),
    "archive": Reader(archive, _archive_seeds),
    "segments": Reader(segments, _segment_seeds),
    "help": Reader(help_pages, _help_seeds),
    "text": Reader(text_files, _text_seeds),
    "options": Reader(options, _option_seeds),
    "log": Reader(training_log, _log_seeds),
}


@contextlib.contextmanager
def within_seconds(allowed: float) -> Iterator[None]:
    """Of this process's own time: other work on the machine is no fault of a reader."""
    began = time.process_time()
    yield
    spent = time.process_time() - began
    assert spent < allowed, f"took {spent:.1f} s"


def try_input(reader: str, content: bytes, scratch: Path) -> None:
    """Ask for the reader's promise in ``scratch``, which is emptied before."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    READERS[reader].promise(content, scratch)
