"""Tables 4 and 6: the paper's numbers, which trainings, at which rate, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recipes.paper import fine_tuning
from recipes.paper.fine_tuning import Choice
from recipes.paper.plan import Means, Plan, Scale
from recipes.paper.plan import finish as run_plan
from recipes.paper.reported import LABELS, LabelTable
from recipes.paper.runs import FineTuning, LearningRate
from recipes.support.errors import RecipeError
from recipes.support.files import LOG, read_json, write_json

AVERAGES = {"plain": 81.5, "freeat": 82.6, "freelb": 83.3, "smart": 83.8, "salt": 84.5}
"""The paper's last column of Table 4."""


def test_the_paper_s_numbers_have_the_paper_s_averages() -> None:
    table = LABELS["table4"]
    for method, numbers in table.reported.items():
        means = [sum(of_set) / len(of_set) for of_set in numbers]
        assert sum(means) / len(means) == pytest.approx(AVERAGES[method], abs=0.051), method
        widths = [len(column.parts) for column in table.columns]
        assert [len(of_set) for of_set in numbers] == widths
    assert table.reported.keys() == AVERAGES.keys()


def test_the_paper_s_rounds_make_up_its_column_all() -> None:
    """Of Nie et al. (2020): 1,000 sentences in dev and test of R1 and R2, 1,200 of R3."""
    for numbers in LABELS["table6"].reported.values():
        values = [value for (value,) in numbers]
        for *rounds, together in (values[:4], values[4:]):
            sizes = (1000, 1000, 1200)
            mean = sum(v * n for v, n in zip(rounds, sizes, strict=True)) / sum(sizes)
            assert mean == pytest.approx(together, abs=0.11)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def choice(**changes: Any) -> Choice:
    usual: dict[str, Any] = {
        "tasks": [],
        "methods": ["plain", "salt"],
        "seeds": [1, 2],
        "encoder": "minilm",
        "variants": [],
        "scale": Scale("full"),
    }
    return Choice(**(usual | changes))


def finish(run: FineTuning, *metrics: tuple[str, str, float | None], sentences: int = 100) -> None:
    """Leave a run as finetune.sh does: its metrics are of a split, name and value each."""
    splits: dict[str, Any] = {}
    for split, name, value in metrics:
        entry = splits.setdefault(split, {"name": split, "sentences": sentences, "metrics": {}})
        entry["metrics"][name] = {"value": value, "low": 0.0, "high": 100.0}
    scores = {
        "splits": splits,
        "metric": metrics[0][1],
        "parameters": 22_700_000,
        "batch_size": 32,
        "lr": [1e-4],
    }
    write_json(scores, run.directory / "scores.json")
    (run.directory / LOG).write_text('{"valid_num_updates": "9", "valid_epoch": "3"}\n')
    (run.directory / ".score").touch()


