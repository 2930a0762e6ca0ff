"""A user's own sentences: what is written, what fairseq reads of it, and what is refused."""

from __future__ import annotations

import filecmp
import json
import shlex
import subprocess
import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fairseq import options
from fairseq.checkpoint_utils import load_model_ensemble_and_task
from fairseq.data import Dictionary, data_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq_cli import train

from data_prep.encoders.pieces import cutter
from data_prep.sentences.raw import raw_rows
from fairseq_adv.trainer.vocabulary import OtherDictionary, compare
from tests.data_prep.sentences.made import examples, prepare, report, write
from tests.support import training


@pytest.mark.parametrize("pairs", [pytest.param(False, marks=pytest.mark.slow), True])
def test_what_is_written_is_what_fairseq_preprocess_writes(
    bert: Path, tmp_path: Path, pairs: bool
) -> None:
    for split, rows in (("train", examples(60, pairs)), ("valid", examples(9, pairs)[3:])):
        write(tmp_path / f"{split}.tsv", rows)
    out = tmp_path / "out"
    given = [f"--{split}={tmp_path / split}.tsv" for split in ("train", "valid")]
    assert prepare(bert, out, *given, "--test", tmp_path / "valid.tsv") == 0
    cut = cutter(bert)
    for side in range(1 + pairs):
        pieces = tmp_path / f"pieces{side}"
        pieces.mkdir()
        for split in ("train", "valid"):
            lines = [" ".join(cut(texts[side])) for _, texts in raw_rows(out / f"raw/{split}.tsv")]
            (pieces / split).write_text("\n".join(lines) + "\n", encoding="utf-8")
        same_as_fairseq(out / f"bin/input{side}", pieces, bert / "dict.txt")
    classes = tmp_path / "classes"
    classes.mkdir()
    for split in ("train", "valid"):
        labels = [label for label, _ in raw_rows(out / f"raw/{split}.tsv")]
        (classes / split).write_text("\n".join(labels) + "\n", encoding="utf-8")
    same_as_fairseq(out / "bin/label", classes, out / "bin/label/dict.txt")
    assert (out / "bin/label/dict.txt").read_text() == "negative 20\npositive 40\n"


def same_as_fairseq(ours: Path, lines: Path, dictionary: Path) -> None:
    theirs = lines.with_name(f"{lines.name}-bin")
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--only-source"]
    command += [f"--{split}pref={lines / split}" for split in ("train", "valid")]
    command += ["--srcdict", str(dictionary), "--destdir", str(theirs), "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True)
    names = ["dict.txt", *(f"{s}.{end}" for s in ("train", "valid") for end in ("bin", "idx"))]
    same, other, missing = filecmp.cmpfiles(ours, theirs, names, shallow=False)
    assert (sorted(same), other, missing) == (sorted(names), [], [])


def train_on(out: Path, encoder: Path, save_dir: Path, *more: str) -> None:
    """Stock fairseq's task, with the options of the encoder, from its weights."""
    words = shlex.split((encoder / "options.txt").read_text("utf-8"))
    facts = report(out)
    arguments = [
        *(str(out / "bin"), "--user-dir", training.USER_DIR, "--task", "sentence_prediction"),
        *("--criterion", "sentence_prediction", "--num-classes", str(facts["num_classes"])),
        *(words + facts["metrics"] + ["--restore-file", str(encoder / "model.pt")]),
        *("--optimizer", "adam", "--lr", "1e-3", "--batch-size", "8", "--cpu"),
        *("--num-workers", "0", "--max-update", "3", "--save-dir", str(save_dir)),
        *("--no-epoch-checkpoints", "--log-format", "json", "--log-interval", "1", *more),
    ]
    parsed = options.parse_args_and_arch(options.get_training_parser(), arguments)
    with training.in_its_own_process():
        distributed_utils.call_main(convert_namespace_to_omegaconf(parsed), train.main)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("scores", [False, True])
def test_stock_fairseq_trains_on_it_and_loads_the_model(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, scores: bool
) -> None:
    """Smoke, for what is learnt; the model begins with the encoder's weights."""
    encoder: Path = request.getfixturevalue(family)
    rows = examples(60, pairs=not scores)
    if scores:
        rows = [[f"{len(row[1]) / 7:.2f}", *row[1:]] for row in rows]
    write(tmp_path / "train.tsv", rows)
    out = tmp_path / "out"
    options_of_data = ["--hold-out", 10, *(["--scores"] if scores else [])]
    assert prepare(encoder, out, f"--train={tmp_path / 'train.tsv'}", *options_of_data) == 0
    regression = ["--regression-target", "--best-checkpoint-metric", "loss"] if scores else []
    train_on(out, encoder, tmp_path / "model", "--lr", "1e-12", *regression)
    saved = tmp_path / "model/checkpoint_last.pt"
    (model,), _, task = load_model_ensemble_and_task([str(saved)])
    first = training.torch.load(encoder / "model.pt", weights_only=True)["model"]
    for name, tensor in first.items():
        training.torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=1e-9)
    task.load_dataset("test")
    batch = task.dataset("test").collater([task.dataset("test")[0], task.dataset("test")[1]])
    logits = model.eval()(
        **batch["net_input"],
        features_only=True,
        classification_head_name="sentence_classification_head",
    )[0]
    assert logits.shape == (2, 1 if scores else 2)
    (_, texts), *_ = raw_rows(out / "raw/test.tsv")
    cut, words = cutter(encoder), task.dictionary
    expected = [0]
    for index, text in enumerate(texts):
        expected += [2] if index and family == "roberta" else []
        expected += [*(words.index(piece) for piece in cut(text)), 2]
    rows_of_batch = [
        [number for number in row if number != words.pad()]
        for row in batch["net_input"]["src_tokens"].tolist()
    ]
    assert expected in rows_of_batch


