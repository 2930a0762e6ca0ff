"""From a corpus of sentences and an encoder to fairseq's binary data: raw, bin, and a report.

Between them, if words are the pieces, a stage that makes the encoder from the raw texts.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.encoders.prepared import PreparedEncoder
from data_prep.encoders.words import OWN_WORDS, TOOLS, WordSettings, make_words
from data_prep.sentences.binary import write_binary
from data_prep.sentences.corpus import SentenceCorpus
from data_prep.sentences.raw import raw_rows, write_raw
from data_prep.stages import Stage, run_stage_of, sha256_of, write_report
from data_prep.support.progress import progress
from data_prep.support.versions import installed

_TOOLS = ("tokenizers", "fairseq", "ve-fairseq")

# Raise it whenever what a stage writes changes.
_FORMAT = 1


@dataclass(frozen=True)
class SentencePipeline:
    """The stages of one corpus in one output directory.

    :param encoder: what texts are cut for, or how the corpus' own words are made one.
    """

    name: str
    corpus: SentenceCorpus
    encoder: PreparedEncoder | WordSettings
    max_pieces: int
    train_examples: int | None
    out: Path

    def run(self) -> dict[str, Any]:
        """Make what is missing or out of date; return the report, which is in report.json too."""
        corpus, task = self.corpus, self.corpus.task
        inputs = {name: sha256_of(path) for name, path in corpus.inputs().items()}
        selection = {
            "train_examples": self.train_examples,
            **{f"hold_out_{split}": size for split, size in corpus.held_out().items()},
        }
        raw = self._stage(
            "raw",
            {"inputs": inputs, "selection": selection, "splits": dict(corpus.splits)},
            lambda directory: write_raw(corpus, self.train_examples, directory),
            self._origin,
        )
        encoder = self._words(raw) if isinstance(self.encoder, WordSettings) else self.encoder
        binary = self._stage(
            "bin",
            {
                "inputs": raw.files,
                "encoder": {name: encoder.digests[name] for name in ("dict.txt", "tokenizer.json")},
                "separator": encoder.facts["separator"],
                "max_pieces": self.max_pieces,
            },
            lambda directory: write_binary(
                raw.path, raw.facts, task, encoder, self.max_pieces, directory
            ),
        )
        report = self._report(raw, encoder, binary, inputs, selection)
        write_report(self.out, report)
        return report

    def _words(self, raw: Stage) -> PreparedEncoder:
        """Make the encoder of words."""
        assert isinstance(self.encoder, WordSettings)
        settings, pairs = self.encoder, self.corpus.task.pairs

        def build(directory: Path) -> dict[str, Any]:
            rows = raw_rows(raw.path / "train.tsv")
            texts = (text for _, both in progress(rows, OWN_WORDS, "example") for text in both)
            return make_words(self.name, texts, pairs, settings, directory)

        key = {"train": raw.files["train.tsv"], **settings.key(), "tools": installed(TOOLS)}
        return PreparedEncoder.read(self._stage(OWN_WORDS, key, build).path)

    def _report(
        self,
        raw: Stage,
        encoder: PreparedEncoder,
        binary: Stage,
        inputs: dict[str, str],
        selection: dict[str, Any],
    ) -> dict[str, Any]:
        task, classes = self.corpus.task, raw.facts["classes"]
        return {
            "corpus": self.name,
            "languages": ["en"],
            "task": task.kind,
            "texts": "pairs" if task.pairs else "single",
            "num_classes": len(classes) if classes else 1,
            "classes": classes,
            "source_labels": dict(task.source_labels),
            "scores_divided_by": task.divisor if task.is_regression else None,
            "majority_share": _majority(raw.facts),
            "metrics": list(task.metrics),
            "splits": dict(self.corpus.splits),
            "labelled": raw.facts["labelled"],
            "selection": selection,
            "encoder": {
                "name": encoder.name,
                "of": encoder.facts["name"],
                "files": encoder.digests,
                "vocabulary": encoder.facts.get("vocabulary"),
            },
            "inputs": {
                name: {"file": path.name, "sha256": inputs[name]}
                for name, path in self.corpus.inputs().items()
            },
            "versions": installed(_TOOLS),
            "raw": raw.facts,
            "bin": binary.facts,
        }

    @property
    def _origin(self) -> str:
        """The corpus, whether as scores, and the user's file to train on, if it is made of such."""
        name = f"{self.name} as scores" if self.corpus.task.is_regression else self.name
        train = self.corpus.inputs().get("train")
        if train is None or train.resolve().is_relative_to(self.out.resolve()):
            return name
        return f"{name} {os.fsencode(train.resolve()).decode('utf-8', 'backslashreplace')}"

    def _stage(
        self,
        name: str,
        key: dict[str, Any],
        build: Callable[[Path], dict[str, Any]],
        origin: str | None = None,
    ) -> Stage:
        task = asdict(self.corpus.task)
        key = {"corpus": self.name, "task": task, **key}
        key |= {"format": _FORMAT, "versions": installed(_TOOLS)}
        return run_stage_of(self.out, ("raw", OWN_WORDS, "bin"), name, key, build, origin)


def _majority(facts: dict[str, Any]) -> dict[str, float] | None:
    """Return how often one would be right, by split, who always gives the most frequent class."""
    if "labels" not in facts:
        return None
    return {
        split: round(max(labels.values()) / sum(labels.values()), 6)
        for split, labels in facts["labels"].items()
    }
