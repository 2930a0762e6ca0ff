"""The corpora's training recipes: what they would run, and real trainings in several processes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fairseq import options

from tests.support import processes, shell, training
from tests.support.processes import ROOT
from tests.support.shared_data import multi30k_archives
from tests.support.texts import tree

RECIPES = [
    path.stem
    for path in (ROOT / "recipes").glob("*.sh")
    if 'training.sh"\nmain' in path.read_text()
]


def dry_run(recipe: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """What a recipe prints in the repository's root, where it must change nothing."""
    variables = {"GPUS": "4", "PYTHON": sys.executable, "DRY_RUN": "1", **variables}
    with tempfile.TemporaryDirectory() as folder:
        root = shell.link_root(Path(folder))
        before = sorted(root.iterdir())
        result = shell.run(f"{recipe}.sh", root, *arguments, **variables)
        assert sorted(root.iterdir()) == before
    return result


def training_words(said: str) -> list[str]:
    """The options of fairseq-train in a dry run, launcher and all."""
    (line,) = (line for line in said.splitlines() if "recipes.training.watch" in line)
    words = shlex.split(line)
    return words[words.index("--") + 1 :]


def value(words: list[str], option: str) -> str:
    """The last value of an option, which is the one that counts."""
    return words[len(words) - words[::-1].index(option)]


def parsed(words: list[str]) -> dict[str, object]:
    """fairseq's own reading of a command line; it fails on options that it does not know."""
    words = words[words.index("fairseq_cli.train") + 1 :]
    words[words.index("--user-dir") + 1] = training.USER_DIR
    return vars(options.parse_args_and_arch(options.get_training_parser(), words))


def test_there_is_a_recipe_for_each_corpus_of_the_paper() -> None:
    assert {"iwslt14-de-en", "iwslt15-en-vi", "iwslt16-fr-en", "wmt16-en-de"} < set(RECIPES)


