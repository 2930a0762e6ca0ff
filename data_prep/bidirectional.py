"""Both translation directions of a corpus as one, which Bi-SimCut pretrains on.

Of each pair there are two, source to target and target to source, and nothing says which is which.
The dictionary is that of the one direction, so that a model for both can be fine-tuned on either.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_prep.binarize import binarize
from data_prep.stages import REPORT, Stage, run_stage, sha256_of
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import count_lines
from data_prep.support.versions import installed

SIDES = ("src", "tgt")  # fairseq's names of the two languages: each side holds both
SPLITS = ("train", "valid")  # one tests in one direction

# Raise it whenever the code here changes what it writes.
_FORMAT = 1


def both_directions(data: Path, workers: int) -> Stage:
    """Make ``data``/bidirectional, fairseq's binary data, unless it is there and up to date.

    ``data`` was made by data_prep; raises DataPrepError if it was not.
    """
    report = _report(data)
    languages = report["languages"]
    bpe = data / "bpe"
    dictionary, theirs = (data / "bin" / f"dict.{lang}.txt" for lang in languages)
    if dictionary.read_bytes() != theirs.read_bytes():
        raise DataPrepError(
            f"{data}: has a dictionary for each language, and both directions at once need one for"
            " both: prepare it anew with --joined-dictionary"
        )
    inputs = [bpe / f"{split}.{lang}" for split in SPLITS for lang in languages]
    key = {
        "inputs": {path.name: sha256_of(path) for path in (*inputs, dictionary)},
        "languages": languages,
        "format": _FORMAT,
        "versions": installed(("fairseq", "ve-fairseq")),
    }

    def build(directory: Path) -> dict[str, Any]:
        with TemporaryDirectory(dir=directory) as folder:
            texts = Path(folder)
            for split in SPLITS:
                for side, order in zip(SIDES, (languages, languages[::-1]), strict=True):
                    with (texts / f"{split}.{side}").open("wb") as both:
                        for lang in order:
                            with (bpe / f"{split}.{lang}").open("rb") as one:
                                shutil.copyfileobj(one, both)
            pairs = {split: count_lines(texts / f"{split}.{SIDES[0]}") for split in SPLITS}
            log = data / "preprocess-bidirectional.log"
            facts = binarize(
                texts, SIDES, directory, log, workers, SPLITS, dictionary, tokens=_tokens(report)
            )
        return {"pairs": pairs, **facts}

    return run_stage(data / "bidirectional", key, build)


def _tokens(report: dict[str, Any]) -> int:
    """How many there will be on both sides: those of both languages on each, and the ends."""
    words = (sum(report["bpe"]["tokens"][split].values()) for split in SPLITS)
    ends = (2 * report["raw"]["kept"][split] for split in SPLITS)
    return 2 * (sum(words) + sum(ends))


def _report(data: Path) -> dict[str, Any]:
    """What data_prep counted, the last thing that it writes."""
    try:
        report: dict[str, Any] = json.loads((data / REPORT).read_text(encoding="utf-8"))
        _source, _target = report["languages"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise DataPrepError(
            f"{data}: no finished data with a {REPORT}; python -m data_prep CORPUS --out {data}"
            " makes them"
        ) from None
    return report
