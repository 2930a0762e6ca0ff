"""Figures 2 to 4: losses over updates, heads on frozen encoders; and all at tiny scale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from recipes.models.model import Loaded, load
from recipes.paper import losses, probing
from recipes.paper.losses import curves_of, figures_of
from recipes.paper.probing import HEADS, features_of, head_says, probe
from recipes.training.training_log import parse_log
from tests.data_prep.sentences.made import anli, rounds
from tests.recipes.paper.test_fine_tuning import choice, finish
from tests.support import shell
from tests.support.processes import ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- Figure 3 ------------------------------------------------------------------------------------


def log_of(train: list[float], dev: list[float], plays: bool) -> bytes:
    """A log in which a game's objective is far from its clean loss."""
    lines: list[dict[str, Any]] = []
    for i, loss in enumerate(train):
        game = {"loss": 9.0, "clean_loss": loss, "adv_loss": 4.0} if plays else {"loss": loss}
        lines.append({"num_updates": i + 1, **game})
    lines += [
        {"valid_num_updates": len(train) + i, "valid_loss": loss, "valid_epoch": i + 1}
        for i, loss in enumerate(dev)
    ]
    return "\n".join(map(json.dumps, lines)).encode()


@pytest.mark.parametrize("plays", [True, False])
def test_losses_are_those_without_perturbation(plays: bool) -> None:
    log = parse_log(log_of([5.0, 4.0, 3.0, 2.0], [3.0, 1.0, 2.0], plays), "log")
    curves = curves_of(log)
    assert curves["training"] == ([1, 2, 3, 4], [5.0, 4.0, 3.0, 2.0])
    assert curves["validation"] == ([4, 5, 6], [3.0, 1.0, 2.0])
    figures = figures_of({1: curves})
    assert figures["training"] is not None and figures["training"].by_seed == {1: 2.0}
    assert figures["validation"] is not None and figures["validation"].by_seed == {1: 1.0}


def test_a_game_all_of_whose_passes_are_perturbed_has_no_training_loss() -> None:
    log = parse_log(b'{"num_updates": 1, "loss": 2, "adv_loss": 1}\n', "log")
    assert curves_of(log)["training"] == ([], [])
    assert figures_of({1: curves_of(log)}) == {"training": None, "validation": None}


def test_losses_are_drawn_of_the_runs_that_are_there(here: Path) -> None:
    plan = losses.plan(choice(methods=["smart", "salt"], tasks=["sst-2"]), here / "out")
    run = plan.runs()[0]
    finish(run, ("valid", "accuracy", 50.0))
    (run.directory / "training.log").write_bytes(log_of([1.0, 0.5], [0.75], plays=True))
    plan.report([run for run in plan.runs() if run.scores is None])
    text = (here / "out/figure.md").read_text("utf-8")
    assert "| SMART  | 0.500                      | 0.750" in text
    assert "**Missing:** glue-sst-2, salt, seed 1;" in text
    found = json.loads((here / "out/figure.json").read_text("utf-8"))
    smart = found["tasks"]["glue-sst-2"]["smart"]
    assert smart["curves"]["1"]["training"] == [[1, 2], [1.0, 0.5]]
    assert found["tasks"]["glue-sst-2"]["salt"]["validation"] is None
    assert (here / "out/figure.png").read_bytes().startswith(b"\x89PNG")


# ---- Figure 4 ------------------------------------------------------------------------------------


def test_features_are_hidden_states_of_the_first_symbol(
    opinions: Path, opinion_model: Path
) -> None:
    """One sentence at a time, without padding: in the order of the data."""
    loaded = load(opinions, opinion_model, cpu=True)
    features, labels = features_of(loaded, "valid", "the test")
    dataset = loaded.task.dataset("valid")
    for number in (0, 7, 44):
        sample = dataset.collater([dataset[number]])
        with torch.no_grad():
            hidden, _ = loaded.model(**sample["net_input"], features_only=True)
        assert features[number] == pytest.approx(hidden[0, 0].numpy(), abs=1e-5)
        assert labels[number] == sample["target"].item()
    assert len(features) == len(labels) == 45


def test_a_head_learns_what_logistic_regression_learns() -> None:
    """Three classes around centres, noisy: both are right as often; and by a seed, always alike."""
    generator = np.random.default_rng(1)
    labels = generator.integers(3, size=2500)
    centres = 0.3 * generator.normal(size=(3, 64))
    features = (centres[labels] + generator.normal(size=(2500, 64))).astype(np.float32)
    train, test = (features[:2000], labels[:2000].astype(float)), features[2000:]
    said = head_says(train, test, 3, seed=1)
    theirs = LogisticRegression().fit(*train).predict(test)
    ours, expected = ((found == labels[2000:]).mean() for found in (said, theirs))
    assert 0.6 < expected < 0.95
    assert ours == pytest.approx(expected, abs=0.04)
    assert np.array_equal(said, head_says(train, test, 3, seed=1))
    assert not np.array_equal(said, head_says(train, test, 3, seed=2))


