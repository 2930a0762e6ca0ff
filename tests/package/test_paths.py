"""Paths with spaces, colons and letters beyond ASCII, for all that reads and writes files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.__main__ import main
from recipes.evaluation.calibration import calibrate
from recipes.evaluation.evaluate import evaluate
from recipes.models.averaging import average, choose
from recipes.serving.export import export
from recipes.serving.translate import load_translator
from recipes.support.errors import RecipeError
from recipes.support.files import read_table
from recipes.training.report import screen
from tests.support import shell, training
from tests.support.processes import ROOT
from tests.support.texts import SENTENCES, help_deb, help_page
from tests.trainer import old_fairseq

ODD = "Übung 1 – größe (l'été) 12:30 $x;#"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    directory = tmp_path / ODD
    directory.mkdir()
    return directory


def test_from_text_to_translator(odd: Path) -> None:
    texts = odd / "meine Texte"
    shutil.copytree(old_fairseq.FOLDER / "text", texts)
    splits = [f"--{split}={texts / split}" for split in ("train", "valid", "test")]
    languages = ["--source-lang=de", "--target-lang=en", "--bpe-merges=20", "--workers=1"]
    assert main(["files", *languages, *splits, f"--out={odd / 'data é'}"]) == 0
    data, results = odd / "data é", odd / "results à"
    training.run_training(
        *(data / "bin", results / "checkpoints", "--arch", "transformer", *old_fairseq.MODEL),
        *("--max-update", "6", "--save-interval-updates", "3", "--max-tokens", "200"),
    )
    chosen = choose(results / "checkpoints", "last-2")
    average(chosen, results / "mean of two.pt")
    evaluate(data, results / "mean of two.pt", results, beam=2, cpu=True, workers=1)
    assert len(read_table(results / "translations.tsv")) == 8
    calibrate(data, {"ä b": results / "mean of two.pt"}, results, cpu=True)
    assert export(data, results / "mean of two.pt", odd / "the model", beam=2) is None
    for engine in ("ctranslate2", "fairseq"):
        translator = load_translator(
            odd / "the model", engine=engine, threads=1, cpu=True, warn=pytest.fail
        )
        assert len(list(translator.translate([b"Haus und Baum .\n", b"\n"]))) == 2


def test_no_environment_is_made_where_none_can_be_used(odd: Path) -> None:
    """A colon ends a directory in PATH: what is in it would never be found."""
    command = ["bash", ROOT / "recipes" / "environment" / "set_up.sh", ".venv"]
    made = subprocess.run(command, cwd=odd, capture_output=True, text=True)
    assert made.returncode == 1 and "a colon in the name of" in made.stderr
    assert not list(odd.iterdir())


def test_errors_name_the_path_as_it_is(odd: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        screen(odd / "nichts")
    assert str(odd / "nichts") in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", []),
        ("a.deb  b%3a.deb", ["a.deb", "b%3a.deb"]),
        ("'my files/a.tgz' \"l'été.tgz\"\nc", ["my files/a.tgz", "l'été.tgz", "c"]),
        ("--max-words 15 -n", ["--max-words", "15", "-n"]),
        ("there it is.tgz", ["there it is.tgz"]),
        ("$(touch ran) `touch ran` *", ["$(touch", "ran)", "`touch", "ran`", "*"]),
    ],
)
def test_words_of_a_variable_of_the_recipes(odd: Path, value: str, words: list[str]) -> None:
    (odd / "there it is.tgz").touch()
    script = (
        f"source '{shell.RECIPES / 'training/job.sh'}'; words got \"$VALUE\"; "
        "printf '%s\\0' \"${got[@]}\""
    )
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=odd,
        env=os.environ | {"VALUE": value},
        capture_output=True,
        check=True,
    )
    assert run.stdout.decode().split("\0")[:-1] == (words or [""])
    assert [path.name for path in odd.iterdir()] == ["there it is.tgz"]


def test_a_quotation_that_does_not_end(odd: Path) -> None:
    script = f"source '{shell.RECIPES / 'training/job.sh'}'; words got \"'a b\""
    run = subprocess.run(["bash", "-c", script], cwd=odd, capture_output=True, text=True)
    assert run.returncode == 1 and "'a b: a quotation does not end" in run.stderr


def help_packages(directory: Path) -> list[Path]:
    """Packages with enough pages for all splits."""
    packages = []
    for lang, name in (("de", "de"), ("en", "en-US")):
        pages = {
            f"text/page {number}.html": help_page(
                (f"par{i}", pattern.format(f"{number}.{i}") + f" {number * 3 + i}")
                for i, pattern in enumerate(SENTENCES[lang])
            )
            for number in range(400)
        }
        packages.append(directory / f"libreoffice-help-{lang}.deb")
        packages[-1].write_bytes(help_deb(name, pages))
    return packages


@pytest.mark.slow
def test_make_in_a_clone(odd: Path) -> None:
    """The repository itself lies in such a directory: data, training, scores, translator."""
    clone = odd / "fairseq adv"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    (clone / ".venv").symlink_to(sys.prefix)
    environment = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}

    def make(*words: str, stdin: str = "") -> str:
        run = subprocess.run(
            ["make", "-o", ".venv/.installed", *words],  # that is, leave the environment as it is
            cwd=clone,
            env=environment | {"GPUS": "0", "SCALE": "tiny"},
            input=stdin,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    assert "make translate" in make("help")
    archives = " ".join(f'"{path}"' for path in help_packages(odd)).replace("$", "$$")
    recipe = "RECIPE=libreoffice-help-de-en"
    assert "the model" in make(
        "train", recipe, f"ARCHIVE={archives}", f"OUT={odd.name} out".replace("$", "$$")
    )
    make("export", recipe, f"OUT={odd.name} out".replace("$", "$$"))
    model = f"{odd.name} out/model".replace("$", "$$")
    assert make("translate", f"MODEL={model}", stdin="Das Haus.\n").count("\n") == 1
