"""Write a demo's summary.json and training.png: `python -m recipes.training.summary`."""

import argparse
import logging
import platform
import sys
from pathlib import Path
from typing import Any

from data_prep.support.versions import installed
from recipes.models.checkpoint import read_checkpoint
from recipes.support.errors import run_main
from recipes.support.files import LOG, PICTURE, SCORES, SUMMARY, data_report, read_json, write_json
from recipes.support.methods import name_of
from recipes.support.plot import plot_training
from recipes.training.training_log import TRANSLATION, TrainingLog, read_log

_TOOLS = ("torch", "ve-fairseq", "fairseq", "sacrebleu")


def summarize(
    data: Path, out: Path, checkpoint: Path, seconds_total: int, seconds_training: int
) -> dict[str, Any]:
    """Write summary.json and training.png to `out`, which holds log and scores; return the former.

    :param data: the directory made by data_prep that the model was trained on.
    :param seconds_total: seconds that the whole demo took, over all its calls.
    """
    log = read_log(out / LOG)
    scores = read_json(out / SCORES, made_by="python -m recipes.evaluation.evaluate")
    trained = of_training(log, checkpoint, TRANSLATION.score)
    systems = scores["systems"]
    summary = {
        "method": trained.pop("method"),
        "corpus": data_report(data)["corpus"],
        "seconds_total": seconds_total,
        "seconds_training": seconds_training,
        "bleu": systems["model"]["bleu"],
        "chrf": systems["model"]["chrf"],
        "length_ratio": systems["model"]["length_ratio"],
        "bleu_signature": scores["signatures"]["bleu"],
        "chrf_signature": scores["signatures"]["chrf"],
        "bleu_nearest": systems["nearest"]["bleu"],
        "chrf_nearest": systems["nearest"]["chrf"],
        "bleu_copy": systems["copy"]["bleu"],
        "chrf_copy": systems["copy"]["chrf"],
        "test_sentences": scores["sentences"],
        "beam": scores["beam"],
        "lenpen": scores["lenpen"],
        "dev_bleu": trained.pop("dev_score"),
        **trained,
    }
    plot_training(
        log,
        f"{name_of(summary['method'])} on {summary['corpus']}: test BLEU {summary['bleu']:.1f}",
        summary["options"].get("epsilon"),
        summary["updates_of_checkpoint"],
        out / PICTURE,
    )
    write_json(summary, out / SUMMARY)  # last: where it is, all is
    return summary


def of_training(log: TrainingLog, checkpoint: Path, score: str) -> dict[str, Any]:
    """Return what a summary tells of any training.

    :param score: by what its checkpoint was chosen, as the log calls it; it becomes `dev_score`.
    """
    trained = read_checkpoint(checkpoint)
    scores = {record.update: record.values.get(score) for record in log.valid}
    return {
        "method": trained.method,
        "updates": max(record.update for record in (*log.train, *log.valid)),
        "updates_of_checkpoint": trained.updates,
        "dev_score": scores.get(trained.updates),
        "parameters": trained.parameters,
        "versions": {"python": platform.python_version(), **installed(_TOOLS)},
        "options": trained.options,
    }


def summary_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of what sums a demo up."""
    parser = argparse.ArgumentParser(
        prog=program, description="Write a demo's summary.json and training.png."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="where the demo's results are")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seconds-total", type=int, required=True, metavar="N")
    parser.add_argument("--seconds-training", type=int, required=True, metavar="N")
    return parser


def _main() -> None:
    args = summary_parser("recipes.training.summary").parse_args()
    logging.disable(logging.INFO)  # fairseq's, and everybody's that it turns up
    summarize(args.data, args.out, args.checkpoint, args.seconds_total, args.seconds_training)


if __name__ == "__main__":
    sys.exit(run_main("recipes.training.summary", _main))
