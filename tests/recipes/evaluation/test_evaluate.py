"""Translating, scoring and the trivial translators."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from recipes.evaluation.evaluate import (
    evaluate,
)
from recipes.evaluation.scores import Scorer
from recipes.evaluation.trivial import nearest_translations
from recipes.models import generation
from recipes.models.checkpoint import read_checkpoint
from recipes.models.generation import (
    Hypothesis,
    best,
    detokenize,
    translate,
)
from recipes.support.errors import RecipeError
from recipes.support.files import (
    LOG,
    PICTURE,
    SCORES,
    SUMMARY,
    TRANSLATIONS,
    read_json,
    read_table,
    write_table,
    written_whole,
)
from recipes.training.summary import summarize
from tests.support import training
from tests.support.processes import PATIENCE, ROOT


def test_nearest_translations() -> None:
    train = {
        "Öffnen Sie die Datei.": "Open the file.",
        "Schließen Sie die Datei.": "Close the file.",
        "Schließen Sie das Fenster.": "Close the window.",
        "DAS FENSTER SCHLIESSEN": "Closing the window",
    }
    source = ["Schließen Sie das große Fenster.", "öffnen", "Fenster schliessen"]
    nearest = nearest_translations(list(train), list(train.values()), source)
    assert nearest == ["Close the window.", "Open the file.", "Closing the window"]


def test_the_first_of_equally_near_sentences_counts() -> None:
    assert nearest_translations(["c", "a b", "a d"], ["C", "B", "D"], ["a"]) == ["B"]


def test_a_sentence_without_a_known_word_gets_the_first() -> None:
    assert nearest_translations(["a b", "c"], ["A", "C"], ["xyz", "c"]) == ["A", "C"]


def test_more_sentences_than_are_compared_at_a_time() -> None:
    words = [f"word{i}" for i in range(700)]
    assert nearest_translations(words, words, words[::-1]) == words[::-1]


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write_table({"source": ['"a', "b\tc"], "target": ["x\x85y", ""]}, path)
    assert read_table(path) == [
        {"source": '"a', "target": "x\x85y"},
        {"source": "b c", "target": ""},
    ]


def test_a_failing_write_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("former")
    with pytest.raises(OSError, match="full"), written_whole(path) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with 13 test sentences of very different lengths."""
    directory = tmp_path_factory.mktemp("data")
    for split, count in (("train", 40), ("valid", 5), ("test", 13)):
        for lang, words in (("de", "eins zwei drei vier"), ("en", "one two three four")):
            lines = (
                " ".join(words.split()[(i + j) % 4] for j in range(1 + i % 7)) + f" {i} ."
                for i in range(count)
            )
            (directory / f"{split}.{lang}").write_text("\n".join(lines) + "\n", "utf-8")
    splits = [part for s in ("train", "valid", "test") for part in (f"--{s}", directory / s)]
    languages = ("--source-lang", "de", "--target-lang", "en")
    run("data_prep", "files", *splits, *languages, "--out", directory / "out", "--bpe-merges", "20")
    return directory / "out"


@pytest.fixture(scope="module")
def checkpoint(data: Path) -> Path:
    """A model that has learnt next to nothing."""
    return train(data, "salt")


def train(data: Path, criterion: str) -> Path:
    """Train for one update; return the checkpoint."""
    directory = data / f"checkpoints-{criterion}"
    sizes = [
        f"--{side}-{name}={size}"
        for side in ("encoder", "decoder")
        for name, size in (("layers", 1), ("embed-dim", 8), ("ffn-embed-dim", 8))
    ]
    run(
        *("fairseq_cli.train", data / "bin", "--user-dir", ROOT / "fairseq_adv"),
        *("--arch", "transformer"),
        *("--task", "adversarial_translation", "--criterion", criterion, "--optimizer", "adam"),
        *(*sizes, "--encoder-attention-heads=2", "--decoder-attention-heads=2"),
        *("--max-tokens", "500", "--max-update", "1", "--disable-validation", "--cpu"),
        *("--save-dir", directory, "--no-epoch-checkpoints"),
    )
    return directory / "checkpoint_last.pt"


def run(*command: object) -> None:
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True, cwd=ROOT)


