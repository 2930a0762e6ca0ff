"""Running the shell recipes, with a real python or a stand-in for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support import processes
from tests.support.processes import ROOT

RECIPES = ROOT / "recipes"


def make_root(directory: Path, stand_in: str, *, presets: bool = False) -> Path:
    """Make a directory look like the repository's root, with a script in it called python."""
    for name in ("fairseq_adv", "recipes"):
        (directory / name).mkdir()
    if presets:
        (directory / "recipes" / "presets").symlink_to(RECIPES / "presets")
    python = directory / "python"
    python.write_text(stand_in)
    python.chmod(0o755)
    return directory


def link_root(directory: Path) -> Path:
    """Make a directory another root of the repository, for what is written to go there."""
    for name in ("fairseq_adv", "recipes", "data_prep"):
        (directory / name).symlink_to(ROOT / name)
    return directory


def start(
    recipe: str, root: Path, *arguments: str | Path, **variables: str
) -> subprocess.Popen[str]:
    """Start a recipe in a directory; PYTHON is the stand-in there, unless it is among variables."""
    inherited = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    ours = {"PYTHON": str(root / "python"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        ["bash", RECIPES / recipe, *arguments],
        cwd=root,
        env=inherited | ours | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return processes.ended_with_the_test(process)


def run(recipe: str, root: Path, *arguments: str | Path, **variables: str) -> tuple[int, str]:
    """Run a recipe to its end; return exit status and what it said."""
    process = start(recipe, root, *arguments, **variables)
    (said,) = processes.end(process, statuses=range(256))
    return process.returncode, said
