"""A WordNet of a few synsets, vectors for its words, and a tagger that knows some."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep.substitutions.tagging import ARCHIVE
from data_prep.substitutions.wordnet import FILES, PARTS
from tests.support.texts import deb

LICENCE = "  1 This software and database is being provided to you, the LICENSEE\n"
_TYPES = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}

Synset = tuple[str, Sequence[str], Sequence[tuple[str, str, int, int]]]
"""Offset, words, pointers: symbol, offset, numbers of the words at its ends or 0."""

SYNSETS: Mapping[str, Sequence[Synset]] = {
    "noun": [
        ("00000010", ["film", "movie", "moving_picture"], []),
        ("00000020", ["film", "plastic_film", "foil"], []),
        ("00000030", ["Monday", "Mon"], []),
        ("00000040", ["child", "kid"], [("!", "00000050", 1, 1)]),
        ("00000050", ["parent"], [("!", "00000040", 1, 1)]),
    ],
    "verb": [
        ("00000060", ["climb", "rise"], [("!", "00000070", 2, 1), ("@", "00000060", 0, 0)]),
        ("00000070", ["fall"], [("!", "00000060", 1, 2)]),
    ],
    "adj": [
        ("00000080", ["good"], [("!", "00000090", 1, 1), ("&", "00000100", 0, 0)]),
        ("00000090", ["bad"], [("!", "00000080", 1, 1)]),
        ("00000100", ["fine(a)"], [("&", "00000080", 0, 0)]),
    ],
    "adv": [("00000110", ["fast", "quickly"], [])],
}
EXCEPTIONS = {
    "noun": "children child\n",
    "verb": "rose rise\nrisen rise\nfell fall\nfallen fall\n",
    "adj": "better good\nbest good\nworse bad\nworst bad\n",
    "adv": "",
}


def files() -> dict[str, bytes]:
    """The files of a release."""
    found: dict[str, str] = {}
    for part in PARTS:
        data, senses = [LICENCE], dict[str, list[str]]()
        for offset, words, pointers in SYNSETS[part]:
            line = [offset, "00", _TYPES[part], f"{len(words):02x}"]
            for word in words:
                line += [word, "0"]
                senses.setdefault(word.split("(")[0].lower(), []).append(offset)
            line.append(f"{len(pointers):03d}")
            for symbol, target, one, other in pointers:
                line += [symbol, target, _TYPES[part], f"{one:02x}{other:02x}"]
            data.append(" ".join(line) + ' | what it means; "so to say"  \n')
        found[f"data.{part}"] = "".join(data)
        found[f"index.{part}"] = LICENCE + "".join(
            f"{word} {_TYPES[part]} {len(of)} 1 @ {len(of)} 0 {' '.join(of)}  \n"
            for word, of in sorted(senses.items())
        )
        found[f"{part}.exc"] = EXCEPTIONS[part]
    assert found.keys() == set(FILES)
    return {name: text.encode() for name, text in found.items()}


def wordnet_deb(path: Path, content: Mapping[str, bytes] | None = None) -> Path:
    """Write a Debian package of them."""
    inside = {f"usr/share/wordnet/{n}": c for n, c in (content or files()).items()}
    path.write_bytes(deb(inside))
    return path


NEAR = (
    ("film", "movie", "foil"),
    ("films", "movies", "foils"),
    ("child", "kid", "parent"),
    ("children", "kids", "parents"),
    ("rise", "climb", "fall"),
    ("rises", "climbs", "falls"),
    ("rose", "climbed", "fell"),
    ("risen", "fallen"),
    ("good", "fine", "bad"),
    ("better", "finer", "worse"),
    ("fast", "quickly"),
    ("monday", "tuesday"),
)
"""Words with vectors that are near each other."""


def vectors() -> dict[str, np.ndarray]:
    """Words of a line of `NEAR` have nearly the same vector."""
    generator = np.random.default_rng(1)
    found = {}
    for words in NEAR:
        centre = generator.normal(size=24)
        for word in words:
            found[word] = (centre + 0.1 * generator.normal(size=24)).astype(np.float32)
    return found


def vector_file(path: Path) -> Path:
    lines = (f"{w} {' '.join(f'{x:.6f}' for x in vector)}\n" for w, vector in vectors().items())
    path.write_text("".join(lines), "utf-8")
    return path


TAGGER = {
    "weights": {
        "w run": {"VERB|Fin": 1.0, "NOUN|-": 0.9},
        "w-1 the": {"NOUN|-": 0.5},
        "suf2 ly": {"ADV|-": 2.0},
        "t-1 PRON|-": {"VERB|Fin": 0.3},
        "shape X": {"PROPN|-": 0.8},
        "w+1 fast": {"VERB|Fin": 0.1},
        "t-2 DET|-": {"ADV|-": 0.4},
    },
    "tagdict": {"the": "DET|-", "they": "PRON|-"},
    "classes": ["ADV|-", "DET|-", "NOUN|-", "PRON|-", "PROPN|-", "VERB|Fin"],
    "vocabulary": ["run", "the"],
}


def tagger_file(path: Path) -> Path:
    path.write_bytes(gzip.compress(json.dumps(TAGGER).encode()))
    return path


def wheel(folder: Path) -> Path:
    """Write a package of it under the name of the real one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("denckring_en_pos/__init__.py", "raise SystemExit('nobody runs this')")
        content = gzip.compress(json.dumps(TAGGER).encode())
        archive.writestr("denckring_en_pos/data/tagger.json.gz", content)
    path = folder / ARCHIVE.name
    path.write_bytes(stream.getvalue())
    return path
