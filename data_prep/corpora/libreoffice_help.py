"""LibreOffice's help texts (MPL-2.0), from the Debian packages libreoffice-help-*.

Every help paragraph keeps its id in every language, so paragraphs are paired by page and id, and
sentences by their order if both paragraphs have the same number of them. Splits are cut by page.
"""

import hashlib
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_prep.corpora.corpus import CorpusEntry, Example
from data_prep.corpora.filters import BAD_MATCH, reason_to_drop
from data_prep.corpora.help_pages import Paragraph, read_page
from data_prep.preparation import OURS, Preparation
from data_prep.selection.counts import Counts
from data_prep.sources.apt import download_packages
from data_prep.sources.deb import read_deb
from data_prep.sources.release import add_archive_option
from data_prep.support.errors import DataPrepError
from data_prep.support.progress import progress
from data_prep.text.cleaning import clean_line
from data_prep.text.sentences import split_sentences

DUPLICATE = "duplicate"

_HELP_ROOT = "usr/share/libreoffice/help/"
_LETTERS_AND_DIGITS = re.compile(r"[^\W_]+")

Pages = dict[str, bytes]


@dataclass(frozen=True)
class HelpCorpus:
    """The help in ``source_lang`` and in American English, read from local .deb files."""

    source_lang: str
    debs: tuple[Path, ...]
    target_lang: str = "en"
    preparation: Preparation = OURS

    def inputs(self) -> Mapping[str, Path]:
        """See `Corpus.inputs`."""
        return {f"deb {number}": path for number, path in enumerate(self.debs, start=1)}

    def held_out(self) -> Mapping[str, int | None]:
        """See `Corpus.held_out`."""
        return {}  # whole pages are, in `read`

    def encoded(self) -> None:
        """See `Corpus.encoded`."""

    def read(self, counts: Counts) -> Iterator[Example]:
        """See `Corpus.read`."""
        source_pages, target_pages = self._pages()
        names = sorted(source_pages.keys() & target_pages.keys())
        counts.corpus["pages"] = len(names)
        seen = _Seen()
        for name in progress(names, "raw", "page"):
            split = split_of_page(name)
            counts.corpus[f"pages {split}"] += 1
            for paragraph in self._sentence_pairs(source_pages[name], target_pages[name], counts):
                counts.found[split] += len(paragraph)
                reasons = [
                    reason_to_drop(source, target, self.source_lang, self.target_lang)
                    for source, target in paragraph
                ]
                if BAD_MATCH in reasons:  # then its neighbours may be shifted as well
                    counts.dropped[split][BAD_MATCH] += len(paragraph)
                    continue
                for (source, target), reason in zip(paragraph, reasons, strict=True):
                    if reason is None and not seen.add(source, target):
                        reason = DUPLICATE
                    if reason is None:
                        yield Example(split, source, target)
                    else:
                        counts.dropped[split][reason] += 1

    def _pages(self) -> tuple[Pages, Pages]:
        languages = (_directory(self.source_lang), _directory(self.target_lang))
        wanted: dict[str, Pages] = {directory: {} for directory in languages}
        origin: dict[str, Path] = {}
        for deb in self.debs:
            for file, content in read_deb(deb, _HELP_ROOT):
                directory, _, name = file.removeprefix(_HELP_ROOT).partition("/")
                if directory not in wanted or not name.endswith(".html"):
                    continue
                if origin.setdefault(directory, deb) != deb:
                    raise DataPrepError(
                        f"{origin[directory]} and {deb} both hold the help in {directory}:"
                        " give one of them"
                    )
                wanted[directory][name] = content
        for directory, pages in wanted.items():
            if not pages:
                raise DataPrepError(
                    f"no help pages in {directory} in {', '.join(map(str, self.debs))};"
                    f" they are in {_package(directory)}"
                )
        return wanted[languages[0]], wanted[languages[1]]

    def _sentence_pairs(
        self, source_page: bytes, target_page: bytes, counts: Counts
    ) -> Iterator[list[tuple[str, str]]]:
        """Yield, paragraph by paragraph, the aligned sentences of one page."""
        targets = {paragraph.key: paragraph for paragraph in read_page(target_page)}
        for source in read_page(source_page):
            target = targets.get(source.key)
            if target is None:
                continue
            counts.corpus["paragraphs"] += 1
            if source.is_code or target.is_code:
                counts.corpus["paragraphs of code"] += 1
                continue
            source_sentences = self._sentences(source, self.source_lang, counts)
            target_sentences = self._sentences(target, self.target_lang, counts)
            if len(source_sentences) != len(target_sentences):
                counts.corpus["paragraphs with unequal sentence counts"] += 1
                continue
            yield list(zip(source_sentences, target_sentences, strict=True))

    @staticmethod
    def _sentences(paragraph: Paragraph, lang: str, counts: Counts) -> list[str]:
        return split_sentences(clean_line(paragraph.text, counts.repaired), lang)


class _Seen:
    """Sentences met so far, each side on its own, compared by letters and digits only."""

    def __init__(self) -> None:
        self._sides: tuple[set[str], set[str]] = (set(), set())

    def add(self, source: str, target: str) -> bool:
        """Remember the pair and return True, or return False if either side was met before."""
        keys = [" ".join(_LETTERS_AND_DIGITS.findall(side.casefold())) for side in (source, target)]
        if any(key in side for key, side in zip(keys, self._sides, strict=True)):
            return False
        for key, side in zip(keys, self._sides, strict=True):
            side.add(key)
        return True


def split_of_page(name: str) -> str:
    """Return the split of a help page: 3 % valid, 3 % test by a hash of its name, the rest train.

    A page's split does not depend on the other pages, so it is the same in every version.
    """
    percentile = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) * 100 >> 64
    return "valid" if percentile < 3 else "test" if percentile < 6 else "train"


def _directory(lang: str) -> str:
    return "en-US" if lang == "en" else lang


def _package(directory: str) -> str:
    return f"libreoffice-help-{directory.lower()}"


def _load(args: Namespace, out: Path, source_lang: str) -> HelpCorpus:
    if args.archive:
        return HelpCorpus(source_lang, tuple(args.archive))
    packages = [_package(_directory(lang)) for lang in (source_lang, "en")]
    return HelpCorpus(source_lang, download_packages(packages, out / "download"))


_LANGUAGES = {"de": "German", "fr": "French", "vi": "Vietnamese"}

ENTRIES = [
    CorpusEntry(
        f"libreoffice-help-{lang}-en",
        f"LibreOffice's help texts, {name} to English",
        add_archive_option,
        partial(_load, source_lang=lang),
    )
    for lang, name in _LANGUAGES.items()
]
