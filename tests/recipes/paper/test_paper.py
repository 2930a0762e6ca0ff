"""The paper's tables and Figure 1: which trainings, what is made of their scores, and all of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from recipes.paper import study, tables
from recipes.paper.reported import TABLES
from recipes.paper.runs import Translating, gain, over_runs
from recipes.support.files import TRANSLATIONS, read_table, write_json
from recipes.support.seeds import OverSeeds
from recipes.training.training_log import column, read_log
from tests.recipes.test_training import parsed, training_words
from tests.support import shell
from tests.support.processes import ROOT
from tests.support.shared_data import multi30k_archives


def test_the_paper_s_numbers() -> None:
    """Two rows and a column of Table 2 and Table 3, read again from the paper."""
    table2, table3 = TABLES["table2"].bleu, TABLES["table3"].bleu
    rows = [[table2[recipe][method] for recipe in table2] for method in ("freelb", "salt")]
    assert rows == [[31.6, 35.3, 38.7], [32.8, 36.8, 39.7]]
    assert list(table3["wmt16-en-de"].values()) == [28.4, 29.0, 29.0, 29.1, 29.6]


# ---- What is made of the scores ------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(method: str, seed: int, tokenized: float, sacrebleu: float) -> Translating:
    """A run of IWSLT'14 as it lies there when it is scored."""
    run = Translating(method, seed, "iwslt14-de-en", "iwslt14-de-en")
    scores: dict[str, Any] = {"systems": {"model": {"bleu": sacrebleu}}}
    write_json(scores | {"tokenized_bleu": tokenized}, run.directory / "scores.json")
    (run.directory / ".score").touch()
    return run


