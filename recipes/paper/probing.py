"""Figure 4: how good are the representations? `python -m recipes.paper.probing`, of one encoder.

An encoder that was fine-tuned on SST-2 is frozen; heads are trained on what it makes of other
corpora. The paper "only tunes a prediction head". Here that is fairseq's: a layer with tanh and
dropout on the first symbol's hidden state, and an output layer. It is drawn and trained anew by
each of ten seeds. What the encoder makes of a corpus is computed once.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from recipes.models.model import Loaded, batches, load, quiet
from recipes.paper.fine_tuning import Choice, notes_of, plan_of
from recipes.paper.plan import Plan
from recipes.paper.runs import FineTuning, Run
from recipes.sentences.labelled import Labelled
from recipes.sentences.metrics import metrics_of
from recipes.support.curves import look
from recipes.support.errors import RecipeError, run_main
from recipes.support.files import read_json, write_json, written_whole
from recipes.support.markdown import markdown_table
from recipes.support.methods import label_of, metric_name
from recipes.support.plot import STYLE

SOURCE = "glue-sst-2"
TASKS = ("glue-cola", "glue-mrpc", "glue-rte", "glue-sts-b")
METHODS = ("plain", "smart", "salt")
HEADS = 10
_EPOCHS, _BATCH, _RATE, _DROPOUT = 10, 32, 1e-3, 0.1


def features_of(loaded: Loaded, split: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden states of first symbols, N x C, and the labels, N, of a split."""
    import torch

    made: dict[int, np.ndarray] = {}
    labels: dict[int, float] = {}
    for sample in batches(loaded, split, f"features of {what}"):
        with torch.no_grad():
            hidden, _ = loaded.model(**sample["net_input"], features_only=True)  # B x T x C
        numbers = sample["id"].tolist()
        made |= zip(numbers, hidden[:, 0].float().cpu().numpy(), strict=True)
        labels |= zip(numbers, sample["target"].view(-1).tolist(), strict=True)
    order = sorted(made)
    return np.array([made[i] for i in order]), np.array([labels[i] for i in order])


def head_says(
    train: tuple[np.ndarray, np.ndarray], test: np.ndarray, classes: int | None, seed: int
) -> np.ndarray:
    """Train a head, and return the classes, or scores, that it gives.

    :param train: features, N x C, and labels, N.
    :param test: features, M x C.
    :param classes: how many; None for scores.
    """
    import torch
    from fairseq.models.roberta.model import RobertaClassificationHead

    torch.manual_seed(seed)
    features, labels = torch.tensor(train[0]), torch.tensor(train[1])
    width = features.size(1)
    head = RobertaClassificationHead(width, width, classes or 1, "tanh", _DROPOUT)
    optimizer = torch.optim.Adam(head.parameters(), lr=_RATE)
    for _ in range(_EPOCHS):
        for batch in torch.randperm(len(labels)).split(_BATCH):
            said = head(features[batch].unsqueeze(1))
            if classes is None:
                right = labels[batch].float()
                loss = torch.nn.functional.mse_loss(said.squeeze(1), right)
            else:
                loss = torch.nn.functional.cross_entropy(said, labels[batch].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    head.eval()
    with torch.no_grad():
        said = head(torch.tensor(test).unsqueeze(1))
    return np.asarray(said.squeeze(1) if classes is None else said.argmax(1))


def probe(source: Path, checkpoint: Path, target: Path, cpu: bool) -> dict[str, Any]:
    """Return the dev scores of heads on another corpus, by seed.

    :param source: the data that the encoder was fine-tuned on.
    :param target: data of the same encoder.
    """
    loaded = load(source, checkpoint, cpu)
    corpus = Labelled.of(target)
    config = copy(loaded.task.cfg)
    config.data = str(target / "bin")
    config.num_classes = corpus.report["num_classes"]
    config.regression_target = corpus.classes is None
    config.report_mcc = config.report_acc_and_f1 = config.report_pearson_and_spearman = False
    there = Loaded(loaded.model, type(loaded.task).setup_task(config), loaded.cuda)
    train = features_of(there, "train", f"{target.name}, train")
    dev, right = features_of(there, "valid", f"{target.name}, dev")
    metric = corpus.measures[-1]
    classes = None if corpus.classes is None else len(corpus.classes)
    values = {
        str(seed): metrics_of([metric], head_says(train, dev, classes, seed), right)[metric]
        for seed in range(1, HEADS + 1)
    }
    return {
        "checkpoint": str(checkpoint),
        "target": str(target),
        "metric": metric,
        "head": {"epochs": _EPOCHS, "batch": _BATCH, "lr": _RATE, "dropout": _DROPOUT},
        # A correlation with predictions that are all equal is not defined: there is none.
        "scores": {seed: 0.0 if np.isnan(value) else value for seed, value in values.items()},
    }


def probed(run: FineTuning, target: FineTuning, out: Path) -> dict[str, Any]:
    """Return `probe` of a run, by a process of its own, from a file if it is there."""
    made = out / run.method / f"seed-{run.seed}" / f"{target.name}.json"
    if made.exists() and made.stat().st_mtime_ns > run.checkpoint.stat().st_mtime_ns:
        found = read_json(made, "make figure4")
        if found["checkpoint"] == str(run.checkpoint):
            return found
    command = [sys.executable, "-m", "recipes.paper.probing", str(run.data), str(run.checkpoint)]
    if subprocess.run([*command, str(target.data), "--out", str(made)]).returncode:
        raise RecipeError(f"{run}: could not be probed on {target.name}")
    return read_json(made, "make figure4")


Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""Of all heads, by task and method."""


def plot(scores: Scores, metrics: Mapping[str, str], path: Path) -> None:
    """Draw a panel for each task, a violin for each method. A PNG, written whole or not at all."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1 + 3.2 * len(scores), 4.2), layout="constrained")
        title = "Heads on frozen encoders, on dev: bars are medians and extremes"
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(1, len(scores), squeeze=False)[0]
        for axes, (task, of_task) in zip(grid, scores.items(), strict=True):
            drawn = {method: list(values) for method, values in of_task.items() if values}
            for place, values in enumerate(drawn.values()):
                parts: Any = axes.violinplot([values], [place], showmedians=True)
                parts["bodies"][0].set_facecolor(look(place)["color"])
            axes.set_xticks(range(len(drawn)), list(map(label_of, drawn)))
            axes.set_title(task)
            axes.set_ylabel(f"{metrics.get(task, '')}, per cent")
            axes.grid(axis="x", visible=False)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=130)


