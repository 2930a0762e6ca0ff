"""Print the last screen of a demo of sentences: `python -m recipes.sentences.report`."""

import sys
from pathlib import Path
from typing import Any

from recipes.sentences.evaluate import score_table
from recipes.support.errors import run_main
from recipes.support.files import LOG, PICTURE, PREDICTIONS, SCORES, SUMMARY, read_json, read_table
from recipes.support.methods import name_of
from recipes.training.report import files_of, report_parser, time_of, wrapped

_PERCENTILES = (10, 50, 90)


def screen(out: Path) -> str:
    """Return the last screen of the demo, from the files in `out`."""
    summary = read_json(out / SUMMARY, made_by="recipes/demo.sh")
    scores = read_json(out / SCORES, made_by="recipes/demo.sh")
    rows = [row for row in read_table(out / PREDICTIONS) if row["split"] == "test"]
    return "\n\n".join(
        [
            f"{name_of(summary['method'])}, {summary['encoder']}: per cent, with 95 % intervals\n"
            f"{score_table(scores)}",
            "Three of test, at the 10, 50 and 90 % mark of the probability of the right class:",
            *(_show(row) for row in representative(rows)),
            files_of(
                out,
                (SUMMARY, "all figures and options"),
                (PREDICTIONS, "all predictions"),
                (PICTURE, "the training in a picture"),
                (LOG, "fairseq's log"),
                ("model", f"a classifier: make classify MODEL={out / 'model'} < TEXT"),
            ),
            time_of(summary),
        ]
    )


def representative(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows at fixed percentiles of how right they are, least first."""
    order = sorted(rows, key=_rightness)
    return [order[round(percent / 100 * (len(rows) - 1))] for percent in _PERCENTILES]


def _rightness(row: dict[str, str]) -> float:
    """From minus the probability of a wrong class to that of the right one."""
    probability = float(row["probability"])
    return probability if row["predicted"] == row["label"] else -probability


def _show(row: dict[str, str]) -> str:
    said: dict[str, Any] = {
        "text": row["text"],
        "label": row["label"],
        "predicted": f"{row['predicted']}, probability {float(row['probability']):.2f}",
    }
    return wrapped(said)


def _main() -> None:
    print("\n" + screen(report_parser("recipes.sentences.report").parse_args().out))


if __name__ == "__main__":
    sys.exit(run_main("recipes.sentences.report", _main))
