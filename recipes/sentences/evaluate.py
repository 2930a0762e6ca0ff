"""Predict the labels of sentences, and score them: `python -m recipes.sentences.evaluate`.

All splits but train, or one. Metrics are fairseq's own, with intervals; splits without labels are
predicted. See `recipes.sentences.metrics`.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from recipes.models.checkpoint import load_state, trained
from recipes.models.model import load, quiet
from recipes.sentences.labelled import Labelled
from recipes.sentences.metrics import RESAMPLES, SEED, compare, measure
from recipes.sentences.predictions import Predicted, label_of, predict
from recipes.sentences.trivial import rivals
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import PREDICTIONS, SCORES, read_table, write_json, write_table


def evaluate(
    data: Path,
    checkpoint: Path,
    out: Path,
    *,
    split: str | None = None,
    trivial: bool = False,
    baseline: Path | None = None,
    cpu: bool = False,
) -> dict[str, Any]:
    """Predict and score; write predictions.tsv and scores.json to `out`, return the latter.

    :param data: a directory made by data_prep, of sentences with labels.
    :param split: None: all but train.
    :param trivial: also score the most frequent label, and a bag of words.
    :param baseline: results of another model on the same data, to compare with.
    """
    began = time.monotonic()
    corpus = Labelled.of(data)
    splits = corpus.scored(split)
    rows = {name: corpus.rows(name) for name in splits}
    other = {} if baseline is None else _predictions(baseline, corpus, rows)
    loaded = load(data, checkpoint, cpu)
    found = {name: predict(loaded, name, f"predict {name}") for name in splits}
    for name, (labels, _) in rows.items():
        if len(labels) != len(found[name].outputs):
            raise RecipeError(
                f"{data}: {name} has {len(labels)} examples in raw and {len(found[name].outputs)}"
                " in bin: prepare the data anew"
            )
    guessed = rivals(corpus, splits) if trivial else {}
    scores: dict[str, Any] = {**_described(corpus, checkpoint, loaded.model), "splits": {}}
    for name, predicted in found.items():
        entry: dict[str, Any] = {
            "name": corpus.report["splits"][name],
            "sentences": len(predicted.outputs),
        }
        if predicted.true is not None:
            said = _said(corpus, predicted)
            entry["metrics"] = _measured(corpus, said, predicted.true)
            entry["trivial"] = {
                rival: _measured(corpus, guesses[name], predicted.true)
                for rival, guesses in guessed.items()
            }
            if name in other:
                difference = compare(corpus.measures[-1], said, other[name], predicted.true)
                entry["baseline"] = {
                    "system": str(baseline),
                    "metric": corpus.measures[-1],
                    **(asdict(difference) if difference else {}),
                }
        scores["splits"][name] = entry
    scores["seconds"] = round(time.monotonic() - began, 1)
    write_table(_table(corpus, rows, found), out / PREDICTIONS)
    write_json(scores, out / SCORES)
    return scores


def _said(corpus: Labelled, predicted: Predicted) -> np.ndarray:
    """Return the numbers of classes, or scores, as fairseq's validation has them."""
    return predicted.outputs[:, 0] if corpus.classes is None else predicted.classes


