"""Make an encoder's directory, whole or not at all."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from data_prep.encoders.homes import HOMES, WEIGHTS, Home
from data_prep.encoders.hugging_face import Config, open_weights, weight_files
from data_prep.encoders.prepared import FACTS, FILES
from data_prep.encoders.vocabulary import read_vocabulary, vocabulary_files
from data_prep.sources.archives import extract
from data_prep.sources.release import at_hand
from data_prep.stages import run_stage, say, sha256_of
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_for_writing
from data_prep.support.printing import printable
from data_prep.support.versions import installed

# Raise it whenever what is written changes.
_FORMAT = 2
_TOOLS = ("tokenizers", "safetensors", "torch")


class Source(Protocol):
    """Where an encoder comes from."""

    name: str
    licence: str
    note: str

    def inputs(self, with_weights: bool) -> Mapping[str, Path]:
        """Return the files that decide the result, by their names; everything is at hand then."""

    def folder(self, directory: Path) -> Any:
        """Return a context in which there is a folder in Hugging Face's layout."""


class Directory:
    """A local directory in Hugging Face's layout."""

    licence = "not known"
    note = "the user's own files"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = f"files {printable(str(path.resolve()))}"

    def inputs(self, with_weights: bool) -> Mapping[str, Path]:
        """See `Source`. Raises DataPrepError if some are missing."""
        config = self._path / "config.json"
        family = Config.read(config).family
        files = [config, *vocabulary_files(self._path, family)]
        if with_weights:
            files += weight_files(self._path)
        return {path.name: path for path in files}

    @contextmanager
    def folder(self, directory: Path) -> Iterator[Path]:
        """See `Source`."""
        yield self._path


class PublicHome:
    """Downloads, or copies of them."""

    def __init__(self, name: str, given: Sequence[Path], downloads: Path) -> None:
        self.name = name
        self._home: Home = HOMES[name]
        self.licence, self.note = self._home.licence, self._home.note
        self._given, self._downloads = given, downloads
        self._found: dict[str, Path] = {}

    def inputs(self, with_weights: bool) -> Mapping[str, Path]:
        """See `Source`. Raises DataPrepError if a download fails."""
        wanted = [a for a in self._home.archives if with_weights or a.name != WEIGHTS]
        given = [path for path in self._given if with_weights or path.name != WEIGHTS]
        found = at_hand(wanted, given, self._downloads)
        self._found = {archive.name: path for archive, path in found.items()}
        return self._found

    @contextmanager
    def folder(self, directory: Path) -> Iterator[Path]:
        """See `Source`: a temporary one, in ``directory``."""
        with tempfile.TemporaryDirectory(dir=directory, prefix=".files-") as name:
            folder = Path(name)
            if members := self._home.members:
                (path,) = self._found.values()
                extract(path, list(members.values()), folder)
                for ours, member in members.items():
                    (folder / member.replace("/", "-")).rename(folder / ours)
            else:
                for ours, path in self._found.items():
                    (folder / ours).symlink_to(path.resolve())
            yield folder


def make_encoder(
    source: Source, out: Path, layers: int | None = None, seed: int | None = None
) -> dict[str, Any]:
    """Return what encoder.json of the encoder at ``out`` says, which is made unless it is there.

    :param layers: so many of the first ones; None for all.
    :param seed: of random weights, in place of its own.
    """
    digests = {
        name: sha256_of(path) for name, path in source.inputs(with_weights=seed is None).items()
    }
    made_of = {"name": source.name, "layers": layers, "random_init": seed, "inputs": digests}
    origin = " ".join(
        [
            f"the encoder {source.name}",
            *([f"of {layers} layers"] if layers else []),
            *([f"with random weights {seed}"] if seed is not None else []),
        ]
    )
    versions = installed(_TOOLS)

    def build(directory: Path) -> dict[str, Any]:
        with source.folder(directory) as folder:
            facts = _build(folder, directory, layers, seed)
        facts = {
            **made_of,
            **facts,
            "licence": source.licence,
            "note": source.note,
            "versions": versions,
            "files": {name: sha256_of(directory / name) for name in FILES},
        }
        with open_for_writing(directory / FACTS) as stream:
            stream.write(printable(json.dumps(facts, indent=2, ensure_ascii=False)) + "\n")
        return facts

    key = {**made_of, "format": _FORMAT, "versions": versions}
    return run_stage(out, key, build, origin, shown=out).facts


def _build(folder: Path, directory: Path, layers: int | None, seed: int | None) -> dict[str, Any]:
    # Late: torch takes seconds to import, and what is there already needs none.
    from data_prep.encoders.checkpoint import architecture, options, save
    from data_prep.encoders.weights import converted, random_weights

    config = Config.read(folder / "config.json")
    if layers is not None:
        if layers > config.layers:
            raise DataPrepError(f"--layers {layers}: the encoder has {config.layers}")
        config = replace(config, layers=layers)
    vocabulary = read_vocabulary(folder, config.family)
    symbols = vocabulary.symbols()
    vocabulary.write(directory)
    lacks: list[str] = []
    if seed is None:
        with open_weights(folder) as weights:
            tensors, lacks = converted(config, weights, vocabulary.order())
        for what in lacks:
            say(f"the encoder's files have no {what}: it begins with random weights")
    else:
        tensors = random_weights(config, len(symbols), seed)
    save(config, tensors, symbols, directory)
    (directory / "options.txt").write_text(options(config) + "\n", encoding="utf-8")
    return {
        "family": config.family,
        "arch": architecture(config)[0],
        "sizes": asdict(config),
        "parameters": sum(
            tensor.numel()
            for name, tensor in tensors.items()
            if name not in ("encoder.lm_head.weight", "encoder.sentence_encoder.version")
        ),
        "symbols": len(symbols),
        "max_positions": config.max_positions,
        "separator": config.family == "roberta",
        "fresh": lacks,
    }
