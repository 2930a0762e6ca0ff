"""Fetch Debian packages with the system's apt, as any user, without touching the system's state.

apt's lists, cache and hooks are replaced by private ones in a temporary directory; only the
machine's sources, keys and network settings are used.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.stages import run_stage, say
from data_prep.support.errors import DataPrepError

_ETC = Path("/etc/apt")

# Read after the machine's own configuration, so it has the last word. Post-Invoke hooks would run
# the machine's clean-up and desktop-catalogue jobs; the index targets are not needed here.
_CONFIGURATION = """\
Dir::State "{root}/state";
Dir::State::lists "{root}/state/lists";
Dir::Cache "{root}/cache";
Dir::Cache::archives "{root}/cache/archives";
Debug::NoLocking "true";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


def download_packages(packages: Sequence[str], directory: Path) -> tuple[Path, ...]:
    """Return the newest .deb of each package, kept in ``directory`` for the next run.

    Raises DataPrepError with apt's last words, or with what to do where there is no apt.
    """

    def build(temporary: Path) -> dict[str, Any]:
        say(f"download: {', '.join(packages)}, with apt")
        _apt_download(packages, temporary)
        return {"packages": [_find(temporary, package).name for package in packages]}

    stage = run_stage(directory, {"packages": list(packages)}, build)
    return tuple(stage.path / name for name in stage.facts["packages"])


def _apt_download(packages: Sequence[str], directory: Path) -> None:
    by_hand = (
        f"get the .deb files of {' and '.join(packages)} from Debian's package pages on the web"
        " and give them with --archive (make: ARCHIVE=)"
    )
    apt = shutil.which("apt-get")
    if apt is None:
        raise DataPrepError(f"there is no apt-get on this system; {by_hand}")
    said = ""
    for sources in _source_options():
        with tempfile.TemporaryDirectory(prefix="data_prep-apt-") as root:
            for part in ("state/lists/partial", "cache/archives/partial"):
                Path(root, part).mkdir(parents=True)
            configuration = Path(root, "apt.conf")
            configuration.write_text(_CONFIGURATION.format(root=root), encoding="utf-8")
            command = [apt, "-q", "-c", str(configuration), *sources]
            # The status of update is no verdict: it is non-zero when any one source is out of
            # reach, and the packages may be found all the same.
            _, said = _run([*command, "update"], directory)
            status, more = _run([*command, "download", *packages], directory)
            said += more
            if status == 0 and all(list(directory.glob(f"{p}_*.deb")) for p in packages):
                return
    tail = "\n".join("  " + line for line in said.strip().splitlines()[-5:])
    raise DataPrepError(f"apt-get could not download; its last words:\n{tail}\nOr {by_hand}")


def _run(command: Sequence[str], directory: Path) -> tuple[int, str]:
    finished = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return finished.returncode, finished.stdout


def _source_options() -> Iterator[list[str]]:
    """Yield options that choose the sources: the distribution's own file first, then all of them.

    Third-party sources do not have the packages, take time, and are more often out of reach.
    """
    for name in ("debian.sources", "ubuntu.sources"):
        path = _ETC / "sources.list.d" / name
        if path.is_file():
            yield ["-o", f"Dir::Etc::sourcelist={path}", "-o", "Dir::Etc::sourceparts=-"]
            break
    else:  # the older form
        if (_ETC / "sources.list").is_file():
            yield ["-o", "Dir::Etc::sourceparts=-"]
    yield []


def _find(directory: Path, package: str) -> Path:
    return max(directory.glob(f"{package}_*.deb"))
