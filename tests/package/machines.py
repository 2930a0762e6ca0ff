"""Stand-ins for `set_up.sh`: a machine, an index of packages and a mirror of Pythons.

A machine is a PATH: the few programs that the script runs, and the Pythons of the test. They are
this one, made to believe that it is another version, or has no pip. The index has a uv that is one
in name only; the mirror has an archive of this Python.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import pytest

from tests.support.processes import ROOT

BASE = Path(sys.base_prefix)
SHORT = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = BASE / "bin" / f"python{SHORT}"
VERSION = f"{SHORT}.{sys.version_info.micro}"
PROGRAMS = ["awk", "bash", "cat", "env", "find", "grep", "mkdir", "rm", "sed", "sleep", "tail"]


PRETENCE = """
import collections, sys
if sys.orig_argv[1] == "-c":  # pip has to know better
    Version = collections.namedtuple("Version", "major minor micro releaselevel serial")
    sys.version_info = Version({major}, {minor}, 0, "final", 0)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name}}")
sys.meta_path.insert(0, Missing())
"""

# Making an environment takes seconds: this copies one.
STAND_IN = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
  {mkdir} -p "$3" && {cp} -Rp "{template}/." "$3" && echo "{name}" > "$3/made-by"; exit
fi
PYTHONPATH="{pretence}" exec "{python}" "$@"
"""

UV = """#!/bin/sh
echo "$*" >> "$HOME/calls"
case "$1 $2" in
  "--version ") echo "uv 0.0.1 (a stand-in)" ;;
  "python install")
    [ ! -e "$HOME/slow" ] || exec sleep 60
    [ -z "$UV_PYTHON_INSTALL_MIRROR" ] || { echo "error: no"; echo "  cause: refused"; exit 2; }
    mkdir -p "$UV_PYTHON_INSTALL_DIR" && : > "$UV_PYTHON_INSTALL_DIR/python" ;;
  "python find") [ ! -e "$UV_PYTHON_INSTALL_DIR/python" ] || echo "$HOME/of-uv/python" ;;
esac
"""


def wheel(name: str, version: str, files: dict[str, str]) -> bytes:
    """A wheel of these files, which are not listed in it, as no installer minds."""
    info = f"{name}-{version}.dist-info"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in {**files, **described}.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in described))
    return content.getvalue()