def test_scores_are_numbers_of_the_label_files(bert: Path, tmp_path: Path) -> None:
    rows = [[score, f"text {i} of it"] for i, score in enumerate(["1", "-0.5", "2e-1", ".25"] * 9)]
    write(tmp_path / "train.tsv", rows)
    valid = write(tmp_path / "valid.tsv", rows[:4])
    arguments = [f"--train={tmp_path / 'train.tsv'}", f"--valid={valid}", "--scores"]
    assert prepare(bert, tmp_path / "out", *arguments, "--test", valid) == 0
    text = (tmp_path / "out/bin/label/valid.label").read_text()
    assert text == "1.0\n-0.5\n0.2\n0.25\n"
    facts = report(tmp_path / "out")
    assert facts["task"] == "regression" and facts["num_classes"] == 1
    assert facts["metrics"] == ["--report-pearson-and-spearman"] and facts["classes"] is None


def test_classes_are_in_their_order(bert: Path, tmp_path: Path) -> None:
    rows = [[name, f"text {i} of it"] for i, name in enumerate(["10", "9", "b", "-1", "a b"] * 9)]
    write(tmp_path / "train.tsv", rows)
    assert prepare(bert, tmp_path / "out", f"--train={tmp_path / 'train.tsv'}") == 0
    assert report(tmp_path / "out")["classes"] == ["-1", "9", "10", "a b", "b"]
    words = Dictionary.load(str(tmp_path / "out/bin/label/dict.txt"))
    assert words.symbols[words.nspecial :] == ["-1", "9", "10", "a b", "b"]


