"""`data_prep substitutions`: the table, from packages to lines; and what is no such."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.__main__ import main
from data_prep.sources.download import download
from data_prep.substitutions.choosing import Choosing
from data_prep.substitutions.table import Choices, read_table, write_table
from data_prep.substitutions.tagging import ARCHIVE, Tagger, read_weights
from data_prep.substitutions.wordnet import read_wordnet
from data_prep.support.errors import DataPrepError
from tests.data_prep.substitutions import made
from tests.support.shared_data import shared


def choose(most: int = 8, least: float = 0.8, **pairs: Any) -> Any:
    wordnet = read_wordnet(made.files())
    return Choosing(least, most).table(wordnet, made.vectors(), **pairs)


def test_forms_stand_for_the_same_forms() -> None:
    table = choose()
    assert set(table["film", "noun"].synonyms) == {"movie", "foil"}
    assert "movies" in table["films", "noun"].synonyms
    assert not {"movie", "foil"} & set(table["films", "noun"].synonyms)
    assert table["children", "noun"].antonyms == ("parents",)
    assert table["rose", "verb"] == Choices(("climbed",), ("fell",))
    assert table["risen", "verb"].antonyms == ("fallen",)
    # It may be a participle, and rose cannot.
    assert ("climbed", "verb") not in table
    assert table["better", "adj"].antonyms == ("worse",)
    assert "finer" in table["better", "adj"].synonyms
    assert table["quickly", "adv"] == Choices(("fast",), ())
    assert not [key for key in table if "monday" in key[0]]


def test_what_is_near_but_no_synonym_is_not_taken() -> None:
    """The kid is as near to the parent as to the child."""
    table = choose()
    assert table["kid", "noun"] == Choices(("child",), ())
    assert all("bad" not in of.synonyms for of in table.values())


def test_what_is_not_near_is_not_taken_and_there_is_a_limit() -> None:
    vectors = made.vectors()
    assert set(choose()["film", "noun"].synonyms) == {"movie", "foil"}
    assert len(choose(most=1)["film", "noun"].synonyms) == 1
    vectors["foil"] = -vectors["film"]  # which shares its second sense alone
    table = Choosing(0.8, 8).table(read_wordnet(made.files()), vectors)
    assert table["film", "noun"].synonyms == ("movie",)
    assert ("foil", "noun") not in table


def test_pairs_that_are_given() -> None:
    table = choose(synonyms=[("kid", "parent"), ("good", "bad")], antonyms=[("movie", "foil")])
    assert set(table["kid", "noun"].synonyms) == {"child", "parent"}
    assert "kid" in table["parent", "noun"].synonyms
    assert "bad" not in table["good", "adj"].synonyms  # WordNet's antonym
    assert table["movie", "noun"].antonyms == ("foil",)
    assert table["foil", "noun"].antonyms == ("movie",)
    other_form = choose(synonyms=[("kid", "parents")], least=-1.0)
    assert "parents" not in other_form["kid", "noun"].synonyms


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = choose()
    write_table(table, tmp_path / "table")
    assert read_table(tmp_path / "table") == table


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("good\tadj\tfine", "line 2: 3 columns, where 4 are wanted"),
        ("good\tword\tfine\t", "line 2: word is none of noun, verb, adj, adv"),
        ("Good\tadj\tfine\t", "line 2: 'Good' is no word in lower case"),
        ("\tadj\tfine\t", "line 2: '' is no word in lower case"),
        ("good\tadj\tgood\t", "line 2: good has itself, or a word"),
        ("good\tadj\tb_1\t", "line 2: 'b_1' is no word in lower case"),
        ("good\tadj\tfine\tfine", "line 2: good has itself, or a word"),
        ("good\tadj\tfine\t\ngood\tadj\t\tbad", "line 3: good as adj is there twice"),
    ],
)
def test_a_line_that_is_none(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(f"word\tpart\tsynonyms\tantonyms\n{line}\n", "utf-8")
    with pytest.raises(DataPrepError, match=f"mine.tsv: {message}"):
        read_table(path)
    path.write_text(line, "utf-8")
    with pytest.raises(DataPrepError, match="its first line is not word part synonyms antonyms"):
        read_table(path)


# ---- The tagger ----------------------------------------------------------------------------------


def test_a_tag_is_the_best_sum_of_weights(tmp_path: Path) -> None:
    tagger = Tagger.read(made.tagger_file(tmp_path / "tagger.json.gz"))
    # They run: 1 and 0.3 for the verb, 0.9 for the noun; the run: 1 against 0.9 and 0.5.
    assert tagger.parts(["they", "run"]) == [None, "verb"]
    assert tagger.parts(["the", "run"]) == [None, "noun"]
    assert tagger.tags(["They", "run", "quickly", "."]) == [
        "PRON|-",
        "VERB|Fin",
        "ADV|-",
        "VERB|Fin",
    ]
    # A capital makes 0.8 for a name; "the" before it 0.5 for the noun, "fast" behind 0.1.
    assert tagger.tags(["the", "Hat", "fast"])[1:] == ["PROPN|-", "ADV|-"]  # two behind "the"
    assert tagger.parts([]) == []


@pytest.mark.slow
def test_the_real_weights_give_the_tags_of_their_own_package(tmp_path: Path) -> None:
    """Whose module for it needs nothing else."""
    try:
        package = download(ARCHIVE, tmp_path)
    except DataPrepError as error:
        pytest.skip(f"needs the package index: {error}")
    read_weights(package, tmp_path / "tagger.json.gz")
    with zipfile.ZipFile(package) as archive:
        source = archive.read("denckring_en_pos/perceptron.py")
    theirs: dict[str, Any] = {"__name__": "theirs"}
    exec(compile(source, "perceptron.py", "exec"), theirs)
    weights = json.loads(gzip.decompress((tmp_path / "tagger.json.gz").read_bytes()))
    given = {name: weights[name] for name in ("weights", "tagdict", "classes")}
    tagger = theirs["Tagger"](**given, vocabulary=frozenset())
    ours = Tagger.read(tmp_path / "tagger.json.gz")
    texts = [text for name in ("train", "validation") for text in sentences_of_rte(name)]
    words = [re.findall(r"[A-Za-z0-9']+", text) for text in texts]
    assert sum(map(len, words)) > 10_000
    for sentence in words:
        assert ours.tags(sentence) == tagger.tag(sentence)
    assert ours.parts(["They", "quickly", "saw", "the", "old", "saw", "."]) == [
        *(None, "adv", "verb", None, "adj", "noun"),
        ours.parts(["."])[0],
    ]


def sentences_of_rte(split: str) -> list[str]:
    path = next(shared("nlu").glob(f"rte/{split}.tsv*"))
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return [line.split("\t")[-1] for line in text.splitlines()[1:]]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", gzip.compress(b"[]"), gzip.compress(b'{"weights": 1}')),
        gzip.compress(b'{"weights": {}, "tagdict": {"x": 1}, "classes": ["X"]}'),
    ],
)
def test_a_file_that_is_no_tagger(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tagger.json.gz"
    path.write_bytes(content)
    with pytest.raises(
        DataPrepError, match=r"tagger\.json\.gz: is no model of a tagger, or damaged"
    ):
        Tagger.read(path)


# ---- The command ---------------------------------------------------------------------------------


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    archives = [made.wordnet_deb(tmp_path / "wordnet.deb"), made.wheel(tmp_path)]
    vectors = made.vector_file(tmp_path / "vectors.txt")
    return [*("--vectors", str(vectors)), "--archive", *map(str, archives)]


def test_from_packages_to_a_table(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["substitutions", "--out", str(out), *given]) == 0
    said = capsys.readouterr().out
    assert "words; by part of speech" in said and f"{out}/words/substitutions.tsv" in said
    table = read_table(out / "words/substitutions.tsv")
    assert table == choose()
    assert Tagger.read(out / "words/tagger.json.gz").parts(["they", "run"]) == [None, "verb"]
    before = (out / "words/stage.json").stat().st_mtime_ns
    assert main(["substitutions", "--out", str(out), *given]) == 0
    assert (out / "words/stage.json").stat().st_mtime_ns == before
    (tmp_path / "pairs").write_text("kid parent\n\nGood Bad\n", "utf-8")
    more = ["--synonyms", str(tmp_path / "pairs"), "--most", "1"]
    assert main(["substitutions", "--out", str(out), *given, *more]) == 0
    assert len(read_table(out / "words/substitutions.tsv")["kid", "noun"].synonyms) == 1
    (tmp_path / "pairs").write_text("movie foil\n", "utf-8")  # other pairs in the same file
    assert main(["substitutions", "--out", str(out), *given, *more]) == 0
    assert read_table(out / "words/substitutions.tsv")["movie", "noun"].synonyms
    assert read_table(out / "words/substitutions.tsv") == choose(1, synonyms=[("movie", "foil")])
    (tmp_path / "pairs").write_text("movie foil\nmovie Movie\n", "utf-8")  # itself says nothing
    other = ["--antonyms", str(tmp_path / "pairs"), "--most", "1"]
    assert main(["substitutions", "--out", str(out), *given, *other]) == 0
    assert read_table(out / "words/substitutions.tsv")["movie", "noun"].antonyms == ("foil",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vectors", "none"], "--vectors none: which words are near each other they say"),
        (["--vectors", "no-such.txt"], "neither glove-6b-50d, none, nor a file"),
        (["--archive", "no-such.deb"], "--archive no-such.deb: there is no such file"),
        (
            ["--archive", "text.zip"],
            "--archive text.zip: neither wordnet-base's .deb nor denckring",
        ),
        (["--synonyms", "odd"], "odd: line 2: 3 words, where a pair is wanted: one two three"),
        (["--least-cosine", "1"], "'1' is no cosine: from -1 to below 1"),
        (["--most", "0"], "'0' is not a whole number above 0"),
    ],
)
def test_a_wrong_command(
    options: list[str],
    message: str,
    given: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd").write_text("one two\none two three\n", "utf-8")
    own = given if options[0] != "--archive" else given[:2]
    assert main(["substitutions", "--out", "out", *own, *options]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out/words").exists()


def test_vectors_of_other_words(given: list[str], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "vectors.txt").write_text("Haus 1 2 3\n", "utf-8")
    assert main(["substitutions", "--out", str(tmp_path / "out"), *given]) == 1
    assert "vectors.txt: has none of WordNet's words" in capsys.readouterr().err


def test_another_package(given: list[str], tmp_path: Path, capsys: Any) -> None:
    other = made.wordnet_deb(tmp_path / "other.deb", {"nothing": b""})
    arguments = [a if not a.endswith("wordnet.deb") else str(other) for a in given]
    assert main(["substitutions", "--out", str(tmp_path / "out"), *arguments]) == 1
    assert "other.deb: " in capsys.readouterr().err
    assert np.isfinite([*made.vectors().values()]).all()
