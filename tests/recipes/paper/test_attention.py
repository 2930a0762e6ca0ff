"""Table 2 and Figure 4 of Kitada and Iyatomi (2021): numbers, trainings, epsilons, what is made."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY

from recipes.paper.attention import study as attention_study
from recipes.paper.attention.table import METHODS, TABLE
from recipes.paper.fine_tuning import Choice, table_plan
from recipes.paper.reported import LabelColumn
from recipes.paper.runs import Epsilon, Explained, FineTuning, LearningRate
from recipes.support.errors import RecipeError
from recipes.support.files import read_json, write_json
from tests.data_prep.sentences.made import examples
from tests.data_prep.sentences.test_babi import stories
from tests.recipes.paper.test_fine_tuning import cells, choice, finish
from tests.recipes.test_finetune import parsed, trained_with
from tests.recipes.test_presets import words
from tests.support import shell
from tests.support.processes import ROOT

AT = "adv,--perturb=attention"
IAT = f"{AT},--directions=differences"


# ---- The paper's numbers -------------------------------------------------------------------------


def best_in(column: LabelColumn) -> set[str]:
    """The names of the methods with the highest number that the paper prints in a column."""
    means = {
        name: sum(numbers[column]) / len(numbers[column])
        for method, name in METHODS.items()
        if (numbers := TABLE.numbers_of(method))
    }
    return {name for name, mean in means.items() if mean == max(means.values())}


def test_the_paper_s_numbers_say_what_the_paper_says() -> None:
    """Attention iAT has the highest correlation in all tasks, and the best score in all but one."""
    iat = "Attention iAT"
    assert len(TABLE.columns) == 2 * 9
    for column in TABLE.columns:
        expected = {iat}
        if column.title == "20News":
            expected = {"Attention AT"}
        elif column.title == "bAbI 1":
            expected = {iat, "Attention AT", "Attention RP", "Word AT"}  # all are right
        assert best_in(column) == expected, column.title


def test_the_paper_s_sets_of_multi_nli_have_the_paper_s_averages() -> None:
    averages = (60.26, 60.72, 60.73, 60.97, 61.17, 61.34)
    (column,) = (c for c in TABLE.columns if len(c.parts) == 2)
    for method, average in zip(METHODS, averages, strict=False):
        numbers = TABLE.numbers_of(method)[column]
        assert sum(numbers) / 2 == pytest.approx(average, abs=0.0051)


def test_the_paper_reports_of_its_own_methods_alone() -> None:
    """Another adversary of the same preset is another method."""
    assert TABLE.numbers_of(AT)[TABLE.columns[0]] == (81.72,)
    assert TABLE.numbers_of(f"{AT},--norm=linf") == {}
    assert TABLE.numbers_of(f"{AT},--directions=raw-differences") == {}
    assert TABLE.label("salt") == "SALT"


# ---- Which trainings -----------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_epsilons(*values: str, **changes: Any) -> Choice:
    usual: dict[str, Any] = {"methods": [], "encoder": "words", "tasks": ["sst"]}
    return choice(variants=list(map(Epsilon, values)), **(usual | changes))


def explain(run: FineTuning, correlation: float, split: str = "test") -> None:
    """Leave what the stage attention leaves, with a baseline's before it."""
    models = [{"label": "plain", "correlation": -1.0}, {"label": "x", "correlation": correlation}]
    write_json({"split": split, "models": models}, run.directory / "attention.json")
    (run.directory / ".attention").touch()


def prepared(run: FineTuning) -> None:
    """Leave a report of data as data_prep does."""
    vocabulary = {"words": 1234, "dim": 50, "vectors": None, "with_vector": 0}
    write_json({"encoder": {"vocabulary": vocabulary}}, run.data / "report.json")