def test_a_head_of_scores_is_near_the_least_squares() -> None:
    generator = np.random.default_rng(2)
    features = generator.normal(size=(2100, 32)).astype(np.float32)
    scores = np.tanh(features @ generator.normal(size=32) / 8) / 2 + 0.5
    train, test = features[:2000], features[2000:]
    said = head_says((train, scores[:2000]), test, None, seed=1)
    assert said.shape == (100,)
    fit = np.linalg.lstsq(np.c_[train, np.ones(2000)], scores[:2000], rcond=None)[0]
    theirs = np.c_[test, np.ones(100)] @ fit
    ours, expected = (np.corrcoef(of, scores[2000:])[0, 1] for of in (said, theirs))
    assert ours > expected - 0.02


def test_an_encoder_is_probed_on_scores_that_it_was_not_trained_on(
    opinions: Path, opinion_model: Path, scored: Path
) -> None:
    """The encoder stays; classes of one corpus, scores of another."""
    loaded: Loaded = load(opinions, opinion_model, cpu=True)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    found = probe(opinions, opinion_model, scored, cpu=True)
    assert found["metric"] == "pearson_and_spearman"
    assert list(found["scores"]) == [str(seed) for seed in range(1, HEADS + 1)]
    assert len(set(found["scores"].values())) > 1  # heads differ
    after = load(opinions, opinion_model, cpu=True).model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_violins_are_drawn_of_equal_values_and_of_none(tmp_path: Path) -> None:
    scores = {"rte": {"plain": [50.0] * 10, "salt": []}, "cola": {"plain": [1.0, 2.0], "salt": []}}
    probing.plot(scores, {"rte": "accuracy"}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


# ---- For real ------------------------------------------------------------------------------------

SETTINGS = {"METHODS": "plain salt", "SEEDS": "1 2", "ENCODER": "bert", "SCALE": "tiny"}


def write_tables(directory: Path) -> None:
    """RTE, STS-B and SST-2 as GLUE's files have them, with few and simple sentences."""
    sizes = {"train.tsv": (60, 0), "dev.tsv": (20, 100), "test.tsv": (8, 200)}
    for task, header in (
        ("rte", "index\tsentence1\tsentence2\tlabel"),
        ("sts-b", "index\tsentence1\tsentence2\tscore"),
        ("sst-2", "sentence\tlabel"),
    ):
        (directory / task).mkdir(parents=True)
        for name, (size, first) in sizes.items():
            lines = [header]
            for i in range(first, first + size):
                text = f"the film is {('bad', 'good')[i % 2]} {'a' * (i % 9 + 1)} {i}."
                label = {
                    "rte": ("not_entailment", "entailment")[i % 2],
                    "sts-b": f"{i % 11 / 2}",
                    "sst-2": str(i % 2),
                }[task]
                pair = f"{i}\t{text}\tit was {i}!\t{label}"
                lines.append(f"{text}\t{label}" if task == "sst-2" else pair)
            (directory / task / name).write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="module")
