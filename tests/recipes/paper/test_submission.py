"""GLUE's zip: the files that its server takes, in its words."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from data_prep.sentences.corpora.glue import TASKS
from recipes.paper import submission
from recipes.paper.submission import submit
from recipes.support.errors import RecipeError
from recipes.support.files import write_json, write_table
from tests.recipes.paper.test_fine_tuning import choice, finish

FILES = [
    *("AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "MRPC.tsv", "QNLI.tsv", "QQP.tsv"),
    *("RTE.tsv", "SST-2.tsv", "STS-B.tsv", "WNLI.tsv"),
]
"""Of the server's own sample."""


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of all tasks, each with three predictions of its test sets."""
    monkeypatch.chdir(tmp_path)
    for name, glue in TASKS.items():
        run = choice().run(f"glue-{name}", "salt", 1)
        finish(run, ("valid", "accuracy", 50.0))
        labels = list(glue.labels.values())
        said = [labels[i % len(labels)] for i in range(3)] if labels else ["-0.2", "2.5", "5.25"]
        rows = [("valid", "0", said[0])]
        tests = [split for split in glue.files if split.startswith("test")]
        # Not in their order: files have them in that of their numbers.
        rows += [(split, str(i), said[i]) for split in tests for i in (2, 0, 1)]
        columns = {
            column: [row[i] for row in rows]
            for i, column in enumerate(("split", "number", "predicted"))
        }
        write_table(columns, run.directory / "predictions.tsv")
        report: dict[str, Any] = {
            "task": glue.task.kind,
            "num_classes": len(labels) or 1,
            "classes": labels or None,
            "source_labels": dict(glue.task.source_labels),
        }
        write_json(report, run.data / "report.json")
    return tmp_path


def test_the_zip_is_what_the_server_takes(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(choice(methods=["salt"], seeds=[1]), dry_run=False)
    path = trained / "results/paper/glue-submission/minilm/salt/seed-1.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == FILES
        found = {name: archive.read(name).decode().splitlines() for name in FILES}
    assert all(lines[0] == "index\tprediction" for lines in found.values())
    assert found["CoLA.tsv"][1:] == ["0\t0", "1\t1", "2\t0"]
    assert found["QQP.tsv"][1:] == ["0\t0", "1\t1", "2\t0"]
    assert found["RTE.tsv"][1:] == ["0\tentailment", "1\tnot_entailment", "2\tentailment"]
    assert found["MNLI-mm.tsv"][1:] == ["0\tentailment", "1\tneutral", "2\tcontradiction"]
    assert found["STS-B.tsv"][1:] == ["0\t0.000", "1\t2.500", "2\t5.000"]  # from 0 to 5
    assert len(found["WNLI.tsv"]) == 1 + 146 and len(found["AX.tsv"]) == 1 + 1104
    assert "WNLI and AX are not trained" in capsys.readouterr().out
    before = path.read_bytes()
    submit(choice(methods=["salt"], seeds=[1]), dry_run=False)
    assert path.read_bytes() == before


def test_a_missing_run_is_named_and_nothing_written(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (choice().run("glue-qnli", "salt", 1).directory / ".score").unlink()
    chosen = choice(methods=["salt"], seeds=[1])
    with pytest.raises(RecipeError) as caught:
        submit(chosen, dry_run=False)
    said = "missing: glue-qnli; each is made by a command such as\n"
    command = "make train RECIPE=glue-qnli METHOD=salt SEED=1 ENCODER=minilm"
    assert str(caught.value) == said + command
    assert not (trained / "results/paper").exists()
    submit(chosen, dry_run=True)
    assert capsys.readouterr().out == f"{command}\n"


def test_a_run_without_the_test_set_is_named(trained: Path) -> None:
    path = choice().run("glue-mnli", "salt", 1).directory / "predictions.tsv"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("test1")), "utf-8")
    with pytest.raises(RecipeError, match=r"predictions\.tsv has no predictions of test1"):
        submit(choice(methods=["salt"], seeds=[1]), dry_run=False)


def test_tasks_are_those_of_data_prep() -> None:
    assert {table.task for table in submission.TABLES} == {f"glue-{name}" for name in TASKS}