@pytest.fixture(scope="module")
def out(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an evaluation leaves behind."""
    directory = tmp_path_factory.mktemp("out")
    evaluate(data, checkpoint, directory, beam=2, trivial=True, cpu=True)
    return directory


def search(
    data: Path, checkpoint: Path, split: str = "test", **more: Any
) -> list[list[Hypothesis]]:
    """Four translations of each sentence."""
    sources = (data / "bpe" / f"{split}.de").read_text("utf-8").split("\n")[:-1]
    return translate(data / "bin", ("de", "en"), split, sources, checkpoint, 4, True, **more)


@pytest.fixture(scope="module")
def hypotheses(data: Path, checkpoint: Path) -> list[list[Hypothesis]]:
    """Those of the test set."""
    return search(data, checkpoint)


def test_every_sentence_is_translated(data: Path, out: Path) -> None:
    scores = read_json(out / SCORES, "")
    assert scores["sentences"] == 13
    rows = read_table(out / TRANSLATIONS)
    raw = (data / "raw" / "test.en").read_text("utf-8").split("\n")[:-1]
    assert [row["reference"] for row in rows] == raw
    assert all(row["translation"] and "@@" not in row["translation"] for row in rows)
    systems = scores["systems"]
    assert systems["model"]["bleu"] == pytest.approx(
        Scorer().score([row["translation"] for row in rows], raw).bleu
    )
    assert systems["copy"]["bleu"] == pytest.approx(
        Scorer().score([row["source"] for row in rows], raw).bleu
    )
    assert systems["nearest"]["bleu"] > 50  # the test sentences are among the training ones


@pytest.mark.slow
def test_several_workers_find_what_one_finds(
    data: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "_WORTH_A_WORKER", 1)
    monkeypatch.setattr(generation, "MAX_TOKENS", 40)  # several batches
    expected = search(data, checkpoint, workers=1)
    started = []
    popen = subprocess.Popen

    def count(command: list[str], **more: Any) -> Any:
        started.append(command[command.index("--distributed-rank") + 1])
        return popen(command, **more)

    monkeypatch.setattr(generation.subprocess, "Popen", count)
    found = search(data, checkpoint, workers=3)
    assert started == ["0", "1", "2"]
    assert best(found, 1.0) == best(expected, 1.0)


def test_one_worker_that_fails_ends_the_others(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "_WORTH_A_WORKER", 1)
    module = tmp_path / "fairseq_cli" / "generate.py"
    module.parent.mkdir()
    (module.parent / "__init__.py").touch()
    started, outlived = tmp_path / "started", tmp_path / "outlived"
    module.write_text(
        "import os, pathlib, sys, time\n"
        f"started, outlived = map(pathlib.Path, {[str(started), str(outlived)]})\n"
        "if sys.argv[sys.argv.index('--distributed-rank') + 1] == '1':\n"
        "    while not started.exists(): time.sleep(0.02)\n"
        "    sys.exit('no memory')\n"
        "started.with_suffix('.new').write_text(str(os.getpid()))\n"
        "started.with_suffix('.new').rename(started)\n"
        f"time.sleep({PATIENCE})\n"
        "outlived.touch()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RecipeError) as caught:
        search(data, checkpoint, workers=2)
    assert str(caught.value) == "fairseq-generate failed (exit status 1):\n  no memory"
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
    assert not outlived.exists()


def test_a_system_is_compared_with_another(
    data: Path, checkpoint: Path, out: Path, tmp_path: Path
) -> None:
    scores = evaluate(data, checkpoint, tmp_path / "wide", beam=4, baseline=out, cpu=True)
    ours, theirs = (read_table(d / TRANSLATIONS) for d in (tmp_path / "wide", out))
    reference = [row["reference"] for row in ours]
    bleu = [
        sacrebleu.corpus_bleu([row["translation"] for row in rows], [reference]).score
        for rows in (ours, theirs)
    ]
    assert scores["baseline"]["bleu_difference"] == pytest.approx(bleu[0] - bleu[1])
    assert 0 < scores["baseline"]["p"]["BLEU"] <= 1
    fewer = {"reference": reference[1:], "translation": reference[1:]}
    write_table(fewer, tmp_path / TRANSLATIONS)
    with pytest.raises(RecipeError, match=r"\.tsv has translations of another test set"):
        evaluate(data, checkpoint, tmp_path / "wide", baseline=tmp_path, cpu=True)
    with pytest.raises(RecipeError, match=r"nowhere/translations\.tsv: not there"):
        evaluate(data, checkpoint, tmp_path / "wide", baseline=Path("nowhere"), cpu=True)


@pytest.mark.parametrize("lenpen", [0.0, 0.5, 2.0])
def test_translations_by_any_length_penalty_are_those_of_fairseq_generate(
    data: Path, checkpoint: Path, hypotheses: list[list[Hypothesis]], lenpen: float
) -> None:
    options = ["--source-lang=de", "--target-lang=en", "--max-len-a=2", "--max-len-b=50"]
    options += ["--beam=4", f"--lenpen={lenpen}", "--user-dir", str(ROOT / "fairseq_adv")]
    theirs = training.translations(data / "bin", checkpoint, *options)
    assert best(hypotheses, lenpen) == [theirs[i] for i in range(13)]


@pytest.mark.slow
def test_the_length_penalty_can_be_tuned_on_the_validation_split(
    data: Path, checkpoint: Path, hypotheses: list[list[Hypothesis]], tmp_path: Path
) -> None:
    scores = evaluate(data, checkpoint, tmp_path, beam=4, lenpen=None, cpu=True)
    raw = (data / "raw" / "valid.en").read_text("utf-8").split("\n")[:-1]
    found = search(data, checkpoint, "valid")
    for lenpen, bleu in scores["bleu_by_lenpen"].items():
        assert bleu == Scorer().score(detokenize(best(found, float(lenpen)), "en"), raw).bleu
    assert scores["bleu_by_lenpen"][str(scores["lenpen"])] == max(scores["bleu_by_lenpen"].values())
    rows = read_table(tmp_path / TRANSLATIONS)
    assert [row["translation"] for row in rows] == detokenize(
        best(hypotheses, scores["lenpen"]), "en"
    )
    reference = [row["reference"] for row in rows]
    untuned = Scorer().score(detokenize(best(hypotheses, 1.0), "en"), reference)
    assert scores["systems"]["untuned"]["bleu"] == untuned.bleu


def test_a_checkpoint_that_is_none_is_an_error_and_nothing_is_written(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.pt: no such checkpoint"):
        evaluate(data, Path("nowhere.pt"), tmp_path, cpu=True)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nonsense")
    with pytest.raises(RecipeError, match="no checkpoint of fairseq, or not a whole one"):
        evaluate(data, broken, tmp_path, cpu=True)
    assert list(tmp_path.iterdir()) == [broken]


def test_the_summary(data: Path, checkpoint: Path, out: Path) -> None:
    (out / LOG).write_text(
        '{"num_updates": 1, "loss": 9}\n{"valid_num_updates": 1, "valid_bleu": 2.5}\n'
    )
    summarize(data, out, checkpoint, seconds_total=20, seconds_training=10)
    summary = read_json(out / SUMMARY, "")
    assert summary["method"] == "salt"
    assert summary["corpus"] == "files"
    assert summary["updates"] == summary["updates_of_checkpoint"] == 1
    assert summary["dev_bleu"] == 2.5
    assert summary["test_sentences"] == 13
    assert summary["bleu_copy"] == read_json(out / SCORES, "")["systems"]["copy"]["bleu"]
    assert summary["options"]["unroll_method"] == "exact"
    words = len((data / "bin" / "dict.en.txt").read_text("utf-8").split("\n")[:-1]) + 4
    # Embeddings of 8 components, for source, target and output; the layers, counted by hand:
    attention = 4 * (8 * 8 + 8)
    feed_forward = 2 * 8 * 8 + 8 + 8
    norm = 2 * 8
    encoder = attention + feed_forward + 2 * norm
    decoder = 2 * attention + feed_forward + 3 * norm
    assert summary["parameters"] == 3 * 8 * words + encoder + decoder
    assert {"python", "torch", "sacrebleu"} <= summary["versions"].keys()
    assert (out / PICTURE).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("criterion", "option"),
    [
        ("freeat", {"update_freq": [1]}),
        pytest.param(
            *("label_smoothed_cross_entropy", {"label_smoothing": 0.0}), marks=pytest.mark.slow
        ),
    ],
)
def test_the_options_of_other_methods_can_be_written_down(
    data: Path, criterion: str, option: dict[str, object]
) -> None:
    trained = read_checkpoint(train(data, criterion))
    assert trained.method == criterion
    assert option.items() <= json.loads(json.dumps(trained.options)).items()
