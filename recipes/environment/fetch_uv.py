"""Fetch uv from the package index where there is no pip to do it; see set_up.sh.

    python3 recipes/environment/fetch_uv.py recipes/environment/uv.txt DIR

makes DIR/bin/uv, of the release in that file of requirements, and only if the wheel has the
checksum there. The index is pip's: PIP_INDEX_URL, or what its configuration files say, or PyPI.

For whatever Python 3 the machine has, from 3.8 on: nothing but its standard library.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import io
import os
import re
import ssl
import sys
import zipfile
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import Request, urlopen

TIMEOUT = 30  # seconds without a byte


class Links(HTMLParser):
    """Where the links of a page of the index lead to (PEP 503)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        self.found += [value for name, value in attrs if (tag, name) == ("a", "href") and value]


def index() -> str:
    """The URL of pip's index."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    config = configparser.RawConfigParser()
    home, xdg = Path.home(), os.environ.get("XDG_CONFIG_HOME")
    user = Path(xdg) if xdg else home / ".config"
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip" / "pip.conf"]
    config.read([*files, user / "pip" / "pip.conf", os.environ.get("PIP_CONFIG_FILE", os.devnull)])
    usual = config.get("global", "index-url", fallback="https://pypi.org/simple")
    return config.get("install", "index-url", fallback=usual)


def get(url: str) -> bytes:
    """What is at a URL, which may have a name and a password in it. Raises OSError."""
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    request = Request(parts._replace(netloc=host).geturl())
    if account:
        encoded = base64.b64encode(unquote(account).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {encoded}")
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    try:
        with urlopen(request, timeout=TIMEOUT, context=context) as response:
            return bytes(response.read())
    except OSError as error:
        raise OSError(f"{host}: {getattr(error, 'reason', None) or error}") from error


def fetch(requirement: str, directory: Path) -> None:
    """Make directory/bin/uv. Raises OSError, or ValueError where the index does not have it."""
    version, checksum = re.findall(r"^uv==(\S+) --hash=sha256:(\w+)$", requirement, re.M)[0]
    page = index().rstrip("/") + "/uv/"
    links = [urljoin(page, link) for link in Links(get(page).decode()).found]
    name = re.compile(rf"uv-{re.escape(version)}-.*manylinux.*x86_64.*\.whl")
    wheels = [url for url in links if name.fullmatch(urlsplit(url).path.rpartition("/")[2])]
    if not wheels:
        raise ValueError(f"the package index has no uv {version} for Linux on x86-64")
    content = get(urldefrag(wheels[0]).url)
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ValueError(f"uv {version} of the package index has another checksum: not used")
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        program = wheel.read(f"uv-{version}.data/scripts/uv")
    target = directory / "bin" / "uv"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(".uv.part")
    part.write_bytes(program)
    part.chmod(0o755)
    part.replace(target)


if __name__ == "__main__":
    try:
        fetch(Path(sys.argv[1]).read_text(encoding="utf-8"), Path(sys.argv[2]))
    except (OSError, HTTPException, ValueError, AssertionError, configparser.Error) as error:
        # (an AssertionError is of odd declarations in a page)
        sys.exit(str(error))
