"""Exported models: stock fairseq translates with them as our user-dir does with the original."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.models.generation import (
    MAX_LEN_B,
    Hypothesis,
    best,
    detokenize,
    parse_hypotheses,
    translate,
)
from recipes.serving import export as recipe
from recipes.serving.export import export, plain_state
from recipes.serving.model_folder import read_exported
from recipes.serving.translate import load_translator
from recipes.support.errors import RecipeError
from tests.support import training, translators
from tests.support.texts import tree

SEARCH = ["--beam=4", "--nbest=4", "--unnormalized", "--max-len-a=2", "--max-len-b=50", "--cpu"]


def stock(module: str, *arguments: object, cwd: Path, text: str = "") -> bytes:
    """Run a program of fairseq that cannot know of us."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-m", f"fairseq_cli.{module}", *map(str, arguments)],
        check=True,
        cwd=cwd,
        env=environment,
        input=text.encode(),
        stdout=subprocess.PIPE,
    ).stdout


@pytest.fixture(scope="module")
def original(clauses: Path, trained: Path) -> list[list[Hypothesis]]:
    """Four translations of each test sentence by the checkpoint itself."""
    return translate(clauses / "bin", ("de", "en"), "test", sources(clauses), trained, 4, True)


def sources(clauses: Path) -> list[str]:
    """The test set's source sentences in subwords."""
    return (clauses / "bpe/test.de").read_text("utf-8").split("\n")[:-1]