def test_rows_of_a_table(here: Path) -> None:
    runs = [
        finished("transformer", 1, 34.0, 33.0),
        finished("transformer", 2, 35.0, 34.0),
        finished("salt", 1, 36.0, 35.0),
        finished("salt", 2, 36.0, 34.5),
        finished("salt-paper", 1, 34.5, 33.5),
        Translating("salt-paper", 2, "iwslt14-de-en", "iwslt14-de-en"),  # not there yet
        finished("rdrop,--adv-weight=2", 1, 36.5, 35.5),
    ]
    plain, salt, paper_s, rdrop = tables.rows_of(TABLES["table2"], "iwslt14-de-en", runs)
    assert (plain.paper, plain.paper_gain, plain.gain) == (34.7, None, None)
    assert plain.bleu is not None and plain.bleu.mean == 34.5
    assert salt.paper == 36.8 and salt.paper_gain == pytest.approx(2.1)
    assert salt.gain is not None and salt.gain.by_seed == {1: 2.0, 2: 1.0}
    assert salt.sacrebleu is not None and salt.sacrebleu.mean == 34.75
    assert paper_s.paper == 36.8  # the paper's SALT, with the paper's numbers
    assert paper_s.gain is not None and paper_s.gain.by_seed == {1: 0.5}
    assert rdrop.paper is None and rdrop.paper_gain is None
    text = tables.markdown(
        TABLES["table2"], {"iwslt14-de-en": [plain, salt, paper_s, rdrop]}, [1, 2], ["A note."]
    )
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["plain", "34.7", "-", "34.5 ± 0.7", "-", "2", "33.5 ± 0.7"] in lines
    assert ["SALT", "36.8", "+2.1", "36.0 ± 0.0", "+1.5 ± 0.7", "2", "34.8 ± 0.4"] in lines
    assert ["SALT, paper", "36.8", "+2.1", "34.5", "+0.5", "1", "33.5"] in lines
    assert text.endswith("\n\nA note.\n")
    tables.plot(TABLES["table2"], {"x": [plain, salt, paper_s, rdrop]}, here / "table.png")
    assert (here / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_nothing_yet(here: Path) -> None:
    run = Translating("salt", 1, "wmt16-en-de", "wmt16-en-de")
    assert over_runs([run], "sacrebleu") is None
    rows = {"wmt16-en-de": tables.rows_of(TABLES["table3"], "wmt16-en-de", [run])}
    text = tables.markdown(TABLES["table3"], rows, [1], [])
    assert "| SALT   | 29.6  | +1.2 | -" in text
    tables.plot(TABLES["table3"], rows, here / "table.png")


def test_gains_are_of_the_same_seeds() -> None:
    found = gain(OverSeeds({1: 3.0, 2: 5.0, 4: 9.0}), OverSeeds({1: 1.0, 2: 2.0, 3: 8.0}))
    assert found is not None and found.by_seed == {1: 2.0, 2: 3.0}
    assert gain(OverSeeds({1: 3.0}), OverSeeds({2: 3.0})) is None
    assert gain(OverSeeds({1: 3.0}), None) is None


def test_points_of_the_study(here: Path) -> None:
    panels = study.panels([1, 2], [0.1, 1.0])
    runs = study.runs_of("iwslt14-de-en", "iwslt14-de-en", panels, [1])
    assert len(runs) == 1 + 2 * 2 + 2 * 2 * 2
    assert len({run.directory for run in runs}) == len(runs)
    finished("salt,--norm=linf,--epsilon=0.1,--ascent-step-size=0.1", 1, 30.0, 29.0)
    points = study.points_of(panels, runs, "tokenized_bleu")
    there = [p for p in points if p.bleu is not None]
    assert [(p.panel[:3], p.method, p.value) for p in there] == [("(c)", "salt", 0.1)]
    text = study.markdown("iwslt14-de-en", panels, points, None, [1], [])
    rows = [line.replace(" ", "") for line in text.split("## (c)")[1].splitlines()]
    assert rows[2:] == ["|epsilon|SALT|SMART|", "|-------|----|-----|", "|0.1|30.0|-|", "|1|-|-|"]
    study.plot("x", panels, points, OverSeeds({1: 29.0}), here / "study.png")
    assert (here / "study.png").read_bytes().startswith(b"\x89PNG")


# ---- Which trainings -----------------------------------------------------------------------------


def commands(*arguments: str, **variables: str) -> list[tuple[dict[str, str], list[str]]]:
    """What a dry run would do, each with its variables."""
    variables = {"DRY_RUN": "1", "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)} | variables
    status, said = shell.run("paper.sh", ROOT, *arguments, **variables)
    assert status == 0, said
    found = []
    for line in said.splitlines():
        words = shlex.split(line)
        start = next(i for i, word in enumerate(words) if word.startswith("recipes/"))
        found.append((dict(word.split("=", 1) for word in words[:start]), words[start:]))
    return found


def test_what_a_table_takes() -> None:
    found = commands("table3", "--", "--dropout", "0.2", SEEDS="1 5", CUDA_VISIBLE_DEVICES="0,1")
    assert found[0] == ({"SCALE": "full"}, ["recipes/wmt16-en-de.sh", "data"])
    runs = [
        (variables["METHOD"], variables["SEED"], variables["GPUS"]) for variables, _ in found[1:]
    ]
    methods = ["transformer", "freeat", "freelb", "smart", "salt", "salt-paper"]
    assert runs == [(method, seed, "1") for seed in "15" for method in methods]
    command = ["recipes/wmt16-en-de.sh", "train", "score", "--", "--dropout", "0.2"]
    assert all(words == command for _, words in found[1:])


def test_fairseq_knows_all_options_of_the_study() -> None:
    found = commands("parameter-study", SEEDS="1", STEPS="3", RADII="0.01")
    methods = [variables["METHOD"] for variables, words in found if "train" in words]
    assert len(methods) == 1 + 2 + 2 * 2
    for method in methods:
        said = shell.run(
            *("iwslt14-de-en.sh", ROOT, "train"),
            **{"METHOD": method, "DRY_RUN": "1", "GPUS": "1", "PYTHON": sys.executable},
        )[1]
        options = parsed(training_words(said))
        if "ascent-steps" in method:
            assert options["ascent_steps"] == 3
        if "epsilon" in method:
            assert (options["epsilon"], options["ascent_step_size"]) == (0.01, 0.01)
            assert options["norm"] == ("linf" if "linf" in method else "l2")


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {}, "usage: recipes/paper.sh table2|table3|table4|"),
        (["table5"], {}, "usage: recipes/paper.sh table2|table3|table4|"),
        (["table2", "--lr"], {}, "options of fairseq-train go after --"),
        (["table4"], {"TASKS": "rte wnli"}, "TASKS=wnli: allowed is rte, mrpc, cola, sst-2"),
        (["table4"], {"TASKS": "rte glue-rte"}, "TASKS=rte glue-rte: one is there twice"),
        (["figure2"], {"TASKS": "parity"}, "TASKS=parity: allowed is cola, sst-2, mrpc"),
        (["table4"], {"RECIPES": "glue-rte"}, "RECIPES=glue-rte: there is no recipes/glue-rte.sh"),
        (["table6"], {"METHODS": "slat"}, "METHOD=slat: no preset slat; there are adv"),
        (["table6"], {"LRS": "1e-4 fast"}, "LR=fast: allowed is a number"),
        (["table6"], {"LRS": "1e-4", "LR": "1e-3"}, "LRS=1e-4, LR=1e-3: give one of them"),
        (["table2"], {"RECIPES": "wmt14"}, "RECIPES=wmt14: there is no recipes/wmt14.sh"),
        (["table2"], {"METHODS": "slat"}, "METHOD=slat: no preset slat; there are adv"),
        (["table2"], {"SEEDS": "1 1"}, "SEEDS=1 1: one is there twice"),
        (["table2"], {"SCALE": "big"}, "SCALE=big: allowed is full, tiny"),
        (["table2"], {"JOBS": "0"}, "JOBS=0: allowed is 1, 2, 3, ..."),
        (["table3"], {"GPUS_EACH": "4", "CUDA_VISIBLE_DEVICES": "0,1"}, "GPUS_EACH=4: there are 2"),
    ],
)
def test_wrong_variables(arguments: list[str], variables: dict[str, str], message: str) -> None:
    ours = {"DRY_RUN": "1", "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    status, said = shell.run("paper.sh", ROOT, *arguments, **(ours | variables))
    assert status == 1
    assert message in said and len(said.splitlines()) == 1


# ---- For real ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with both small corpora prepared, at tiny scale."""
    if shutil.which("apt-get") is None:
        pytest.skip("LibreOffice's help texts are downloaded with apt-get, which is not here")
    root = tmp_path_factory.mktemp("root")
    shell.link_root(root)
    archives = multi30k_archives(root)
    variables = {"ARCHIVE": " ".join(map(str, archives))}
    assert run(root, "recipes/multi30k-en-de.sh", "data", **variables).returncode == 0
    return root


def run(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SCALE": "tiny", "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    environment |= {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, cwd=root, env=environment | variables, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("table", ["table2", "table3"])
def test_a_table_at_tiny_scale(root: Path, table: str) -> None:
    """The second table reuses the runs of the first."""
    variables = {"METHODS": "transformer salt", "SEEDS": "1 2"}
    done = run(root, "recipes/paper.sh", table, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    out = root / f"results/paper/{table}-tiny"
    found = json.loads((out / "table.json").read_text("utf-8"))
    assert found["missing"] == []
    assert set(found["rows"]) == {"libreoffice-help-de-en-tiny", "multi30k-en-de-tiny"}
    for name, rows in found["rows"].items():
        assert [row["method"] for row in rows] == ["transformer", "salt"]
        plain, salt = (row["sacrebleu"]["by_seed"] for row in rows)
        assert plain.keys() == salt.keys() == {"1", "2"}
        for method, of_method in (("transformer", plain), ("salt", salt)):
            for seed, bleu in of_method.items():
                lines = read_table(root / "results" / name / method / f"seed-{seed}" / TRANSLATIONS)
                texts, references = (
                    [line[column] for line in lines] for column in ("translation", "reference")
                )
                expected = sacrebleu.corpus_bleu(texts, [references]).score
                assert bleu == pytest.approx(expected)
                assert bleu > (1 if name.startswith("multi30k") else 0)  # it has learnt something
        gains = rows[1]["gain"]["by_seed"]
        scored = rows[1]["bleu"]["by_seed"]["1"] - rows[0]["bleu"]["by_seed"]["1"]
        assert gains["1"] == pytest.approx(scored)
    text = (out / "table.md").read_text("utf-8")
    assert "| SALT   | -" in text and "beam 5" in text
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")
    again = run(root, "recipes/paper.sh", table, **variables)
    assert again.returncode == 0
    assert (out / "table.md").read_text("utf-8") == text


@pytest.mark.slow
def test_the_study_at_tiny_scale(root: Path) -> None:
    variables = {"RECIPES": "multi30k-en-de", "SEEDS": "1", "STEPS": "1 2", "RADII": "0.1 1"}
    done = run(root, "recipes/paper.sh", "parameter-study", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    out = root / "results/paper/parameter-study-tiny"
    found = json.loads((out / "multi30k-en-de-tiny.json").read_text("utf-8"))
    assert found["missing"] == [] and found["plain"]["by_seed"].keys() == {"1"}
    assert len(found["points"]) == 3 * 2 * 2
    assert all(point["bleu"]["by_seed"].keys() == {"1"} for point in found["points"])
    assert (out / "multi30k-en-de-tiny.png").read_bytes().startswith(b"\x89PNG")
    run_directory = "salt,--norm=l2,--epsilon=0.1,--ascent-step-size=0.1/seed-1"
    log = read_log(root / "results/multi30k-en-de-tiny" / run_directory / "training.log")
    _, norms = column(log.train, "delta_norm")
    assert norms[-1] == pytest.approx(0.1, abs=0.002)  # on the rim
