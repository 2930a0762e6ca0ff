"""The table at the end of a run."""

from pathlib import Path
from typing import Any

from data_prep.encoders.words import told


def summary(report: dict[str, Any], out: Path) -> str:
    """Return the report as a table for people: a line for each split."""
    raw, binary = report["raw"], report["bin"]
    columns = ("split", "found", "kept", "twice", "in train", "truncated", "majority")
    rows = [columns]
    for split, title in report["splits"].items():
        majority = (report["majority_share"] or {}).get(split)
        rows.append(
            (
                split if title == split else f"{split} ({title})",
                f"{raw['found'][split]:,}",
                f"{raw['kept'][split]:,}",
                f"{raw['duplicates'][split]:,}",
                f"{raw['also in train'].get(split, 0):,}" if split != "train" else "",
                f"{binary['truncated'][split]:,}",
                f"{majority:.1%}" if majority is not None else "",
            )
        )
    wide = max(len(row[0]) for row in rows) + 2
    lines = [f"{row[0]:<{wide}}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows]
    for split, reasons in raw["dropped"].items():
        lines += [f"{split}: {count:,} dropped: {reason}" for reason, count in reasons.items()]
    lines += [f"repaired: {kind} in {n:,} texts" for kind, n in raw["repaired lines"].items()]
    if unlabelled := [split for split in report["splits"] if split not in report["labelled"]]:
        lines.append(f"without labels, to be predicted: {', '.join(unlabelled)}")
    if report["classes"]:
        what = f"{report['num_classes']} classes: {', '.join(report['classes'][:20])}"
    else:
        what = f"scores, divided by {report['scores_divided_by']:g}"
    if vocabulary := report["encoder"]["vocabulary"]:
        lines.append(told(vocabulary))
    lines.append(
        f"{what}; pieces of {report['encoder']['name']}, {binary['max_pieces']} at most;"
        f" fairseq-train reads {out / 'bin'}"
    )
    return "\n".join(lines)
