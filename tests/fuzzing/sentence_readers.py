"""The readers of encoders' files and of corpora of sentences."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from data_prep.encoders.hugging_face import Config, open_weights
from data_prep.encoders.pieces import cutter
from data_prep.encoders.vectors import VectorFile
from data_prep.encoders.vocabulary import read_vocabulary
from data_prep.encoders.weights import converted
from data_prep.sentences.corpora import agnews, snli, sst
from data_prep.sentences.corpora.anli import AnliCorpus
from data_prep.sentences.corpora.babi import BabiCorpus
from data_prep.sentences.corpora.glue import TASKS, GlueCorpus
from data_prep.sentences.corpora.labelled_files import LabelledFiles
from data_prep.sentences.corpora.reviews import ReviewCorpus
from data_prep.sentences.corpora.tsv import TableCorpus
from data_prep.sentences.corpus import SentenceCorpus, Task
from data_prep.sentences.raw import raw_rows, write_raw
from data_prep.sources.pypi import NotInIndex, linked
from data_prep.substitutions.table import NAME, read_table
from data_prep.substitutions.tagging import TAGGER, Tagger
from data_prep.substitutions.wordnet import FILES, is_word, read_wordnet
from data_prep.support.errors import DataPrepError
from data_prep.text.cleaning import clean_line
from tests.data_prep.substitutions import made
from tests.fuzzing.promises import Reader, choose, expect, is_for_the_user, only

_FILES = (
    "config.json",
    "model.safetensors",
    "vocab.txt",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "model.safetensors.index.json",
)


@cache
def _whole() -> dict[str, dict[str, bytes]]:
    """Files of a small encoder of each family."""
    from tests.support import encoders

    made: dict[str, dict[str, bytes]] = {}
    for family, kind in (("bert", "BertModel"), ("roberta", "RobertaForMaskedLM")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            encoders.save_encoder(
                folder, kind, hidden_size=4, intermediate_size=4, num_hidden_layers=1
            )
            made[family] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return made


def encoder_files(content: bytes, scratch: Path) -> None:
    """`Config`, `read_vocabulary`, `open_weights` and `converted`: an encoder, one file odd.

    The pieces of its dictionary are those that text is cut into, its weights finite.
    """
    choice, payload = choose(content, 2 * len(_FILES))
    family = ("bert", "roberta")[choice % 2]
    folder, out = scratch / "files", scratch / "out"
    for directory in (folder, out):
        directory.mkdir()
    for name, whole in _whole()[family].items():
        (folder / name).write_bytes(whole)
    odd = _FILES[choice // 2]
    if odd.endswith("index.json"):
        (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / odd).write_bytes(payload)
    try:
        config = Config.read(folder / "config.json")
        vocabulary = read_vocabulary(folder, config.family)
        symbols = vocabulary.symbols()
        expect(len(set(symbols)) == len(symbols), "a symbol twice")
        vocabulary.write(out)
        with open_weights(folder) as weights:
            tensors, _ = converted(config, weights, vocabulary.order())
        expect(
            all(bool(t.isfinite().all()) for t in tensors.values()), "weights that are no numbers"
        )
        pieces = cutter(out)("The film isn’t good… 好 </s> [SEP]")
        ordinary = {*symbols[4:-1], "<unk>"}
        expect(set(pieces) <= ordinary, f"{pieces}: pieces that are no ordinary symbols")
    except DataPrepError as error:
        is_for_the_user(error, [str(folder), "the embedding has"])
    shutil.rmtree(folder)
    only(scratch, {"out", "out/dict.txt", "out/tokenizer.json"})


def _encoder_seeds() -> list[bytes]:
    seeds = []
    for choice in range(2 * len(_FILES)):
        files = _whole()[("bert", "roberta")[choice % 2]]
        name = _FILES[choice // 2]
        if name == "tokenizer.json":
            content = json.dumps(_tokenizer(files)).encode()
        elif name.endswith("index.json"):
            content = json.dumps({"weight_map": {"a": "part.safetensors"}}).encode()
        elif name in files:
            content = files[name]
        else:
            continue
        seeds.append(bytes([choice]) + content)
    return seeds


def _tokenizer(files: dict[str, bytes]) -> dict[str, Any]:
    if "vocab.txt" in files:
        pieces = files["vocab.txt"].decode().split("\n")[:-1]
        names = ("clean_text", "handle_chinese_chars", "lowercase")
        return {
            "added_tokens": [{"id": 0, "content": pieces[0]}],
            "normalizer": {
                "type": "BertNormalizer",
                "strip_accents": None,
                **dict.fromkeys(names, True),
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {
                "type": "WordPiece",
                "continuing_subword_prefix": "##",
                "vocab": {piece: number for number, piece in enumerate(pieces)},
            },
        }
    merges = files["merges.txt"].decode().split("\n")[1:-1]
    return {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": json.loads(files["vocab.json"]), "merges": merges},
    }


def sentence_tables(content: bytes, scratch: Path) -> None:
    """`write_raw` of all corpora of sentences: a label that can be and clean texts on each line."""
    choice, payload = choose(content, 10)
    corpus, paths = _corpus(choice, payload, scratch)
    out = scratch / "out"
    out.mkdir()
    try:
        facts = write_raw(corpus, None, out)
    except DataPrepError as error:
        is_for_the_user(error, [*map(str, paths), "train: ", "valid: ", "test"])
        return
    for split in corpus.splits:
        rows = list(raw_rows(out / f"{split}.tsv"))
        expect(len(rows) == facts["kept"][split] > 0, f"{split}: {len(rows)} rows")
        for label, texts in rows:
            expect(len(texts) == 1 + corpus.task.pairs, f"{texts}: how many?")
            expect(all(text == clean_line(text, {}) for text in texts), f"{texts}: not clean")
            if split in facts["labelled"]:
                known = facts["classes"]
                expect(label in known if known else abs(float(label)) < float("inf"), label)
            else:
                expect(label == "", f"{label!r} in a set without labels")


def _corpus(choice: int, payload: bytes, scratch: Path) -> tuple[SentenceCorpus, list[Path]]:
    odd, whole = scratch / "odd.tsv", scratch / "whole.tsv"
    odd.write_bytes(payload)
    if choice == 0:
        task = Task(pairs=False)
        return TableCorpus({"train": odd, "valid": odd}, task, 1), [odd]
    if choice == 1:
        task = Task(pairs=True, is_regression=True)
        return TableCorpus(dict.fromkeys(("train", "valid", "test"), odd), task), [odd]
    if choice == 2:
        return AnliCorpus({"train": [odd], "valid": [odd]}), [odd]
    if choice == 3:
        for name in (
            "movieReviewSnippets_GroundTruth.txt",
            "amazonReviewSnippets_GroundTruth.txt",
            "nytEditorialSnippets_GroundTruth.txt",
            "tweets_GroundTruth.txt",
        ):
            (scratch / name).write_bytes(payload)
        return ReviewCorpus(scratch, Task(pairs=False, is_regression=True)), [scratch]
    if choice == 9:
        whole.write_bytes(_STORIES)
        return BabiCorpus({"train": odd, "test": whole}), [odd]
    if choice > 5:
        kind = (sst.TASK, sst.sentences), (snli.TASK, snli.pairs), (agnews.TASK, agnews.stories)
        task, examples = kind[choice - 6]
        return LabelledFiles(task, {"train": [odd], "test": [odd]}, examples, 1), [odd]
    task_name = ("qqp", "cola")[choice - 4]
    whole.write_bytes(_TABLES[task_name])
    files = {"train": odd, "valid": whole, "test": odd}
    return GlueCorpus(TASKS[task_name], files), [odd]


_TABLES = {
    "qqp": (
        b'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tIs "a b?\tIs it?\t0\n'
        b"2\t2\t3\tIs a c?\tIs it d?\t1\n3\t4\n"
    ),
    "cola": b"gj04\t1\t\tA sentence.\ngj04\t0\t*\tSentence a.\n",
}


_STORIES = b"".join(
    b"1 %s moved to the office.\n2 Where is %s? \toffice\t1\n" % (name, name)
    for name in (b"Mary", b"John", b"Al")
)


def _table_seeds() -> list[bytes]:
    classes = "".join(f"{'ab'[n % 2]}\tText {n} \u200bit\u0301.\n" for n in range(12)).encode()
    scores = b'0.5\tone\ttwo\n-1e-1\tthree\tfour "five"\n'
    lines = b'{"context": "a \\u00e9", "hypothesis": "b", "label": "e"}\n' * 2
    reviews = "".join(f"{n}\t{n / 9 - 1:.3f}\tText {n}.\n" for n in range(60)).encode()
    sentences = b"".join(b"%d text %d .\n" % (n % 2, n) for n in range(9))
    pairs = "".join(
        json.dumps({"gold_label": label, "sentence1": f"a {n}", "sentence2": f"b {n}"}) + "\n"
        for n, label in enumerate(("entailment", "-", "neutral") * 3)
    ).encode()
    stories = b"".join(b'"%d","A ""title""","Text %d"\n' % (n % 4 + 1, n) for n in range(9))
    contents = [classes, scores, lines, reviews, *_TABLES.values()]
    contents += [sentences, pairs, stories, _STORIES]
    return [bytes([choice]) + content for choice, content in enumerate(contents)]


