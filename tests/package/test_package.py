"""The package: what its import does, where it is installed, and what is in its wheel."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import fairseq_adv
from tests.support import training
from tests.support.processes import ROOT


def python(program: str, *arguments: str, cwd: Path = ROOT) -> str:
    """What a program says, run in the checkout."""
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


ALL_OF_THE_CORE = """
import importlib, pkgutil
import fairseq_adv.core
names = [m.name for m in pkgutil.walk_packages(fairseq_adv.core.__path__, "fairseq_adv.core.")]
assert len(names) >= 9, names
for name in names:
    importlib.import_module(name)
"""


def test_the_core_needs_torch_alone() -> None:
    """Imported where nothing can be found but torch, and what torch itself asks for."""
    python(
        """
import re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def with_requirements(name, found):
    found.add(name)
    for requirement in requires(name) or []:
        needed = re.match(r"[\\w.-]+", requirement)[0].lower().replace("_", "-")
        if "extra ==" not in requirement and needed not in found:
            try:
                with_requirements(needed, found)
            except PackageNotFoundError:
                pass
    return found

allowed = with_requirements("torch", set())
hidden = {
    module
    for module, owners in packages_distributions().items()
    if not {owner.lower().replace("_", "-") for owner in owners} & allowed
}
assert {"fairseq", "omegaconf", "numpy", "tqdm"} <= hidden and "torch" not in hidden

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
        + ALL_OF_THE_CORE
    )


def test_the_core_leaves_fairseq_alone() -> None:
    """Where it is installed. And that takes no longer than torch."""
    python(ALL_OF_THE_CORE + "import sys; assert 'fairseq' not in sys.modules")


@pytest.mark.parametrize(
    "imports",
    [
        "from fairseq import checkpoint_utils\nimport fairseq_adv",
        "from fairseq_adv.tasks.adversarial_training import AdversarialTraining\n"
        "from fairseq import checkpoint_utils",
    ],
)
def test_in_whatever_order_fairseq_is_mended(imports: str) -> None:
    """And knows the tasks and criterions."""
    python(
        imports
        + """
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.tasks import TASK_REGISTRY
assert {"salt", "simcut"} <= set(CRITERION_REGISTRY)
names = ["adversarial_translation", "adversarial_translation_multi_simple_epoch"]
assert set(names) <= set(TASK_REGISTRY)
assert checkpoint_utils.load_checkpoint.__wrapped__
"""
    )


def test_where_it_is() -> None:
    """What --user-dir takes, without waiting for torch."""
    program = [sys.executable, "-X", "importtime", "-m", "fairseq_adv"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == f"{ROOT / 'fairseq_adv'}\n"
    assert "torch" not in run.stderr


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution of a copy of the checkout, and a wheel of that distribution."""
    folder = tmp_path_factory.mktemp("distributions")
    left_out = shutil.ignore_patterns(".*", "data", "results", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, folder / "checkout", ignore=left_out)
    build = "from setuptools import build_meta; build_meta.build_sdist('..')"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "checkout", check=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    (sdist,) = folder.glob("*.tar.gz")
    subprocess.run([*pip, "--wheel-dir", folder, sdist], check=True)
    return folder


def the_wheel(distributions: Path) -> zipfile.ZipFile:
    (path,) = distributions.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata_of(distributions: Path) -> Message:
    with the_wheel(distributions) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        return message_from_bytes(wheel.read(name))


def test_the_wheel_has_the_package_and_nothing_else(distributions: Path) -> None:
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fairseq_adv").rglob("*.py")}
    with the_wheel(distributions) as wheel:
        names = set(wheel.namelist())
        info = f"fairseq_adv-{fairseq_adv.__version__}.dist-info"
        others = {"METADATA", "RECORD", "WHEEL", "top_level.txt", "licenses/LICENSE"}
        assert names == ours | {f"{info}/{name}" for name in others}
        assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_source_distribution_has_what_the_wheel_is_built_from(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        inside = {name.partition("/")[2].partition("/")[0] for name in sdist.getnames()} - {""}
    assert inside == {
        *("fairseq_adv", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"),
        *("PKG-INFO", "setup.cfg", "fairseq_adv.egg-info"),
    }


def test_what_it_says_of_itself(distributions: Path) -> None:
    said = metadata_of(distributions)
    assert said["Name"] == "fairseq_adv" and said["Version"] == fairseq_adv.__version__
    assert said["License-Expression"] == "MIT" and said["License-File"] == "LICENSE"
    assert "# fairseq_adv" in str(said.get_payload())


def test_its_requirements_are_what_it_imports_and_include_what_is_tested(
    distributions: Path,
) -> None:
    required = {
        r.name: r
        for r in map(Requirement, metadata_of(distributions).get_all("Requires-Dist") or [])
    }
    imported: set[str] = set()
    for path in (ROOT / "fairseq_adv").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    of_others = imported - set(sys.stdlib_module_names) - {"fairseq_adv"}
    assert {name.removeprefix("ve-") for name in required} == of_others
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for name, requirement in required.items():
        (tested,) = re.findall(rf"^{name}([=<>].*)$", pins, re.M)
        if tested.startswith("=="):
            assert requirement.specifier.contains(tested.removeprefix("=="))
        else:
            assert requirement.specifier == Requirement(name + tested).specifier


def test_everything_asks_for_the_same_pythons() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    script = (ROOT / "recipes" / "environment" / "set_up.sh").read_text(encoding="utf-8")
    assert project["requires-python"] == ">=3.11,<3.13"
    assert "'>=3.11,<3.13'" in script and "((3, 11), (3, 12))" in script


@pytest.mark.slow
def test_the_wheel_trains_and_translates_away_from_the_checkout(
    distributions: Path, toy_data: Path, tmp_path: Path
) -> None:
    """In an environment of its own, which finds fairseq and torch in this one."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = distributions.glob("*.whl")
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*words: object) -> str:
        done = subprocess.run(
            [python, "-m", *map(str, words)],
            cwd=nowhere,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("pip", "install", "--no-deps", "--no-index", wheel)
    user_dir = run("fairseq_adv").strip()
    assert user_dir == str(packages / "fairseq_adv")
    options = training.arguments(toy_data, nowhere / "checkpoints", "--max-update", "2")
    assert options[1] == "--user-dir"
    run("fairseq_cli.train", options[0], "--user-dir", user_dir, *options[3:])
    checkpoint = nowhere / "checkpoints" / "checkpoint_last.pt"
    state = torch.load(checkpoint)
    assert state["optimizer_history"][-1]["num_updates"] == 2
    assert state["cfg"]["common"]["user_dir"] == user_dir
    said = run(
        *("fairseq_cli.generate", toy_data, "--path", checkpoint, "--user-dir", user_dir),
        *("--task", "adversarial_translation", "--cpu", "--beam", "1", "--num-workers", "0"),
    )
    assert sum(line.startswith("H-") for line in said.splitlines()) == 100
