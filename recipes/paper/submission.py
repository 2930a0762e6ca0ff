"""The zip that GLUE's server takes: a table for each task, from a method's predictions."""

import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recipes.paper.fine_tuning import Choice
from recipes.paper.runs import FineTuning
from recipes.sentences.labelled import Labelled
from recipes.support.errors import RecipeError
from recipes.support.files import PREDICTIONS, read_table, written_whole

_HIGHEST_SCORE = 5.0


@dataclass(frozen=True)
class Table:
    """A file of the zip, and the split that it is of."""

    file: str
    task: str
    split: str = "test"


TABLES = (
    Table("CoLA.tsv", "glue-cola"),
    Table("SST-2.tsv", "glue-sst-2"),
    Table("MRPC.tsv", "glue-mrpc"),
    Table("STS-B.tsv", "glue-sts-b"),
    Table("MNLI-m.tsv", "glue-mnli"),
    Table("MNLI-mm.tsv", "glue-mnli", "test1"),
    Table("QNLI.tsv", "glue-qnli"),
    Table("QQP.tsv", "glue-qqp"),
    Table("RTE.tsv", "glue-rte"),
)
UNTRAINED = {"WNLI.tsv": (146, "0"), "AX.tsv": (1104, "entailment")}
"""What the server wants too, and nobody has trained: so many examples, all with one label."""


def table_of(predictions: Mapping[int, str], corpus: Labelled) -> str:
    """Return the content of a file: index and prediction, as GLUE's own files have labels.

    :param predictions: our labels, or scores, by the numbers of the sentences.
    """
    theirs = corpus.report["source_labels"]
    lines = ["index\tprediction"]
    for number, label in sorted(predictions.items()):
        if corpus.classes is None:
            said = f"{min(_HIGHEST_SCORE, max(0.0, float(label))):.3f}"
        else:
            said = theirs.get(label, label)
        lines.append(f"{number}\t{said}")
    return "\n".join(lines) + "\n"


def predictions_of(run: FineTuning, split: str) -> dict[int, str]:
    """Return what a run predicts for a split. Raises RecipeError if it has predicted none."""
    path = run.directory / PREDICTIONS
    rows = [row for row in read_table(path) if row["split"] == split]
    if not rows:
        raise RecipeError(f"{path} has no predictions of {split}: was {run.data} made without it?")
    return {int(row["number"]): row["predicted"] for row in rows}


def submit(choice: Choice, dry_run: bool) -> None:
    """Write the zip of a method and seed. Raises RecipeError that names the runs that are missing.

    Only some tasks are no submission: the server takes all.
    """
    (method,), (seed,) = choice.methods, choice.seeds
    tasks = list(dict.fromkeys(table.task for table in TABLES))
    runs = {task: choice.run(task, method, seed) for task in tasks}
    commands = {
        task: f"make train RECIPE={task} METHOD={shlex.quote(method)} SEED={seed}"
        f" ENCODER={shlex.quote(choice.encoder)}"
        + ("" if choice.scale.name == "full" else f" SCALE={choice.scale.name}")
        for task in tasks
    }
    missing = [task for task, run in runs.items() if run.scores is None]
    if dry_run:
        print("\n".join(commands[task] for task in missing))
        return
    if missing:
        raise RecipeError(
            f"missing: {', '.join(missing)}; each is made by a command such as\n"
            f"{commands[missing[0]]}"
        )
    files = {
        table.file: table_of(
            predictions_of(runs[table.task], table.split), Labelled.of(runs[table.task].data)
        )
        for table in TABLES
    }
    for file, (examples, label) in UNTRAINED.items():
        files[file] = "".join(
            ["index\tprediction\n", *(f"{number}\t{label}\n" for number in range(examples))]
        )
    name = choice.scale.of("glue-submission")
    out = Path("results/paper", name, Path(choice.encoder).name, method, f"seed-{seed}.zip")
    with written_whole(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file, content in sorted(files.items()):
            # Without a date, so that the same predictions are the same file.
            archive.writestr(zipfile.ZipInfo(file), content, zipfile.ZIP_DEFLATED)
    print(f"{out}: {', '.join(sorted(files))}")
    print(
        "WNLI and AX are not trained: WNLI is always 0 and AX always entailment, so that the server"
        " takes the zip.\nTheir scores say nothing, and WNLI's counts in the server's average."
    )