@pytest.mark.parametrize("scale", ["full", "tiny"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_fairseq_knows_every_option(recipe: str, scale: str) -> None:
    status, said = dry_run(recipe, SCALE=scale, SEED="7")
    assert status == 0, said
    found = parsed(training_words(said))
    assert found["seed"] == 7
    assert found["criterion"] == "salt" and found["adam_betas"] == "(0.9, 0.98)"
    assert f"-m data_prep {recipe} --out data/{recipe}" in said
    assert "-m recipes.evaluation.evaluate" in said


@pytest.mark.parametrize(
    ("visible", "gpus"), [(None, 3), ("2", 1), ("0, 2", 2), ("", 0), ("-1", 0), ("1,-1,2", 1)]
)
def test_no_more_gpus_are_taken_than_are_visible(
    visible: str | None, gpus: int, tmp_path: Path
) -> None:
    """The driver of this machine has three, of which one is cut into two parts."""
    listed = ["GPU 0: H200 (UUID: GPU-a)", "GPU 1: H200 (UUID: GPU-b)"]
    listed += [f"  MIG 3g.71gb Device {number}: (UUID: MIG-{number})" for number in (0, 1)]
    listed += ["GPU 2: H200 (UUID: GPU-c)"]
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in listed))
    driver.chmod(0o755)
    variables = {"GPUS": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    if visible is not None:
        variables["CUDA_VISIBLE_DEVICES"] = visible
    status, said = dry_run("multi30k-en-de", "train", **variables)
    assert status == 0, said
    words = training_words(said)
    if gpus:
        assert value(words, "--distributed-world-size") == str(gpus) and "--cpu" not in words
    else:
        assert "--cpu" in words


# Zuo et al. 2021, Table 8, and batch sizes from Appendix B.1.
TABLE_8 = {
    "iwslt15-en-vi": (64_000, 1e-3, 1e-5, 1e-4, 0.1, "--beam 10 --lenpen 1.0"),
    "iwslt14-de-en": (64_000, 1e-3, 1e-4, 1e-4, 0.3, "--beam 9 --lenpen 1.5"),
    "iwslt16-fr-en": (64_000, 1e-3, 1e-5, 1e-5, 0.3, "--beam 10 --lenpen 2.0"),
    "wmt16-en-de": (450_000, 1e-3, 1e-4, 1e-4, 0.3, "--beam 4 --lenpen 0.6"),
}


@pytest.mark.parametrize("recipe", TABLE_8)
def test_the_papers_numbers(recipe: str) -> None:
    batch, lr, step_size, std, epsilon, search = TABLE_8[recipe]
    status, said = dry_run(recipe, METHOD="salt-paper")
    assert status == 0, said
    found = parsed(training_words(said))
    assert found["lr"] == [lr]
    assert (found["ascent_step_size"], found["init_std"]) == (step_size, std)
    assert (found["epsilon"], found["ascent_steps"]) == (epsilon, 1)
    assert search in said
    assert f"updates of {batch} tokens" in said


@pytest.mark.parametrize("recipe", ["iwslt14-de-en", "wmt16-en-de"])
@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
@pytest.mark.parametrize("tokens", [1500, 8000, 100_000])
def test_batches_are_the_same_on_any_number_of_gpus(
    recipe: str, nodes: int, gpus: int, tokens: int
) -> None:
    variables = {"NODES": str(nodes), "GPUS": str(gpus), "TOKENS": str(tokens)}
    if nodes > 1:
        variables |= {"NODE_RANK": "1", "MASTER_ADDR": "first"}
    status, said = dry_run(recipe, "train", **variables)
    assert status == 0, said
    words = training_words(said)
    each, passes = int(value(words, "--max-tokens")), int(value(words, "--update-freq"))
    workers = nodes * gpus
    batch = TABLE_8[recipe][0]
    assert each <= tokens
    assert batch - workers * passes < workers * passes * each <= batch
    assert (passes - 1) * workers * tokens < batch  # no more passes than it takes
    assert f"= {nodes} x {gpus} x {passes} passes x {each} tokens per GPU" in said


def test_the_paper_on_4_gpus() -> None:
    """Appendix B.1: 8,000 tokens per GPU, gradients accumulated for 2 steps."""
    words = training_words(dry_run("iwslt14-de-en")[1])
    assert (value(words, "--max-tokens"), value(words, "--update-freq")) == ("8000", "2")
    assert value(words, "--distributed-world-size") == "4"


def test_several_machines_are_started_by_torchrun() -> None:
    machines = {"NODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "first"}
    words = training_words(dry_run("wmt16-en-de", "train", **machines)[1])
    assert words[1:3] == ["-m", "torch.distributed.run"]
    assert (value(words, "--nnodes"), value(words, "--nproc-per-node")) == ("2", "4")
    assert (value(words, "--node-rank"), value(words, "--master-addr")) == ("1", "first")
    assert "recipes/training/worker.sh" in words and "--distributed-world-size" not in words


def test_methods_and_changes_to_them() -> None:
    words = training_words(
        dry_run("iwslt14-de-en", METHOD="salt,--ascent-steps=2,--perturb=source")[1]
    )
    found = parsed(words)
    assert (found["ascent_steps"], found["perturb"]) == (2, "source")
    words = training_words(dry_run("iwslt14-de-en", "--", "--lr", "5e-4", METHOD="transformer")[1])
    found = parsed(words)
    assert found["criterion"] == "label_smoothed_cross_entropy" and found["lr"] == [5e-4]


def evaluation(*stages: str, **variables: str) -> dict[str, list[str]]:
    """What a dry run of stages would call, by module."""
    status, said = dry_run("iwslt14-de-en", *stages, **variables)
    assert status == 0, said
    lines = [shlex.split(line) for line in said.splitlines() if " -m recipes." in line]
    return {words[2].rpartition(".")[2]: words[3:] for words in lines}


def test_evaluation_uses_the_search_of_the_paper_and_the_best_checkpoint() -> None:
    found = evaluation("score", "calibrate", "robustness", "export")
    assert list(found) == ["evaluate", "calibration", "robustness", "export"]
    best = "results/iwslt14-de-en/salt/seed-1/checkpoints/checkpoint_best.pt"
    for words in found.values():
        assert words[0] == "data/iwslt14-de-en"
        assert value(words, "--checkpoint") == best
    for module in ("evaluate", "robustness", "export"):
        words = found[module]
        assert (value(words, "--beam"), value(words, "--lenpen")) == ("9", "1.5")
    assert value(found["export"], "--out") == "results/iwslt14-de-en/salt/seed-1/model"


def test_averages_and_a_baseline() -> None:
    found = evaluation("score", "calibrate", AVERAGE="best-5", BASELINE="transformer", SEED="3")
    here = "results/iwslt14-de-en/salt/seed-3"
    assert found["averaging"][0] == f"{here}/checkpoints"
    assert value(found["averaging"], "--choose") == "best-5"
    assert value(found["averaging"], "--out") == f"{here}/average-best-5.pt"
    assert value(found["evaluate"], "--checkpoint") == f"{here}/average-best-5.pt"
    plain = "results/iwslt14-de-en/transformer/seed-3"
    assert value(found["evaluate"], "--baseline") == plain
    words = found["calibration"]
    both = words[words.index("--checkpoint") + 1 : words.index("--label")]
    assert both == [f"{plain}/average-best-5.pt", f"{here}/average-best-5.pt"]
    assert words[words.index("--label") + 1 :][:2] == ["transformer", "salt"]
    split = evaluation("score", SPLIT_COMPOUNDS="1")["evaluate"]
    assert "--split-compounds" in split and "--baseline" not in split


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {"AVERAGE": "10"}, "AVERAGE=10: allowed is last-N, best-N"),
        ([], {"GPUS": "four"}, "GPUS=four: allowed is 0, 1, 2, ..."),
        ([], {"GPUS": "0", "WORKERS": "0"}, "WORKERS=0: allowed is 1, 2, 3, ..."),
        ([], {"TOKENS": "4k"}, "TOKENS=4k: allowed is 1, 2, 3, ..."),
        ([], {"SEED": "-1"}, "SEED=-1: allowed is 0, 1, 2, ..."),
        ([], {"PRECISION": "int8"}, "PRECISION=int8: allowed is bf16, fp16, fp32"),
        ([], {"SCALE": "large"}, "SCALE=large: allowed is full, tiny"),
        ([], {"NODES": "2"}, "NODE_RANK=: allowed is 0 on the first of NODES=2 machines"),
        ([], {"NODES": "2", "NODE_RANK": "0"}, "MASTER_ADDR=: allowed is the name of the first"),
        ([], {"METHOD": "sgd"}, "METHOD=sgd: no preset sgd; there are adv freeat freelb"),
        (
            ["test"],
            {},
            "STAGE=test: allowed is data, train, score, calibrate, robustness, attention, export;"
            " options",
        ),
    ],
)
def test_wrong_variables(arguments: list[str], variables: dict[str, str], message: str) -> None:
    status, said = dry_run("iwslt14-de-en", *arguments, **variables)
    assert status == 1
    assert f"iwslt14-de-en: error: {message}" in said