def test_a_method_is_searched_if_its_options_have_an_open_epsilon() -> None:
    epsilon = Epsilon("3")
    for path in ROOT.glob("recipes/presets/sentences/*.txt"):
        given = words(path)
        options = CRITERION_DATACLASS_REGISTRY[given[given.index("--criterion") + 1]]
        assert epsilon.varies(path.stem) == hasattr(options(), "epsilon"), path.stem
    assert epsilon.varies(IAT) and epsilon.played(IAT) == f"{IAT},--epsilon=3"
    assert epsilon.varies(f"{AT},--attention-epsilon=5")
    assert not epsilon.varies(f"{AT},--epsilon=5")
    assert not epsilon.varies("no-preset")  # finetune.sh refuses it


def test_the_first_seed_is_searched_and_the_best_epsilon_goes_on(here: Path) -> None:
    chosen = with_epsilons("0.3", "3", "30", tasks=["sst", "babi-1"], seeds=[4, 7])
    plan = table_plan(TABLE, chosen, here / "out")
    adversarial = [method for method in METHODS if method != "plain"]
    order = [
        (task, epsilon, method)
        for task in ("sst", "babi-1")
        for epsilon in ("0.3", "3", "30")
        for method in adversarial
    ]
    search = [run for run in plan.search if isinstance(run, FineTuning) and run.variant]
    assert [(r.task, r.variant and r.variant.value, r.method) for r in search] == order
    assert {run.seed for run in search} == {4}
    assert [str(run) for run in plan.runs()] == [
        f"{task}, plain, seed {seed}" for task in ("sst", "babi-1") for seed in (4, 7)
    ]  # of the others nothing is known
    dev = {"0.3": 70.0, "3": 80.0, "30": 80.0}  # as good: the first one is taken
    for run in search:
        assert run.variant is not None
        if run.task == "sst":
            opposite = 100 * (run.method == IAT) - dev[run.variant.value]
            finish(run, ("valid", "acc_and_f1", abs(opposite)), ("test", "f1", 0.0))
            explain(run, 0.5)
    found = {
        (run.method, run.seed): run.variant and run.variant.value
        for run in plan.runs()
        if isinstance(run, FineTuning) and run.task == "sst"
    }
    assert len(found) == 7 * 2
    for (method, _), epsilon in found.items():
        assert epsilon == {"plain": None, IAT: "0.3"}.get(method, "3")
    firsts = [run for run in plan.runs() if run.seed == 4 and run.method != "plain"]
    assert set(firsts) <= set(plan.search)  # not trained again


def test_a_run_of_the_table_is_one_of_make_train(here: Path) -> None:
    """The recipe itself has the same place for it; its stages end with attention."""
    (run,) = (r for r in with_epsilons("3").search(["sst"], [IAT]))
    assert run.variables["METHOD"] == f"{IAT},--epsilon=3" and "OUT" not in run.variables
    variables = {"GPUS": "0", "PYTHON": sys.executable, "DRY_RUN": "1"} | run.variables
    status, said = shell.run("finetune.sh", ROOT, *Explained.stages, **variables)
    assert status == 0, said
    assert f"--save-dir {run.directory}/checkpoints " in said.replace("\\,", ",")
    assert f"-m recipes.attention data/sst.words --checkpoint {run.directory}/" in said.replace(
        "\\,", ","
    )


def options_of(method: str) -> Namespace:
    variables = {"GPUS": "0", "PYTHON": sys.executable, "DRY_RUN": "1", "ENCODER": "words"}
    status, said = shell.run(
        "finetune.sh", ROOT, "train", **variables, RECIPE="babi-1", METHOD=method
    )
    assert status == 0, said
    given = trained_with(said)
    given[given.index("--num-classes") + 1] = "6"  # of the report, which is not there
    return parsed([*given, "--arch", "attention_classifier"])


