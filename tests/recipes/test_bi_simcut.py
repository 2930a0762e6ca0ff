"""Bi-SimCut: the data in both directions, and the recipe, with the real python and a stand-in."""

import contextlib
import json
import math
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.data import Dictionary, data_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import preprocess, train

from data_prep import binarize
from data_prep.__main__ import main
from tests.support import processes, shell, training
from tests.support.processes import ROOT
from tests.support.texts import prepare_files, tree, write_texts

SCRIPT = ROOT / "recipes" / "bi-simcut.sh"


# ---- The data ------------------------------------------------------------------------------------


def preprocess_here(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
    """Stands for `subprocess.run`: fairseq-preprocess in this process, which has fairseq loaded."""
    assert command[:3] == [sys.executable, "-m", "fairseq_cli.preprocess"]
    preprocess.main(options.get_preprocessing_parser().parse_args(command[3:]))
    return subprocess.CompletedProcess(command, 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs to train on, two to validate on, in one direction and in both."""
    folder = tmp_path_factory.mktemp("bi-simcut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binarize.subprocess, "run", preprocess_here)
        assert prepare_files(write_texts(folder, train=3, held_out=2), folder / "data") == 0
        assert main(["bidirectional", str(folder / "data"), "--workers=1"]) == 0
    return folder / "data"


def sentences(data: Path, split: str, side: str) -> list[str]:
    """What fairseq reads, as text without BPE."""
    dictionary = Dictionary.load(str(data / "bidirectional" / f"dict.{side}.txt"))
    prefix = str(data / "bidirectional" / f"{split}.src-tgt.{side}")
    read = data_utils.load_indexed_dataset(prefix, dictionary)
    return [dictionary.string(read[i], bpe_symbol="@@ ") for i in range(len(read))]


def test_each_pair_is_there_in_both_directions(data: Path) -> None:
    de = ["Das ist ein 0 . Haus .", "Wir sehen den 1. Baum .", "Der 2. Hund schläft heute ."]
    en = ["This is a 0. house .", "We see the 1. tree .", "The 2. dog sleeps today ."]
    assert sentences(data, "train", "src") == de + en
    assert sentences(data, "train", "tgt") == en + de
    # 3 and 4 do not occur in train.
    de = ["Das ist ein <unk> . Haus .", "Wir sehen den <unk> . Baum ."]
    en = ["This is a <unk> . house .", "We see the <unk> . tree ."]
    assert sentences(data, "valid", "src") == de + en
    assert sentences(data, "valid", "tgt") == en + de


def test_the_dictionary_is_that_of_the_one_direction(data: Path) -> None:
    one = (data / "bin" / "dict.de.txt").read_bytes()
    assert one == (data / "bin" / "dict.en.txt").read_bytes()
    for side in ("src", "tgt"):
        assert (data / "bidirectional" / f"dict.{side}.txt").read_bytes() == one


def test_there_is_nothing_else(data: Path) -> None:
    """No text, no log, no test split."""
    files = {
        f"{split}.src-tgt.{side}.{kind}"
        for split in ("train", "valid")
        for side in ("src", "tgt")
        for kind in ("bin", "idx")
    }
    files |= {"dict.src.txt", "dict.tgt.txt", "stage.json"}
    assert set(tree(data / "bidirectional")) == files


def pretend_to_binarize(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
    folder = Path(command[command.index("--destdir") + 1])
    languages = [command[command.index(f"--{side}-lang") + 1] for side in ("source", "target")]
    dictionary = "a 1\n"
    if "--srcdict" in command:
        dictionary = Path(command[command.index("--srcdict") + 1]).read_text("utf-8")
    for lang in languages:
        (folder / f"dict.{lang}.txt").write_text(dictionary, "utf-8")
    return subprocess.CompletedProcess(command, 0)


@pytest.mark.slow
def test_it_is_made_again_when_the_data_changed(
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(binarize.subprocess, "run", pretend_to_binarize)
    out = tmp_path / "data"
    assert prepare_files(texts, out) == 0
    assert main(["bidirectional", str(out)]) == 0
    assert "60 pairs to train on, 10 to validate on" in capsys.readouterr().out
    before = tree(out)
    assert prepare_files(texts, out) == 0
    assert main(["bidirectional", str(out)]) == 0
    assert "bidirectional: already there" in capsys.readouterr().err
    assert tree(out) == before

    assert prepare_files(texts, out, "--train-pairs=20") == 0
    assert not (out / "bidirectional").exists()
    assert main(["bidirectional", str(out)]) == 0
    assert "40 pairs to train on" in capsys.readouterr().out
    for lang in ("de", "en"):
        (out / "bin" / f"dict.{lang}.txt").write_text("b 1\n")
    assert main(["bidirectional", str(out)]) == 0
    assert (out / "bidirectional" / "dict.src.txt").read_text() == "b 1\n"


@pytest.mark.parametrize("report", [None, "{", "[]", "{}", '{"languages": ["de"]}'])
def test_a_directory_without_finished_data(
    tmp_path: Path, report: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    if report is not None:
        data.mkdir()
        (data / "report.json").write_text(report)
    assert main(["bidirectional", str(data)]) == 1
    assert capsys.readouterr().err == (
        f"data_prep: error: {data}: no finished data with a report.json;"
        f" python -m data_prep CORPUS --out {data} makes them\n"
    )
    assert data.exists() == (report is not None)


# ---- The recipe ----------------------------------------------------------------------------------

TINY = [
    *["--cpu", "--num-workers", "0", "--max-tokens", "100", "--log-interval", "1"],
    *["--save-interval-updates", "1", "--validate-interval-updates", "1"],
    *["--encoder-layers", "1", "--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "8"],
    *["--decoder-layers", "1", "--decoder-embed-dim", "8", "--decoder-ffn-embed-dim", "8"],
]

# Ends when the fine-tuning is to begin, as if killed, and leaves the words of its command behind.
KILLED = f"""#!/bin/bash
[[ $* == *--finetune-from-model* ]] || exec {sys.executable} "$@"
printf '%s\\n' "$@" >"${{0%/*}}/command"
exit 143
"""


def start(
    python: Path | str, *arguments: str | Path, cwd: Path = ROOT, **variables: str
) -> "subprocess.Popen[str]":
    return shell.start("bi-simcut.sh", cwd, *arguments, PYTHON=str(python), **variables)


def recipe(
    python: Path | str, *arguments: str | Path, cwd: Path = ROOT, **variables: str
) -> tuple[int, str]:
    """Run the script; return exit status and what it said."""
    return shell.run("bi-simcut.sh", cwd, *arguments, PYTHON=str(python), **variables)


def train_here(command: list[str], *more: str) -> None:
    """A fairseq-train that `watch` was to run, in this process, which has fairseq loaded."""
    arguments = command[command.index("fairseq_cli.train") + 1 :]
    with contextlib.chdir(ROOT), pytest.MonkeyPatch.context() as patch:
        # The best score of an earlier training in this process would be this one's, too.
        patch.setattr(checkpoint_utils.save_checkpoint, "best", math.inf, raising=False)
        parser = options.get_training_parser()
        parsed = options.parse_args_and_arch(parser, [*arguments, *more])
        with training.in_its_own_process():
            train.main(convert_namespace_to_omegaconf(parsed))


def parameters(checkpoint: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))["model"])


@dataclass(frozen=True)
class Story:
    """A run that was killed in the fine-tuning, one that continued it, and one more."""

    out: Path
    said: list[tuple[int, str]]
    pretrained: dict[str, torch.Tensor]
    after_one_update: dict[str, torch.Tensor]
    before_last_run: dict[str, bytes]


@pytest.fixture(scope="module")
def story(data: Path) -> Story:
    out = data.parent / "out"
    arguments = (data, out, "--", *TINY)
    updates = {"PRETRAIN_UPDATES": "2", "FINETUNE_UPDATES": "3"}
    killed = data.parent / "python"
    killed.write_text(KILLED)
    killed.chmod(0o755)
    said = [recipe(killed, *arguments, **updates)]
    train_here((data.parent / "command").read_text().splitlines(), "--max-update", "1")
    pretrained = parameters(out / "pretraining/checkpoints/checkpoint_best.pt")
    after_one_update = parameters(out / "fine-tuning/checkpoints/checkpoint_last.pt")
    said.append(recipe(sys.executable, *arguments, **updates))
    before_last_run = tree(out)
    said.append(recipe(sys.executable, *arguments, **updates))
    return Story(out, said, pretrained, after_one_update, before_last_run)


def updates_in(log: Path) -> list[int]:
    """The number of each update that was logged, in the order of the log."""
    text = log.read_text("utf-8")
    records = [line[line.index("{") :] for line in text.splitlines() if "| train_inner |" in line]
    return [int(json.loads(record)["num_updates"]) for record in records]


@pytest.mark.slow
def test_it_ends_with_scores(story: Story) -> None:
    status, said = story.said[1]
    assert status == 0, said
    assert "the model" in said
    scores: dict[str, Any] = json.loads((story.out / "scores.json").read_text())
    assert (scores["split"], scores["sentences"]) == ("test", 2)
    assert scores["checkpoint"].endswith("/fine-tuning/checkpoints/checkpoint_best.pt")
    assert set(scores["systems"]["model"]) == {"bleu", "chrf", "ter", "length_ratio"}


@pytest.mark.slow
def test_fine_tuning_begins_with_the_pretrained_weights(story: Story) -> None:
    """The warm-up's first learning rate is 0: after one update the weights are still the first."""
    assert story.said[0][0] == 143
    assert updates_in(story.out / "pretraining/training.log") == [1, 2]
    assert story.after_one_update.keys() == story.pretrained.keys()
    for name, value in story.pretrained.items():
        assert torch.equal(story.after_one_update[name], value), name


@pytest.mark.slow
def test_an_interrupted_fine_tuning_continues(story: Story) -> None:
    said = story.said[1][1]
    assert "2/4 pretraining: already there" in said
    assert "3/4 fine-tuning: continues from" in said
    log = story.out / "fine-tuning/training.log"
    assert "checkpoint_last.pt (epoch 2 @ 1 updates)" in log.read_text("utf-8")
    assert updates_in(log) == [2, 3]


@pytest.mark.slow
def test_a_finished_run_is_left_alone(story: Story) -> None:
    status, said = story.said[2]
    assert status == 0, said
    assert said.count("already there") == 4
    assert tree(story.out) == story.before_last_run


# Stands for the modules that the recipe calls, each reduced to the files it leaves behind.
STAND_IN = """#!/bin/bash
echo "$2 $*" >>calls
case $2 in
  data_prep)
    mkdir -p data/{bin,bidirectional}
    echo "${STAMP:-1}" | tee data/{bin,bidirectional}/stage.json ;;
  recipes.training.watch)
    stage=$(dirname "$4")
    mkdir -p "$stage/checkpoints"
    echo "$stage ${MODEL:-1}" | tee "$stage"/checkpoints/checkpoint_{best,last}.pt
    trap 'echo stopped >>calls; exit 130' TERM
    for _ in {1..6000}; do [[ -z ${SLOW:-} ]] || sleep 0.1; done
    echo "x | done training in 3.5 seconds" >>"$stage/training.log" ;;
  recipes.evaluation.evaluate) echo "{}" >out/scores.json ;;
esac
"""
MODULES = [
    "data_prep",
    "recipes.training.watch",
    "recipes.training.watch",
    "recipes.evaluation.evaluate",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that looks like the repository's root."""
    return shell.make_root(tmp_path, STAND_IN)


def pretend(root: Path, *more: str, **variables: str) -> tuple[int, str]:
    return recipe(root / "python", "data", "out", *more, cwd=root, **variables)


def calls(root: Path) -> list[str]:
    """Return the modules called since the last time."""
    file = root / "calls"
    modules = [line.split()[0] for line in file.read_text().splitlines()]
    file.unlink()
    return modules


def test_options_go_to_both_stages(root: Path) -> None:
    status, said = pretend(root, "--", "--arch", "lstm", "--cpu", FINETUNE_UPDATES="7")
    assert status == 0, said
    trainings = [c for c in (root / "calls").read_text().splitlines() if "fairseq_cli.train" in c]
    for call, updates in zip(trainings, (20000, 7), strict=True):
        assert f"--updates {updates} " in call
        assert f"--max-update {updates} " in call
        assert call.index("--arch transformer_iwslt_de_en") < call.index("--arch lstm")
        assert "--criterion simcut --adv-weight 3.0 --cutoff-rate 0.05 " in call
    assert "fairseq_cli.train data/bidirectional " in trainings[0]
    assert "--finetune-from-model" not in trainings[0]
    assert "fairseq_cli.train data/bin " in trainings[1]
    best = "out/pretraining/checkpoints/checkpoint_best.pt"
    assert trainings[1].endswith(f"--finetune-from-model {best}")
    assert (root / "calls").read_text().splitlines()[-1].endswith("--cpu --out out")
    assert calls(root) == MODULES


def test_another_training_is_not_mixed_with_the_one_there(root: Path) -> None:
    assert pretend(root)[0] == 0
    for stage, changed in (
        ("pretraining", pretend(root, "--", "--lr", "1")),
        ("pretraining", pretend(root, STAMP="2")),
        ("pretraining", pretend(root, PRETRAIN_UPDATES="9")),
        ("fine-tuning", pretend(root, FINETUNE_UPDATES="9")),
    ):
        assert changed[0] == 1
        assert f"out/{stage} holds a training with other data or settings" in changed[1]
    (root / "out/pretraining/checkpoints/checkpoint_last.pt").unlink()
    status, said = pretend(root, MODEL="2")  # a fine-tuning of another pretrained model
    assert (status, "out/fine-tuning holds a training" in said) == (1, True)


def test_a_new_fine_tuning_is_evaluated_anew(root: Path) -> None:
    assert pretend(root)[0] == 0
    assert calls(root) == MODULES
    (root / "out/fine-tuning/checkpoints/checkpoint_last.pt").unlink()
    assert pretend(root, MODEL="2")[0] == 0
    assert calls(root) == ["data_prep", "recipes.training.watch", "recipes.evaluation.evaluate"]


def test_an_interrupted_run_stops_at_once_and_continues(root: Path) -> None:
    process = start(root / "python", "data", "out", cwd=root, SLOW="yes")
    checkpoint = root / "out/pretraining/checkpoints/checkpoint_last.pt"
    processes.wait_until(checkpoint.exists, of=process)
    status, said = pretend(root)
    assert (status, said) == (1, "bi-simcut: error: another run is at work in out\n")
    process.send_signal(signal.SIGTERM)
    (said,) = processes.end(process, statuses=[143])
    assert "the same command continues" in said
    assert "stopped" in calls(root)
    status, said = pretend(root)
    assert status == 0
    assert "2/4 pretraining: continues from" in said


USAGE = "usage: recipes/bi-simcut.sh DATA OUT [-- options of fairseq-train]"


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {}, USAGE),
        (["data"], {}, USAGE),
        (["data", "out", "--cpu"], {}, USAGE),
        (["data", "out"], {"PYTHON": "no-such-python"}, "PYTHON=no-such-python: no such command"),
        (["data", "out"], {"FINETUNE_UPDATES": "1e3"}, "FINETUNE_UPDATES=1e3: allowed is 1, 2, 3"),
        (["data", "out", "--", "--max-update=9"], {}, "--max-update=9: set PRETRAIN_UPDATES and"),
        (["data", "out", "--", "--save-dir", "x"], {}, "--save-dir: leave it out"),
        (["data", "out", "--", "--reset-optimizer"], {}, "--reset-optimizer: leave it out"),
    ],
)
def test_wrong_arguments(
    root: Path, arguments: list[str], variables: dict[str, str], message: str
) -> None:
    python = variables.pop("PYTHON", str(root / "python"))
    status, said = recipe(python, *arguments, cwd=root, **variables)
    assert status == 1
    assert said.startswith(f"bi-simcut: error: {message}")
    assert len(said.splitlines()) == 1
    assert not (root / "out").exists()


def test_data_that_data_prep_did_not_make(tmp_path: Path) -> None:
    status, said = recipe(sys.executable, tmp_path / "data", tmp_path / "out")
    assert status == 1
    assert said.splitlines()[-1].startswith(f"data_prep: error: {tmp_path / 'data'}: no finished")
