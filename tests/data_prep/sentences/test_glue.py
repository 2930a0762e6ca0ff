"""GLUE's tasks: from archives as their homes have them, and from the real text where it is."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from data_prep.sentences.corpora.glue import TASKS
from data_prep.sentences.raw import raw_rows
from tests.data_prep.sentences.made import prepare, report, write
from tests.support.shared_data import shared

HEADERS = {
    "sst-2": ("sentence\tlabel", "index\tsentence"),
    "sts-b": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "id\tquestion1\tquestion2",
    ),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
        "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2",
    ),
    "qnli": ("index\tquestion\tsentence\tlabel", "index\tquestion\tsentence"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "index\tsentence1\tsentence2"),
}
"""Of train and dev, and of test."""


def table(name: str, file: str, count: int) -> str:
    """A table as GLUE has it: texts that tell their file and line, with quotes in them."""
    task, is_test = TASKS[name], file.startswith("test")
    if name == "cola":
        if is_test:
            return "index\tsentence\n" + "".join(f"{i}\t{file} {i}\n" for i in range(count))
        return "".join(f"gj04\t{i % 2}\t{'*' * (i % 2)}\t{file} {i}\n" for i in range(count))
    labels = list(task.labels) or ["0.0", "5", "2.500"]
    names = HEADERS[name][is_test].split("\t")
    rows = ["\t".join(names)]
    for number in range(count):
        row = {
            **{text: f'{file} "{text} {number}' for text in task.texts},
            task.label: labels[number % len(labels)],
        }
        rows.append("\t".join(row.get(column, str(number)) for column in names))
    return "\n".join(rows) + "\n"


def zipped(path: Path, name: str, files: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/original/README", "r")
        for file, text in files.items():
            archive.writestr(f"{name}/{file}", text)
    return path


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"mrpc"}))
def test_all_files_find_their_places(bert: Path, tmp_path: Path, name: str) -> None:
    task = TASKS[name]
    files = {file: table(name, file, 7) for file in task.files.values()}
    archive = zipped(tmp_path / task.archives[0].name, name.upper(), files)
    for given, out in (
        ([archive], tmp_path / "zip"),
        ([write_text(tmp_path / file, text) for file, text in files.items()], tmp_path / "plain"),
    ):
        assert prepare(bert, out, "--archive", *given, corpus=f"glue-{name}") == 0
        facts = report(out)
        assert facts["labelled"] == [split for split in task.files if "test" not in split]
        assert facts["metrics"] == list(task.metrics)
        assert facts["raw"]["kept"] == dict.fromkeys(task.files, 7)
        for split, file in task.files.items():
            for number, (label, texts) in enumerate(raw_rows(out / f"raw/{split}.tsv")):
                start = f"{file} " if name == "cola" else f'{file} "'
                assert all(text.startswith(start) for text in texts)
                assert all(text.endswith(f" {number}") for text in texts)
                if split.startswith("test"):
                    assert label == ""
                elif task.labels:
                    assert label == list(task.labels.values())[number % len(task.labels)]
                else:
                    assert label == ["0.0", "5", "2.500"][number % 3]
        assert facts["classes"] == (list(task.labels.values()) or None)
    if name == "sts-b":  # as fairseq's example has it
        text = (tmp_path / "zip/bin/label/train.label").read_text()
        assert text.splitlines() == ["0.0", "1.0", "0.5", "0.0", "1.0", "0.5", "0.0"]


def write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_mnli_s_splits_have_names_and_pairs_without_gold_are_dropped(
    bert: Path, tmp_path: Path
) -> None:
    files = {file: table("mnli", file, 6) for file in TASKS["mnli"].files.values()}
    files["dev_mismatched.tsv"] = files["dev_mismatched.tsv"].replace("\tneutral\n", "\t-\n")
    archive = zipped(tmp_path / "MNLI.zip", "MNLI", files)
    assert prepare(bert, tmp_path / "out", "--archive", archive, corpus="glue-mnli") == 0
    facts = report(tmp_path / "out")
    assert facts["splits"]["valid1"] == facts["splits"]["test1"] == "mnli-mismatched"
    assert facts["raw"]["dropped"]["valid1"] == {"without a gold label": 2}
    assert facts["raw"]["kept"]["valid1"] == 4


def test_qqp_s_broken_lines_are_dropped_and_a_test_set_keeps_all(
    bert: Path, tmp_path: Path
) -> None:
    files = {file: table("qqp", file, 6) for file in TASKS["qqp"].files.values()}
    files["train.tsv"] += "7\t1\t2\tonly one question\n8\t1\t2\t\tempty one\t1\n"
    files["test.tsv"] += "7\tonly one question\n"
    archive = zipped(tmp_path / "QQP-clean.zip", "QQP", files)
    assert prepare(bert, tmp_path / "out", "--archive", archive, corpus="glue-qqp") == 0
    facts = report(tmp_path / "out")["raw"]
    assert facts["dropped"]["train"] == {"empty": 1, "incomplete": 1}
    assert facts["kept"] == {"train": 6, "valid": 6, "test": 7}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("\tentailment\n", "\tneutral\n"), "has the label 'neutral'; known are entailment, not_"),
        (("\tentailment\n", "\n"), "line 2 has another number of columns than the first"),
        (("\tentailment\n", "\t\n"), "line 2 has no label"),
        (("sentence2", "second"), "the first line names no column sentence2"),
        (("\tlabel\n", "\tgold\n"), "the first line names no column label"),
    ],
)
def test_a_table_of_something_else(
    bert: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    expected: str,
) -> None:
    files = {file: table("rte", file, 4) for file in TASKS["rte"].files.values()}
    files["dev.tsv"] = files["dev.tsv"].replace(*change, 1)
    given = [write_text(tmp_path / file, text) for file, text in files.items()]
    assert prepare(bert, tmp_path / "out", "--archive", *given, corpus="glue-rte") == 1
    message = capsys.readouterr().err
    assert f"{tmp_path / 'dev.tsv'}: " in message and expected in message
    assert not (tmp_path / "out").exists()


def test_an_archive_that_lacks_a_file(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = zipped(tmp_path / "RTE.zip", "RTE", {"train.tsv": table("rte", "train.tsv", 4)})
    assert prepare(bert, tmp_path / "out", "--archive", archive, corpus="glue-rte") == 1
    assert "there is no dev.tsv and no test.tsv in it" in capsys.readouterr().err
    train = write_text(tmp_path / "train.tsv", table("rte", "train.tsv", 4))
    assert prepare(bert, tmp_path / "out", "--archive", train, corpus="glue-rte") == 1
    assert "dev.tsv of the files is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


MRPC = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"


def mrpc(path: Path, pairs: list[tuple[str, str, str]], start: int = 0) -> Path:
    lines = [
        f"{label}\t{start + n}\t{start + n + 1}\t{first}\t{second}\r\n"
        for n, (label, first, second) in enumerate(pairs)
    ]
    path.write_text(MRPC + "".join(lines), encoding="utf-8", newline="")
    return path


def test_mrpc_s_dev_set_is_a_part_of_its_train(bert: Path, tmp_path: Path) -> None:
    pairs = [(str(n % 2), f'The "first {n}', f"The second {n}") for n in range(9)]
    given = [
        mrpc(tmp_path / "msr_paraphrase_train.txt", pairs),
        mrpc(tmp_path / "msr_paraphrase_test.txt", pairs[:4], 100),
        write(tmp_path / "mrpc_dev_ids.tsv", [["2", "3"], ["5", "6"]]),
    ]
    assert prepare(bert, tmp_path / "out", "--archive", *given, corpus="glue-mrpc") == 0
    facts = report(tmp_path / "out")
    assert facts["raw"]["kept"] == {"train": 7, "test": 4, "valid": 2}
    assert sorted(facts["labelled"]) == ["test", "train", "valid"]
    dev = [texts[0] for _, texts in raw_rows(tmp_path / "out/raw/valid.tsv")]
    assert dev == ['The "first 2', 'The "first 5']


def becel(path: Path) -> list[dict[str, str]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_the_real_rte(bert: Path, tmp_path: Path) -> None:
    """In another project's tables; GLUE's form is made of them."""
    names = {"0": "entailment", "1": "not_entailment"}
    for file, source in (("train.tsv", "train.tsv.gz"), ("dev.tsv", "validation.tsv")):
        rows = becel(shared("nlu/rte") / source)
        lines = [
            [row["index"], row["sentence1"], row["sentence2"], names[row["label"]]] for row in rows
        ]
        write(tmp_path / file, [HEADERS["rte"][0].split("\t"), *lines])
    given = [tmp_path / "train.tsv", tmp_path / "dev.tsv"]
    assert prepare(bert, tmp_path / "out", "--archive", *given, corpus="glue-rte") == 0
    facts = report(tmp_path / "out")
    assert facts["raw"]["kept"] == {"train": 2_490, "valid": 277}
    assert facts["majority_share"]["valid"] == pytest.approx(146 / 277, abs=1e-6)


def test_the_real_mrpc(bert: Path, tmp_path: Path) -> None:
    """As its home has it, made of another project's tables: dev pairs are found by their ids."""
    splits = {
        name: becel(shared("nlu/mrpc") / file)
        for name, file in (
            ("train", "train.tsv.gz"),
            ("valid", "validation.tsv"),
            ("test", "test.tsv.gz"),
        )
    }
    pairs = {
        name: [(row["label"], row["sentence1"], row["sentence2"]) for row in rows]
        for name, rows in splits.items()
    }
    start = len(pairs["train"])
    ids = [[str(start + n), str(start + n + 1)] for n in range(len(pairs["valid"]))]
    given = [
        mrpc(tmp_path / "msr_paraphrase_train.txt", pairs["train"] + pairs["valid"]),
        mrpc(tmp_path / "msr_paraphrase_test.txt", pairs["test"]),
        write(tmp_path / "mrpc_dev_ids.tsv", ids),
    ]
    assert prepare(bert, tmp_path / "out", "--archive", *given, corpus="glue-mrpc") == 0
    facts = report(tmp_path / "out")
    assert facts["raw"]["kept"] == {"train": 3_668, "valid": 408, "test": 1_725}


