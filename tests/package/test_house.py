"""The rooms: those of CONTRIBUTING.md's map, of a dozen doors or so; imports point downwards."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
MAP = re.findall(r"^\| `([\w/]+)/` \| (.+?) \| (.*?) ?\|$", PAGE, re.M)
PACKAGES = ("fairseq_adv", "data_prep", "recipes")
DOORS = 15
"""A dozen, and what every room has: `__init__.py`, `__main__.py`."""


def rooms(package: str) -> Iterator[Path]:
    """A package's directories that hold code, as in a fresh checkout."""
    for path in [ROOT / package, *(ROOT / package).rglob("*")]:
        if path.is_dir() and path.name != "__pycache__" and any(path.glob("*.*")):
            yield path


def doors(room: Path) -> list[str]:
    return [path.name for path in room.iterdir() if path.name != "__pycache__"]


def test_the_map_is_the_tree() -> None:
    drawn = {room for room, *_ in MAP}
    there = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in rooms(name)}
    assert drawn - {"tests", "benchmarks", "docs"} == there
    assert all((ROOT / room).is_dir() for room in drawn)


def test_no_room_has_many_doors() -> None:
    scripts = 12  # of recipes/: what a user runs, one for each corpus and job
    for name in (*PACKAGES, "tests"):
        for room in rooms(name):
            limit = DOORS + (scripts if room == ROOT / "recipes" else 0)
            assert len(doors(room)) <= limit, room


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FLOORS = ("core", "models", "games", "trainer", "criterions", "tasks")
"""Of fairseq_adv, from the ground up."""


def allowed(floor: str) -> set[str]:
    """The floors that the map lets one import, itself included."""
    (column,) = (column for room, _, column in MAP if room == f"fairseq_adv/{floor}")
    below = FLOORS[: FLOORS.index(floor)]
    named = set(below) if column == "all of the above" else set(column.split(", ")) & set(below)
    return {floor, *named}


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_downwards_as_the_map_has_it(floor: str) -> None:
    others = {f"fairseq_adv.{name}" for name in set(FLOORS) - allowed(floor)}
    for path in (ROOT / "fairseq_adv" / floor).rglob("*.py"):
        known = {".".join(name.split(".")[:2]) for name in imports(path)}
        assert known & others == set(), path


def test_core_needs_torch_alone() -> None:
    allowed = ("torch", "fairseq_adv.core", "__future__")
    standard = ("abc", "collections", "contextlib", "dataclasses", "functools", "math", "typing")
    for path in (ROOT / "fairseq_adv" / "core").rglob("*.py"):
        for name in imports(path):
            assert name.startswith((*allowed, *standard)), (path, name)


def test_methods_do_not_know_each_other() -> None:
    for path in (ROOT / "fairseq_adv" / "core" / "methods").glob("*.py"):
        others = [name for name in imports(path) if name.startswith("fairseq_adv.core.methods")]
        assert others == [], path


def test_nobody_knows_a_site_by_name_but_those_who_translate() -> None:
    """A site is a file, which registers itself."""
    for path in (ROOT / "fairseq_adv").rglob("*.py"):
        if path.parent.name != "sites":
            known = [name for name in imports(path) if name.startswith("fairseq_adv.games.sites.")]
            assert set(known) <= {f"fairseq_adv.games.sites.{n}" for n in NAMES}, path


NAMES = ("SITES", "FairseqSite", "UnsupportedModel", "in_directions")


def test_data_prep_knows_no_training() -> None:
    for path in (ROOT / "data_prep").rglob("*.py"):
        assert not [n for n in imports(path) if n.startswith(("fairseq_adv", "recipes"))], path


def test_options_are_parsed_in_criterions_and_tasks_alone() -> None:
    for floor in ("core", "games", "trainer"):
        for path in (ROOT / "fairseq_adv" / floor).rglob("*.py"):
            assert "register_criterion" not in path.read_text("utf-8"), path
            assert "FairseqDataclass" not in path.read_text("utf-8"), path
