"""What is planned of a comparison: who takes part, and how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.comparison.__main__ import compare
from recipes.comparison.contenders import PRESETS, contender, contenders
from recipes.comparison.kinds.translation import Translation
from recipes.comparison.plan import Budget, Run
from recipes.support.errors import RecipeError
from tests.recipes.comparison.plans import data, planned
from tests.support.processes import ROOT

__all__ = ["data"]

# ---- Who takes part ------------------------------------------------------------------------------


def test_a_contender_is_a_preset_with_changes() -> None:
    found = contender("rdrop,--adv-weight=5,--cpu")
    assert found.label == "R-Drop, adv-weight 5, cpu"
    assert found.options[:2] == ("--criterion", "rdrop")
    assert found.options[-2:] == ("--adv-weight=5", "--cpu")
    places = contender("adv,--perturb=source,attention,--epsilon=1")
    assert places.label == "Adv, perturb source,attention, epsilon 1"
    assert places.options[-2:] == ("--perturb=source,attention", "--epsilon=1")
    assert contender("salt-paper").label == "SALT, paper"
    assert "--ascent-rule" in contender("salt-paper").options
    assert not any(word.startswith("#") for word in contender("salt-paper").options)


def test_plain_training_always_takes_part_and_comes_first() -> None:
    assert [c.name for c in contenders(["salt", "rdrop"])] == ["transformer", "salt", "rdrop"]
    assert [c.name for c in contenders(["salt", "transformer"])] == ["transformer", "salt"]
    assert contenders([])[0].label == "plain"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["slat"], "METHODS: 'slat' is not a preset; there are adv, "),
        (["../presets/salt"], "is not a preset"),
        ([""], "METHODS: '' is not a preset"),
        (["salt,epsilon=1"], "salt,epsilon=1: 'epsilon=1' is not of the form --option=value"),
        (["salt,--save-dir=/tmp/x"], "is not of the form"),
        (["salt", "adv", "salt"], "METHODS: salt is there twice"),
    ],
)
def test_wrong_names(names: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        contenders(names)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_there_is_a_preset_for_every_method() -> None:
    """What the recipe compares by default, and VAT."""
    recipe = (ROOT / "recipes" / "compare.sh").read_text("utf-8")
    default = "transformer adv freeat freelb smart salt r3f rdrop simcut"
    assert f"${{METHODS:-{default}}}" in recipe
    assert {*default.split(), "vat"} <= {path.stem for path in PRESETS.glob("*.txt")}


# ---- How long ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "updates"),
    [
        (1.0, 2400),
        (0.97, 2400),  # 2474
        (1.01, 2200),  # 2376
        (2.0, 1200),
        (4.9, 400),  # 489
        (5.99, 400),
        (6.0, 400),
        (6.01, 200),
        (12.1, 0),  # slower than the first checkpoint
    ],
)
def test_updates_in_equal_time_end_at_a_checkpoint(cost: float, updates: int) -> None:
    assert Budget(updates=1200, time=2400, every=200).updates_in_time(cost) == updates


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ((0, 10, 5), "--updates 0: allowed is 1, 2, 3, ..."),
        ((10, 10, 0), "--every 0: allowed is 1, 2, 3, ..."),
        ((10, 12, 5), "--time 12: is not a multiple of --every 5"),
    ],
)
def test_a_budget_that_is_none(budget: tuple[int, int, int], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Budget(*budget)
    assert str(caught.value) == message


def test_a_run_is_written_down_and_read_again(tmp_path: Path, data: Path) -> None:
    run = planned(tmp_path / "out", data)
    assert run.directory == tmp_path / "out/runs/salt/seed-3"
    assert run.horizons == (10, 20)
    assert run.cpu
    command = " ".join(run.command)
    assert "--criterion salt" in command
    assert "--max-tokens 100 --cpu --seed 3" in command
    assert "--save-interval-updates 5 --validate-interval-updates 5" in command
    run.save()
    assert Run.load(run.directory) == run


def test_a_run_may_become_longer_but_not_another(tmp_path: Path, data: Path) -> None:
    planned(tmp_path, data).save()
    planned(tmp_path, data, horizons=(10, 20, 40)).save()
    assert Run.load(tmp_path / "runs/salt/seed-3").horizons == (10, 20, 40)
    for change in (
        {"options": ["--max-tokens", "200"]},
        {"kind": Translation(data, beam=5)},
        {"every": 10},
    ):
        with pytest.raises(RecipeError, match="holds a training with other data or options"):
            planned(tmp_path, data, **change).save()
    (data / "bin" / "stage.json").write_text("[]")
    with pytest.raises(RecipeError, match="holds a training with other data or options"):
        planned(tmp_path, data).save()


@pytest.mark.parametrize("option", ["--seed=1", "--save-dir", "--max-update", "-s", "-t"])
def test_options_that_differ_from_run_to_run(tmp_path: Path, data: Path, option: str) -> None:
    with pytest.raises(RecipeError, match=f"{option}: leave it out; the comparison sets it"):
        planned(tmp_path, data, options=[option, "1"])


@pytest.mark.parametrize(
    ("seeds", "jobs", "message"),
    [
        ([1], 0, "--jobs 0: allowed is 1, 2, 3, ..."),
        ([1], -1, "--jobs -1: allowed is 1, 2, 3, ..."),
        ([1, 2, 1], None, "--seeds 1 2 1: one is there twice"),
    ],
)
def test_runs_that_could_not_be_done(
    seeds: list[int], jobs: int | None, message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        kind = Translation(data)
        compare(kind, tmp_path / "out", ["salt"], seeds, Budget(10, 20, 5), ["--cpu"], jobs)
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()
