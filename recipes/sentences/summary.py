"""Write a demo's summary.json and training.png: `python -m recipes.sentences.summary`."""

import logging
import sys
from pathlib import Path
from typing import Any

from recipes.sentences.labelled import Labelled
from recipes.support.errors import run_main
from recipes.support.files import LOG, PICTURE, SCORES, SUMMARY, read_json, write_json
from recipes.support.methods import name_of
from recipes.support.plot import plot_training
from recipes.training.summary import of_training, summary_parser
from recipes.training.training_log import kind_of, read_log


def summarize(
    data: Path, out: Path, checkpoint: Path, seconds_total: int, seconds_training: int
) -> dict[str, Any]:
    """Write summary.json and training.png to `out`, which holds log and scores; return the former.

    :param data: the directory made by data_prep that the model was trained on: its test set is of
        the kind that was trained on, all further ones are of others.
    :param seconds_total: seconds that the whole demo took, over all its calls.
    """
    log = read_log(out / LOG)
    scores = read_json(out / SCORES, made_by="python -m recipes.sentences.evaluate")
    corpus = Labelled.of(data)
    found = {
        name: _values(entry, scores["metric"])
        for name, entry in scores["splits"].items()
        if "metrics" in entry
    }
    name, test = scores["metric"], found["test"]
    trained = of_training(log, checkpoint, kind_of(log.valid).score)
    summary = {
        "method": trained["method"],
        "encoder": scores["encoder"],
        "corpus": scores["corpus"],
        "metric": name,
        name: test["model"],
        f"{name}_interval": test["interval"],
        f"{name}_majority": test["majority"],
        f"{name}_bag_of_words": test["bag_of_words"],
        "other_domains": {
            scores["splits"][split]["name"]: of
            for split, of in found.items()
            if split.startswith("test") and split != "test"
        },
        f"dev_{name}": trained.pop("dev_score"),
        "examples": corpus.report["raw"]["kept"]["train"],
        "test_sentences": scores["splits"]["test"]["sentences"],
        "seconds_total": seconds_total,
        "seconds_training": seconds_training,
        **trained,
    }
    plot_training(
        log,
        f"{name_of(summary['method'])} on {summary['corpus']}: test {name} {test['model']:.1f} %",
        summary["options"].get("epsilon"),
        summary["updates_of_checkpoint"],
        out / PICTURE,
    )
    write_json(summary, out / SUMMARY)  # last: where it is, all is
    return summary


def _values(entry: dict[str, Any], metric: str) -> dict[str, Any]:
    """Return what the model and the trivial predictors reach on a split."""
    own = entry["metrics"][metric]
    trivial = {rival: metrics[metric]["value"] for rival, metrics in entry["trivial"].items()}
    return {"model": own["value"], "interval": [own["low"], own["high"]], **trivial}


def _main() -> None:
    args = summary_parser("recipes.sentences.summary").parse_args()
    logging.disable(logging.INFO)  # fairseq's, and everybody's that it turns up
    summarize(args.data, args.out, args.checkpoint, args.seconds_total, args.seconds_training)


if __name__ == "__main__":
    sys.exit(run_main("recipes.sentences.summary", _main))
