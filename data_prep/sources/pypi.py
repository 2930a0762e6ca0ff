"""Files of the package index, wherever pip is told that it is: PIP_INDEX_URL, pip's files, PyPI.

An index has a page of links for each package (PEP 503), so that where a file lies is asked when it
is wanted: `located`.
"""

import base64
import configparser
import os
import ssl
from functools import cache
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import Request, urlopen

SCHEME = "pypi:"
"""`pypi:PACKAGE` stands for the URL of a file of PACKAGE."""

_TIMEOUT = 30  # seconds without a byte
_LARGEST = 64 << 20  # bytes of a page


class NotInIndex(Exception):
    """The package index does not have it, or is not reached; the message says which."""


class _Links(HTMLParser):
    """Where the links of a page lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        self.found += [value for name, value in attrs if (tag, name) == ("a", "href") and value]


def located(url: str, name: str) -> str:
    """Return the URL of the file called ``name``: ``url`` itself, unless it is `SCHEME`'s.

    Raises NotInIndex if the index has no such file.
    """
    if not url.startswith(SCHEME):
        return url
    package = url.removeprefix(SCHEME)
    page = f"{_setting('index-url', 'https://pypi.org/simple').rstrip('/')}/{package}/"
    try:
        with urlopen(request(page), timeout=_TIMEOUT, context=certificates()) as response:
            html = response.read(_LARGEST).decode("utf-8", "replace")
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NotInIndex(f"the package index, {shown(page)}: {reason}") from error
    if found := linked(html, page, name):
        return _with_account_of(page, found)
    raise NotInIndex(f"the package index has no {name} of {package}")


def linked(html: str, page: str, name: str) -> str | None:
    """Return the URL of the file called ``name`` to which a page of the index links, or None.

    Raises NotInIndex if the page cannot be read.
    """
    try:
        links = _Links(html).found
    except (AssertionError, ValueError) as error:  # of odd declarations
        raise NotInIndex(f"the package index, {shown(page)}: is no page of links") from error
    for link in links:
        try:
            parts = urlsplit(urljoin(page, urldefrag(link).url))
        except ValueError:  # no URL: http://[
            continue
        is_it = unquote(parts.path.rpartition("/")[2]) == name
        if is_it and parts.scheme in ("http", "https"):
            return parts.geturl()
    return None


def request(url: str) -> Request:
    """Return a request for a URL, which may have a name and a password in it."""
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    made = Request(parts._replace(netloc=host).geturl(), headers={"User-Agent": "data_prep"})
    if account:
        encoded = base64.b64encode(unquote(account).encode()).decode()
        made.add_unredirected_header("Authorization", f"Basic {encoded}")
    return made


def shown(url: str) -> str:
    """Return the URL without name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@cache
def certificates() -> ssl.SSLContext:
    """Return what servers are trusted by: the system's certificates and those of pip's settings."""
    context = ssl.create_default_context()
    if (cert := _setting("cert", "")) and Path(cert).exists():
        path = Path(cert)
        context.load_verify_locations(*((None, path) if path.is_dir() else (path, None)))
    return context


def _with_account_of(page: str, url: str) -> str:
    """Files lie where the page does, as a rule, and take the same name and password."""
    account, _, host = urlsplit(page).netloc.rpartition("@")
    parts = urlsplit(url)
    if account and parts.netloc == host:
        return parts._replace(netloc=f"{account}@{host}").geturl()
    return url


def _setting(name: str, usual: str) -> str:
    """Return one of pip's settings, as pip looks for it."""
    if value := os.environ.get("PIP_" + name.upper().replace("-", "_")):
        return value
    config = configparser.RawConfigParser()
    home, xdg = Path.home(), os.environ.get("XDG_CONFIG_HOME")
    user = Path(xdg) if xdg else home / ".config"
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip" / "pip.conf"]
    try:
        config.read([*files, user / "pip/pip.conf", os.environ.get("PIP_CONFIG_FILE", os.devnull)])
    except (configparser.Error, UnicodeDecodeError) as error:
        raise NotInIndex(f"pip's configuration: {error}".splitlines()[0]) from error
    usual = config.get("global", name, fallback=usual)
    return config.get("install", name, fallback=usual)
