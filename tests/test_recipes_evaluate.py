"""Translating, scoring and the trivial translators."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import sacrebleu
from sacremoses import MosesTokenizer

from recipes.checkpoint import read_checkpoint
from recipes.errors import RecipeError
from recipes.evaluate import (
    LENPENS,
    best_lenpen,
    bleu_by_lenpen,
    evaluate,
    score,
    signatures,
    tokenized_bleu,
)
from recipes.files import (
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
from recipes.generation import (
    Hypothesis,
    best,
    detokenize,
    parse_hypotheses,
    translate,
    undo_bpe,
)
from recipes.summary import summarize
from recipes.trivial import nearest_translations
from tests import training

ROOT = Path(__file__).parents[1]

REFERENCES = [
    'Click the "Insert" tab, then choose Table.',
    "The file can't be opened (read-only)!",
    "See also: Fontwork.",
]
HYPOTHESES = [
    'Click on the "Insert" tab and choose Tables.',
    "The file cannot be opened!",
    "See also: Fontwork.",
]


def test_tokenised_bleu_is_that_of_multi_bleu_perl() -> None:
    """Its output on these sentences, with two decimals, is written down here."""
    references = [
        "the cat sat on the mat .",
        "a cat is on the mat by the door .",
        "he opens the file and closes it again .",
        "a b c d",
        "quite other words",
    ]
    hypotheses = [
        "the cat sat on the mat .",
        "there is a cat on the mat near the door .",
        "he &apos;s open the file , and close it again .",
        "a b",
        "nothing in common here",
    ]
    assert f"{tokenized_bleu(hypotheses, references):.2f}" == "38.41"
    assert tokenized_bleu(["the dog is in the mat ."], references[:1]) == 0


def test_scores_are_those_of_sacrebleu_s_command_line(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("references", "hypotheses")}
    files["references"].write_text("\n".join(REFERENCES) + "\n", "utf-8")
    files["hypotheses"].write_text("\n".join(HYPOTHESES) + "\n", "utf-8")
    said = subprocess.run(
        [
            *(sys.executable, "-m", "sacrebleu", files["references"], "-i", files["hypotheses"]),
            *("-m", "bleu", "chrf", "-w", "10"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    bleu, chrf = json.loads(said)
    ours = score(HYPOTHESES, REFERENCES)
    assert ours.bleu == pytest.approx(bleu["score"], abs=1e-9)
    assert ours.chrf == pytest.approx(chrf["score"], abs=1e-9)
    assert f"ratio = {ours.length_ratio:.3f}" in bleu["verbose_score"]
    assert signatures(REFERENCES, False) == {"bleu": bleu["signature"], "chrf": chrf["signature"]}


def generated(*numbers: int) -> bytes:
    lines = ["2026-11-22 10:23:20 | INFO | fairseq_cli.generate | loading", "Generate test: H-9"]
    for number in numbers:
        lines += [f"S-{number}\tein\x85 Satz", f"T-{number}\ta sentence"]
        lines += [f"H-{number}\t-3.5\tsen@@ tence\u2028 {number}", f"D-{number}\t-3.5\tsentence"]
        lines += [f"P-{number}\t-0.5000 -1.0000 -1.5000 -0.5000"]
        lines += [f"H-{number}\t-4.0\t", f"D-{number}\t-4.0\t", f"P-{number}\t-4.0000"]
    return ("\n".join(lines) + "\n").encode()


def test_hypotheses_come_in_the_order_of_the_sentences() -> None:
    assert parse_hypotheses(generated(2, 0, 1), 3) == [
        [Hypothesis(f"sen@@ tence\u2028 {number}", -3.5, 4), Hypothesis("", -4.0, 1)]
        for number in range(3)
    ]


def test_the_length_penalty_ranks_hypotheses() -> None:
    short, long = Hypothesis("short", -2.0, 1), Hypothesis("long", -3.0, 2)
    # -3 / 2^p > -2 where 2^p > 1.5, p > log2(1.5) = 0.585
    assert best([[short, long], [long]], 0.58) == ["short", "long"]
    assert best([[short, long], [long]], 0.59) == ["long", "long"]
    assert best([[short, long]], 0.0) == ["short"]


def test_the_length_penalty_with_the_highest_bleu_is_chosen_and_of_equal_ones_the_usual() -> None:
    assert best_lenpen({0.0: 3.0, 1.0: 4.0, 1.2: 5.0, 2.0: 4.5}) == 1.2
    assert best_lenpen({0.0: 4.0, 0.6: 5.0, 1.2: 5.0, 2.0: 5.0}) == 1.2
    assert best_lenpen(dict.fromkeys(LENPENS, 0.0)) == 1.0


def test_bleu_by_length_penalty() -> None:
    """Of two sentences one changes between 0.4 and 0.6; BLEU is sacreBLEU's own."""
    found = [
        [Hypothesis("The file is o@@ pen", -2.0, 1), Hypothesis("The file is o@@ pen .", -3.0, 2)],
        [Hypothesis("Close the window .", -1.0, 5)],
    ]
    references = ["The file is open.", "Close the window."]
    bleu = bleu_by_lenpen(found, references, partial(detokenize, lang="en"))
    assert list(bleu) == list(LENPENS)
    shorter = sacrebleu.corpus_bleu(["The file is open", "Close the window."], [references]).score
    assert shorter < 90
    for lenpen, value in bleu.items():
        assert value == pytest.approx(shorter if lenpen < 0.585 else 100.0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 1, 3), "1 of 4 sentences were not translated: ids 2"),
        ((0, 1, 2, 2, 3), "1 of 4 sentences were translated more than once: ids 2"),
        ((0, 1, 2, 3, 7), "1 of 4 sentences were translated, but not in the reference: ids 7"),
        ((), "4 of 4 sentences were not translated: ids 0, 1, 2, 3"),
    ],
)
def test_each_sentence_must_be_translated_once(numbers: tuple[int, ...], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_hypotheses(generated(*numbers), 4)
    assert str(caught.value) == message


def test_a_long_list_of_ids_is_cut() -> None:
    with pytest.raises(RecipeError, match=r"ids 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.$"):
        parse_hypotheses(b"", 100)


@pytest.mark.parametrize(
    ("coded", "plain"),
    [
        ("Ein@@ fa@@ che Lösung", "Einfache Lösung"),
        ("", ""),
        ("cut o@@", "cut o"),
        ("a @ b", "a @ b"),
        ("@-@ dash", "@-@ dash"),
    ],
)
def test_undo_bpe(coded: str, plain: str) -> None:
    assert undo_bpe(coded) == plain


@pytest.mark.parametrize(
    "raw",
    [
        "Choose Insert, then Table; press Enter.",
        "The file can't be opened!",
        "Values from 0.5 to 1,000 are allowed (see below).",
        "Search & replace, with [Return].",
        "He said: don't.",
        "A naïve café costs 5% more.",
    ],
)
@pytest.mark.parametrize("escape", [False, True])
def test_detokenising_undoes_tokenising_and_bpe(raw: str, escape: bool) -> None:
    words = MosesTokenizer("en").tokenize(raw, escape=escape)
    coded = " ".join(f"{word[:2]}@@ {word[2:]}" if len(word) > 8 else word for word in words)
    assert detokenize([coded], "en") == [raw]


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


def test_copying_scores_full_marks_where_source_and_reference_agree() -> None:
    ours = score(REFERENCES, REFERENCES)
    assert ours.bleu == pytest.approx(100)
    assert ours.chrf == pytest.approx(100)
    assert ours.length_ratio == 1


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


@pytest.fixture(scope="module")
def hypotheses(data: Path, checkpoint: Path) -> list[list[Hypothesis]]:
    """Four translations of each test sentence."""
    return translate(data / "bin", ("de", "en"), "test", 13, checkpoint, 4, True)


def test_every_sentence_is_translated(data: Path, out: Path) -> None:
    scores = read_json(out / SCORES, "")
    assert scores["sentences"] == 13
    rows = read_table(out / TRANSLATIONS)
    raw = (data / "raw" / "test.en").read_text("utf-8").split("\n")[:-1]
    assert [row["reference"] for row in rows] == raw
    assert all(row["translation"] and "@@" not in row["translation"] for row in rows)
    systems = scores["systems"]
    assert systems["model"]["bleu"] == pytest.approx(
        score([row["translation"] for row in rows], raw).bleu
    )
    assert systems["copy"]["bleu"] == pytest.approx(
        score([row["source"] for row in rows], raw).bleu
    )
    assert systems["nearest"]["bleu"] > 50  # the test sentences are among the training ones


@pytest.mark.parametrize("lenpen", [0.0, 0.5, 2.0])
def test_translations_by_any_length_penalty_are_those_of_fairseq_generate(
    data: Path, checkpoint: Path, hypotheses: list[list[Hypothesis]], lenpen: float
) -> None:
    options = ["--source-lang=de", "--target-lang=en", "--max-len-a=2", "--max-len-b=50"]
    options += ["--beam=4", f"--lenpen={lenpen}", "--user-dir", str(ROOT / "fairseq_adv")]
    theirs = training.translations(data / "bin", checkpoint, *options)
    assert best(hypotheses, lenpen) == [theirs[i] for i in range(13)]


def test_the_length_penalty_can_be_tuned_on_the_validation_split(
    data: Path, checkpoint: Path, hypotheses: list[list[Hypothesis]], tmp_path: Path
) -> None:
    scores = evaluate(data, checkpoint, tmp_path, beam=4, lenpen=None, cpu=True)
    raw = (data / "raw" / "valid.en").read_text("utf-8").split("\n")[:-1]
    found = translate(data / "bin", ("de", "en"), "valid", len(raw), checkpoint, 4, True)
    for lenpen, bleu in scores["bleu_by_lenpen"].items():
        assert bleu == score(detokenize(best(found, float(lenpen)), "en"), raw).bleu
    assert scores["bleu_by_lenpen"][str(scores["lenpen"])] == max(scores["bleu_by_lenpen"].values())
    rows = read_table(tmp_path / TRANSLATIONS)
    assert [row["translation"] for row in rows] == detokenize(
        best(hypotheses, scores["lenpen"]), "en"
    )
    reference = [row["reference"] for row in rows]
    untuned = score(detokenize(best(hypotheses, 1.0), "en"), reference)
    assert scores["systems"]["untuned"]["bleu"] == untuned.bleu


def test_a_checkpoint_that_is_none_is_an_error_and_nothing_is_written(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.pt: no such checkpoint"):
        evaluate(data, Path("nowhere.pt"), tmp_path, cpu=True)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nonsense")
    with pytest.raises(RecipeError, match="fairseq-generate failed"):
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
    [("freeat", {"update_freq": [1]}), ("label_smoothed_cross_entropy", {"label_smoothing": 0.0})],
)
def test_the_options_of_other_methods_can_be_written_down(
    data: Path, criterion: str, option: dict[str, object]
) -> None:
    trained = read_checkpoint(train(data, criterion))
    assert trained.method == criterion
    assert option.items() <= json.loads(json.dumps(trained.options)).items()