# ---- For real ------------------------------------------------------------------------------------

# No dropout, and `adv` starts at zero: how the work is shared out makes no difference.
TOY = """
set -euo pipefail
corpus=toy
batch_tokens=120
updates=6
every=3
model=({model} --dropout 0)
optimisation=(--optimizer adam --lr 1e-3 --label-smoothing 0.1 --num-workers 0)
paper=()
search=(--beam 2 --lenpen 1.0)
source {training}
main "$@"
"""


@pytest.fixture
def toy(toy_data: Path, tmp_path: Path) -> Path:
    """A recipe whose data is there already."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/bin").symlink_to(toy_data)
    (tmp_path / "data/report.json").write_text("{}")
    recipe = tmp_path / "toy.sh"
    model = shlex.join(training.MODEL)
    text = TOY.format(model=model, training=ROOT / "recipes" / "training" / "training.sh")
    recipe.write_text(text)
    return recipe


@pytest.fixture
def port() -> Iterator[str]:
    """Where processes of a recipe meet."""
    with processes.held_port() as held:
        yield str(held)


def train(toy: Path, out: str, **variables: str) -> tuple[int, str]:
    """Run its stage train on the CPU."""
    places = {"DATA": str(toy.parent / "data"), "OUT": str(toy.parent / out), "GPUS": "0"}
    more = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "METHOD": "adv"}
    arguments = ("train", "--", "--eval-bleu-detok", "space")
    return shell.run(str(toy), ROOT, *arguments, **(places | more | variables))


def same(one: Path, other: Path) -> None:
    ours, theirs = (training.state(path / "checkpoints") for path in (one, other))
    assert ours["optimizer_history"][-1]["num_updates"] == 6
    assert theirs["optimizer_history"][-1]["num_updates"] == 6
    for name, parameter in ours["model"].items():
        torch.testing.assert_close(parameter, theirs["model"][name], rtol=1e-3, atol=3e-5)


@pytest.mark.slow
def test_processes_and_machines_train_what_one_trains(toy: Path, port: str) -> None:
    """One process with four passes per update; four in two machines, with one each."""
    status, said = train(toy, "one", TOKENS="30")
    assert status == 0, said
    assert "= 1 x 1 x 4 passes x 30 tokens per process" in said
    machines = {"NODES": "2", "WORKERS": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    with ThreadPoolExecutor(2) as both:
        runs = [
            both.submit(train, toy, "four", TOKENS="30", NODE_RANK=rank, **machines)
            for rank in "01"
        ]
    for run in runs:
        status, said = run.result()
        assert status == 0, said
        assert "= 2 x 2 x 1 passes x 30 tokens per process" in said
    same(toy.parent / "one", toy.parent / "four")
    before = tree(toy.parent / "four")
    status, said = train(toy, "four", TOKENS="30")
    assert status == 0 and "train: already there" in said
    assert tree(toy.parent / "four") == before


@pytest.mark.slow
def test_it_goes_on_with_another_number_of_processes(toy: Path, port: str) -> None:
    status, said = train(toy, "one", TOKENS="60")
    assert status == 0, said
    checkpoints = toy.parent / "parts/checkpoints"
    (toy.parent / "parts").mkdir()
    checkpoints.mkdir()
    half = next((toy.parent / "one/checkpoints").glob("checkpoint_*_3.pt"))
    (checkpoints / "checkpoint_last.pt").write_bytes(half.read_bytes())
    settings = (toy.parent / "one/.settings").read_text()
    (toy.parent / "parts/.settings").write_text(
        settings.replace(f"{toy.parent}/one/", f"{toy.parent}/parts/")
    )
    status, said = train(toy, "parts", TOKENS="60", WORKERS="2", MASTER_PORT=port)
    assert status == 0, said
    assert f"continues from {checkpoints}/checkpoint_last.pt" in said
    state = training.state(checkpoints)
    assert state["optimizer_history"][-1]["num_updates"] == 6


def test_another_method_in_the_same_place(toy: Path) -> None:
    assert train(toy, "one")[0] == 0
    status, said = train(toy, "one", METHOD="rdrop")
    assert status == 1
    assert "one holds a training with other data or settings: remove it or choose another" in said


@pytest.mark.slow
def test_a_recipe_from_archives_to_a_translator_at_tiny_scale(tmp_path: Path, port: str) -> None:
    """Plain training, then SALT against it, averaged, with all stages of evaluation."""
    shell.link_root(tmp_path)
    variables = {"SCALE": "tiny", "GPUS": "0", "WORKERS": "2", "MASTER_PORT": port}
    variables |= {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    variables["ARCHIVE"] = " ".join(map(str, multi30k_archives(tmp_path)))
    recipe = ("multi30k-en-de.sh", tmp_path)
    status, said = shell.run(*recipe, **variables, METHOD="transformer")
    assert status == 0, said
    stages = ("data", "train", "score", "calibrate", "robustness", "export")
    variables |= {"METHOD": "salt", "BASELINE": "transformer", "AVERAGE": "last-2"}
    status, said = shell.run(*recipe, *stages, **variables)
    assert status == 0, said
    out = tmp_path / "results/multi30k-en-de-tiny/salt/seed-1"
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["sentences"] == 602
    assert set(scores["systems"]["model"]) == {"bleu", "chrf", "ter", "length_ratio"}
    assert scores["checkpoint"].endswith("average-last-2.pt")
    assert 0 < scores["baseline"]["p"]["BLEU"] <= 1
    calibration = json.loads((out / "calibration.json").read_text(encoding="utf-8"))
    assert [model["label"] for model in calibration["models"]] == ["transformer", "salt"]
    robustness = json.loads((out / "robustness.json").read_text(encoding="utf-8"))
    clean = {one["model"]: one["bleu"] for one in robustness["measured"] if one["noise"] == "clean"}
    assert clean["salt"] == pytest.approx(scores["systems"]["model"]["bleu"])
    for picture in ("calibration.png", "robustness.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    raw = (tmp_path / "data/multi30k-en-de-tiny/raw/test.en").read_bytes()
    translated = subprocess.run(
        [sys.executable, "-m", "recipes.serving.translate", out / "model", "--cpu"],
        **{"input": raw, "stdout": subprocess.PIPE, "check": True, "cwd": ROOT},
    ).stdout
    assert translated.count(b"\n") == 602
    before = tree(out)
    status, said = shell.run(*recipe, *stages[:-1], **variables)
    assert status == 0, said
    for stage in ("train", "score", "calibrate", "robustness"):
        assert f"{stage}: already there" in said
    assert tree(out) == before
