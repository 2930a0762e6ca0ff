"""TED talks of the IWSLT evaluation campaigns, as WIT3 released them, prepared as fairseq does.

A release has ``train.tags.SL-TL.LANG``, text with a line for each sentence and tags around what is
about a talk, and an XML file for each development and test set. What is kept, and how, follows
fairseq's scripts: prepare-iwslt14.sh, and prepare-iwslt17-multilingual.sh for what the later
releases have and that one has not.
"""

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

from data_prep.corpora.corpus import CorpusEntry, Example
from data_prep.corpora.segments import segment_pairs
from data_prep.preparation import Limits, Preparation
from data_prep.selection.counts import SPLITS, Counts
from data_prep.sources.download import Archive
from data_prep.sources.release import add_archive_option, google_drive, unpacked
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import count_lines, read_lines
from data_prep.support.progress import progress

FAIRSEQ = Preparation(
    repairs=False,
    escapes=True,
    limits=Limits(max_tokens=175, max_ratio=1.5),
    joined_dictionary=False,
)

# Lines about a talk; its title and description are text, without the tags.
_ABOUT = re.compile(r"<url>|<talkid>|<keywords>|<speaker>|<reviewer|<translator|<doc|</doc>")
_TEXT_TAGS = re.compile(r"</?(?:title|description)>")


@dataclass(frozen=True)
class Release:
    """One language pair of one year. Sets are named without languages: ``IWSLT14.TED.dev2010``."""

    name: str
    title: str
    source_lang: str
    target_lang: str
    archive: Archive
    inner: str  # the archive of this language pair, in that of the whole year
    valid: tuple[str, ...]
    test: tuple[str, ...]
    preparation: Preparation

    @property
    def pair(self) -> str:
        """The languages as in file names."""
        return f"{self.source_lang}-{self.target_lang}"

    def files(self, split: str) -> list[tuple[str, str]]:
        """Return the files of a split, source and target."""
        if split == "train":
            names = [f"train.tags.{self.pair}.{{}}"]
        else:
            sets = self.valid if split == "valid" else self.test
            names = [f"{name}.{self.pair}.{{}}.xml" for name in sets]
        return [(n.format(self.source_lang), n.format(self.target_lang)) for n in names]


@dataclass(frozen=True)
class IwsltCorpus:
    """A release that is unpacked in ``directory``."""

    release: Release
    directory: Path

    @property
    def source_lang(self) -> str:
        """See `Corpus.source_lang`."""
        return self.release.source_lang

    @property
    def target_lang(self) -> str:
        """See `Corpus.target_lang`."""
        return self.release.target_lang

    @property
    def preparation(self) -> Preparation:
        """See `Corpus.preparation`."""
        return self.release.preparation

    def inputs(self) -> Mapping[str, Path]:
        """See `Corpus.inputs`."""
        return {name: self.directory / name for name in _all_files(self.release)}

    def held_out(self) -> Mapping[str, int | None]:
        """See `Corpus.held_out`."""
        return {}  # valid is every n-th pair of train, where the release's sets are all for test

    def encoded(self) -> None:
        """See `Corpus.encoded`."""

    def read(self, counts: Counts) -> Iterator[Example]:
        """See `Corpus.read`."""
        for split in SPLITS:
            for names in self.release.files(split):
                paths = (self.directory / names[0], self.directory / names[1])
                pairs = _train_pairs(*paths) if split == "train" else set_pairs(*paths)
                for source, target in pairs:
                    counts.found[split] += 1
                    yield Example(split, source, target)


def tagged_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield the sentences of two ``train.tags`` files.

    Raises DataPrepError at the end if one has more than the other.
    """
    for pair in zip_longest(_tagged(source), _tagged(target)):
        if None in pair:
            shorter = source if pair[0] is None else target
            longer = target if pair[0] is None else source
            raise DataPrepError(
                f"{shorter} has fewer sentences than {longer}: they are no parallel release"
            )
        yield pair


def _train_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    # The total is a little too large: lines about talks are no pairs.
    total = count_lines(source)
    yield from progress(tagged_pairs(source, target), f"read {source.stem}", "pair", total)


def set_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield the segments of a set, with ``'`` for ``’`` as fairseq's scripts have it."""
    for ours, theirs in segment_pairs(source, target):
        yield ours.replace("’", "'"), theirs.replace("’", "'")


def _tagged(path: Path) -> Iterator[str]:
    for line in read_lines(path):
        if not _ABOUT.search(line):
            yield _TEXT_TAGS.sub("", line)


def _all_files(release: Release) -> list[str]:
    return [name for split in SPLITS for names in release.files(split) for name in names]


def _load(args: Namespace, out: Path, release: Release) -> IwsltCorpus:
    files = unpacked({release.archive: _all_files(release)}, args.archive, out, release.inner)
    return IwsltCorpus(release, files)


# Nobody has published a sha256 of de-en.tgz, nor any checksum of 2015-01.tgz. The paper (Zuo et
# al. 2021, Table 1) does not name its sets, but counts their sentences: those below have as many.
# Not so the French ones: no set of that year's release has its 1,080 or 1,133.
RELEASES = [
    Release(
        "iwslt14-de-en",
        "IWSLT'14, German to English, as fairseq's prepare-iwslt14.sh makes it",
        "de",
        "en",
        Archive(
            "de-en.tgz",
            ("https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz",),
            19_982_877,
            "md5:10936dfdf616504ddbd844e91b94ef4a",
        ),
        "de-en.tgz",
        valid=(),
        test=(
            "IWSLT14.TED.dev2010",
            "IWSLT14.TEDX.dev2012",
            "IWSLT14.TED.tst2010",
            "IWSLT14.TED.tst2011",
            "IWSLT14.TED.tst2012",
        ),
        preparation=replace(FAIRSEQ, lower_cases=True, valid_every=23),
    ),
    Release(
        "iwslt15-en-vi",
        "IWSLT'15, English to Vietnamese; valid is dev2010, test is tst2013",
        "en",
        "vi",
        Archive("2015-01.tgz", (google_drive("1Mz-iiRxRqbCVbsYfKZQ6yuAxHNzYTMnI"),)),
        "en-vi.tgz",
        valid=("IWSLT15.TED.dev2010",),
        test=("IWSLT15.TED.tst2013",),
        preparation=FAIRSEQ,
    ),
    Release(
        "iwslt16-fr-en",
        "IWSLT'16, French to English; valid is tst2013, test is tst2014",
        "fr",
        "en",
        Archive(
            "2016-01.tgz",
            (google_drive("1l5y6Giag9aRPwGtuZHswh3w5v3qEz8D8"),),
            187_576_906,
            "sha256:425a3688e0faff00ed4d6d04f1664d1edbd9932e5b17a73680aa81a70f03e2d6",
        ),
        "fr-en.tgz",
        valid=("IWSLT16.TED.tst2013",),
        test=("IWSLT16.TED.tst2014",),
        preparation=FAIRSEQ,
    ),
]

ENTRIES = [
    CorpusEntry(release.name, release.title, add_archive_option, partial(_load, release=release))
    for release in RELEASES
]
