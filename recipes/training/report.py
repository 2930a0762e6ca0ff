"""Print the last screen of a demo: `python -m recipes.training.report`."""

import argparse
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sacrebleu.metrics.chrf import CHRF

from recipes.evaluation.evaluate import score_table
from recipes.support.errors import run_main
from recipes.support.files import LOG, PICTURE, SCORES, SUMMARY, TRANSLATIONS, read_json, read_table
from recipes.support.methods import name_of

_PERCENTILES = (10, 30, 50, 70, 90)


def screen(out: Path) -> str:
    """Return the last screen of the demo, from the files in `out`."""
    summary = read_json(out / SUMMARY, made_by="recipes/demo.sh")
    scores = read_json(out / SCORES, made_by="recipes/demo.sh")
    rows = read_table(out / TRANSLATIONS)
    paragraphs = [
        f"Test set: {len(rows)} sentences, sacreBLEU\n"
        f"{score_table(scores, name_of(summary['method']))}\n"
        f"BLEU {summary['bleu_signature']}",
        f"Five of them, at the {', '.join(map(str, _PERCENTILES[:-1]))} and {_PERCENTILES[-1]} %"
        " mark from the worst to the best translated (chrF of the sentence):",
        *(_show(row, chrf) for row, chrf in representative(rows)),
        files_of(
            out,
            (SUMMARY, "all figures and options"),
            (TRANSLATIONS, "all translations"),
            (PICTURE, "the training in a picture"),
            (LOG, "fairseq's log"),
            ("model", f"a translator: make translate MODEL={out / 'model'} < TEXT"),
        ),
        time_of(summary),
    ]
    return "\n\n".join(paragraphs)


def representative(rows: list[dict[str, str]]) -> list[tuple[dict[str, str], float]]:
    """Return rows at fixed percentiles of the sentence's chrF, worst first, each with its chrF.

    Of equally good ones, the first comes first.
    """
    chrf = CHRF()
    values = [chrf.sentence_score(row["translation"], [row["reference"]]).score for row in rows]
    order = sorted(range(len(rows)), key=values.__getitem__)
    chosen = [order[round(percent / 100 * (len(rows) - 1))] for percent in _PERCENTILES]
    return [(rows[i], values[i]) for i in chosen]


def _show(row: dict[str, str], chrf: float) -> str:
    texts = {
        "source": row["source"],
        "reference": row["reference"],
        f"chrF {chrf:.0f}": row["translation"],
    }
    return wrapped(texts)


def wrapped(texts: Mapping[str, str]) -> str:
    """Return texts, each behind its name."""
    return "\n".join(
        textwrap.fill(
            text,
            width=100,
            initial_indent=f"  {label:11}",
            subsequent_indent=" " * 13,
            break_on_hyphens=False,
            max_lines=3,
            placeholder=" ...",
        )
        for label, text in texts.items()
    )


def files_of(out: Path, *files: tuple[str, str]) -> str:
    """Return the names of results, and what each is."""
    return "\n".join(f"{out / name!s:32} {what}" for name, what in files)


def time_of(summary: Mapping[str, Any]) -> str:
    """Return how long a demo took."""
    return (
        f"Time: {_minutes(summary['seconds_total'])},"
        f" of which training {_minutes(summary['seconds_training'])}; the environment not counted"
    )


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} min {seconds % 60} s"


def report_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of what prints a demo's results."""
    parser = argparse.ArgumentParser(prog=program, description="Print a demo's results.")
    parser.add_argument("out", type=Path, metavar="OUT", help="where the demo's results are")
    return parser


def _main() -> None:
    print("\n" + screen(report_parser("recipes.training.report").parse_args().out))


if __name__ == "__main__":
    sys.exit(run_main("recipes.training.report", _main))
