"""The four stages on small texts, against other tools and against results worked out by hand."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sacremoses import MosesDetokenizer

from data_prep.__main__ import main
from data_prep.support import parallel
from tests.support.processes import ROOT
from tests.support.texts import prepare_files, tree, write_texts


def _report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def test_fairseq_reads_back_what_was_encoded(texts: Path, tmp_path: Path) -> None:
    from fairseq.data import Dictionary, data_utils

    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "bin", "bpe", "preprocess.log", "raw", "report.json", "tok",
    ]  # fmt: skip
    dictionary = Dictionary.load(str(out / "bin" / "dict.de.txt"))
    assert (out / "bin" / "dict.en.txt").read_bytes() == (out / "bin" / "dict.de.txt").read_bytes()
    for split in ("train", "valid", "test"):
        for lang in ("de", "en"):
            data = data_utils.load_indexed_dataset(str(out / "bin" / f"{split}.de-en.{lang}"))
            encoded = (out / "bpe" / f"{split}.{lang}").read_text(encoding="utf-8").splitlines()
            if split == "train":  # nothing in it is unknown
                assert [dictionary.string(sentence) for sentence in data] == encoded
            assert len(data) == len(encoded) == _report(out)["raw"]["kept"][split]


def test_fairseq_finds_languages_with_a_region_or_script(texts: Path, tmp_path: Path) -> None:
    """It reads them from names of files, as fairseq-train does without --source-lang."""
    from fairseq.data import Dictionary, data_utils

    for split in ("train", "valid", "test"):
        (texts / f"{split}.de").rename(texts / f"{split}.pt-BR")
        (texts / f"{split}.en").rename(texts / f"{split}.zh-Hant")
    out = tmp_path / "out"
    given = [f"--{split}={texts / split}" for split in ("train", "valid", "test")]
    options = ["--source-lang=pt-BR", "--target-lang=zh-Hant", "--bpe-merges=50", "--workers=1"]
    assert main(["files", *given, f"--out={out}", *options]) == 0
    languages = ["pt_BR", "zh_Hant"]
    assert _report(out)["languages"] == languages
    assert data_utils.infer_language_pair(str(out / "bin")) == languages
    for lang in languages:
        assert len(Dictionary.load(str(out / "bin" / f"dict.{lang}.txt"))) > 4
        prefix = out / "bin" / f"test.pt_BR-zh_Hant.{lang}"
        assert len(data_utils.load_indexed_dataset(str(prefix))) == 5


@pytest.mark.usefixtures("no_fairseq")
@pytest.mark.parametrize(
    ("code", "line", "told"),
    [
        ("jp", "今日は{}日です。", True),
        ("cn", "今天{}号。", True),
        ("jp_Jpan", "今日は{}日です。", False),
        ("ja", "今日は{}日です。", False),
        ("ru", "Сегодня {}-е число.", False),
        ("vi", "Hôm nay là ngày {} (今日).", False),
        ("el", "{}", False),
    ],
)
def test_a_code_that_stands_for_other_letters_is_told(
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    code: str,
    line: str,
    told: bool,
) -> None:
    for split in ("train", "valid", "test"):
        lines = [line.format(number) for number in range(100, 110)]
        for lang in ("de", code):
            (texts / f"{split}.{lang}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert prepare_files(texts, tmp_path / "out", "--source-lang=de", f"--target-lang={code}") == 0
    assert (f"{code}: no language known by this code" in capsys.readouterr().err) == told


@pytest.mark.usefixtures("no_fairseq")
def test_subwords_are_those_of_subword_nmts_command_line(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    train = [str(out / "tok" / f"train.{lang}") for lang in ("de", "en")]
    codes, *vocabularies = (tmp_path / name for name in ("codes", "vocab.de", "vocab.en"))
    tool = [sys.executable, "-c", "from subword_nmt.subword_nmt import main; main()"]
    learn = ["learn-joint-bpe-and-vocab", "-i", *train, "-s", "50", "-o", str(codes)]
    learn += ["--write-vocabulary", *map(str, vocabularies)]
    subprocess.run([*tool, *learn], capture_output=True, check=True)
    assert codes.read_bytes() == (out / "bpe" / "codes").read_bytes()
    for vocabulary in vocabularies:
        ours = (out / "bpe" / vocabulary.name).read_text(encoding="utf-8").splitlines()
        assert sorted(ours) == sorted(vocabulary.read_text(encoding="utf-8").splitlines())
    apply = [*tool, "apply-bpe", "-c", str(codes)]
    done = subprocess.run(
        apply, input=(out / "tok" / "test.de").read_bytes(), capture_output=True, check=True
    )
    assert done.stdout == (out / "bpe" / "test.de").read_bytes()


@pytest.mark.usefixtures("no_fairseq")
def test_tokens_detokenise_to_the_raw_sentences(texts: Path, tmp_path: Path) -> None:
    sentence = "Is it \"done\" (e.g. 3.5% of it), or isn't it; so what's [that]?"
    for lang in ("de", "en"):
        with (texts / f"train.{lang}").open("a", encoding="utf-8") as stream:
            stream.write(sentence + "\n")
    out = tmp_path / "out"
    assert prepare_files(texts, out) == 0
    raw, tok = (
        (out / stage / "train.en").read_text(encoding="utf-8").splitlines()
        for stage in ("raw", "tok")
    )
    detokenizer = MosesDetokenizer("en")
    assert [detokenizer.detokenize(line.split()) for line in tok] == raw


@pytest.mark.usefixtures("no_fairseq")
def test_counts_of_a_hand_made_text(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [
        ("eins zwei drei", "one two three"),
        ("", "nothing on the left"),
        ("nichts rechts", "\u200b "),
        ("eins zwei drei vier", "three words only"),
        ("drei\u2028teile hier\r", "three\x07 parts here"),
        ("letzte Zeile", "last\u00a0line"),
    ]
    for column, lang in enumerate(("de", "en")):
        text = "\n".join(pair[column] for pair in pairs)  # no LF at the end
        (texts / f"train.{lang}").write_bytes(text.encode())
    out = tmp_path / "out"
    assert prepare_files(texts, out, "--max-words", "5") == 0
    kept = [line.split("\t") for line in _side_by_side(out / "raw" / "train")]
    assert kept == [
        ["eins zwei drei", "one two three"],
        ["eins zwei drei vier", "three words only"],
        ["drei teile hier", "three parts here"],
        ["letzte Zeile", "last line"],
    ]
    raw = _report(out)["raw"]
    assert raw["found"]["train"] == 6 and raw["kept"]["train"] == 4
    assert raw["dropped"]["train"] == {"empty": 2}
    assert raw["repaired lines"] == {
        "control characters": 1,
        "invisible characters": 1,
        "line separators": 1,
    }
    assert raw["words"]["train"] == {"de": 12, "en": 11}
    shown = capsys.readouterr().out
    assert "- empty" in shown and "repaired: control characters in 1 lines" in shown


@pytest.mark.usefixtures("no_fairseq")
def test_max_words_counts_either_side_in_every_split(texts: Path, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (texts / f"{split}.de").write_text("a b c d\na b c\nxx xx xx\n")
        (texts / f"{split}.en").write_text("ab cd\nd e f g\nuv vw wx\n")
    assert prepare_files(texts, tmp_path / "out", "--max-words=3") == 0
    for split in ("train", "valid", "test"):
        assert _side_by_side(tmp_path / "out" / "raw" / split) == ["xx xx xx\tuv vw wx"]
        assert _report(tmp_path / "out")["raw"]["dropped"][split] == {"too long": 2}


@pytest.mark.usefixtures("no_fairseq")
def test_train_pairs_draws_nested_samples_spread_over_the_corpus(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    write_texts(texts, train=2000)
    everything = _raw_train(texts, tmp_path / "all")
    small = _raw_train(texts, tmp_path / "small", "--train-pairs=200")
    large = _raw_train(texts, tmp_path / "large", "--train-pairs=500")
    assert len(small) == 200 and len(large) == 500
    assert small == [pair for pair in everything if pair in set(small)]
    assert set(small) < set(large) < set(everything)
    positions = [everything.index(pair) for pair in small]
    for quarter in range(4):  # 50 expected, standard deviation 6
        assert 25 < sum(position * 4 // 2000 == quarter for position in positions) < 75
    assert _raw_train(texts, tmp_path / "more", "--train-pairs=3000") == everything


def _raw_train(texts: Path, out: Path, *options: str) -> list[str]:
    assert prepare_files(texts, out, *options) == 0
    return _side_by_side(out / "raw" / "train")


def _side_by_side(prefix: Path) -> list[str]:
    source, target = (
        prefix.with_name(f"{prefix.name}.{lang}").read_text(encoding="utf-8").split("\n")[:-1]
        for lang in ("de", "en")
    )
    return ["\t".join(pair) for pair in zip(source, target, strict=True)]


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12)


@pytest.mark.usefixtures("no_fairseq")
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(LINE, LINE), min_size=1, max_size=8))
def test_lines_stay_aligned_through_all_stages(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("aligned")
    write_texts(root)
    # The pair's number survives all cleaning; the first line is there for BPE to learn from.
    numbered = [(f"nr{i} {source}", f"no{i} {target}") for i, (source, target) in enumerate(pairs)]
    for column, lang in enumerate(("de", "en")):
        text = "".join(pair[column] + "\n" for pair in numbered)
        (root / f"train.{lang}").write_bytes(b"again again\n" + text.encode())
    out = root / "out"
    assert prepare_files(root, out) == 0
    for stage in ("raw", "tok", "bpe"):
        rows = [row.split("\t") for row in _side_by_side(out / stage / "train")]
        assert len(rows) == 1 + len(pairs)
        for i, (source, target) in enumerate(rows[1:]):
            assert source.replace("@@ ", "").startswith(f"nr{i}")
            assert target.replace("@@ ", "").startswith(f"no{i}")


SCRIPT = """
import sys
from data_prep.support import parallel
from data_prep import pipeline
from tests.support.texts import prepare_files
from pathlib import Path
if __name__ == "__main__":
    parallel._CHUNK = 7
    pipeline.binarize = lambda *_, **__: {"dictionary": {"de": 0, "en": 0}}
    sys.exit(prepare_files(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
"""


def test_the_result_depends_on_neither_workers_nor_the_hash_seed(
    texts: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    results = []
    for seed, workers in (("1", "1"), ("2", "3")):
        out = tmp_path / f"out{seed}"
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(script), str(texts), str(out), f"--workers={workers}"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        results.append(tree(out))
    assert results[0] == results[1]


def test_mapping_keeps_order_and_bounds_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_CHUNK", 10)
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for number in range(500):
            taken += 1
            yield str(number)

    with parallel.LineMapper(2) as mapper:
        for number, line in enumerate(mapper.map(_upper, source())):
            assert line == str(number)
            assert taken <= number + 60  # at most two chunks per worker, and the ones at hand
    assert number == 499


def _upper(chunk: list[str]) -> list[str]:
    return [line.upper() for line in chunk]