def plan(choice: Choice, out: Path) -> Plan:
    """Return what the figure takes."""
    tasks = choice.tasks_of_any(TASKS)
    methods = list(choice.methods or METHODS)

    def report(runs: Sequence[FineTuning], missing: Sequence[Run]) -> None:
        scores: dict[str, dict[str, list[float]]] = {}
        metrics: dict[str, str] = {}
        for task in tasks:
            target = choice.run(task, methods[0], choice.seeds[0])
            scores[task] = {method: [] for method in methods}
            for run in runs:
                if run.scores is not None:
                    found = probed(run, target, out)
                    metrics[task] = metric_name(found["metric"])
                    scores[task][run.method] += found["scores"].values()
        rows = [["method", *(f"{task} {metrics.get(task, '')}" for task in tasks), "heads"]]
        for method in methods:
            cells = [_cell(scores[task][method]) for task in tasks]
            rows.append([label_of(method), *cells, str(len(scores[tasks[0]][method]))])
        parts = [
            "# Figure 4 of Zuo et al. (2021): probing",
            f"Encoders fine-tuned on {SOURCE} with the seeds {', '.join(map(str, choice.seeds))},"
            f" frozen; {HEADS} heads of each, fairseq's, trained on other corpora for {_EPOCHS}"
            f" epochs (Adam, {_RATE:g}, batches of {_BATCH}, dropout {_DROPOUT:g}). On dev, per"
            " cent: mean ± standard deviation over all heads. The paper prints no numbers beside"
            " its violins.",
            markdown_table(rows),
            *notes_of(choice, [SOURCE], methods, runs, missing),
        ]
        with written_whole(out / "figure.md") as temporary:
            temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        plot(scores, metrics, out / "figure.png")
        found = {"missing": list(map(str, missing)), "metrics": metrics, "scores": scores}
        write_json(found, out / "figure.json")

    found = plan_of(choice, [SOURCE], methods, report)
    return replace(found, corpora=choice.corpora(list(dict.fromkeys([SOURCE, *tasks]))))


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


@quiet()
def _main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.paper.probing", description=__doc__)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="data of the fine-tuning")
    parser.add_argument("checkpoint", type=Path, metavar="FILE")
    parser.add_argument("target", type=Path, metavar="TARGET", help="data of the heads")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    args = parser.parse_args()
    write_json(probe(args.source, args.checkpoint, args.target, args.cpu), args.out)


if __name__ == "__main__":
    sys.exit(run_main("recipes.paper.probing", _main))
