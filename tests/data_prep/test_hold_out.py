"""Validation and test sets drawn from the training text, against a naive draw and by hand."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpora.files import FilesCorpus
from data_prep.preparation import OURS
from data_prep.selection.raw import Selection, write_raw
from data_prep.support.errors import DataPrepError
from tests.support.texts import prepare_files, tree, write_texts

Pair = tuple[str, str]


def _write(prefix: Path, pairs: Iterable[Pair]) -> None:
    for column, lang in enumerate(("de", "en")):
        text = "".join(pair[column] + "\n" for pair in pairs)
        prefix.with_name(f"{prefix.name}.{lang}").write_bytes(text.encode())


def _read(prefix: Path) -> list[Pair]:
    source, target = (
        prefix.with_name(f"{prefix.name}.{lang}").read_text(encoding="utf-8").split("\n")[:-1]
        for lang in ("de", "en")
    )
    return list(zip(source, target, strict=True))


def _splits(
    directory: Path,
    texts: dict[str, Sequence[Pair]],
    hold_out: int | None,
    max_words: int | None = None,
    train_pairs: int | None = None,
) -> tuple[dict[str, list[Pair]], dict[str, Any]]:
    """What the raw stage makes of ``texts``, and its counts."""
    for split, pairs in texts.items():
        _write(directory / f"my-{split}", pairs)
    prefixes = {split: str(directory / f"my-{split}") for split in texts}
    corpus = FilesCorpus("de", "en", prefixes, hold_out)
    counts = write_raw(corpus, OURS, Selection(max_words, train_pairs), directory, workers=1)
    return {split: _read(directory / split) for split in ("train", "valid", "test")}, counts


def _numbered(numbers: Iterable[int]) -> list[Pair]:
    return [(f"Satz {number}.", f"Sentence {number}.") for number in numbers]


def _naive_draw(pairs: list[Pair], wanted: int, met: list[Pair], largest: bool) -> list[Pair]:
    """The first ``wanted`` pairs by hash that share no sentence with each other or ``met``."""

    def digest(pair: Pair) -> bytes:
        return hashlib.blake2b("\n".join(pair).encode(), digest_size=8).digest()

    drawn: list[Pair] = []
    for pair in sorted(pairs, key=digest, reverse=largest):
        if len(drawn) < wanted and not any(_share(pair, other) for other in met + drawn):
            drawn.append(pair)
    return drawn


def _share(one: Pair, other: Pair) -> bool:
    return one[0] == other[0] or one[1] == other[1]


# So few sentences that most of them repeat, on one side or both, and some are on either side.
SENTENCE = st.integers(0, 12).map(str)


@settings(max_examples=200, deadline=None)
@given(
    train=st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=40),
    others=st.dictionaries(
        st.sampled_from(["valid", "test"]),
        st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=3),
        max_size=1,
    ),
    wanted=st.integers(1, 3),
)
def test_the_splits_are_those_of_a_naive_draw(
    tmp_path_factory: pytest.TempPathFactory,
    train: list[Pair],
    others: dict[str, list[Pair]],
    wanted: int,
) -> None:
    expected = dict(others)
    met = [pair for pairs in others.values() for pair in pairs]
    for split in ("valid", "test"):
        if split not in others:
            expected[split] = _naive_draw(train, wanted, met, largest=split == "test")
            met = met + expected[split]
    drawn = [pair for split in expected.keys() - others.keys() for pair in expected[split]]
    expected["train"] = [
        pair for pair in train if not any(_share(pair, held_out) for held_out in drawn)
    ]
    texts = {"train": train, **others}
    directory = tmp_path_factory.mktemp("raw")
    if len(drawn) < wanted * (2 - len(others)) or not expected["train"]:
        with pytest.raises(DataPrepError, match="too few"):
            _splits(directory, texts, wanted)
        return
    splits, counts = _splits(directory, texts, wanted)
    assert splits["train"] == expected["train"]
    for split in ("valid", "test"):
        assert sorted(splits[split]) == sorted(expected[split])
        assert counts["found"][split] == counts["kept"][split] == len(expected[split])
    assert counts["found"]["train"] == len(train) - len(drawn)
    assert counts["kept"]["train"] == len(expected["train"])
    lost = len(train) - len(drawn) - len(expected["train"])
    assert counts["dropped"] == {"train": {"also held out": lost}, "valid": {}, "test": {}}


def test_pairs_that_are_dropped_anyway_are_not_drawn(tmp_path: Path) -> None:
    useless = [("", f"Only {i}.") for i in range(300)] + [(f"zu lang {i}", "x") for i in range(300)]
    texts = {"train": useless + _numbered(range(20))}
    splits, counts = _splits(tmp_path, texts, 8, max_words=2)
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [4, 8, 8]
    assert sorted(chain.from_iterable(splits.values())) == sorted(_numbered(range(20)))
    assert counts["found"] == {"train": 604, "valid": 8, "test": 8}
    assert counts["dropped"]["train"] == {"also held out": 0, "empty": 300, "too long": 300}


def test_sentences_are_compared_as_they_are_written(tmp_path: Path) -> None:
    untidy = [(f"Satz\u00a0{i}. \r", f"\u200bSentence  {i}.") for i in range(10)]
    splits, counts = _splits(tmp_path, {"train": _numbered(range(10)) + untidy}, 3)
    assert counts["dropped"]["train"] == {"also held out": 6}
    assert Counter(splits["train"]) == {
        pair: 2 for pair in _numbered(range(10)) if pair not in splits["valid"] + splits["test"]
    }


def test_the_order_of_the_lines_does_not_matter(tmp_path: Path) -> None:
    repeated = [("Ja.", f"Yes, {i}.") for i in range(50)] + [
        (f"Nein {i}.", "No.") for i in range(50)
    ]
    pairs = _numbered(range(100)) + repeated + repeated
    forth, _ = _splits(tmp_path, {"train": pairs}, 30)
    back, _ = _splits(tmp_path, {"train": pairs[::-1]}, 30)
    for split in ("train", "valid", "test"):
        assert [*reversed(back[split])] == forth[split]


def test_new_pairs_displace_no_more_than_their_number(tmp_path: Path) -> None:
    before, _ = _splits(tmp_path, {"train": _numbered(range(500))}, 50)
    after, _ = _splits(tmp_path, {"train": _numbered(range(600))}, 50)
    for split, other in (("valid", "test"), ("test", "valid")):
        new = set(after[split]) - set(_numbered(range(500)))
        assert 0 < len(new) < 20  # 8 expected: 100 of 600 pairs, 50 places
        left = set(before[split]) - set(after[split])
        assert len(left) == len(new) and left <= set(after["train"])
        assert not set(before[split]) & set(after[other])


def test_held_out_pairs_are_spread_over_the_text(tmp_path: Path) -> None:
    splits, _ = _splits(tmp_path, {"train": _numbered(range(2000))}, 200)
    for split in ("valid", "test"):
        positions = [int(source.removeprefix("Satz ").rstrip(".")) for source, _ in splits[split]]
        assert positions == sorted(positions)
        for quarter in range(4):  # 50 expected, standard deviation 6
            assert 25 < sum(position * 4 // 2000 == quarter for position in positions) < 75


@pytest.mark.parametrize(
    ("pairs", "held_out"), [(3, 1), (19, 1), (20, 2), (9999, 999), (10000, 1000), (12000, 1000)]
)
def test_by_default_a_tenth_is_held_out_and_at_most_1000(
    tmp_path: Path, pairs: int, held_out: int
) -> None:
    useless = [("", "")] * 100
    _, counts = _splits(tmp_path, {"train": useless + _numbered(range(pairs))}, None)
    assert counts["kept"] == {
        "train": pairs - 2 * held_out,
        "valid": held_out,
        "test": held_out,
    }


def test_train_pairs_does_not_touch_what_is_held_out(tmp_path: Path) -> None:
    texts = {"train": _numbered(range(200))}
    everything, _ = _splits(tmp_path, texts, 20)
    few, counts = _splits(tmp_path, texts, 20, train_pairs=30)
    assert few["valid"] == everything["valid"] and few["test"] == everything["test"]
    assert sorted(few["train"]) == sorted(_naive_draw(everything["train"], 30, [], largest=False))
    assert counts["found"]["train"] == 160
    assert counts["dropped"]["train"] == {"also held out": 0, "not among --train-pairs": 130}


@pytest.mark.usefixtures("no_fairseq")
def test_two_files_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_texts(tmp_path, train=30, held_out=0)
    _write(tmp_path / "train", [*_read(tmp_path / "train"), *_read(tmp_path / "train"), ("", "")])
    out = tmp_path / "out"
    assert prepare_files(tmp_path, out, given=["train"]) == 0
    # 60 usable pairs, each there twice; a tenth is 6; the second copies of 12 are dropped.
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[:5] == [
        ["train", "valid", "test"],
        ["pairs", "found", "49", "6", "6"],
        ["-", "also", "held", "out", "12", "0", "0"],
        ["-", "empty", "1", "0", "0"],
        ["pairs", "kept", "36", "6", "6"],
    ]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["selection"] == {
        "max_words": None,
        "train_pairs": None,
        "hold_out_valid": None,
        "hold_out_test": None,
    }
    assert report["preparation"]["bpe_merges"] == 50
    assert list(report["inputs"]) == ["train de", "train en"]
    for split in ("valid", "test"):
        assert (out / "bpe" / f"{split}.en").read_text(encoding="utf-8").count("\n") == 6


@pytest.mark.usefixtures("no_fairseq")
def test_another_number_or_another_split_makes_everything_anew(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    choices = [
        (["--hold-out=2"], ["train"]),
        (["--hold-out=3"], ["train"]),
        ([], ["train"]),
        (["--hold-out=3"], ["train", "valid"]),
        (["--hold-out=3"], ["train", "test"]),
        ([], ["train", "valid", "test"]),
    ]
    for number, (options, splits) in enumerate(choices):
        capsys.readouterr()
        assert prepare_files(texts, out, *options, given=splits) == 0
        assert "already there" not in capsys.readouterr().err
        assert prepare_files(texts, out, *options, given=splits) == 0
        assert capsys.readouterr().err.count("already there") == 4
        fresh = tmp_path / f"fresh{number}"
        assert prepare_files(texts, fresh, *options, given=splits) == 0
        assert tree(out) == tree(fresh)


@pytest.mark.parametrize(
    ("hold_out", "splits", "complaint"),
    [
        ("20", ["train"], "30 of 32 pairs can be used (2 empty): too few without a sentence in"),
        ("15", ["train"], "to hold out 15 for valid and 15 for test and to train on the rest"),
        ("30", ["train", "valid"], "to hold out 30 for test and to train on the rest"),
        ("9", ["train", "valid", "test"], "--hold-out 9: --valid and --test are both given"),
        ("0", ["train"], "--hold-out: '0' is not a whole number above 0"),
        ("1", ["valid", "test"], "the following arguments are required: --train"),
    ],
)
def test_what_cannot_be_held_out(
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    hold_out: str,
    splits: list[str],
    complaint: str,
) -> None:
    _write(texts / "train", [*_read(texts / "train"), ("", "a"), ("b", " ")])
    out = tmp_path / "out"
    assert prepare_files(texts, out, f"--hold-out={hold_out}", given=splits) == 1
    message = capsys.readouterr().err
    assert message.startswith("data_prep: error: ") and message.count("\n") <= 2
    assert complaint in message
    assert not out.exists()
