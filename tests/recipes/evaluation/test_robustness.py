"""Noise in sentences and in embeddings, and how translations suffer from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.binarize import binarize
from data_prep.support.lines import read_lines
from recipes.evaluation import robustness
from recipes.evaluation.noise import NOISES, noisy, with_typos
from recipes.evaluation.perturbed_generation import _encode, perturbation, perturbed_translations
from recipes.evaluation.robustness import (
    PICTURE,
    ROBUSTNESS,
    binarised,
    noisy_subwords,
    prepare,
    prepared_otherwise,
)
from recipes.evaluation.robustness_report import Measured, robustness_table
from recipes.evaluation.scores import Scorer
from recipes.models.generation import best, detokenize, translate
from recipes.models.model import load
from recipes.models.prepared import Prepared
from recipes.support.errors import RecipeError
from recipes.support.files import read_json
from tests.support import tiny
from tests.support.texts import prepare_files

# Embeddings


def is_word(*lengths: int) -> torch.Tensor:
    return torch.arange(max(lengths)).expand(len(lengths), -1) >= torch.tensor(
        [[max(lengths) - length] for length in lengths]
    )


def test_the_norm_is_the_radius_and_padding_is_untouched() -> None:
    words = is_word(5, 1, 3)
    delta = perturbation([7, 8, 9], words, 16, 2.5, seed=1)
    assert delta.shape == (3, 5, 16)
    torch.testing.assert_close(delta.flatten(1).norm(dim=1), torch.full((3,), 2.5))
    assert not delta[~words].any()
    assert delta[words].all()
    assert not perturbation([7], words[:1], 16, 0.0, seed=1).any()


def test_a_direction_depends_on_seed_and_number_and_not_on_batch_padding_or_radius() -> None:
    delta = perturbation([7, 8], is_word(5, 3), 4, 1.0, seed=1)
    alone = perturbation([8], is_word(3), 4, 1.0, seed=1)
    assert torch.equal(delta[1, 2:], alone[0])
    torch.testing.assert_close(perturbation([8], is_word(3), 4, 3.0, seed=1), 3 * alone)
    for other in (
        perturbation([8], is_word(3), 4, 1.0, 2),
        perturbation([9], is_word(3), 4, 1.0, 1),
    ):
        assert not torch.isclose(alone, other).any()


def test_directions_are_uniform() -> None:
    """Means of 0, and of each component squared 1 / (T C), within five standard errors."""
    delta = perturbation(range(4000), is_word(*[3] * 4000), 4, 1.0, seed=1).flatten(1)
    assert delta.mean(0).abs().max() < 5 * (12 * 4000) ** -0.5
    assert (delta.square().mean(0) - 1 / 12).abs().max() < 5 * (2 / 4000) ** 0.5 / 12


@pytest.mark.parametrize("build", [tiny.transformer, tiny.shared_transformer, tiny.lstm])
def test_the_encoder_reads_the_perturbed_words(build: Any) -> None:
    """Against a model whose embedding has a row of its own for each word of each sentence."""
    model = build().eval()
    sample = tiny.batch()
    words = sample["net_input"]
    turned = isinstance(model, type(tiny.lstm()))  # its encoder turns the padding around
    pad = model.encoder.embed_tokens.padding_idx
    encoded, norms = _encode(model, sample, 1.5, 4)
    for row, number in enumerate(sample["id"].tolist()):
        tokens = words["src_tokens"][row][words["src_tokens"][row].ne(pad)]
        table = model.encoder.embed_tokens(tokens)
        assert norms[row] == pytest.approx(float(table.norm()), rel=1e-6)
        delta = perturbation([number], torch.ones(1, len(tokens), dtype=torch.bool), 8, 1.5, 4)[0]
        hook = model.encoder.embed_tokens.register_forward_hook(
            lambda _, inputs, output, delta=delta: output + delta
        )
        with torch.no_grad():
            alone = model.encoder(tokens.unsqueeze(0), torch.tensor([len(tokens)]))
        hook.remove()
        ours = encoded["encoder_out"][0] if isinstance(encoded, dict) else encoded[0]
        theirs = alone["encoder_out"][0] if isinstance(alone, dict) else alone[0]
        place = slice(None, len(tokens)) if turned else slice(-len(tokens), None)
        torch.testing.assert_close(ours[place, row], theirs[:, 0])


# The whole


def plain(found: Any) -> list[str]:
    return detokenize(best(found, 1.0), "en")


@pytest.fixture(scope="module")
def clean(word_data: Path, word_model: Path) -> list[Any]:
    return translate(
        word_data / "bin",
        ("de", "en"),
        "test",
        Prepared.of(word_data).subwords("test"),
        word_model,
        3,
        True,
    )


def test_radius_0_is_the_clean_translation(
    word_data: Path, word_model: Path, clean: list[Any]
) -> None:
    """All hypotheses, with their probabilities: it is the very search of fairseq-generate."""
    loaded = load(word_data, word_model, cpu=True)
    found, norm = perturbed_translations(loaded, "test", 0.0, 1, 3, "")
    assert found == clean
    near, again = (perturbed_translations(loaded, "test", norm / 50, 1, 3, "")[0] for _ in "ab")
    assert near == again != clean
    assert sum(a == b for a, b in zip(plain(near), plain(clean), strict=True)) > 20
    far, _ = perturbed_translations(loaded, "test", 20 * norm, 1, 3, "")
    assert sum(a == b for a, b in zip(plain(far), plain(clean), strict=True)) < 10


def test_perturbed_translations_do_not_depend_on_the_batch(
    word_data: Path, word_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(word_data, word_model, cpu=True)
    found, _ = perturbed_translations(loaded, "test", 2.0, 1, 3, "")
    monkeypatch.setattr("recipes.models.model.MAX_TOKENS", 30)
    other, _ = perturbed_translations(loaded, "test", 2.0, 1, 3, "")
    assert plain(found) == plain(other)


def test_rate_0_is_the_clean_split(word_data: Path) -> None:
    subwords = list(read_lines(word_data / "bpe" / "test.de"))
    for kind in NOISES:
        assert noisy_subwords(Prepared.of(word_data), "test", kind, 0.0, 1) == subwords
    with binarised(Prepared.of(word_data), "test", subwords) as directory:
        names = [path.name for path in (word_data / "bin").iterdir()]
        names = [name for name in names if name.startswith(("test.", "dict."))]
        assert len(names) == 6
        for name in names:
            assert (directory / name).read_bytes() == (word_data / "bin" / name).read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--subword=sentencepiece", "--bpe-merges=60"),
    ],
)
@pytest.mark.usefixtures("no_fairseq")
def test_the_source_is_prepared_as_the_corpus_was(
    texts: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    assert prepare_files(texts, out, *options) == 0
    for split in ("train", "test"):
        raw = list(read_lines(out / "raw" / f"{split}.de"))
        assert prepare(Prepared.of(out), raw) == list(read_lines(out / "bpe" / f"{split}.de"))
        assert prepared_otherwise(Prepared.of(out), split) == 0
    lines = list(read_lines(out / "bpe" / "test.de"))
    changed = noisy_subwords(Prepared.of(out), "test", "typos", 0.3, 1)
    raw = list(read_lines(out / "raw" / "test.de"))
    noised = noisy(raw, "typos", 0.3, 1)
    assert changed == prepare(Prepared.of(out), noised)
    assert changed != lines
    (out / "bpe" / "test.de").write_text("\n".join(["foreign", *lines[1:]]) + "\n", "utf-8")
    assert prepared_otherwise(Prepared.of(out), "test") == 1
    (out / "bpe" / "test.de").write_text("\n".join(lines[1:]) + "\n", "utf-8")
    with pytest.raises(RecipeError, match=r"test\.de has 5 lines in raw, 4 in bpe"):
        noisy_subwords(Prepared.of(out), "test", "typos", 0.3, 1)


def test_escapes_dashes_and_lower_case_are_as_the_report_says(tmp_path: Path) -> None:
    report = {
        "languages": ["de", "en"],
        "preparation": {
            "repairs": False,
            "escapes": True,
            "splits_dashes": True,
            "lower_cases": True,
            "limits": {"max_tokens": 175, "max_ratio": 1.5, "max_characters": 1000},
            "subword": "bpe",
        },
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "bpe").mkdir()
    (tmp_path / "bpe" / "codes").write_text("#version: 0.2\na b</w>\n")
    assert prepare(Prepared.of(tmp_path), ["AB & A-B"]) == ["ab &@@ a@@ m@@ p@@ ; a @@@ -@@ @ b"]


def test_a_dictionary_for_each_language(tmp_path: Path) -> None:
    """Not joined: each side keeps its own."""
    for lang, word in (("de", "Haus"), ("en", "house")):
        (tmp_path / f"test.{lang}").write_text(f"{word} .\n")
        (tmp_path / f"dict.{lang}").write_text(f"{word} 3\n. 1\nmadeupword0000 0\n")
    made = binarize(
        tmp_path,
        ("de", "en"),
        tmp_path / "bin",
        tmp_path / "log",
        workers=1,
        splits=("test",),
        dictionary=tmp_path / "dict.de",
        target_dictionary=tmp_path / "dict.en",
        joined=False,
    )
    assert made == {"dictionary": {"de": 3, "en": 3}}
    for lang in ("de", "en"):
        ours, given = tmp_path / "bin" / f"dict.{lang}.txt", tmp_path / f"dict.{lang}"
        assert ours.read_text() == given.read_text()


@pytest.mark.slow
def test_from_noise_to_scores(
    word_data: Path,
    word_model: Path,
    clean: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    arguments = [str(word_data), "--checkpoint", str(word_model), "--out", str(out), "--beam=3"]
    monkeypatch.setattr(robustness, "NOISES", {"typos": with_typos})  # the other takes as long
    arguments += ["--rates", "0.4", "--radii", "0", "100", "--seed=3", "--cpu"]
    monkeypatch.setattr(sys, "argv", ["recipes.evaluation.robustness", *arguments])
    robustness._main()
    written = read_json(out / ROBUSTNESS, "")
    assert (written["sentences"], written["seed"], written["beam"]) == (30, 3, 3)
    assert written["models"][0]["label"] == "words"
    assert written["prepared_otherwise"] == 0
    found = {(one["noise"], one["strength"]): one for one in written["measured"]}
    assert [*found] == [
        ("clean", 0.0),
        ("typos", 0.4),
        ("embeddings", 0.0),
        ("embeddings", 100.0),
    ]
    reference = list(read_lines(word_data / "raw" / "test.en"))
    before = found["clean", 0.0]
    assert before["bleu"] == Scorer().score(plain(clean), reference).bleu > 50
    for one in found.values():
        assert one["bleu_difference"] == one["bleu"] - before["bleu"]
        assert one["chrf_difference"] == one["chrf"] - before["chrf"]
        harmless = one["noise"] == "clean" or one["strength"] == 0
        assert (one["bleu_difference"] == 0) if harmless else (one["bleu_difference"] < -5)
    # Against fairseq-interactive's way, with no binarised files:
    raw = list(read_lines(word_data / "raw" / "test.de"))
    pieces = prepare(Prepared.of(word_data), noisy(raw, "typos", 0.4, 3))
    loaded = load(word_data, word_model, cpu=True)
    lines = translate_lines(loaded, pieces)
    assert found["typos", 0.4]["bleu"] == Scorer().score(detokenize(lines, "en"), reference).bleu
    said = capsys.readouterr().out
    assert "typos, 40 %" in said and "embeddings, radius 100" in said
    assert (out / PICTURE).read_bytes()[:4] == b"\x89PNG"


def translate_lines(loaded: Any, lines: list[str]) -> list[str]:
    """Translate subwords one sentence at a time, as fairseq-interactive does; beam 3."""
    from argparse import Namespace

    search = Namespace(beam=3, max_len_a=2, max_len_b=50)
    generator = loaded.task.build_generator([loaded.model], search)
    result = []
    for line in lines:
        tokens = loaded.task.source_dictionary.encode_line(line, add_if_not_exist=False).long()
        dataset = loaded.task.build_dataset_for_inference([tokens], [len(tokens)])
        sample = dataset.collater([dataset[0]])
        found = loaded.task.inference_step(generator, [loaded.model], sample)[0][0]
        result.append(loaded.task.target_dictionary.string(found["tokens"]))
    return result


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--rates", "5"), "--rates 5: allowed is 0 to 1"),
        (("--radii", "-1"), "--radii -1: allowed is 0 or more"),
        (("--radii", "nan"), "--radii nan: allowed is 0 or more"),
        (("--beam", "0"), "--beam 0: allowed is 1, 2, 3, ..."),
    ],
)
def test_options_out_of_range(
    option: tuple[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "recipes.evaluation.robustness",
        "data",
        "--checkpoint",
        "a",
        "--out",
        "b",
        *option,
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(RecipeError) as caught:
        robustness._main()
    assert str(caught.value) == message


def test_the_table() -> None:
    measured = [
        Measured("plain", "clean", 0, 20.04, 40.0),
        Measured("SALT", "clean", 0, 21.0, 41.0),
        Measured("plain", "typos", 0.05, 18.0, 39.0, -2.04, -1.0),
        Measured("SALT", "typos", 0.05, 20.0, 41.5, -1.0, 0.5),
        Measured("plain", "embeddings", 2.5, 18.0, 39.0, -2.04, -1.0),
    ]
    rows = [line.split() for line in robustness_table(measured).split("\n")]
    assert rows == [
        ["BLEU", "diff.", "chrF", "diff."],
        ["clean", "plain", "20.0", "40.0"],
        ["SALT", "21.0", "41.0"],
        ["typos,", "5", "%", "plain", "18.0", "-2.0", "39.0", "-1.0"],
        ["SALT", "20.0", "-1.0", "41.5", "+0.5"],
        ["embeddings,", "radius", "2.5", "plain", "18.0", "-2.0", "39.0", "-1.0"],
    ]
