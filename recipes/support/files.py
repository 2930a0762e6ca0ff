"""Files: written whole or not at all, and what their names are."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.support.lines import read_lines
from data_prep.support.printing import printable
from data_prep.text.tokenization import lower
from recipes.support.errors import RecipeError

# What there is in a directory of results.
LOG = "training.log"
CHECKPOINTS = "checkpoints"
SCORES = "scores.json"
TRANSLATIONS = "translations.tsv"
PREDICTIONS = "predictions.tsv"
ATTENTION = "attention.json"
SUMMARY = "summary.json"
PICTURE = "training.png"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which takes its name when the block succeeds.

    The temporary name keeps the suffix, from which some writers choose a format.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``, which takes its name when the block succeeds.

    A folder of that name stays until then.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    former = path.with_name(f".former-{path.name}")
    for remains in (temporary, former):  # of a run that was killed
        shutil.rmtree(remains, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rename(former)  # no folder can be renamed to the name of one with files
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def refuse_to_replace(out: Path, name: str, program: str) -> None:
    """Raise RecipeError if a folder is there, and not one that a program made: with such a file."""
    if out.exists() and not (out / name).exists():
        raise RecipeError(
            f"{out}: not made by {program}, so it stays; move it or choose another --out"
        )


def write_json(value: Any, path: Path) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with written_whole(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(printable(text) + "\n", encoding="utf-8")


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read a JSON object; raises RecipeError that says what makes the file if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: not there; {made_by} makes it") from None
    except ValueError as error:
        raise RecipeError(f"{path}: not JSON ({error}); {made_by} makes it anew") from None
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: not a JSON object; {made_by} makes it anew")
    return value


def write_table(columns: dict[str, list[str]], path: Path) -> None:
    """Write equally long columns as tab-separated values under a header, whole or not at all.

    There is no quoting, so that the text stays as it is; a tab inside a cell becomes a space.
    """
    with (
        written_whole(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as stream,
    ):
        for row in (tuple(columns), *zip(*columns.values(), strict=True)):
            stream.write("\t".join(cell.replace("\t", " ") for cell in row) + "\n")


def read_table(path: Path) -> list[dict[str, str]]:
    """Read what `write_table` wrote, row by row."""
    header, *rows = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    names = header.split("\t")
    return [dict(zip(names, row.split("\t"), strict=True)) for row in rows]


def sentences(data: Path, split: str, lang: str) -> list[str]:
    """Read the raw sentences of a directory that data_prep made, in lower case if the corpus is."""
    lines = list(read_lines(data / "raw" / f"{split}.{lang}"))
    return list(map(lower, lines)) if data_report(data)["preparation"]["lower_cases"] else lines


def data_report(data: Path) -> dict[str, Any]:
    """Read the report of a directory that data_prep made: ``corpus``, ``languages`` and more."""
    return read_json(data / "report.json", made_by=f"python -m data_prep CORPUS --out {data}")
