"""WordNet's lemmas, and how they are related (Fellbaum 1998; wndb(5)).

The files are those of Princeton's release 3.0, which Debian packs as they are. Words of several
parts, which WordNet joins by underscores, are left out: they stand for no single word. So are
names, which WordNet writes with a capital letter.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from data_prep.support.errors import DataPrepError

NOUN, VERB, ADJECTIVE, ADVERB = "noun", "verb", "adj", "adv"
PARTS = (NOUN, VERB, ADJECTIVE, ADVERB)
"""Parts of speech, as WordNet's files are called."""

FILES = tuple(name for part in PARTS for name in (f"data.{part}", f"index.{part}", f"{part}.exc"))
"""What is read of a release."""

_WORD = re.compile(r"[a-z](?:['-]?[a-z])+")
_ANTONYM, _SIMILAR = "!", "&"

_T = TypeVar("_T")
Related = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Lexicon:
    """The lemmas of a part of speech, in lower case.

    :param synonyms: of all lemmas, those with which they share the first, most frequent sense.
    :param related: those with which they share any sense, and adjectives that are similar to them.
    :param antonyms: WordNet has them between words, and not between synsets.
    :param exceptions: irregular forms.
    """

    synonyms: Related
    related: Related
    antonyms: Related
    exceptions: Mapping[str, tuple[str, ...]]


WordNet = Mapping[str, Lexicon]
"""By part of speech."""


def is_word(text: str) -> bool:
    """Return whether a text is a single word of two letters or more, in lower case."""
    return _WORD.fullmatch(text) is not None


def read_wordnet(files: Mapping[str, bytes]) -> WordNet:
    """Return what is in the files of a release, by their names; see `FILES`.

    Raises DataPrepError if one is missing, or a line of it is none of WordNet's.
    """
    if missing := [name for name in FILES if name not in files]:
        raise DataPrepError(f"WordNet: there is no {', no '.join(missing)}")
    return {part: _lexicon(files, part) for part in PARTS}


def _lexicon(files: Mapping[str, bytes], part: str) -> Lexicon:
    name = f"data.{part}"
    synsets = {synset.offset: synset for synset in _parsed(files[name], name, _Synset.of)}
    firsts = dict(_parsed(files[f"index.{part}"], f"index.{part}", _first_sense))
    synonyms: dict[str, set[str]] = {}
    related: dict[str, set[str]] = {}
    antonyms: dict[str, set[str]] = defaultdict(set)
    for synset in synsets.values():
        words = synset.single_words
        mains = [word for word in words if firsts.get(word) == synset.offset]
        similar = [w for offset in synset.similar for w in _found(synsets, offset).single_words]
        for word in words:
            related.setdefault(word, set()).update(words, similar)
            synonyms.setdefault(word, set()).update(mains if word in mains else ())
        for source, offset, target in synset.antonyms:
            other = _found(synsets, offset)
            if max(source - len(synset.words), target - len(other.words)) > 0:
                raise DataPrepError(f"{name}: synset {synset.offset}: an antonym is not there")
            ours, theirs = synset.words[source - 1], other.words[target - 1]
            if is_word(ours) and is_word(theirs) and ours != theirs:
                antonyms[ours].add(theirs)
    exceptions: dict[str, list[str]] = defaultdict(list)
    for form, lemmas in _parsed(files[f"{part}.exc"], f"{part}.exc", _exception):
        for lemma in lemmas:
            if is_word(form) and lemma in synonyms and form != lemma:
                exceptions[lemma].append(form)
    return Lexicon(
        {word: frozenset(others - {word}) for word, others in synonyms.items()},
        {word: frozenset(others - {word}) for word, others in related.items()},
        {word: frozenset(others) for word, others in antonyms.items()},
        {lemma: tuple(forms) for lemma, forms in exceptions.items()},
    )


@dataclass(frozen=True)
class _Synset:
    """A line of data.*.

    :param similar: synsets, by their offsets.
    :param antonyms: number of a word of this synset, from 1; another synset; number of its word.
    """

    offset: str
    words: list[str]
    similar: list[str]
    antonyms: list[tuple[int, str, int]]

    @property
    def single_words(self) -> list[str]:
        """Those that are one word, and no name."""
        return [word for word in self.words if is_word(word)]

    @staticmethod
    def of(line: str) -> "_Synset":
        """Return what a line says. Raises ValueError or IndexError."""
        fields = line.split(" | ")[0].split()
        offset, _, _, count = fields[:4]
        words = int(count, 16)
        pointers = 4 + 2 * words
        similar, antonyms = [], []
        for at in range(pointers + 1, pointers + 1 + 4 * int(fields[pointers]), 4):
            symbol, target, _, ends = fields[at : at + 4]
            source, other = int(ends[:2], 16), int(ends[2:], 16)
            if symbol == _SIMILAR:
                similar.append(target)
            elif symbol == _ANTONYM and source and other:
                antonyms.append((source, target, other))
        # Adjectives may end with where they can stand: galore(ip).
        names = [name.split("(")[0] for name in fields[4:pointers:2]]
        return _Synset(offset, names, similar, antonyms)


def _found(synsets: Mapping[str, _Synset], offset: str) -> _Synset:
    """Return a synset of the same file. Raises DataPrepError if there is none."""
    try:
        return synsets[offset]
    except KeyError:
        raise DataPrepError(f"WordNet: there is no synset {offset}, which others name") from None


def _first_sense(line: str) -> tuple[str, str]:
    """Return a lemma and the offset of its most frequent synset, of a line of index.*."""
    fields = line.split()
    synsets, pointers = int(fields[2]), int(fields[3])
    offsets = fields[6 + pointers :]
    if len(offsets) != synsets:
        raise ValueError(line)
    return fields[0], offsets[0]


def _exception(line: str) -> tuple[str, list[str]]:
    """Return a form and its lemmas, of a line of *.exc."""
    form, first, *more = line.split()
    return form, [first, *more]


def _parsed(content: bytes, name: str, parse: Callable[[str], _T]) -> Iterator[_T]:
    """Yield what each line says, but for those of the licence, which begin with spaces."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip() or line.startswith(b"  "):
            continue
        try:
            yield parse(line.decode("ascii"))
        except (ValueError, IndexError) as error:
            raise DataPrepError(f"{name}: line {number} is none of WordNet's") from error