def test_a_test_set_without_labels_keeps_every_line(bert: Path, tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", examples(40))
    write(tmp_path / "new.tsv", [["", "a film"], ["", ""], ["", "\u200b"], ["", "a film"]])
    out = tmp_path / "out"
    table = tmp_path / "train.tsv"
    given = [f"--train={table}", f"--valid={table}", "--test", table, tmp_path / "new.tsv"]
    assert prepare(bert, out, *given) == 0
    facts = report(out)
    assert facts["raw"]["kept"]["test1"] == 4 and facts["labelled"] == ["train", "valid", "test"]
    assert not (out / "bin/label/test1.bin").exists()
    data = data_utils.load_indexed_dataset(str(out / "bin/input0/test1"))
    assert [len(data[i]) for i in range(4)] == [3, 1, 1, 3]
    assert facts["raw"]["repaired lines"] == {"invisible characters": 1}
    assert facts["raw"]["duplicates"]["test1"] == 2


def test_what_is_held_out_shares_no_text_with_train(bert: Path, tmp_path: Path) -> None:
    rows = examples(80, pairs=True)
    for number in range(0, 80, 2):  # a text in common with the next one
        rows[number][1] = rows[number + 1][1]
    write(tmp_path / "train.tsv", rows + rows[:5])
    out = tmp_path / "out"
    assert prepare(bert, out, f"--train={tmp_path / 'train.tsv'}", "--hold-out", 6) == 0
    texts = {
        split: [text for _, row in raw_rows(out / f"raw/{split}.tsv") for text in row]
        for split in ("train", "valid", "test")
    }
    assert len(texts["valid"]) == len(texts["test"]) == 12
    assert not set(texts["train"]) & {*texts["valid"], *texts["test"]}
    assert not set(texts["valid"]) & set(texts["test"])
    facts = report(out)["raw"]
    assert facts["also in train"] == {"valid": 0, "test": 0}
    assert facts["kept"]["train"] + facts["dropped"]["train"]["also held out"] == 85 - 12


def test_smaller_choices_are_part_of_larger_ones(bert: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "train.tsv", examples(60))
    chosen = []
    for number in (10, 20):
        out = tmp_path / str(number)
        given = [f"--train={table}", f"--valid={table}", "--test", table]
        assert prepare(bert, out, *given, "--train-examples", number) == 0
        chosen.append((out / "raw/train.tsv").read_text().splitlines())
        assert report(out)["raw"]["dropped"]["train"] == {"not among --train-examples": 60 - number}
    assert len(chosen[0]) == 10 and set(chosen[0]) < set(chosen[1])


def test_long_texts_are_cut_and_counted(bert: Path, tmp_path: Path) -> None:
    rows = examples(30, pairs=True)
    rows[4][2] = "the film " * 200
    table = write(tmp_path / "train.tsv", rows)
    given = [f"--train={table}", f"--valid={table}", "--test", table]
    for most, truncated in ((None, 1), (12, 30)):
        out = tmp_path / f"out{most}"
        assert prepare(bert, out, *given, *(["--max-pieces", most] if most else [])) == 0
        facts = report(out)["bin"]
        assert facts["truncated"]["train"] == truncated
        assert facts["longest"]["train"] == (most or 130)
        sides = [data_utils.load_indexed_dataset(str(out / f"bin/input{n}/train")) for n in (0, 1)]
        lengths = [1 + sum(len(side[i]) for side in sides) for i in range(30)]
        assert max(lengths) == (most or 130)


def test_a_second_run_makes_nothing_anew_and_changes_do(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path / "train.tsv", examples(60))
    out = tmp_path / "out"
    assert prepare(bert, out, f"--train={table}") == 0
    capsys.readouterr()
    assert prepare(bert, out, f"--train={table}") == 0
    assert capsys.readouterr().err == "raw: already there\nbin: already there\n"
    assert prepare(bert, out, f"--train={table}", "--max-pieces", 20) == 0
    assert "raw: already there\nbin: made" in capsys.readouterr().err
    write(table, examples(61))
    assert prepare(bert, out, f"--train={table}", "--max-pieces", 20) == 0
    assert "raw: made" in capsys.readouterr().err
    other = write(tmp_path / "other.tsv", examples(62))
    assert prepare(bert, out, f"--train={other}") == 1
    assert "choose another directory" in capsys.readouterr().err


WRONG: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "columns": ({"train": [*examples(9), ["a", "b", "c"]]}, [], "train.tsv: line 10 has 3 columns"),
    "one column": ({"train": [["text"]]}, [], "train.tsv: line 1 has 1 columns"),
    "empty label": ({"train": [*examples(9), ["", "b"]]}, [], "train.tsv: line 10 has no label"),
    "empty label in valid": ({"valid": [["", "b"]]}, [], "valid.tsv: line 1 has no label"),
    "unknown label": ({"valid": [["odd", "b"]]}, [], "valid.tsv: line 1 has the label 'odd'"),
    "unknown label in test": (
        {"test": [["positive", "b"], ["odd", "b"]]},
        [],
        "test.tsv: line 2 has the label 'odd', which is nowhere in",
    ),
    "a label among none": (
        {"test": [["", "b"], ["positive", "b"]]},
        [],
        "test.tsv: line 2 has the label 'positive', and the first line has none",
    ),
    "no label among some": ({"test": [["positive", "b"], ["", "b"]]}, [], "line 2 has no label"),
    "one class": (
        {key: [["a", "b"]] for key in ("train", "valid", "test")},
        [],
        "all examples have one label",
    ),
    "special": ({"train": [*examples(9), ["<pad>", "b"]]}, [], "line 10 has the label '<pad>'"),
    "word for a score": ({}, ["--scores"], "train.tsv: line 1 has the score 'negative'"),
    **{
        score: (
            {"train": [["1", "a"], [score, "b"]]},
            ["--scores"],
            f"train.tsv: line 2 has the score '{score}', which is no number",
        )
        for score in ("nan", "inf", "-inf", "1e999", "1_0", "0x1", "1,5", "١")
    },
    "empty file": ({"valid": []}, [], "valid.tsv: is empty"),
    "short": ({}, ["--max-pieces", "4"], "--max-pieces 4: at least 5"),
    "long": ({}, ["--max-pieces", "131"], "takes 130 at most"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_a_message_and_nothing_half_written(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    changes, arguments, expected = WRONG[case]
    tables = {"train": examples(20), "valid": examples(20)[:6], "test": examples(20)[:6]}
    if "--scores" in arguments and changes:
        tables = {key: [["1", "a text"]] for key in tables}
    given = [
        f"--{split}={write(tmp_path / f'{split}.tsv', rows)}"
        for split, rows in (tables | changes).items()
    ]
    assert prepare(bert, tmp_path / "out", *given, *arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("data_prep: error: ") and message.count("\n") <= 2
    assert expected in message
    assert not (tmp_path / "out").exists()


def test_not_utf8(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.tsv").write_bytes(b"a\tb\nb\t\xff\n")
    assert prepare(bert, tmp_path / "out", f"--train={tmp_path / 'train.tsv'}") == 1
    assert "train.tsv: line 2 is not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["encoder.json", "model.pt", "dict.txt", "tokenizer.json"])
def test_an_encoder_that_is_none_or_damaged(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    table = write(tmp_path / "train.tsv", examples(20))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in bert.iterdir():
        if path.name != missing:
            (copy / path.name).write_bytes(path.read_bytes())
    assert prepare(copy, tmp_path / "out", f"--train={table}") == 1
    assert str(copy) in capsys.readouterr().err
    if missing != "model.pt":
        (copy / missing).write_text("{}")
        assert prepare(copy, tmp_path / "out", f"--train={table}") == 1
        assert str(copy / missing) in capsys.readouterr().err
    assert prepare(tmp_path / "nowhere", tmp_path / "out", f"--train={table}") == 1
    assert "no encoder of data_prep" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_report_is_whole(bert: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "train.tsv", examples(60))
    assert prepare(bert, tmp_path / "out", f"--train={table}") == 0
    facts = report(tmp_path / "out")
    assert facts["texts"] == "single" and facts["languages"] == ["en"]
    assert facts["encoder"]["name"] == "bert"
    digests = json.loads((bert / "encoder.json").read_text())["files"]
    assert facts["encoder"]["files"] == digests
    labels = [label for label, _ in raw_rows(tmp_path / "out/raw/test.tsv")]
    share = max(labels.count("positive"), labels.count("negative")) / len(labels)
    assert facts["majority_share"]["test"] == pytest.approx(share, abs=1e-6)


def test_data_of_another_encoder_are_refused(bert: Path, roberta: Path, tmp_path: Path) -> None:
    """The checkpoint tells its dictionary, where fairseq_adv looks for it."""
    state = training.torch.load(bert / "model.pt", weights_only=True)["task_state"]
    for encoder, fits in ((bert, True), (roberta, False)):
        words = Dictionary.load(str(encoder / "dict.txt"))
        words.add_symbol("<mask>")  # as the task does
        task = Namespace(source_dictionary=words, target_dictionary=words, cfg=Namespace())
        with nullcontext() if fits else pytest.raises(OtherDictionary, match="another source"):
            compare(state, task)


@pytest.mark.parametrize("precision", ["--bf16", "--fp16"])
def test_half_precision_trains(bert: Path, tmp_path: Path, precision: str) -> None:
    """Smoke."""
    write(tmp_path / "train.tsv", examples(60, pairs=True))
    out = tmp_path / "out"
    assert prepare(bert, out, f"--train={tmp_path / 'train.tsv'}", "--hold-out", 10) == 0
    options_of_cpus = ["--fp16-no-flatten-grads", "--fp16-init-scale", "4"]
    train_on(out, bert, tmp_path / "model", precision, *options_of_cpus)
    state = training.parameters(tmp_path / "model")
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())


def test_a_fairseq_that_knows_nothing_of_this_project_trains_a_roberta(
    roberta: Path, tmp_path: Path
) -> None:
    """In a process of its own: no user-dir, no patches, torch's own refusal of pickles."""
    write(tmp_path / "train.tsv", examples(60, pairs=True))
    out = tmp_path / "out"
    assert prepare(roberta, out, f"--train={tmp_path / 'train.tsv'}", "--hold-out", 10) == 0
    command = [
        *(sys.executable, "-m", "fairseq_cli.train", str(out / "bin")),
        *("--task", "sentence_prediction", "--criterion", "sentence_prediction"),
        *("--num-classes", "2", "--restore-file", str(roberta / "model.pt")),
        *shlex.split((roberta / "options.txt").read_text("utf-8")),
        *("--optimizer", "adam", "--lr", "1e-3", "--batch-size", "8", "--cpu", "--num-workers"),
        *(
            "0",
            "--max-update",
            "2",
            "--save-dir",
            str(tmp_path / "model"),
            "--no-epoch-checkpoints",
        ),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert f"Loaded checkpoint {roberta / 'model.pt'}" in run.stderr + run.stdout
    assert (tmp_path / "model/checkpoint_last.pt").exists()