def assert_same(ours: list[list[Hypothesis]], theirs: list[list[Hypothesis]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert [h.text for h in one] == [h.text for h in other]
        assert [h.tokens for h in one] == [h.tokens for h in other]
        scores = [h.log_probability for h in other]
        assert [h.log_probability for h in one] == pytest.approx(scores, abs=1e-4)


def test_stock_fairseq_generate_translates_as_the_original_does(
    clauses: Path, exported: Path, original: list[list[Hypothesis]], tmp_path: Path
) -> None:
    """The folder and the binarised text are all that is there."""
    shutil.copytree(exported, tmp_path / "model")
    for file in (clauses / "bin").glob("test.*"):
        shutil.copy(file, tmp_path / "model")
    output = stock(
        *("generate", "model", "--path", "model/model.pt", *SEARCH),
        *("--max-tokens", "4000", "--required-batch-size-multiple", "1"),
        cwd=tmp_path,
    )
    assert_same(parse_hypotheses(output, sources(clauses)), original)


def test_stock_fairseq_interactive_does_too(
    clauses: Path, exported: Path, original: list[list[Hypothesis]]
) -> None:
    source = (clauses / "bpe/test.de").read_text("utf-8")
    languages = ["--source-lang=de", "--target-lang=en"]
    options = [*SEARCH, *languages, "--buffer-size=60", "--max-tokens=4000"]
    output = stock("interactive", ".", "--path=model.pt", *options, cwd=exported, text=source)
    assert_same(parse_hypotheses(output, sources(clauses)), original)


def test_fairseqs_own_checkpoint_is_refused_by_stock_fairseq(clauses: Path, trained: Path) -> None:
    """The reason why model.pt is not simply a copy. If this fails, a newer fairseq can do more."""
    with pytest.raises(subprocess.CalledProcessError):
        stock("interactive", clauses / "bin", f"--path={trained}", cwd=trained.parent)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from (str(name), *strings(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def test_nothing_of_the_training_machine_and_nothing_of_ours_is_in_it(
    exported: Path, trained: Path
) -> None:
    assert str(trained.parent) in set(strings(vars(training.state(trained.parent)["cfg"]["model"])))
    state = torch.load(exported / "model.pt", weights_only=True)
    assert state.keys() == {"args", "cfg", "model", "optimizer_history", "extra_state"}
    assert not [text for text in strings(state["cfg"]) if "/" in text and text != "/tmp/plasma"]
    assert not [text for text in strings(state["cfg"]) if "adversarial" in text or "adv_" in text]
    assert {weight.dtype for weight in state["model"].values()} == {torch.float32}
    assert (exported / "model.pt").stat().st_size < trained.stat().st_size / 2


def test_shared_weights_in_half_precision_become_one_tensor_in_float32(trained: Path) -> None:
    state = recipe.load_state(trained)
    before = state["model"]
    embedding = before["encoder.embed_tokens.weight"].half()
    shared = [
        name for name in before if name.endswith(("embed_tokens.weight", "projection.weight"))
    ]
    assert len(shared) == 3
    state["model"] = {name: w.half() for name, w in before.items()} | dict.fromkeys(
        shared, embedding
    )
    after = plain_state(state, ("de", "en"))["model"]
    assert len({after[name].data_ptr() for name in shared}) == 1
    assert after.keys() == before.keys()
    for name, weight in after.items():
        torch.testing.assert_close(weight, before[name].half().float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (training.LSTM, "Model 'lstm' used by architecture 'lstm' is not supported"),
        pytest.param(
            [
                *("--arch", "fconv", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16"),
                *("--encoder-layers", "[(16, 3)] * 2", "--decoder-layers", "[(16, 3)] * 2"),
            ],
            "Model 'fconv' used by architecture 'fconv' is not supported",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--activation-fn", "tanh", "--encoder-learned-pos", "--decoder-normalize-before"],
            "Option --activation-fn tanh is not supported",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_ctranslate2_does_not_know_is_left_out(
    clauses: Path, tmp_path: Path, options: list[str], reason: str
) -> None:
    checkpoint = translators.train(clauses, tmp_path, *options)
    left_out = export(clauses, checkpoint, tmp_path / "model")
    assert left_out is not None and reason in left_out
    assert not (tmp_path / "model/ctranslate2").exists()
    ours = load_translator(tmp_path / "model", beam=2, threads=1, cpu=True, warn=print)
    theirs = translate(clauses / "bin", ("de", "en"), "test", sources(clauses), checkpoint, 2, True)
    raw = (clauses / "raw/test.de").read_bytes().splitlines(keepends=True)
    # Where a translation is cut off depends on the other sentences of its batch.
    ended = [i for i, found in enumerate(theirs) if all(h.tokens < MAX_LEN_B for h in found)]
    assert len(ended) > 10
    expected = detokenize(best(theirs, 1.0), "en")
    translated = list(ours.translate(raw))
    assert [translated[i] for i in ended] == [expected[i] for i in ended]


def test_the_description(clauses: Path, trained: Path, tmp_path: Path) -> None:
    export(clauses, trained, tmp_path / "m", beam=3, lenpen=1.4, quantization="int8")
    description = read_exported(tmp_path / "m")
    assert (description.languages, description.beam, description.lenpen) == (("de", "en"), 3, 1.4)
    assert description.preparation.bpe_merges == 60 and description.preparation.limits is None
    assert description.updates == 150 and description.method == "label_smoothed_cross_entropy"
    assert description.max_positions == (1024, 1024)
    assert {"torch", "ctranslate2", "sacremoses"} <= description.versions.keys()
    assert not [name for name in os.listdir(tmp_path) if name != "m"]


def test_a_former_export_stays_until_the_new_one_is_whole(
    clauses: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    export(clauses, trained, out)
    (out / "mark").touch()
    before = tree(out)
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OSError("full")

        patch.setattr(recipe, "_convert", fail)
        with pytest.raises(OSError, match="full"):
            export(clauses, trained, out, beam=2)
    assert tree(out) == before
    assert list(tmp_path.iterdir()) == [out]
    export(clauses, trained, out, beam=2)
    assert read_exported(out).beam == 2 and not (out / "mark").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_mistakes(clauses: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    with pytest.raises(RecipeError, match=r"nowhere\.pt: no such checkpoint"):
        export(clauses, Path("nowhere.pt"), out)
    (tmp_path / "nonsense.pt").write_bytes(b"nonsense")
    with pytest.raises(RecipeError, match=r"nonsense\.pt: no checkpoint of fairseq"):
        export(clauses, tmp_path / "nonsense.pt", out)
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(RecipeError, match=r"other\.pt: no checkpoint of fairseq"):
        export(clauses, tmp_path / "other.pt", out)
    other = tmp_path / "other"
    shutil.copytree(clauses, other)
    for lang in ("de", "en"):
        with (other / f"bin/dict.{lang}.txt").open("a") as stream:
            stream.write("more 1\n")
    with pytest.raises(RecipeError, match=r"was not trained on .*: their dictionaries differ"):
        export(other, trained, out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(
        RecipeError, match=r"model: not made by recipes\.serving\.export, so it stays"
    ):
        export(clauses, trained, out)