def index_page(content: bytes, scratch: Path) -> None:
    """`linked`: the URL of a file with the name, or none, whatever a package index says."""
    try:
        found = linked(content.decode("utf-8", "replace"), "https://index/simple/a/", "a-1.0.whl")
    except NotInIndex as error:
        is_for_the_user(error, ["https://index/simple/a/"])
        return
    expect(found is None or ("a-1.0.whl" in unquote(found)), f"{found}: what file?")
    expect(found is not None or content not in _page_seeds(), "a link was not found")
    only(scratch, set())


def _page_seeds() -> list[bytes]:
    return [
        b'<!DOCTYPE html><a href="../../f/a-1.0.whl#sha256=0" data-x>a</a><a href=b>b</a>',
        b"<a href='&#47;x'>x<a><a name=1 href><a href='http://[/a-1.0.whl'><a href=a%2d1.0.whl>",
    ]


def vector_file(content: bytes, scratch: Path) -> None:
    """`VectorFile`: finite numbers for words that are wanted, as many for each."""
    path = scratch / "vectors.txt"
    path.write_bytes(content)
    wanted = {"the", ".", "a", "2", ". ."}
    try:
        found = VectorFile(path).of(wanted)
    except DataPrepError as error:
        is_for_the_user(error, [str(path)])
        expect(content not in _vector_seeds(), f"{error}: of vectors that are right")
        return
    expect(found.keys() <= wanted, f"{found.keys()}: not wanted")
    expect(len({len(vector) for vector in found.values()}) <= 1, "vectors of several sizes")
    expect(all(np.isfinite(v).all() for v in found.values()), "what is no number")
    only(scratch, {"vectors.txt"})