def test_methods_are_the_paper_s() -> None:
    """Site, direction, lambda and the radius, as fairseq reads them."""
    found = {name: options_of(Epsilon("7").played(m)) for m, name in METHODS.items() if "," in m}
    found["Word AT"] = options_of("adv,--epsilon=7")
    for options in found.values():
        assert (options.criterion, options.adv_weight, options.epsilon) == ("adv", 1.0, 7.0)
        assert (str(options.norm), str(options.norm_scope)) == ("l2", "sentence")  # Eq. 11
        assert options.encoder_hidden_size == 32
    assert {name: options.ascent_steps for name, options in found.items()} == {
        name: int(name != "Attention RP") for name in found
    }
    places = {name: (options.perturb, str(options.directions)) for name, options in found.items()}
    attention = "attention"
    assert places == {
        "Word AT": (places["Word AT"][0], "free"),
        "Word iAT": (places["Word AT"][0], "neighbours"),
        "Attention RP": (attention, "free"),
        "Attention AT": (attention, "free"),
        "Attention iAT": (attention, "differences"),
        "Attention, raw differences": (attention, "raw-differences"),
    }
    assert "attention" not in str(places["Word AT"][0])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"EPSILONS": "1 fast"}, "EPSILONS=fast: allowed is a number above 0, such as 0.3"),
        ({"EPSILONS": "1 0"}, "EPSILONS=0: allowed is a number above 0"),
        ({"EPSILONS": "1 1.0"}, "EPSILONS=1 1: one is there twice"),
        ({"EPSILONS": "1", "LRS": "1e-3"}, "LRS=1e-3, EPSILONS=1: give one of them"),
    ],
)
def test_wrong_variables(variables: dict[str, str], message: str) -> None:
    ours = {"DRY_RUN": "1", "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    status, said = shell.run("paper.sh", ROOT, "attention-table", **(ours | variables))
    assert status == 1
    assert message in said and len(said.splitlines()) == 1


def test_an_unknown_task_is_refused(here: Path) -> None:
    allowed = (
        "TASKS=cnn: allowed is sst, imdb, 20news-baseball-hockey, agnews-world-business, babi-1"
    )
    for plan in (attention_study.plan, partial(table_plan, TABLE)):
        with pytest.raises(RecipeError, match=allowed):
            plan(with_epsilons("1", tasks=["sst", "cnn"]), here)


def test_the_study_is_over_epsilon(here: Path) -> None:
    chosen = choice(variants=[LearningRate("1e-3")], tasks=["sst"], methods=[])
    with pytest.raises(RecipeError, match="LRS=1e-3: attention-study is over EPSILONS"):
        attention_study.plan(chosen, here)


# ---- What is made of the scores ------------------------------------------------------------------


def test_a_table_has_scores_and_correlations_beside_the_paper_s(here: Path) -> None:
    chosen = with_epsilons("3", methods=["plain", AT, "adv,--norm=linf"])
    plan = table_plan(TABLE, chosen, here / "out")
    prepared(chosen.run("sst", "plain", 1))
    for run in (*plan.search, *plan.runs()):
        if run.method == AT:
            assert isinstance(run, Explained) and run.scores is None
            finish(run, ("valid", "acc_and_f1", 60.0), ("test", "f1", 80.126))
            assert run.scores is None  # its attention is wanted, too
            explain(run, 0.8125)
    for seed in (1, 2):
        run = chosen.run("sst", "plain", seed)
        finish(run, ("valid", "acc_and_f1", 60.0), ("test", "f1", 79.0 + seed))
        explain(run, 0.5 + seed / 10)
    missing = [r for r in (*plan.search, *plan.runs()) if r.scores is None]
    assert [str(run) for run in missing] == [
        "sst, adv,--norm=linf, epsilon 3, seed 1",
        f"sst, {AT}, epsilon 3, seed 2",
    ]
    plan.report(missing)
    text = (here / "out/table.md").read_text("utf-8")
    rows = cells(text)
    assert rows[0] == ["method", "SST F1", "SST corr."]
    assert ["Vanilla", "80.50 ± 0.71", "0.650 ± 0.071"] in rows
    assert ["Vanilla, the paper's", "79.27", "0.652"] in rows
    assert ["Attention AT", "80.13", "0.812"] in rows
    assert ["Attention AT, the paper's", "81.72", "0.852"] in rows
    assert ["Attention AT", "+0.13", "+0.213"] in rows  # of the seed that both have
    assert ["Adv, norm linf", "-", "-"] in rows
    assert "Adv, norm linf, the paper's" not in text
    assert text.startswith("# Table 2 of Kitada and Iyatomi (2021): labels, and attention")
    assert f"**Missing:** sst, adv,--norm=linf, epsilon 3, seed 1; sst, {AT}" in text
    assert "Encoder words, 22.7 million parameters; the paper's embeddings have 300" in text
    assert "Embeddings: sst: 1,234 words of 50 channels, random." in text
    assert "The epsilon is the best of 3 on dev, with seed 1" in text
    assert "Attention AT: sst 3; Adv, norm linf: sst -." in text
    assert "Of two numbers" not in text and "torch " in text
    found = read_json(here / "out/table.json", "the test")
    assert found["chosen"] == {AT: {"sst": "3"}, "adv,--norm=linf": {"sst": None}}
    plain = found["rows"][0]["columns"]["SST corr."]
    assert plain["ours"][0]["by_seed"] == {"1": 0.6, "2": 0.7}
    assert (here / "out/table.png").read_bytes().startswith(b"\x89PNG")


def test_a_correlation_of_a_set_without_labels(here: Path) -> None:
    """Multi NLI's: two accuracies of dev, and the correlation on test."""
    chosen = with_epsilons(tasks=["mnli"], methods=["plain"], seeds=[1])
    plan = table_plan(TABLE, chosen, here / "out")
    (run,) = plan.runs()
    assert isinstance(run, FineTuning)
    prepared(run)
    finish(run, ("valid", "accuracy", 61.0), ("valid1", "accuracy", 62.5))
    scores = read_json(run.directory / "scores.json", "the test")
    scores["splits"]["test"] = {"name": "test", "sentences": 9}  # without labels no metrics
    write_json(scores, run.directory / "scores.json")
    explain(run, 0.25)
    plan.report([])
    rows = cells((here / "out/table.md").read_text("utf-8"))
    assert rows[0] == ["method", "Multi NLI dev m/mm Acc", "Multi NLI corr."]
    assert ["Vanilla", "61.00/62.50", "0.250"] in rows
    assert ["Vanilla, the paper's", "59.80/60.71", "0.541"] in rows


def test_points_of_the_study(here: Path) -> None:
    chosen = with_epsilons("30", "0.3", methods=["plain", "adv", AT], seeds=[5, 6])
    plan = attention_study.plan(chosen, here / "out")
    runs = plan.runs()
    assert [str(run) for run in runs] == [
        "sst, plain, seed 5",
        "sst, adv, epsilon 30, seed 5",
        f"sst, {AT}, epsilon 30, seed 5",
        "sst, adv, epsilon 0.3, seed 5",
        f"sst, {AT}, epsilon 0.3, seed 5",
    ]
    prepared(chosen.run("sst", "plain", 5))
    for run, score in zip(runs, (70.0, 40.5, 71.25, 69.0), strict=False):
        assert isinstance(run, FineTuning)
        finish(run, ("valid", "acc_and_f1", 1.0), ("valid", "f1", score), ("test", "f1", 2.0))
    plan.report(runs[-1:])
    text = (here / "out/figure.md").read_text("utf-8")
    assert cells(text)[:1] + cells(text)[2:] == [
        ["epsilon", "Word AT", "Attention AT"],
        ["0.3", "69.00", "-"],
        ["30", "40.50", "71.25"],
    ]
    assert "## sst: F1" in text and "Vanilla: 70.00." in text and "with seed 5" in text
    assert f"**Missing:** sst, {AT}, epsilon 0.3, seed 5." in text
    found = read_json(here / "out/figure.json", "the test")["tasks"]["sst"]
    assert found["metric"] == "f1" and found["levels"] == {"plain": 70.0}
    assert found["curves"] == {
        "adv": {"0.3": 69.0, "30": 40.5},
        AT: {"0.3": None, "30": 71.25},
    }
    assert (here / "out/figure.png").read_bytes().startswith(b"\x89PNG")


# ---- For real ------------------------------------------------------------------------------------

SETTINGS = {
    "TASKS": "sst babi-1",
    "METHODS": f"plain {AT}",
    "EPSILONS": "0.5 5",
    "SEEDS": "1 2",
    "SCALE": "tiny",
}


def run(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | SETTINGS | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "ENCODER": "words"}
    return subprocess.run(
        command, cwd=root, env=environment | variables, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a few sentences of SST and a few of bAbI's stories."""
    root = shell.link_root(tmp_path_factory.mktemp("root"))
    rows = examples(120)
    for name, part in (("train", rows[:80]), ("dev", rows[80:100]), ("test", rows[100:])):
        lines = (f"{int(label == 'positive')} {text}\n" for label, text in part)
        (root / f"stsa.binary.{name}").write_text("".join(lines), "utf-8")
    for name, content in (("train", stories(40)), ("test", stories(10, 40))):
        (root / f"qa1_single-supporting-fact_{name}.txt").write_bytes(content)
    for task, names, more in (
        ("sst", [f"stsa.binary.{name}" for name in ("train", "dev", "test")], "--vectors none"),
        ("babi-1", [f"qa1_single-supporting-fact_{name}.txt" for name in ("train", "test")], ""),
    ):
        variables = {"RECIPE": task, "ARCHIVE": " ".join(names), "PREPARE": more}
        done = run(root, "recipes/finetune.sh", "data", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.mark.slow
def test_table_and_study_at_tiny_scale(root: Path) -> None:
    """Both share the search; a cell is what the run's own files say."""
    done = run(root, "recipes/paper.sh", "attention-table")
    assert done.returncode == 0, done.stdout + done.stderr
    out = root / "results/paper/attention-table-tiny/words"
    found = json.loads((out / "table.json").read_text("utf-8"))
    assert found["missing"] == [] and [row["method"] for row in found["rows"]] == shlex.split(
        SETTINGS["METHODS"]
    )
    for row in found["rows"]:
        for title, task, metric in (("SST", "sst", "f1"), ("bAbI 1", "babi-1", "accuracy")):
            method = row["method"]
            if method != "plain":
                method += f",--epsilon={found['chosen'][method][task]}"
            for seed in ("1", "2"):
                place = root / f"results/{task}-tiny/words/{method}/seed-{seed}"
                scores = json.loads((place / "scores.json").read_text("utf-8"))
                theirs = scores["splits"]["test"]["metrics"][metric]["value"]
                assert row["columns"][title]["ours"][0]["by_seed"][seed] == theirs
                (model,) = json.loads((place / "attention.json").read_text("utf-8"))["models"]
                correlation = row["columns"][f"{title} corr."]["ours"][0]["by_seed"][seed]
                assert correlation == model["correlation"]
    for method, of_task in found["chosen"].items():
        for task, epsilon in of_task.items():
            dev = {}
            for tried in ("0.5", "5"):
                place = f"results/{task}-tiny/words/{method},--epsilon={tried}/seed-1/scores.json"
                scores = json.loads((root / place).read_text("utf-8"))
                dev[tried] = scores["splits"]["valid"]["metrics"][scores["metric"]]["value"]
            assert dev[epsilon] == max(dev.values())
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")
    times = {path: path.stat().st_mtime_ns for path in root.glob("results/**/checkpoint_best.pt")}
    done = run(root, "recipes/paper.sh", "attention-study")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {
        path: path.stat().st_mtime_ns for path in root.glob("results/**/checkpoint_best.pt")
    } == times  # all are there
    study = root / "results/paper/attention-study-tiny/words"
    found = json.loads((study / "figure.json").read_text("utf-8"))
    assert found["missing"] == [] and found["tasks"].keys() == {"sst", "babi-1"}
    for task, of in found["tasks"].items():
        assert all(
            len(curve) == 2 and None not in curve.values() for curve in of["curves"].values()
        )
        place = root / f"results/{task}-tiny/words/plain/seed-1/scores.json"
        metrics = json.loads(place.read_text("utf-8"))["splits"]["valid"]["metrics"]
        assert of["levels"] == {"plain": metrics[of["metric"]]["value"]}
    assert (study / "figure.png").read_bytes().startswith(b"\x89PNG")
