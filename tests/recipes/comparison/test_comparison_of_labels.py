"""Comparisons of labels of sentences: their options, scores, significance and tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fairseq import options

from recipes.comparison.__main__ import _kind, write
from recipes.comparison.contenders import contender, contenders
from recipes.comparison.costs import Cost
from recipes.comparison.kinds import kind_from
from recipes.comparison.kinds.kind import System
from recipes.comparison.kinds.sentences import Sentences
from recipes.comparison.kinds.translation import Translation
from recipes.comparison.plan import Budget, Run, plan_run
from recipes.comparison.results import collect
from recipes.comparison.run import at
from recipes.comparison.table import Conditions
from recipes.support.errors import RecipeError
from recipes.support.files import LOG, read_table, write_json
from tests.support.processes import ROOT

DEV = (60.0, 90.0, 80.0)


@pytest.fixture
def kind(opinions: Path, bert: Path) -> Sentences:
    return Sentences(opinions, bert)


def planned(kind: Sentences, out: Path, name: str, seed: int = 1) -> Run:
    found = contender(name, kind.presets)
    return plan_run(out, found, seed, kind, ["--batch-size", "8", "--cpu"], 5, horizons=(5, 10))


def test_fairseq_reads_what_a_run_is_told(kind: Sentences, tmp_path: Path) -> None:
    """And a training that goes on does not begin again with the encoder."""
    run = planned(kind, tmp_path, "salt")
    parser = options.get_training_parser()
    found = options.parse_args_and_arch(parser, list(run.command))
    assert (found.task, found.criterion) == ("adversarial_sentence_prediction", "salt")
    assert (found.arch, found.num_classes, found.init_token) == ("bert", 2, 0)
    assert found.finetune_from_model == str(kind.encoder / "model.pt")
    assert not found.reset_optimizer and not found.reset_dataloader
    assert (found.best_checkpoint_metric, found.ascent_steps) == ("accuracy", 2)


def test_scores_have_their_metrics(scored: Path, bert: Path) -> None:
    kind = Sentences(scored, bert)
    assert "--regression-target" in kind.options()
    assert kind.chosen_by.key == "pearson_and_spearman"
    assert [of.title for of in kind.compared] == ["Pearson and Spearman", "Pearson", "Spearman"]


def test_a_run_is_written_down_and_read_again(kind: Sentences, tmp_path: Path) -> None:
    run = planned(kind, tmp_path, "rdrop")
    run.save()
    assert Run.load(run.directory) == run


def test_runs_of_before_there_were_kinds_translate(tmp_path: Path) -> None:
    assert kind_from(tmp_path, {"beam": 4, "seed": 1}) == Translation(tmp_path, beam=4)


def test_the_encoder_is_that_of_the_data(
    kind: Sentences, roberta: Path, bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"is in the pieces of another encoder, bert: give"):
        Sentences(kind.data, roberta).options()
    with pytest.raises(RecipeError, match=r"has sentences with labels: give their encoder"):
        _kind(kind.data, None, 5)
    # Other weights in the same pieces are another training.
    other = tmp_path / "bert"
    shutil.copytree(bert, other)
    facts = json.loads((other / "encoder.json").read_text("utf-8"))
    facts["files"]["model.pt"] = "another"
    (other / "encoder.json").write_text(json.dumps(facts), "utf-8")
    planned(kind, tmp_path, "salt").save()
    run = planned(kind, tmp_path, "salt")
    changed = plan_run(
        tmp_path,
        contender("salt", kind.presets),
        1,
        Sentences(kind.data, other),
        ["--batch-size", "8", "--cpu"],
        5,
        horizons=(5, 10),
    )
    assert changed.directory == run.directory
    with pytest.raises(RecipeError, match="holds a training with other data or options"):
        changed.save()


def test_the_test_set_is_labelled_and_scored(
    kind: Sentences, opinion_model: Path, tmp_path: Path
) -> None:
    kind.evaluate(opinion_model, tmp_path, cpu=True)
    rows = read_table(tmp_path / "predictions.tsv")
    assert {row["split"] for row in rows} == {"test"}
    right = [row["label"] == row["predicted"] for row in rows]
    found = kind.system(tmp_path)
    assert found.figures == {"accuracy": pytest.approx(100 * sum(right) / len(right))}
    same = [said == label for said, label in zip(found.said, found.right, strict=True)]
    assert same == right
    scores = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert kind.headline(scores) == f"accuracy {found.figures['accuracy']:.1f}"


def test_p_is_that_of_a_bootstrap_done_by_hand(kind: Sentences) -> None:
    """As sacreBLEU has it: how often a difference is as far from the mean as the real one from 0.

    Other resamples than the program's, and more of them.
    """
    generator = np.random.default_rng(7)
    right = [float(i % 2) for i in range(200)]
    plain, better = (
        [label if wins else 1 - label for label, wins in zip(right, draws, strict=True)]
        for draws in (generator.random((2, 200)) < [[0.7], [0.8]])
    )
    p = kind.p_values(System({}, plain, right), System({}, better, right))["accuracy"]
    gains = np.array(better) == np.array(right)
    gains = gains.astype(float) - (np.array(plain) == np.array(right))
    drawn = generator.integers(200, size=(10_000, 200))
    means = gains[drawn].mean(axis=1)
    expected = (np.abs(means - gains.mean()) >= abs(gains.mean())).mean()
    assert p == pytest.approx(expected, abs=0.03)
    assert 0.001 < p < 0.5
    assert kind.p_values(System({}, plain, right), System({}, plain, right))["accuracy"] == 1


def log_of(name: str) -> str:
    """A log with a validation after every 5 updates."""
    lines = []
    for i, accuracy in enumerate(DEV):
        update = 5 * (i + 1)
        record = {"num_updates": update, "loss": 3.0 - i}
        if name == "salt":
            record |= {"clean_loss": 1.0 - i / 4, "adv_loss": 0.5}
        lines.append(json.dumps(record))
        valid = {"valid_num_updates": update, "valid_accuracy": accuracy, "valid_loss": 1.0}
        lines.append(json.dumps(valid))
    return "\n".join(lines) + "\n"


def test_everything_is_written(kind: Sentences, opinion_model: Path, tmp_path: Path) -> None:
    runs = [planned(kind, tmp_path, name) for name in ("plain", "salt")]
    for run in runs:
        run.save()
        (run.directory / LOG).write_text(log_of(run.contender), "utf-8")
        for updates in run.horizons:
            kind.evaluate(opinion_model, at(run.directory, updates), cpu=True)
    players = contenders(["salt"], kind.presets, kind.plain)
    costs = {"plain": Cost(1.0, 1.0), "salt": Cost(2.0, 1.5)}
    results = collect(players, runs, costs, 10, {"plain": 10, "salt": 5}, kind)
    salt = results[1].equal_updates
    assert salt is not None
    assert salt.differences["accuracy"] is not None
    assert salt.differences["accuracy"].by_seed == {1: 0.0}
    assert salt.figures["dev_accuracy"].by_seed == {1: 90.0}
    assert salt.figures["chosen"].by_seed == {1: 10}
    # What no game has perturbed.
    assert [kind.losses(result.logs[1])[0][1] for result in results] == [
        [3.0, 2.0, 1.0],
        [1.0, 0.75, 0.5],
    ]
    conditions = Conditions(
        corpus="opinions",
        kind=kind,
        details=kind.details(),
        seeds=(1,),
        budget=Budget(10, 10, 5),
        options=("--batch-size", "8"),
        trivial=kind.trivial(),
        device="CPU",
        versions={},
    )
    write(tmp_path, conditions, results, [])
    text = (tmp_path / "table.md").read_text("utf-8")
    assert "2 classes of sentences, 120 to train on, 45 dev and 60 test" in text
    assert "losses in bits per sentence" in text
    header = next(line for line in text.splitlines() if line.startswith("| method"))
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert columns == [
        *("method", "accuracy", "against plain", "p < 0.05", "dev accuracy", "time", "memory")
    ]
    assert "always the same label accuracy" in text and "a bag of words accuracy" in text
    found = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert found["kind"] == "sentences" and found["split"] == "test"
    assert found["methods"][1]["equal_updates"]["accuracy_p"] == {"1": 1.0}
    for picture in ("curves.png", "bars.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_where_the_test_set_has_no_labels_dev_is_scored(kind: Sentences, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(kind.data, data)
    report = json.loads((data / "report.json").read_text("utf-8"))
    report["labelled"].remove("test")
    write_json(report, data / "report.json")
    there = Sentences(data, kind.encoder)
    assert there.details()["split"] == "valid"
    assert "labels the dev set, for the test set has no labels" in there.how_scored


def test_there_is_a_preset_for_every_method() -> None:
    """What the recipe compares by default."""
    recipe = (ROOT / "recipes" / "compare.sh").read_text("utf-8")
    default = "plain adv freeat freelb smart salt r3f rdrop simcut"
    assert f"${{METHODS:-{default}}}" in recipe
    assert {*default.split()} <= {path.stem for path in Sentences.presets.glob("*.txt")}