def _vector_seeds() -> list[bytes]:
    return [
        b"2 3\nthe 0.5 -1 2e-3\n. .1 2 3\n",
        b"the 1 2\n. . 3 4\r\na 5 6 \nthe 9 9\n",
    ]


_WORD_FILES = (*FILES, NAME, TAGGER)


def word_files(content: bytes, scratch: Path) -> None:
    """`read_wordnet`, `read_table`, `Tagger.read`: words in lower case, none its own synonym."""
    choice, payload = choose(content, len(_WORD_FILES))
    name = _WORD_FILES[choice]
    path = scratch / name
    try:
        if name in FILES:
            lexicons = read_wordnet(made.files() | {name: payload}).values()
            for lexicon in lexicons:
                for relation in (lexicon.synonyms, lexicon.related, lexicon.antonyms):
                    for word, others in relation.items():
                        expect(is_word(word) and all(map(is_word, others)), f"{word!r}: no word")
                        expect(word not in others, f"{word}: related to itself")
        elif name == NAME:
            path.write_bytes(payload)
            for (word, _), choices in read_table(path).items():
                found = (*choices.synonyms, *choices.antonyms)
                expect(word not in found and len(set(found)) == len(found), f"{word}: twice")
        else:
            path.write_bytes(gzip.compress(payload))
            words = ["they", "run", "fast"]
            expect(len(Tagger.read(path).parts(words)) == len(words), "a word without a tag")
    except DataPrepError as error:
        is_for_the_user(error, [name, "WordNet", str(path)])
        expect(content not in _word_seeds(), f"{error}: of files that are right")
    only(scratch, {name})


def _word_seeds() -> list[bytes]:
    table = b"word\tpart\tsynonyms\tantonyms\ngood\tadj\tfine nice\tbad\n"
    contents = [*(made.files()[name] for name in FILES), table, json.dumps(made.TAGGER).encode()]
    return [bytes([number]) + content for number, content in enumerate(contents)]


SENTENCES = {
    "words": Reader(word_files, _word_seeds),
    "vectors": Reader(vector_file, _vector_seeds),
    "encoder": Reader(encoder_files, _encoder_seeds),
    "tables": Reader(sentence_tables, _table_seeds),
    "index": Reader(index_page, _page_seeds),
}