def _measured(corpus: Labelled, said: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    return {name: asdict(of) for name, of in measure(corpus.measures, said, true).items()}


def _described(corpus: Labelled, checkpoint: Path, model: Any) -> dict[str, Any]:
    """Return what was trained, on what, and what the checkpoint was chosen by."""
    state = load_state(checkpoint)
    told, cfg = trained(checkpoint, state, model), state["cfg"]
    at = state["extra_state"]["train_iterator"]
    return {
        "corpus": corpus.report["corpus"],
        "task": corpus.report["task"],
        "classes": corpus.classes,
        "encoder": corpus.report["encoder"]["name"],
        "method": told.method,
        "options": told.options,
        "seed": cfg["common"]["seed"],
        "lr": list(cfg["optimization"]["lr"]),
        "batch_size": _sentences_per_update(cfg),
        "train_examples": corpus.report["raw"]["kept"]["train"],
        "parameters": told.parameters,
        "checkpoint": str(checkpoint),
        "updates": told.updates,
        "epoch": at["epoch"] - (at["iterations_in_epoch"] == 0),  # the next one begins there
        "chosen_by": {
            "metric": cfg["checkpoint"]["best_checkpoint_metric"],
            "value": state["extra_state"].get("val_loss"),
        },
        "metric": corpus.measures[-1],
        "interval": {"level": 0.95, "bootstrap": RESAMPLES, "seed": SEED},
    }


def _sentences_per_update(cfg: Mapping[str, Any]) -> int:
    """Return how many there are at most: of all passes and processes together."""
    passes = cfg["optimization"]["update_freq"][-1]
    processes = cfg["distributed_training"]["distributed_world_size"]
    return int(cfg["dataset"]["batch_size"] * passes * processes)


def _table(
    corpus: Labelled,
    rows: Mapping[str, tuple[list[str], list[list[str]]]],
    found: Mapping[str, Predicted],
) -> dict[str, list[str]]:
    names = ["split", "number", "label", "predicted"]
    names += [] if corpus.classes is None else ["probability"]
    names += ["text", "text2"][: corpus.texts]
    lines = []
    for split, (labels, texts) in rows.items():
        for number, (label, both) in enumerate(zip(labels, texts, strict=True)):
            said = label_of(corpus.classes, corpus.divisor, found[split].outputs[number])
            shown = said if corpus.classes is not None else said[:1]
            lines.append([split, str(number), label, *shown, *both])
    return {name: [line[i] for line in lines] for i, name in enumerate(names)}


def _predictions(
    results: Path, corpus: Labelled, rows: Mapping[str, tuple[list[str], list[list[str]]]]
) -> dict[str, np.ndarray]:
    """Read another model's predictions of labelled splits; RecipeError if they are of others."""
    path = results / PREDICTIONS
    if not path.is_file():
        raise RecipeError(
            f"{path}: not there; python -m recipes.sentences.evaluate --out {results} makes it"
        )
    lines = read_table(path)
    found: dict[str, np.ndarray] = {}
    for split, (labels, texts) in rows.items():
        if split not in corpus.report["labelled"]:
            continue
        theirs = [line for line in lines if line["split"] == split]
        if [(line["label"], line["text"]) for line in theirs] != [
            (label, both[0]) for label, both in zip(labels, texts, strict=True)
        ]:
            raise RecipeError(f"{path} has predictions of other sentences than {split} has")
        found[split] = np.array([corpus.number(line["predicted"]) for line in theirs])
    return found


def score_table(scores: Mapping[str, Any]) -> str:
    """Return the scores as a table for people: a line for each split and predictor."""
    names = {"majority": "  majority class", "bag_of_words": "  bag of words"}
    if scores["classes"] is None:
        names["majority"] = "  mean of train"
    labelled = {key: entry for key, entry in scores["splits"].items() if "metrics" in entry}
    measures = next(iter(labelled.values()))["metrics"] if labelled else {}
    lines = [f"{'':26}{'sentences':>10}" + "".join(f"{name:>24}" for name in measures)]
    for split, entry in labelled.items():
        title = split if entry["name"] == split else f"{split} ({entry['name']})"
        shown = [(title, entry["metrics"])]
        shown += [(names[rival], of) for rival, of in entry["trivial"].items()]
        for name, metrics in shown:
            size = f"{entry['sentences']:,}" if name == title else ""
            cells = "".join(f"{_shown(value):>24}" for value in metrics.values())
            lines.append(f"{name:26}{size:>10}{cells}")
    return "\n".join(lines)


def _shown(measured: Mapping[str, float | None]) -> str:
    if measured["value"] is None:
        return "not defined"
    return f"{measured['value']:.1f} ({measured['low']:.1f} to {measured['high']:.1f})"


@quiet()
def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.sentences.evaluate",
        description="Predict the labels of sentences with a checkpoint, and score them.",
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="directory made by data_prep, of sentences"
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"where {PREDICTIONS} and {SCORES} go",
    )
    parser.add_argument("--split", help="one alone (default: all but train)")
    parser.add_argument(
        "--trivial",
        action="store_true",
        help="also score two predictors that need no encoder: the most frequent class of a split"
        " (of scores, the mean of train), and logistic regression on words",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="DIR",
        help=f"results of another model on the same data ({PREDICTIONS}): is this one better by"
        " more than chance?",
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    args = parser.parse_args()
    scores = evaluate(
        args.data,
        args.checkpoint,
        args.out,
        split=args.split,
        trivial=args.trivial,
        baseline=args.baseline,
        cpu=args.cpu,
    )
    print(score_table(scores))
    print(f"per cent, with 95 % intervals of the bootstrap, {RESAMPLES:,} resamples")
    for split, entry in scores["splits"].items():
        if "difference" in entry.get("baseline", {}):
            than = entry["baseline"]
            print(
                f"{split}: {than['metric']} {than['difference']:+.1f} ({than['low']:+.1f} to"
                f" {than['high']:+.1f}) against {args.baseline}, p = {than['p']:.3f} by paired"
                " bootstrap"
            )
        if "metrics" not in entry:
            print(f"{split}: {entry['sentences']:,} sentences without labels are predicted")
    print(f"{args.out / PREDICTIONS}, {args.out / SCORES}")


if __name__ == "__main__":
    sys.exit(run_main("recipes.sentences.evaluate", _main))
