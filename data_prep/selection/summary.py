"""The table at the end of a run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.selection.counts import MAX_SUBWORDS, OVERLONG, SPLITS

_STOPS = "stops at them without --skip-invalid-size-inputs-valid-test"
_DOES = {"train": "leaves them out", "valid": _STOPS, "test": _STOPS}


def summary(report: dict[str, Any], out: Path) -> str:
    """Return the report as a table for people: pairs found, dropped and kept, and sizes."""
    raw, bpe = report["raw"], report["bpe"]
    is_bpe = report["preparation"]["subword"] == "bpe"
    tokens, merges = ("BPE tokens", "BPE merges") if is_bpe else ("pieces", "pieces")
    rows: list[tuple[str, Iterable[object]]] = [
        ("", SPLITS),
        ("pairs found", _per_split(raw["found"])),
    ]
    reasons = sorted({reason for dropped in raw["dropped"].values() for reason in dropped})
    for reason in reasons:
        rows.append((f"- {reason}", [raw["dropped"][split].get(reason, 0) for split in SPLITS]))
    rows.append(("pairs kept", _per_split(raw["kept"])))
    for name, table in (
        ("words", raw["words"]),
        (tokens, bpe["tokens"]),
    ):
        for lang in report["languages"]:
            rows.append((f"{name} {lang}", [table[split][lang] for split in SPLITS]))
    lines = [
        f"{label:<28}" + "".join(f"{_number(cell):>11}" for cell in cells) for label, cells in rows
    ]
    for kind, count in raw["repaired lines"].items():
        lines.append(f"repaired: {kind} in {count:,} lines")
    for split, by_lang in bpe[OVERLONG].items():
        if number := sum(by_lang.values()):
            lines.append(
                f"{split}: {number:,} lines of more than {MAX_SUBWORDS:,} {tokens}: fairseq's"
                f" transformer {_DOES[split]} (--max-words drops them)"
            )
    sizes = report["bin"]["dictionary"]
    if report["preparation"]["joined_dictionary"]:
        sizes = {"both languages": next(iter(sizes.values()))}
    dictionary = ", ".join(f"{size:,} ({what})" for what, size in sizes.items())
    lines.append(
        f"{bpe['merges']:,} {merges}, dictionary entries: {dictionary};"
        f" fairseq-train reads {out / 'bin'}"
    )
    for split, same in bpe.get("as released", {}).items():
        if not same:
            lines.append(f"{split}: not the very subwords of the release")
    return "\n".join(lines)


def _per_split(counts: dict[str, int]) -> list[int]:
    return [counts[split] for split in SPLITS]


def _number(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
