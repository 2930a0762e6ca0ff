"""recipes/environment/set_up.sh, on machines with and without a Python that will do.

Machines, uv and the index that it comes from are stand-ins (`machines.py`). In the slow tests uv is
the real one from the real index; it then downloads a Python from a mirror of our own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.package.machines import (
    PYTHON,
    SHORT,
    VERSION,
    Index,
    Machine,
    index,
    machine,
    make_mirror,
    template,
)
from tests.support.processes import PATIENCE

__all__ = ["index", "machine", "template"]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ensurepip") is None or not PYTHON.exists(),
    reason="this Python cannot make environments (Debian: apt-get install python3-venv)",
)


def test_a_python_that_fits_is_taken(machine: Machine) -> None:
    machine.has("python3", (3, 13))
    machine.has("python3.12", (3, 12), missing=("ensurepip",))
    machine.has("python3.11", (3, 11))
    machine.install()
    assert machine.made_by == "python3.11"


def test_the_python_that_is_named_is_taken(machine: Machine) -> None:
    machine.has("python3.12", (3, 12))
    machine.install(PYTHON=str(machine.has("named/python", (3, 11))))
    assert machine.made_by == "named/python"


def test_a_named_python_that_does_not_fit_is_refused(machine: Machine) -> None:
    machine.has("python3", (3, 11))
    new = machine.has("new/python", (3, 13))
    assert f"PYTHON={new} is no Python 3.11 or 3.12" in machine.refusal(PYTHON=str(new))[0]
    bare = machine.has("bare/python", (3, 12), missing=("ensurepip",))
    what, advice = machine.refusal(PYTHON=str(bare))
    assert f"PYTHON={bare} has no venv or no ensurepip" in what
    assert "apt-get install python3-venv" in advice
    assert not machine.environment.exists()


def test_without_any_python_it_says_what_to_install(machine: Machine) -> None:
    what, advice = machine.refusal()
    assert what == "error: found no Python 3" and "apt-get install python3" in advice


@pytest.mark.parametrize(("name", "version"), [("python3", (3, 13)), ("python3.11", (3, 11))])
def test_uv_sets_up_a_python(
    name: str, version: tuple[int, int], machine: Machine, index: Index
) -> None:
    """Where the only one does not fit, and where one fits but has no ensurepip; none has pip."""
    machine.pins(index.uv)
    machine.has(name, version, missing=("pip", "ensurepip"))
    if name != "python3":
        machine.has("python3", (3, 13), missing=("pip",))
    said = machine.install(PIP_INDEX_URL=index.url)
    assert "uv sets one up in .venv/python" in said
    assert machine.made_by == "of-uv/python"
    assert (machine.environment / "python").is_dir()  # it is kept when the rest is made anew
    assert len(index.asked) == 2


def test_the_index_is_that_of_pip_s_configuration(machine: Machine, index: Index) -> None:
    machine.pins(index.uv)
    machine.has("python3", (3, 13), missing=("pip",))
    del machine.variables["PIP_INDEX_URL"]
    config = machine.home / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text(f"[global]\nindex-url = {index.url}\n")  # % in it is no interpolation
    machine.install()
    assert machine.made_by == "of-uv/python"
    assert "uv" not in machine.install()  # the next call leaves all that


def test_pip_gets_uv_where_there_is_pip(machine: Machine, index: Index) -> None:
    """Whatever its settings are for other installations."""
    machine.pins(index.uv)
    machine.has("python3", (3, 13))
    machine.install(PIP_INDEX_URL=index.url, PIP_REQUIRE_VIRTUALENV="1", PIP_USER="1")
    assert any("uv-0.0.1.dist-info" in path.name for path in (machine.environment / "uv").iterdir())


@pytest.mark.parametrize("missing", [(), ("pip",)])
def test_another_uv_than_the_pinned_one_is_not_run(
    missing: tuple[str, ...], machine: Machine, index: Index
) -> None:
    machine.pins(b"something else")
    machine.has("python3", (3, 13), missing=missing)
    what, _ = machine.refusal(PIP_INDEX_URL=index.url)
    assert "could not get uv 0.0.1 from the package index: " in what
    assert not (machine.home / "calls").exists()
    assert not (machine.environment / "uv" / "bin" / "uv").exists()


def test_an_index_that_is_not_reached_or_has_no_uv(machine: Machine, index: Index) -> None:
    machine.has("python3", (3, 13), missing=("pip",))
    what, advice = machine.refusal()
    assert "package index: 127.0.0.1:9: " in what and "refused" in what
    assert "PIP_INDEX_URL" in advice
    what, _ = machine.refusal(PIP_INDEX_URL=index.url)  # it has another release
    assert what.endswith("has no uv 0.13.9 for Linux on x86-64")
    what, _ = machine.refusal(PIP_INDEX_URL=index.url.replace("user", "nobody"))
    assert "Unauthorized" in what and "nobody" not in what and "p%40ss" not in what


def test_a_mirror_that_refuses(machine: Machine, index: Index) -> None:
    machine.pins(index.uv)
    machine.has("python3", (3, 13), missing=("pip",))
    mirror = {"UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9/"}
    what, advice = machine.refusal(PIP_INDEX_URL=index.url, **mirror)
    assert what == "error: uv could not download a Python: refused"
    assert "UV_PYTHON_INSTALL_MIRROR" in advice and "PYTHON" in advice
    assert machine.refusal(**mirror) == [what, advice]  # uv is there already


def test_a_set_up_that_was_killed_goes_on(machine: Machine, index: Index) -> None:
    machine.pins(index.uv)
    machine.has("python3", (3, 13), missing=("pip",))
    (machine.home / "slow").touch()
    process = machine.start(PIP_INDEX_URL=index.url)
    deadline = time.monotonic() + PATIENCE
    while not (machine.home / "calls").exists() or "python install" not in machine.calls()[-1]:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 130
    (machine.home / "slow").unlink()
    machine.install()
    assert len(index.asked) == 2


@pytest.mark.parametrize("pip", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_environment_made_by_hand_is_kept(pip: bool, machine: Machine) -> None:
    """uv makes environments that have no pip."""
    machine.has("python3", (3, 11))
    if pip:
        shutil.copytree(machine.template, machine.environment, symlinks=True)
    else:
        made = [PYTHON, "-m", "venv", "--without-pip", machine.environment]
        subprocess.run(made, check=True)
    packages = machine.environment / "lib" / f"python{SHORT}" / "site-packages"
    (packages / "mine.py").write_text("found = 'mine'\n")
    machine.install()
    assert machine.imports("mine") == "mine"


def test_an_environment_with_another_python_is_refused(machine: Machine) -> None:
    machine.has("python3", (3, 11))
    new = machine.has("new/python", (3, 13))
    (machine.environment / "bin").mkdir(parents=True)
    new.rename(machine.environment / "bin" / "python")
    what, advice = machine.refusal()
    assert " is in .venv, not Python 3.11 or 3.12" in what and "Remove .venv" in advice


@pytest.mark.slow
@pytest.mark.parametrize("missing", [(), ("pip", "ensurepip")])
def test_the_real_uv_sets_up_a_python(missing: tuple[str, ...], machine: Machine) -> None:
    """From the real index, and from a mirror."""
    machine.has("python3", (3, 13), missing=missing)
    theirs = ("PIP_", "SSL_", "http_", "https_", "HTTP_", "HTTPS_", "no_proxy", "NO_PROXY")
    machine.variables = {k: v for k, v in os.environ.items() if k.startswith(theirs)}
    nowhere = {"UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9", "UV_HTTP_RETRIES": "0"}
    what, _ = machine.refusal(**nowhere)
    assert "could not download a Python: " in what and "refused" in what
    said = machine.install(**make_mirror(machine.home / "mirror"))
    assert f"environment: Python {VERSION} in .venv" in said
    home = (machine.environment / "pyvenv.cfg").read_text().splitlines()[0]
    assert home.startswith(f"home = {machine.environment}/python/cpython-{SHORT}")
    assert not {".local", ".cache"} & {path.name for path in machine.home.iterdir()}
