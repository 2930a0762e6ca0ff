"""The package: what its import does, where it is installed, and what is in its wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