def root(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with three of GLUE's corpora prepared."""
    root = shell.link_root(tmp_path_factory.mktemp("root"))
    (root / "bert").symlink_to(bert)
    write_tables(root / "tables")
    for task in ("rte", "sts-b", "sst-2"):
        tables = [f"tables/{task}/{name}.tsv" for name in ("train", "dev", "test")]
        variables = {"RECIPE": f"glue-{task}", "ARCHIVE": " ".join(tables)}
        done = run(root, "recipes/finetune.sh", "data", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    return root


def run(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | SETTINGS | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    environment |= {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, cwd=root, env=environment | variables, capture_output=True, text=True
    )


def made(root: Path, what: str, **variables: str) -> Path:
    """Run the recipe to its end; return where the results are."""
    done = run(root, "recipes/paper.sh", what, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / f"results/paper/{what}-tiny/bert"


@pytest.mark.slow
def test_table_4_at_tiny_scale(root: Path) -> None:
    """Every method has its rate; what is there is reused."""
    variables = {"TASKS": "rte sts-b", "LRS": "1e-3 1e-4"}
    out = made(root, "table4", **variables)
    found = json.loads((out / "table.json").read_text("utf-8"))
    assert found["missing"] == []
    for row in found["rows"]:
        for title, task in (("RTE", "rte"), ("STS-B", "sts-b")):
            rate = found["chosen"][row["method"]][f"glue-{task}"]
            by_seed = row["columns"][title]["ours"][0]["by_seed"]
            for seed, value in by_seed.items():
                where = f"results/glue-{task}-tiny/bert/{row['method']}/lr-{rate}/seed-{seed}"
                scores = json.loads((root / where / "scores.json").read_text("utf-8"))
                assert scores["lr"] == [float(rate)]
                metric = {"rte": "accuracy", "sts-b": "pearson"}[task]
                theirs = scores["splits"]["valid"]["metrics"][metric]["value"]
                assert value == (theirs or 0.0)
            assert by_seed.keys() == {"1", "2"}
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")
    text = (out / "table.md").read_text("utf-8")
    times = {path: path.stat().st_mtime_ns for path in root.glob("results/**/checkpoint_best.pt")}
    assert made(root, "table4", **variables) == out
    assert (out / "table.md").read_text("utf-8") == text
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


@pytest.mark.slow
def test_table_6_at_tiny_scale(root: Path) -> None:
    """Each set of each round has its column."""
    anli(root / "anli_v1.0.zip", rounds(30))
    done = run(root, "recipes/finetune.sh", "data", RECIPE="anli", ARCHIVE="anli_v1.0.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    out = made(root, "table6")
    found = json.loads((out / "table.json").read_text("utf-8"))
    assert found["missing"] == []
    assert [row["method"] for row in found["rows"]] == ["plain", "salt"]
    splits = ["valid", "valid1", "valid2", "test", "test1", "test2"]
    numbers = ("R1", "R2", "R3")
    titles = [f"{part} {r}" for part in ("dev", "test") for r in numbers]
    for row in found["rows"]:
        for title, split in zip(titles, splits, strict=True):
            by_seed = row["columns"][title]["ours"][0]["by_seed"]
            assert by_seed.keys() == {"1", "2"}
            for seed, value in by_seed.items():
                where = root / f"results/anli-tiny/bert/{row['method']}/seed-{seed}"
                scores = json.loads((where / "scores.json").read_text("utf-8"))
                assert scores["splits"][split]["sentences"] == 30
                assert value == scores["splits"][split]["metrics"]["accuracy"]["value"]
        for part in ("dev", "test"):  # of three sets of one size
            of = [row["columns"][f"{part} {r}"]["ours"][0]["by_seed"] for r in ("all", *numbers)]
            for seed, value in of[0].items():
                assert value == pytest.approx(sum(each[seed] for each in of[1:]) / 3)
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_figures_at_tiny_scale(root: Path) -> None:
    """All three share the trainings on SST-2."""
    out = made(root, "figure2", TASKS="sst-2")
    found = json.loads((out / "figure.json").read_text("utf-8"))
    assert found["missing"] == []
    plain = found["tasks"]["glue-sst-2"]["plain"]
    for seed, ece in plain["ece"]["by_seed"].items():
        path = out / f"glue-sst-2-tiny/seed-{seed}/calibration.json"
        models = json.loads(path.read_text("utf-8"))["models"]
        assert [model["label"] for model in models] == ["plain", "SALT"]
        assert ece == pytest.approx(100 * models[0]["ece"])
        assert path.with_suffix(".png").exists()

    out = made(root, "figure3", TASKS="sst-2 sts-b")
    found = json.loads((out / "figure.json").read_text("utf-8"))["tasks"]
    assert found.keys() == {"glue-sst-2", "glue-sts-b"}
    updates, values = found["glue-sts-b"]["salt"]["curves"]["1"]["training"]
    assert updates and all(value > 0 for value in values)

    out = made(root, "figure4", TASKS="rte sts-b")
    found = json.loads((out / "figure.json").read_text("utf-8"))
    assert found["missing"] == []
    assert {len(of) for scores in found["scores"].values() for of in scores.values()} == {2 * HEADS}
    made_at = {path: path.stat().st_mtime_ns for path in out.glob("*/seed-*/*.json")}
    assert len(made_at) == 2 * 2 * 2
    made(root, "figure4", TASKS="rte sts-b")
    assert all(path.stat().st_mtime_ns == time for path, time in made_at.items())
    for name in ("figure2", "figure3", "figure4"):
        text = (root / f"results/paper/{name}-tiny/bert/figure.md").read_text("utf-8")
        assert "Encoder bert" in text and "Missing" not in text


@pytest.mark.slow
def test_mat_s_tables_at_tiny_scale(root: Path) -> None:
    """With the trainings of Table 4; a cell is what the run's own files say."""
    out = made(root, "mat-table", TASKS="rte", METHODS="plain mat")
    found = json.loads((out / "glue/table.json").read_text("utf-8"))
    assert found["missing"] == []
    for row in found["rows"]:
        for seed, value in row["columns"]["RTE"]["ours"][0]["by_seed"].items():
            where = f"results/glue-rte-tiny/bert/{row['method']}/seed-{seed}/scores.json"
            scores = json.loads((root / where).read_text("utf-8"))
            assert value == scores["splits"]["valid"]["metrics"]["accuracy"]["value"]
    assert (out / "glue/boxes.png").exists() and not (out / "anli").exists()

    variables = {"METHODS": "mat", "SAMPLES": "2", "LAMBDAS": "1", "SEEDS": "1"}
    out = made(root, "mat-ablation", TASKS="rte", **variables)
    found = json.loads((out / "ablation.json").read_text("utf-8"))
    assert found["missing"] == [] and len(found["rows"]) == 9
    gauges = {method: row["gauges"].get("glue-rte") for method, row in found["rows"].items()}
    assert gauges["mat"]["leader_spread"]["mean"] > 0
    pure = gauges["mat,--leader-mean-decay=0,--follower-mean-decay=0,--thermal-noise=0"]
    assert pure["noise_share"]["mean"] == 0 < gauges["mat"]["noise_share"]["mean"]
