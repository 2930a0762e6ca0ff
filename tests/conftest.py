"""Fixtures that several test files share.

Each imports what it needs: the process that only deals tests out to others loads neither torch nor
fairseq, and has nothing to say for them after pytest's last line.
"""

from __future__ import annotations

import os

# The models here are too small for a second thread to help. Before torch is imported:
os.environ["OMP_NUM_THREADS"] = "1"

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import processes
from tests.support.texts import without_fairseq, write_texts

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background of a shell: what the tests start would not hear of Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test that names no deadline has none: other work on the machine is no fault of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


SEED = 1


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What is random in a test and in its fixtures is so whatever has run in its process before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(autouse=True)
def no_process_outlives_its_test() -> Iterator[None]:
    yield
    processes.kill_what_is_left()


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """A training listens to signals to the end of its process, which is the tests' own here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binarised toy corpus with 100 test sentences."""
    from tests.support import training

    return training.make_data(
        tmp_path_factory.mktemp("toy"), {"train": 120, "valid": 20, "test": 100}
    )


@pytest.fixture(scope="session")
def toy_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binarised toy sentences of two classes."""
    from tests.support import training

    sizes = {"train": 120, "valid": 20, "test": 100}
    return training.make_sentences(tmp_path_factory.mktemp("sentences"), sizes)


@pytest.fixture(scope="session")
def toy_scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sentences with scores."""
    from tests.support import training

    sizes = {"train": 120, "valid": 20, "test": 100}
    return training.make_sentences(tmp_path_factory.mktemp("scores"), sizes, numbers=True)


@pytest.fixture(scope="session")
def clauses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory made by data_prep, with 60 test sentences."""
    from tests.support import translators

    return translators.make_corpus(tmp_path_factory.mktemp("clauses"))


@pytest.fixture(scope="session")
def trained(clauses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a Transformer that has learnt something of that corpus."""
    from tests.support import translators

    return translators.train(clauses, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def exported(clauses: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That checkpoint as a folder for translating."""
    from recipes.serving.export import export

    folder = tmp_path_factory.mktemp("exported") / "model"
    assert export(clauses, trained, folder) is None
    return folder


@pytest.fixture(scope="session")
def old_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of data_prep, for the checkpoints of `old_fairseq`."""
    from tests.trainer import old_fairseq

    return old_fairseq.prepare(tmp_path_factory.mktemp("old") / "data")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A small parallel corpus as plain text files."""
    directory = tmp_path / "texts"
    directory.mkdir()
    return write_texts(directory)


@pytest.fixture
def no_fairseq(monkeypatch: pytest.MonkeyPatch) -> None:
    """data_prep without its slowest stage."""
    without_fairseq(monkeypatch)


WORDS = {
    "Haus": "house",
    "Baum": "tree",
    "Hund": "dog",
    "Katze": "cat",
    "Wasser": "water",
    "Straße": "street",
    "Fenster": "window",
    "Garten": "garden",
    "und": "and",
    "da": "there",
}


@pytest.fixture(scope="session")
def word_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of data_prep: a language that is translated word by word; 30 test sentences."""
    directory = tmp_path_factory.mktemp("words")
    rng = random.Random(1)
    for split, size in (("train", 400), ("valid", 10), ("test", 30)):
        chosen = [rng.sample(list(WORDS), rng.randint(2, 7)) for _ in range(size)]
        for lang, words in (("de", WORDS.keys), ("en", WORDS.values)):
            table = dict(zip(WORDS, words(), strict=True))
            lines = [" ".join(table[word] for word in sentence) + " ." for sentence in chosen]
            (directory / f"{split}.{lang}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits = [f"--{split}={directory / split}" for split in ("train", "valid", "test")]
    subprocess.run(
        [
            *(sys.executable, "-m", "data_prep", "files", *splits, "--out", directory / "data"),
            *("--source-lang", "de", "--target-lang", "en", "--bpe-merges", "60"),
        ],
        check=True,
    )
    return directory / "data"


@pytest.fixture(scope="session")
def word_model(word_data: Path) -> Path:
    """A checkpoint that translates `word_data` right."""
    from tests.support import training

    directory = word_data.parent / "words" / "checkpoints"
    options = ["--max-update", "300", "--lr", "1e-2", "--max-tokens", "400"]
    options += ["--encoder-normalize-before", "--decoder-normalize-before", "--disable-validation"]
    training.run_training(
        word_data / "bin", directory, *options, criterion="label_smoothed_cross_entropy"
    )
    return directory / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights, in its directory of data_prep."""
    from tests.support import encoders

    folder = tmp_path_factory.mktemp("small")
    encoders.save_encoder(folder / "files", "BertModel")
    return encoders.prepared(folder / "files", folder / "bert")


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RoBERTa."""
    from tests.support import encoders

    folder = tmp_path_factory.mktemp("small")
    encoders.save_encoder(folder / "files", "RobertaModel")
    return encoders.prepared(folder / "files", folder / "roberta")


@pytest.fixture(scope="session")
def opinions(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of data_prep: good and bad sentences, and two of test1 without labels."""
    from tests.support import classifiers

    return classifiers.prepare(bert, tmp_path_factory.mktemp("opinions"))


@pytest.fixture(scope="session")
def scored(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of pairs, with scores."""
    from tests.support import classifiers

    return classifiers.prepare(bert, tmp_path_factory.mktemp("scored"), scores=True)


@pytest.fixture(scope="session")
def opinion_model(opinions: Path, bert: Path) -> Path:
    """A checkpoint that tells good from bad, mostly; the line of its validation is beside it."""
    from tests.support import classifiers

    return classifiers.train(opinions, bert)


@pytest.fixture(scope="session")
def score_model(scored: Path, bert: Path) -> Path:
    """A checkpoint that has learnt something of the scores."""
    from tests.support import classifiers

    return classifiers.train(scored, bert)
