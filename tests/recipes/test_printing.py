"""Names and sentences that an encoding, a font or a file lacks: shown as escapes, no traceback."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from recipes.evaluation.robustness_report import Measured, plot_robustness, robustness_table
from recipes.models.model import named
from recipes.support.errors import run_main
from recipes.support.files import read_json, write_json
from tests.support.processes import ROOT

RECIPES = ROOT / "recipes"
# A file's name in Latin-1, as Python has it; a formula without an end, to matplotlib.
NAMES = [os.fsdecode(b"gro\xdf"), "$x_{$", "größer 大"]

# One prints a number and nothing else; the other runs before there is anything to import.
WITHOUT = {"gpus.py", "fetch_uv.py"}


def test_every_program_of_recipes_prints_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with PYTHONIOENCODING=ascii, through the one way in that all of them have."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert run_main("recipes.test", lambda: print("größer")) == 0
    sys.stdout.flush()
    assert shown.getvalue() == b"gr\\xf6\\xdfer\n"
    programs = [
        (path, text)
        for path in sorted(RECIPES.rglob("*.py"))
        if "__name__ ==" in (text := path.read_text(encoding="utf-8")) and path.name not in WITHOUT
    ]
    assert len(programs) > 10
    assert [path.name for path, text in programs if "sys.exit(run_main(" not in text] == []


def test_a_name_that_is_no_text_is_noted(tmp_path: Path) -> None:
    value = {"checkpoint": NAMES[0], "sentence": NAMES[2]}
    write_json(value, tmp_path / "scores.json")
    assert read_json(tmp_path / "scores.json", "the test") == value
    assert NAMES[2] in (tmp_path / "scores.json").read_text(encoding="utf-8")


def test_any_name_can_be_written_and_drawn(tmp_path: Path) -> None:
    files = []
    for name in NAMES:
        files.append(tmp_path / name / "checkpoints" / "checkpoint_best.pt")
        files[-1].parent.mkdir(parents=True)
        files[-1].touch()
    labels = list(named(files, None))
    assert labels == ["gro\\udcdf", *NAMES[1:]]
    measured = [
        Measured(label, noise, strength, 20.0 - strength, 40.0)
        for label in labels
        for noise, strength in (("clean", 0.0), ("typos", 0.1))
    ]
    robustness_table(measured).encode("utf-8")
    plot_robustness(measured, f"BLEU of {labels[1]}", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