@dataclass
class Machine:
    """A machine with a checkout and a package that the environment is to have."""

    home: Path
    template: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> Path:
        return self.home / "a checkout" / ".venv"

    def has(self, name: str, version: tuple[int, int], *, missing: tuple[str, ...] = ()) -> Path:
        """Put a Python on its PATH; with a folder before its name, next to it."""
        program = self.home / "bin" / name if "/" not in name else self.home / name
        pretence = program.with_name(f"{program.name} pretends")
        pretence.mkdir(parents=True)
        major, minor = version
        code = PRETENCE.format(major=major, minor=minor, missing=missing)
        (pretence / "sitecustomize.py").write_text(code)
        program.write_text(
            STAND_IN.format(
                name=name,
                template=self.template,
                pretence=pretence,
                python=PYTHON,
                mkdir=shutil.which("mkdir"),
                cp=shutil.which("cp"),
            )
        )
        program.chmod(0o755)
        return program

    @property
    def made_by(self) -> str:
        """The Python that made the environment."""
        return (self.environment / "made-by").read_text().strip()

    def pins(self, uv: bytes) -> None:
        """Let the checkout ask for this wheel of uv."""
        pin = self.environment.parent / "recipes" / "environment" / "uv.txt"
        pin.write_text(f"# a comment\nuv==0.0.1 --hash=sha256:{hashlib.sha256(uv).hexdigest()}\n")

    def start(self, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["recipes/environment/set_up.sh", ".venv"],
            cwd=self.environment.parent,
            env={"PATH": str(self.home / "bin"), "HOME": str(self.home)}
            | self.variables
            | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def install(self, **variables: str) -> str:
        """Make the environment; what was said."""
        said, _ = (process := self.start(**variables)).communicate(timeout=600)
        assert process.returncode == 0, said
        assert self.imports("needed") == "yes"
        return said

    def refusal(self, **variables: str) -> list[str]:
        """The lines of the error that it ends in, without what was said before."""
        said, _ = (process := self.start(**variables)).communicate(timeout=600)
        assert process.returncode == 1, said
        lines = said[said.index("error: ") :].splitlines()
        assert len(lines) <= 2, said
        return lines

    def imports(self, name: str) -> str:
        """What the environment's Python finds in a module."""
        program = f"import {name}; print({name}.found)"
        return subprocess.run(
            [self.environment / "bin" / "python", "-c", program],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def calls(self) -> list[str]:
        """What uv was called with."""
        return (self.home / "calls").read_text().splitlines()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment."""
    made = tmp_path_factory.mktemp("template") / "made"
    subprocess.run([PYTHON, "-m", "venv", made], check=True)
    return made


@pytest.fixture
def machine(tmp_path: Path, template: Path) -> Machine:
    """One without any Python but the one that uv sets up, and without a network."""
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    made = Machine(tmp_path, template, nowhere)
    made.has("of-uv/python", (3, 12))
    checkout = made.environment.parent
    shutil.copytree(ROOT / "recipes", checkout / "recipes")
    package = tmp_path / "needed-1-py3-none-any.whl"
    package.write_bytes(wheel("needed", "1", {"needed.py": "found = 'yes'\n"}))
    (checkout / "requirements.txt").write_text(f"needed @ {package.as_uri()}\n")
    (tmp_path / "bin").mkdir()
    for program in PROGRAMS:
        found = shutil.which(program)
        assert found, program
        (tmp_path / "bin" / program).symlink_to(found)
    return made


@dataclass
class Index:
    """A package index that has uv and wants a password, and what it was asked for."""

    uv: bytes
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://user:p%40ss@127.0.0.1:{self.port}/simple/"


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index(wheel("uv", "0.0.1", {"uv-0.0.1.data/scripts/uv": UV}))
    names = [
        "uv-0.0.1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "uv-0.0.10-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "uv-0.0.1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "uv-0.0.1.tar.gz",
    ]
    links = "".join(f'<a href="../../files/{name}#sha256=00">{name}</a><br/>' for name in names)
    pages = {"/simple/uv/": links.encode(), f"/files/{names[2]}": made.uv}
    key = "Basic " + base64.b64encode(b"user:p@ss").decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            if self.headers["Authorization"] != key:
                self.send_error(401)
            elif self.path not in pages:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(pages[self.path])

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def make_mirror(folder: Path) -> dict[str, str]:
    """A mirror that has an archive of this Python; the variables that lead uv to it."""
    name = f"cpython-{VERSION}+20260101-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
    home = "https://github.com/astral-sh/python-build-standalone/releases/download/20260101/"
    left_out = {"__pycache__", "dist-packages", "site-packages", "test"}

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = PurePath(member.name).parts
        is_left_out = left_out & set(parts) or any(part.startswith("config-") for part in parts)
        return None if is_left_out else member

    (folder / "20260101").mkdir(parents=True)
    with tarfile.open(folder / "20260101" / name, "w:gz", compresslevel=1) as archive:
        archive.add(BASE / "bin" / f"python{SHORT}", f"python/bin/python{SHORT}")
        archive.add(BASE / "lib" / f"python{SHORT}", f"python/lib/python{SHORT}", filter=kept)
    about = {
        "name": "cpython",
        "arch": {"family": "x86_64", "variant": None},
        **{"os": "linux", "libc": "gnu", "variant": None, "prerelease": "", "build": "20260101"},
        **dict(zip(("major", "minor", "patch"), sys.version_info[:3], strict=True)),
        "url": home + name.replace("+", "%2B"),
        "sha256": None,
    }
    listing = folder / "list.json"
    listing.write_text(json.dumps({f"cpython-{VERSION}-linux-x86_64-gnu": about}))
    return {
        "UV_PYTHON_INSTALL_MIRROR": folder.as_uri(),
        "UV_PYTHON_DOWNLOADS_JSON_URL": str(listing),
    }