def test_the_real_cola(bert: Path, tmp_path: Path) -> None:
    """GLUE's dev set is the corpus' two."""
    folder = shared("nlu/cola")
    train = gzip.decompress((folder / "in_domain_train.tsv.gz").read_bytes())
    dev = [(folder / f"{part}_domain_dev.tsv").read_bytes() for part in ("in", "out_of")]
    (tmp_path / "train.tsv").write_bytes(train)
    (tmp_path / "dev.tsv").write_bytes(b"\n".join(part.rstrip(b"\n") for part in dev) + b"\n")
    given = [tmp_path / "train.tsv", tmp_path / "dev.tsv"]
    assert prepare(bert, tmp_path / "out", "--archive", *given, corpus="glue-cola") == 0
    facts = report(tmp_path / "out")
    assert facts["raw"]["kept"] == {"train": 8_551, "valid": 1_043}
    assert facts["raw"]["labels"]["train"] == {"unacceptable": 2_528, "acceptable": 6_023}
    assert facts["metrics"] == ["--report-mcc"]


def test_the_real_phrases_of_sst_2(bert: Path, tmp_path: Path) -> None:
    """Another project's cut of GLUE's 67,349."""
    folder = shared("nlu/sst") / "glue_phrases"
    for file, source in (("train.tsv", "train.tsv.gz"), ("dev.tsv", "test.tsv")):
        content = (folder / source).read_bytes()
        (tmp_path / file).write_bytes(
            gzip.decompress(content) if source.endswith(".gz") else content
        )
    given = [tmp_path / "train.tsv", tmp_path / "dev.tsv"]
    assert prepare(bert, tmp_path / "out", "--archive", *given, corpus="glue-sst-2") == 0
    facts = report(tmp_path / "out")["raw"]
    assert facts["found"] == {"train": 60_614, "valid": 872}
    assert facts["kept"]["train"] + sum(facts["dropped"]["train"].values()) == 60_614
