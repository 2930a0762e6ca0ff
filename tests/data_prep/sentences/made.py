"""A small encoder and small tables for the tests of sentence corpora."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_prep.__main__ import main

GOOD = ["the film is very good", "a brilliant plot", "it was good", "the actor is brilliant"]
BAD = ["the film is not good", "a boring plot", "it was bad", "the actor is boring"]


def examples(count: int, pairs: bool = False) -> list[list[str]]:
    """Rows of label and texts, no text twice."""
    rows = []
    for number in range(count):
        is_good = number % 3 != 0
        text = f"{(GOOD if is_good else BAD)[number % 4]} {'a' * (number % 9 + 1)} {number}."
        second = [f"it is {'good' if is_good else 'bad'}, {number} of it!"] if pairs else []
        rows.append(["positive" if is_good else "negative", text, *second])
    return rows


def write(path: Path, rows: Iterable[Sequence[str]]) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepare(encoder: Path, out: Path, *arguments: object, corpus: str = "sentences") -> int:
    return main([corpus, "--encoder", str(encoder), "--out", str(out), *map(str, arguments)])


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "report.json").read_text("utf-8"))
    return content


def anli(path: Path, files: dict[str, str]) -> Path:
    """Write an archive of ANLI with these files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"anli_v1.0/{name}", text)
        archive.writestr("anli_v1.0/README.md", "r")
    return path


def rounds(count: int = 6) -> dict[str, str]:
    """The files of ANLI's three rounds, with so many examples each."""
    files = {}
    for number in (1, 2, 3):
        for part in ("train", "dev", "test"):
            files[f"R{number}/{part}.jsonl"] = "".join(
                json.dumps(
                    {
                        "uid": str(i),
                        "context": f"premise {number} {part}",
                        "hypothesis": f"line {i}",
                        "label": "enc"[i % 3],
                    }
                )
                + "\n"
                for i in range(count)
            )
    return files
