"""WMT'16 English to German as Ott et al. (2018) use it: newstest2013 to validate, 2014 to test.

Two ways lead to it. Google's archive is tokenised and BPE-encoded already. Its home is gone, but
there are copies; without one, ``--from-raw`` follows the script that made it, wmt16_en_de.sh of
tensorflow/nmt, from WMT's own archives.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.corpora.corpus import Corpus, CorpusEntry, Encoded, Example
from data_prep.corpora.files import line_pairs
from data_prep.corpora.segments import segment_pairs
from data_prep.preparation import Limits, Preparation
from data_prep.selection.counts import SPLITS, Counts
from data_prep.sources.download import Archive
from data_prep.sources.release import add_archive_option, google_drive, unpacked

_LANGUAGES = ("en", "de")
_SETS = {"valid": "newstest2013", "test": "newstest2014"}

_PREPARATION = Preparation(
    repairs=False,
    escapes=True,
    limits=Limits(max_tokens=80, max_ratio=9),
    bpe_merges=32_000,
    dictionary_size=32_768,
)

_GOOGLES = Archive(
    "wmt16_en_de.tar.gz",
    (google_drive("0B_bZck-ksdkpM25jRUN2X2UxMm8"),),
    checksum="sha256:86f7f6e0bab3259a34712b4c034dc933f406d6735ce03fd6de6b9ccb5191ce2e",
)
_CODES = "bpe.32000"
_ENCODED = {
    "train": "train.tok.clean.bpe.32000",
    **{split: f"{name}.tok.bpe.32000" for split, name in _SETS.items()},
}

_RAW = {
    Archive(
        "training-parallel-europarl-v7.tgz",
        ("https://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz",),
        657_632_379,
        "sha256:0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7",
    ): "europarl-v7.de-en",
    Archive(
        "training-parallel-commoncrawl.tgz",
        ("https://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz",),
        918_311_367,
        "sha256:c7a74e2ea01ac6c920123108627e35278d4ccb5701e15428ffa34de86fa3a9e5",
    ): "commoncrawl.de-en",
    Archive(
        "training-parallel-nc-v11.tgz",
        ("https://data.statmt.org/wmt16/translation-task/training-parallel-nc-v11.tgz",),
        75_178_032,
        "sha256:cfe8ab047e05043476e498ee765c98e939c7b7d6d294e856344c84476b619d6a",
    ): "news-commentary-v11.de-en",
}
_DEV = Archive(
    "dev.tgz",
    ("https://data.statmt.org/wmt16/translation-task/dev.tgz",),
    checksum="md5:4a3dc2760bb077f4308cce96b06e6af6",  # nobody has published a better one
)
_TEST = {"de": "newstest2014-deen-src.de.sgm", "en": "newstest2014-deen-ref.en.sgm"}


@dataclass(frozen=True)
class GooglesCorpus:
    """Google's archive, unpacked in ``directory``.

    Sentences of train are there as tokens only: they are tokens in ``raw`` too.
    """

    directory: Path
    source_lang: str = _LANGUAGES[0]
    target_lang: str = _LANGUAGES[1]
    preparation: Preparation = _PREPARATION

    def inputs(self) -> Mapping[str, Path]:
        """See `Corpus.inputs`."""
        return {name: self.directory / name for name in _googles_files()}

    def held_out(self) -> Mapping[str, int | None]:
        """See `Corpus.held_out`."""
        return {}

    def encoded(self) -> Encoded:
        """See `Corpus.encoded`."""
        return Encoded(
            codes=self.directory / _CODES,
            tokens={
                lang: [
                    (self.directory / f"{name}.{lang}", self.directory / f"{name}.tok.{lang}")
                    for name in _SETS.values()
                ]
                for lang in _LANGUAGES
            },
            subwords={split: self.directory / name for split, name in _ENCODED.items()},
        )

    def read(self, counts: Counts) -> Iterator[Example]:
        """See `Corpus.read`."""
        for split in SPLITS:
            name = _SETS.get(split, _ENCODED["train"])
            for pair in line_pairs(*(self.directory / f"{name}.{lang}" for lang in _LANGUAGES)):
                counts.found[split] += 1
                if split == "train":
                    pair = (pair[0].replace("@@ ", ""), pair[1].replace("@@ ", ""))
                yield Example(split, *pair)


@dataclass(frozen=True)
class RawCorpus:
    """WMT's archives, unpacked in ``directory``."""

    directory: Path
    source_lang: str = _LANGUAGES[0]
    target_lang: str = _LANGUAGES[1]
    preparation: Preparation = _PREPARATION

    def inputs(self) -> Mapping[str, Path]:
        """See `Corpus.inputs`."""
        names = [
            *(f"{name}.{lang}" for name in _RAW.values() for lang in _LANGUAGES),
            *_dev_files(),
        ]
        return {name: self.directory / name for name in names}

    def held_out(self) -> Mapping[str, int | None]:
        """See `Corpus.held_out`."""
        return {}

    def encoded(self) -> None:
        """See `Corpus.encoded`."""

    def read(self, counts: Counts) -> Iterator[Example]:
        """See `Corpus.read`."""
        for split, name in [
            *(("train", name) for name in _RAW.values()),
            ("valid", _SETS["valid"]),
        ]:
            for pair in line_pairs(*(self.directory / f"{name}.{lang}" for lang in _LANGUAGES)):
                counts.found[split] += 1
                yield Example(split, *pair)
        for pair in segment_pairs(*(self.directory / _TEST[lang] for lang in _LANGUAGES)):
            counts.found["test"] += 1
            yield Example("test", *pair)


def _googles_files() -> list[str]:
    names = [*_SETS.values(), *(f"{name}.tok" for name in _SETS.values()), *_ENCODED.values()]
    return [_CODES, *(f"{name}.{lang}" for name in names for lang in _LANGUAGES)]


def _dev_files() -> list[str]:
    return [*(f"{_SETS['valid']}.{lang}" for lang in _LANGUAGES), *_TEST.values()]


def _add_options(parser: ArgumentParser) -> None:
    add_archive_option(parser)
    parser.add_argument(
        "--from-raw",
        action="store_true",
        help="make it from WMT's own archives (1.7 GB) instead of reading Google's",
    )


def _load(args: Namespace, out: Path) -> Corpus:
    if not args.from_raw:
        return GooglesCorpus(unpacked({_GOOGLES: _googles_files()}, args.archive, out))
    contents = {
        archive: [f"{name}.{lang}" for lang in _LANGUAGES] for archive, name in _RAW.items()
    }
    return RawCorpus(unpacked({**contents, _DEV: _dev_files()}, args.archive, out))


ENTRIES = [
    CorpusEntry(
        "wmt16-en-de",
        "WMT'16, English to German; valid is newstest2013, test is newstest2014",
        _add_options,
        _load,
    )
]
