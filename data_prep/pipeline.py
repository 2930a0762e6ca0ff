"""From a corpus to fairseq's binary data: raw, tok, bpe, bin, and a report."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from data_prep.binarize import LOG, binarize
from data_prep.corpora.corpus import Corpus, Encoded
from data_prep.corpora.files import line_pairs
from data_prep.preparation import Preparation
from data_prep.selection.counts import OVERLONG, SPLITS, Subwords
from data_prep.selection.raw import Selection, write_raw
from data_prep.stages import Stage, run_stage_of, say, sha256_of, write_report
from data_prep.support.lines import open_for_writing, read_lines
from data_prep.support.parallel import LineFunction, LineMapper
from data_prep.support.progress import progress
from data_prep.support.versions import installed
from data_prep.text.bpe import (
    count_codes,
    count_tokens,
    count_words,
    learn_codes,
    segmenter,
    write_vocabulary,
)
from data_prep.text.languages import follows_moses, has_spaces, is_written_as
from data_prep.text.pieces import learn_pieces, piece_encoder
from data_prep.text.tokenization import lower, tokenizer

T = TypeVar("T")

STAGES = ("raw", "tok", "bpe", "bin", "bidirectional")  # the last on demand: bidirectional.py

# They shape the data.
_TOOLS = ("sacremoses", "regex", "subword-nmt", "sentencepiece", "fairseq", "ve-fairseq")

# Raise it whenever the code of a stage changes what that stage writes.
_FORMAT = 5


_LOOKED_AT = 1000  # lines, to see in which letters a language is written

# Of a preparation, what the text does not depend on.
_LATER = ("subword", "bpe_merges", "dictionary_size", "joined_dictionary")


@dataclass(frozen=True)
class Pipeline:
    """The stages of one corpus in one output directory."""

    name: str
    corpus: Corpus
    preparation: Preparation  # the corpus' own, or with changes of the user's
    selection: Selection
    out: Path
    workers: int
    bleu_tokenizer: str | None = None  # sacreBLEU's; None: as the target language has it

    def run(self) -> dict[str, Any]:
        """Make what is missing or out of date; return the report, which is in report.json too."""
        inputs = {name: sha256_of(path) for name, path in self.corpus.inputs().items()}
        selection = {
            **asdict(self.selection),
            **{f"hold_out_{split}": size for split, size in self.corpus.held_out().items()},
        }
        preparation = asdict(self.preparation)
        text = {name: value for name, value in preparation.items() if name not in _LATER}
        raw = self._stage(
            "raw",
            {
                "corpus": self.name,
                "inputs": inputs,
                "selection": selection,
                "preparation": {**text, "drops_blank": self.preparation.drops_blank},
            },
            lambda directory: write_raw(
                self.corpus, self.preparation, self.selection, directory, self.workers
            ),
            origin=self._origin,
        )
        for lang in self._languages:
            lines = read_lines(raw.path / f"train.{lang}")
            if not is_written_as(lang, islice(lines, _LOOKED_AT)):
                say(
                    f"{lang}: no language known by this code is written in these letters, so that"
                    " tokens and BLEU are as for European text;\n"
                    "call it by its own code (zh, ja, ko, ...), or add the script: jp_Jpan"
                )
        pairs: dict[str, int] = raw.facts["kept"]
        stages = [raw]
        if self.preparation.subword == "bpe":
            tok = self._stage(
                "tok",
                {"inputs": raw.files, "preparation": text},
                lambda directory: self._tokenize(raw.path, pairs, directory),
            )
            stages.append(tok)
            encode = partial(self._encode, tok.path, pairs)
        else:
            encode = partial(self._cut, raw.path, pairs)
        bpe = self._stage(
            "bpe",
            {
                "inputs": stages[-1].files,
                "subword": self.preparation.subword,
                "merges": self.preparation.bpe_merges,
            },
            encode,
        )
        binary = self._stage(
            "bin",
            {
                "inputs": bpe.files,
                "size": self.preparation.dictionary_size,
                "joined": self.preparation.joined_dictionary,
            },
            lambda directory: self._binarize(bpe, pairs, directory),
        )
        report = {
            "corpus": self.name,
            "languages": self._languages,
            "selection": selection,
            "preparation": preparation,
            # For those who score translations; recipes/training/job.sh looks for the first two.
            "target_tokens": "moses" if follows_moses(self.corpus.target_lang) else "joinable",
            "target_has_spaces": has_spaces(self.corpus.target_lang),
            "bleu_tokenizer": self.bleu_tokenizer,
            "inputs": {
                name: {"file": path.name, "sha256": inputs[name]}
                for name, path in self.corpus.inputs().items()
            },
            "versions": installed(_TOOLS),
            **{stage.path.name: stage.facts for stage in (*stages, bpe, binary)},
        }
        write_report(self.out, report)
        return report

    @property
    def _languages(self) -> tuple[str, str]:
        return (self.corpus.source_lang, self.corpus.target_lang)

    @property
    def _origin(self) -> str:
        """The corpus; and the user's files, if it is made of such, but for those of valid and test.

        Other sets for a text to be judged by do not make another text of it.
        """
        own = [
            os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")
            for name, path in self.corpus.inputs().items()
            if not name.startswith(("valid ", "test "))
            and not path.resolve().is_relative_to(self.out.resolve())
        ]
        return " ".join([self.name, *own])

    def _stage(
        self,
        name: str,
        key: dict[str, Any],
        build: Callable[[Path], dict[str, Any]],
        origin: str | None = None,
    ) -> Stage:
        key = {
            **key,
            "format": _FORMAT,
            "languages": self._languages,
            "versions": installed(_TOOLS),
        }
        return run_stage_of(self.out, STAGES, name, key, build, origin)

    def _tokenize(self, raw: Path, pairs: Mapping[str, int], directory: Path) -> dict[str, Any]:
        encoded = self.corpus.encoded()

        def function(lang: str) -> LineFunction:
            if encoded is None:
                return tokenizer(lang, self.preparation)
            return partial(_look_up, tokens=_tokens(encoded.tokens[lang]))

        return {
            "tokens": self._map_files(
                "tok", raw, pairs, directory, function, lambda lines: sum(map(count_tokens, lines))
            )
        }

    def _encode(self, tok: Path, pairs: Mapping[str, int], directory: Path) -> dict[str, Any]:
        codes = directory / "codes"
        encoded = self.corpus.encoded()
        if encoded is None:
            words = count_words(self._train("bpe: count words", tok, pairs))
            merges = learn_codes(words, self.preparation.bpe_merges, codes)
        else:
            shutil.copyfile(encoded.codes, codes)
            merges = count_codes(codes)
        counts = self._map_files(
            "bpe", tok, pairs, directory, lambda lang: segmenter(codes), Subwords.of
        )
        for lang, subwords in counts["train"].items():
            write_vocabulary(subwords.words, directory / f"vocab.{lang}")
        facts = {"merges": merges, **_facts(counts)}
        if encoded is not None:
            facts["as released"] = self._is_as_released(encoded, directory)
        return facts

    def _cut(self, raw: Path, pairs: Mapping[str, int], directory: Path) -> dict[str, Any]:
        model = directory / "sentencepiece.model"
        train = self._train("bpe: read train", raw, pairs)
        lower_cases = self.preparation.lower_cases
        pieces = learn_pieces(
            map(lower, train) if lower_cases else train, self.preparation.bpe_merges, model
        )
        counts = self._map_files(
            "bpe", raw, pairs, directory, lambda _: piece_encoder(model, lower_cases), Subwords.of
        )
        return {"merges": pieces, **_facts(counts)}

    def _train(self, what: str, directory: Path, pairs: Mapping[str, int]) -> Iterator[str]:
        """Yield the lines of train, of both languages, behind a progress bar."""
        files = [directory / f"train.{lang}" for lang in self._languages]
        lines = chain.from_iterable(map(read_lines, files))
        yield from progress(lines, what, "line", len(files) * pairs["train"])

    def _is_as_released(self, encoded: Encoded, bpe: Path) -> dict[str, bool]:
        """Say of each split whether it is the release's own, as it should be if it is whole."""
        return {
            split: all(
                sha256_of(bpe / f"{split}.{lang}")
                == sha256_of(path.with_name(f"{path.name}.{lang}"))
                for lang in self._languages
            )
            for split, path in encoded.subwords.items()
        }

    def _binarize(self, bpe: Stage, pairs: Mapping[str, int], directory: Path) -> dict[str, Any]:
        ends = len(self._languages) * sum(pairs.values())
        return binarize(
            bpe.path,
            self._languages,
            directory,
            self.out / LOG,
            self.workers,
            tokens=ends + sum(sum(by_lang.values()) for by_lang in bpe.facts["tokens"].values()),
            joined=self.preparation.joined_dictionary,
            size=self.preparation.dictionary_size,
        )

    def _map_files(
        self,
        stage: str,
        source: Path,
        pairs: Mapping[str, int],
        target: Path,
        function: Callable[[str], LineFunction],
        count: Callable[[Iterable[str]], T],
    ) -> dict[str, dict[str, T]]:
        """Write each file of ``source`` to ``target``, through the function of its language.

        Returns what ``count`` makes of the lines written, by split and language.
        """
        counts: dict[str, dict[str, T]] = {split: {} for split in SPLITS}
        with LineMapper(self.workers) as mapper:
            for split in SPLITS:
                for lang in self._languages:
                    file = f"{split}.{lang}"
                    lines = mapper.map(function(lang), read_lines(source / file))
                    with open_for_writing(target / file) as stream:
                        bar = progress(lines, f"{stage}: {file}", "line", pairs[split])
                        counts[split][lang] = count(_tee(bar, stream.write))
        return counts


def _tee(lines: Iterable[str], write: Callable[[str], object]) -> Iterator[str]:
    for line in lines:
        write(line + "\n")
        yield line


def _tokens(files: Iterable[tuple[Path, Path]]) -> dict[str, str]:
    return dict(pair for sentences, tokens in files for pair in line_pairs(sentences, tokens))


def _look_up(lines: list[str], tokens: dict[str, str]) -> list[str]:
    return [tokens.get(line, line) for line in lines]


def _facts(counts: dict[str, dict[str, Subwords]]) -> dict[str, Any]:
    """What is counted of subwords, by split and language."""
    return {
        "tokens": {
            split: {lang: subwords.words.total() for lang, subwords in by_lang.items()}
            for split, by_lang in counts.items()
        },
        OVERLONG: {
            split: {lang: subwords.overlong for lang, subwords in by_lang.items()}
            for split, by_lang in counts.items()
        },
    }
