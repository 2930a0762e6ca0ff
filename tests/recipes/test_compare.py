"""`recipes/compare.sh`: with a stand-in for python, what it tells the comparison; and for real."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.support import processes, shell
from tests.support.texts import SENTENCES, tree

# Stands for the modules that the recipe calls: writes down with which words and environment.
STAND_IN = """#!/bin/bash
module=$2
shift 2
{ echo "call: $module"; printf '  %s\\n' "$@"; echo "  $MALLOC_MMAP_MAX_"; } >>calls
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that looks like the repository's root."""
    return shell.make_root(tmp_path, STAND_IN)


def recipe(root: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run the script; return exit status and what it said."""
    return shell.run("compare.sh", root, *arguments, **variables)


def calls(root: Path) -> dict[str, list[str]]:
    """The words of each call, by module."""
    found: dict[str, list[str]] = {}
    for call in (root / "calls").read_text().split("call: ")[1:]:
        module, *words = call.splitlines()
        found[module] = [word.removeprefix("  ") for word in words]
    return found


def after(words: list[str], option: str) -> list[str]:
    """The values of an option."""
    values = words[words.index(option) + 1 :]
    end = next(i for i, word in enumerate([*values, "--"]) if word.startswith("--"))
    return values[:end]


def test_by_default(root: Path) -> None:
    status, said = recipe(root)
    assert status == 0, said
    assert "1/4 data: data/compare/libreoffice-help-de-en, --max-words 15" in said
    made = calls(root)
    assert made["data_prep"][:3] == [
        *("libreoffice-help-de-en", "--out", "data/compare/libreoffice-help-de-en")
    ]
    assert after(made["data_prep"], "--max-words") == ["15"]
    words = made["recipes.comparison"]
    out = "results/compare/libreoffice-help-de-en"
    assert words[:2] == ["data/compare/libreoffice-help-de-en", out]
    assert len(after(words, "--methods")) == 9
    assert after(words, "--seeds") == ["1", "2", "3"]
    assert int(after(words, "--time")[0]) == 2 * int(after(words, "--updates")[0])
    assert "--jobs" not in words
    assert after(words, "--adam-betas") == ["(0.9, 0.98)"]
    assert words[-1] == "0"  # the environment: memory is kept


def test_everything_can_be_chosen(root: Path) -> None:
    status, said = recipe(
        root,
        *("--", "--lr", "1e-3", "--eval-bleu-args", '{"beam": 2}'),
        CORPUS="libreoffice-help-fr-en",
        METHODS="salt salt,--epsilon=2",
        SEEDS="7",
        UPDATES="600",
        TIME="500",
        EVERY="100",
        JOBS="3",
        DATA_ARGS="",
        OUT="here and there",
    )
    assert status == 0, said
    made = calls(root)
    data = "data/compare/libreoffice-help-fr-en"
    assert made["data_prep"][:-1] == [
        "libreoffice-help-fr-en",
        "--out",
        data,
        "--joined-dictionary",
    ]
    words = made["recipes.comparison"]
    assert words[:2] == [data, "here and there"]
    assert after(words, "--methods") == ["salt", "salt,--epsilon=2"]
    for option, value in (
        ("--seeds", "7"),
        ("--updates", "600"),
        ("--time", "500"),
        ("--every", "100"),
        ("--jobs", "3"),
    ):
        assert after(words, option) == [value]
    # The user's options come last, and override.
    assert words[-5:-1] == ["--lr", "1e-3", "--eval-bleu-args", '{"beam": 2}']
    assert words.index("--") < words.index("--lr")


def test_two_text_files(root: Path) -> None:
    status, said = recipe(root, TEXT="my/text.v1.de my/text.v1.en")
    assert status == 0, said
    made = calls(root)
    words = made["data_prep"]
    assert words[0] == "files"
    assert after(words, "--source-lang") == ["de"]
    assert after(words, "--target-lang") == ["en"]
    assert after(words, "--train") == ["my/text.v1"]
    assert after(words, "--out") == ["data/compare/text.v1"]
    assert made["recipes.comparison"][:2] == ["data/compare/text.v1", "results/compare/text.v1"]
    (root / "calls").unlink()
    assert recipe(root, TEXT="my/text.de my/text.en", CORPUS="ours")[0] == 0
    assert calls(root)["recipes.comparison"][:2] == ["data/compare/ours", "results/compare/ours"]


@pytest.mark.parametrize("given", [{"CORPUS": "reviews"}, {"TEXT": "my/views.tsv"}])
def test_sentences(root: Path, given: dict[str, str]) -> None:
    """One file, or a corpus of data_prep; the encoder is made first if it is missing."""
    (root / "data/encoders").mkdir(parents=True)
    status, said = recipe(root, ENCODER="bert-base-uncased", METHODS="plain salt", **given)
    assert status == 0, said
    name = "reviews" if "CORPUS" in given else "views"
    data = f"data/compare/{name}.bert-base-uncased"
    encoder = "data/encoders/bert-base-uncased"
    calls_of_data_prep = (root / "calls").read_text().split("call: ")[1:3]
    assert [call.split()[:2] for call in calls_of_data_prep] == [
        ["data_prep", "encoder"],
        ["data_prep", "reviews" if "CORPUS" in given else "sentences"],
    ]
    words = calls(root)["data_prep"]
    assert after(words, "--encoder") == [encoder] and after(words, "--out") == [data]
    if "TEXT" in given:
        assert after(words, "--train") == ["my/views.tsv"]
    assert after(words, "--train-examples") == ["2000"]
    words = calls(root)["recipes.comparison"]
    assert words[:2] == [data, f"results/compare/{name}.bert-base-uncased"]
    assert after(words, "--encoder") == [encoder]
    assert after(words, "--methods") == ["plain", "salt"]
    assert "--beam" not in words and "--eval-bleu" not in words
    assert int(after(words, "--time")[0]) == 2 * int(after(words, "--updates")[0])


def test_data_that_are_there_already(root: Path) -> None:
    (root / "data" / "mine").mkdir(parents=True)
    (root / "data" / "mine" / "report.json").write_text("{}")
    status, said = recipe(root, CORPUS="data/mine/")
    assert status == 0, said
    made = calls(root)
    assert list(made) == ["recipes.comparison"]
    assert made["recipes.comparison"][:2] == ["data/mine", "results/compare/mine"]
    assert "--beam" in made["recipes.comparison"]
    (root / "calls").unlink()
    (root / "data" / "mine" / "report.json").write_text('{"num_classes": 2}')
    assert recipe(root, CORPUS="data/mine")[0] == 0
    assert after(calls(root)["recipes.comparison"], "--encoder") == ["data/encoders/minilm"]


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--cpu"], {}, "usage: recipes/compare.sh [-- options of fairseq-train]"),
        ([], {"TEXT": "text.de"}, 'TEXT=text.de: give two files, "my/text.de my/text.en"'),
        ([], {"TEXT": "a.de b.en"}, "TEXT=a.de b.en: the names may differ in their endings only"),
        ([], {"PYTHON": "no-such-python"}, "PYTHON=no-such-python: no such command"),
    ],
)
def test_wrong_arguments(
    root: Path, arguments: list[str], variables: dict[str, str], message: str
) -> None:
    status, said = recipe(root, *arguments, **variables)
    assert status == 1
    assert said.startswith(f"compare: error: {message}")
    assert len(said.splitlines()) == 1
    assert not (root / "results").exists()


TINY = [
    *("--encoder-layers", "1", "--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "8"),
    *("--decoder-layers", "1", "--decoder-embed-dim", "8", "--decoder-ffn-embed-dim", "8"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
    *("--log-interval", "1", "--cpu"),
]


@pytest.mark.slow
def test_two_text_files_become_a_table_also_after_a_kill(tmp_path: Path) -> None:
    """The real thing: data, costs, two trainings, translations, tables and pictures."""
    shell.link_root(tmp_path)
    for lang, patterns in SENTENCES.items():
        lines = [patterns[i % 3].format(f"{i}.") for i in range(60)]
        (tmp_path / f"text.{lang}").write_text("\n".join(lines) + "\n", "utf-8")
    settings = {
        "PYTHON": sys.executable,
        "TEXT": "text.de text.en",
        "DATA_ARGS": "--bpe-merges 40",
        "METHODS": "freeat",
        "SEEDS": "1",
        "UPDATES": "4",
        "EVERY": "2",
        "JOBS": "1",
    }
    arguments = ("--", *TINY)
    out = tmp_path / "results" / "compare" / "text"

    process = shell.start("compare.sh", tmp_path, *arguments, **settings)
    processes.wait_until((out / "runs/freeat/seed-1/training.log").exists, of=process)
    assert recipe(tmp_path, *arguments, **settings) == (
        1,
        "compare: error: another run is at work in results/compare/text\n",
    )
    process.send_signal(signal.SIGTERM)
    (said,) = processes.end(process, statuses=[143])
    assert "[1/2] transformer, seed 1: BLEU" in said
    assert "the same command continues" in said
    # There is a table of what is there.
    assert "**Missing:** freeat, seed 1." in (out / "table.md").read_text("utf-8")

    status, said = recipe(tmp_path, *arguments, **settings)
    assert status == 0, said
    assert "1 of 2 runs: already there" in said
    assert (out / "table.md").read_text("utf-8").strip() in said
    table = json.loads((out / "table.json").read_text("utf-8"))
    plain, freeat = table["methods"]
    assert table["missing"] == []
    assert plain["equal_time"]["updates"] == 8
    assert freeat["equal_updates"]["bleu"]["by_seed"].keys() == {"1"}
    assert freeat["time"] > 0 and freeat["memory"] > 0
    assert freeat["gauges"].keys() >= {"adv_loss", "delta_norm"}
    before = tree(out)
    status, said = recipe(tmp_path, *arguments, **settings)
    assert status == 0, said
    assert "2 of 2 runs: already there" in said
    assert {name for name, content in tree(out).items() if content != before.get(name)} == set()


@pytest.mark.slow
def test_labelled_sentences_become_a_table_also_after_a_kill(bert: Path, tmp_path: Path) -> None:
    """The real thing: data, costs, two trainings, labels, tables and pictures."""
    shell.link_root(tmp_path)
    lines = [
        f"{('bad', 'good')[i % 2]}\tthe film is {('bad', 'good')[i % 2]} {i}." for i in range(80)
    ]
    (tmp_path / "my.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    settings = {
        "PYTHON": sys.executable,
        "TEXT": "my.tsv",
        "ENCODER": str(bert),
        "DATA_ARGS": "",
        "METHODS": "salt",
        "SEEDS": "1",
        "UPDATES": "4",
        "EVERY": "2",
        "JOBS": "1",
    }
    arguments = ("--", "--cpu", "--log-interval", "1", "--lr", "1e-3", "--warmup-updates", "1")
    out = tmp_path / "results" / "compare" / "my.bert"
    process = shell.start("compare.sh", tmp_path, *arguments, **settings)
    processes.wait_until((out / "runs/salt/seed-1/training.log").exists, of=process)
    process.send_signal(signal.SIGTERM)
    (said,) = processes.end(process, statuses=[143])
    assert "[1/2] plain, seed 1: accuracy" in said
    assert "**Missing:** salt, seed 1." in (out / "table.md").read_text("utf-8")

    status, said = recipe(tmp_path, *arguments, **settings)
    assert status == 0, said
    assert "1 of 2 runs: already there" in said
    table = json.loads((out / "table.json").read_text("utf-8"))
    plain, salt = table["methods"]
    assert table["missing"] == []
    assert plain["equal_time"]["updates"] == 8
    assert salt["equal_updates"]["accuracy"]["by_seed"].keys() == {"1"}
    assert salt["equal_updates"]["accuracy_p"].keys() == {"1"}
    assert salt["time"] > 1 and salt["gauges"].keys() >= {"adv_loss", "delta_norm"}
    before = tree(out)
    status, said = recipe(tmp_path, *arguments, **settings)
    assert status == 0, said
    assert "2 of 2 runs: already there" in said
    assert {name for name, content in tree(out).items() if content != before.get(name)} == set()