def cells(text: str) -> list[list[str]]:
    """The rows of all tables in Markdown."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_a_table_has_ours_beside_the_paper_s(here: Path) -> None:
    chosen = choice(tasks=["rte", "mrpc"])
    plan = fine_tuning.table_plan(LABELS["table4"], chosen, here / "out")
    for run in plan.runs():
        assert isinstance(run, FineTuning)
        if (run.method, run.seed) == ("salt", 2):
            continue
        better = 4.0 * (run.method == "salt") + run.seed
        if run.task == "glue-rte":
            finish(run, ("valid", "accuracy", 60 + better))
        else:
            finish(run, ("valid", "accuracy", 80 + better), ("valid", "f1", 86 + better))
    missing = [run for run in plan.runs() if run.scores is None]
    assert [str(run) for run in missing] == ["glue-rte, salt, seed 2", "glue-mrpc, salt, seed 2"]
    plan.report(missing)
    text = (here / "out/table.md").read_text("utf-8")
    rows = cells(text)
    assert rows[0] == ["method", "RTE Acc", "MRPC Acc/F1"]  # not all sets: no average
    assert ["plain", "61.5 ± 0.7", "81.5 ± 0.7/87.5 ± 0.7"] in rows
    assert ["plain, the paper's", "63.5", "84.1/89.0"] in rows
    assert ["SALT", "65.0", "85.0/91.0"] in rows
    assert ["SALT", "+4.0", "+4.0"] in rows  # of the seed that both have
    assert "**Missing:** glue-rte, salt, seed 2; glue-mrpc, salt, seed 2." in text
    assert "Encoder minilm, 22.7 million parameters" in text
    assert "the end of training: 3; batches of 32" in text
    found = read_json(here / "out/table.json", "the test")
    salt = found["rows"][1]["columns"]["MRPC"]
    assert salt["paper"] == [88.4, 91.8]
    assert [figure["by_seed"] for figure in salt["ours"]] == [{"1": 85.0}, {"1": 91.0}]
    assert (here / "out/table.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_nothing_yet(here: Path) -> None:
    plan = fine_tuning.table_plan(LABELS["table6"], choice(methods=[]), here / "out")
    plan.report(plan.runs())
    rows = cells((here / "out/table.md").read_text("utf-8"))
    assert ["SALT", *["-"] * 8] in rows
    assert ["R-Drop", *["-"] * 8] in rows
    assert [
        "SALT, the paper's",
        *["56.6", "46.2", "45.9", "49.3", "55.4", "47.7", "46.7", "49.7"],
    ] in rows


def row_of(table: LabelTable, runs: list[FineTuning], method: str) -> fine_tuning.Row:
    (row,) = fine_tuning.rows_of(table, table.columns, [method], runs)
    return row


def test_rounds_are_pooled_by_their_sentences(here: Path) -> None:
    run = choice().run("anli", "salt", 1)
    accuracies = (60.0, 50.0, 40.0)
    splits = [f"{name}{n or ''}" for name in ("valid", "test") for n in range(3)]
    finish(run, *((s, "accuracy", accuracies[i % 3]) for i, s in enumerate(splits)))
    scores = read_json(run.directory / "scores.json", "the test")
    scores["splits"]["test2"]["sentences"] = 200
    write_json(scores, run.directory / "scores.json")
    row = row_of(LABELS["table6"], [run], "salt")
    ours = {title: cell.ours[0].mean for title, cell in row.cells.items() if cell.ours}
    assert ours["dev R2"] == 50
    assert ours["dev all"] == pytest.approx(50)
    assert ours["test all"] == pytest.approx((60 + 50 + 40 + 40) / 4)


def test_the_average_is_of_seeds_that_have_all_sets(here: Path) -> None:
    table = LABELS["table4"]
    chosen = choice()
    runs = chosen.runs(table.tasks, ["plain"])
    for run in runs:
        if run.seed == 2 and run.task == "glue-cola":
            continue
        parts = [p for column in table.columns if column.task == run.task for p in column.parts]
        finish(run, *((part.split, part.metric, 50.0 + 10 * i) for i, part in enumerate(parts)))
    average = row_of(table, runs, "plain").average
    assert average is not None and average.ours is not None
    # Of eight sets four have two numbers, 50 and 60.
    assert average.ours.by_seed == {1: pytest.approx((4 * 50 + 4 * 55) / 8)}
    assert average.paper == pytest.approx(81.475)


def test_a_correlation_that_is_not_defined_is_none(here: Path) -> None:
    run = choice().run("glue-sts-b", "plain", 1)
    finish(run, ("valid", "pearson", None), ("valid", "spearman", None))
    cell = row_of(LABELS["table4"], [run], "plain").cells["STS-B"]
    assert cell.our_mean is not None and cell.our_mean.mean == 0


def test_every_method_has_the_rate_that_is_best_for_it_on_dev(here: Path) -> None:
    chosen = choice(variants=list(map(LearningRate, ["1e-5", "1e-4", "1e-3"])))
    methods = ["plain", "salt"]
    search = chosen.search(["glue-rte"], methods)
    assert len({run.directory for run in search}) == len(search) == 6
    assert {run.seed for run in search} == {1}
    assert chosen.runs(["glue-rte"], methods) == []  # none is known before
    dev = {
        ("plain", "1e-5"): 50.0,
        ("plain", "1e-4"): 61.0,
        ("plain", "1e-3"): 61.0,  # as good: the first one is taken
        ("salt", "1e-5"): 70.0,
        ("salt", "1e-4"): None,  # a failure
    }
    for run in search:
        assert run.variant is not None
        if (score := dev.get((run.method, run.variant.value))) is not None:
            finish(run, ("valid", "accuracy", score), ("test", "accuracy", 0.0))
    assert chosen.best("glue-rte", "plain") == LearningRate("1e-4")
    assert chosen.best("glue-rte", "salt") == LearningRate("1e-5")
    runs = chosen.runs(["glue-rte"], methods)
    assert [(r.seed, r.method, r.variant and r.variant.value) for r in runs] == [
        (1, "plain", "1e-4"),
        (1, "salt", "1e-5"),
        (2, "plain", "1e-4"),
        (2, "salt", "1e-5"),
    ]
    assert runs[0] in search  # the first seed is not trained again
    assert runs[0].variables["OUT"] == "results/glue-rte/minilm/plain/lr-1e-4/seed-1"
    assert runs[0].variables["LR"] == "1e-4"
    chosen = choice(tasks=["rte"], variants=[LearningRate("1e-4")])
    plan = fine_tuning.table_plan(LABELS["table4"], chosen, here)
    plan.report([])
    assert "the best of 1e-4 on dev, with seed 1" in (here / "table.md").read_text("utf-8")


class Made:
    """A run, as far as a plan looks at it."""

    scores = None

    def job(self, gpus: int, options: list[str]) -> Made:
        return self


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_search_that_failed_nothing_is_trained(
    fails: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best would be that of what happened to be finished."""
    search, run = Made(), Made()
    trained: list[Any] = []

    def finish_all(jobs: list[Any], *_: Any, **__: Any) -> list[Any]:
        trained.extend(jobs)
        return jobs if fails else []

    monkeypatch.setattr("recipes.paper.plan.finish_all", finish_all)
    plan: Any = Plan([], lambda: [run], lambda missing: None, [search])  # type: ignore[list-item]
    means = Means(Scale("full"), [], 1, 1, False)
    if fails:
        with pytest.raises(RecipeError, match="1 runs failed; the same command tries them again"):
            run_plan(plan, means, here)
        assert trained == [search]
    else:
        run_plan(plan, means, here)
        assert trained == [search, run]
