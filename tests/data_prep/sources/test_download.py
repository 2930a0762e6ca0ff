"""Downloads, against a web server of our own that has the faults of real ones."""

import hashlib
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_prep.sources import download as downloads
from data_prep.sources.download import Archive, download
from data_prep.support.errors import DataPrepError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Home:
    """What the server does, and what it was asked for."""

    content: bytes = CONTENT
    statuses: list[int] = field(default_factory=list)  # of the first answers, in place of content
    breaks_after: list[int] = field(default_factory=list)  # bytes of the first answers
    stalls: int = 0  # answers that stop half-way without closing
    content_type: str = "application/gzip"
    knows_ranges: bool = True
    refuses_ranges: bool = False  # with 416
    tells_length: bool = True
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    port: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    def archive(self, **changes: object) -> Archive:
        known = {
            "size": len(CONTENT),
            "checksum": f"sha256:{SHA256}",
            "urls": (self.url(),),
            **changes,
        }
        return Archive("corpus.tgz", **known)  # type: ignore[arg-type]

    def url(self, name: str = "corpus.tgz") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setattr(downloads, "_wait", lambda tries: None)
    home = Home()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            home.asked.append(wanted)
            if home.statuses:
                self.send_error(home.statuses.pop(0))
                return
            start = 0
            if wanted and home.refuses_ranges:
                self.send_error(416)
                return
            if wanted and home.knows_ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(home.content):
                    self.send_error(416)
                    return
                self.send_response(206)
                last = len(home.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(home.content)}")
            else:
                self.send_response(200)
            body = home.content[start:]
            self.send_header("Content-Type", home.content_type)
            if home.tells_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if home.stalls:
                home.stalls -= 1
                self.wfile.write(body[: len(body) // 2])
                home.is_over.wait(60)
                return
            self.wfile.write(body[: home.breaks_after.pop(0)] if home.breaks_after else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    home.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield home
    home.is_over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download(home: Home, tmp_path: Path) -> None:
    path = download(home.archive(), tmp_path / "new")
    assert path == tmp_path / "new/corpus.tgz"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["corpus.tgz"]
    assert download(home.archive(), tmp_path / "new") == path
    assert home.asked == [None]


def test_broken_off_and_continued(home: Home, tmp_path: Path) -> None:
    home.breaks_after = [1000, 0, 200_000]
    assert download(home.archive(), tmp_path).read_bytes() == CONTENT
    assert home.asked == [None, "bytes=1000-", "bytes=1000-", "bytes=201000-"]


def test_a_server_that_stops_sending(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_TIMEOUT", 1.0)
    home.stalls = 2
    assert download(home.archive(), tmp_path).read_bytes() == CONTENT
    asked = [each for each, _ in itertools.groupby(home.asked)]  # a busy server may be asked again
    assert asked == [None, "bytes=256000-", "bytes=384000-"]


@pytest.mark.parametrize("refusal", ["ignored", "416"])
def test_a_server_that_does_not_do_ranges(home: Home, tmp_path: Path, refusal: str) -> None:
    home.knows_ranges = False
    home.refuses_ranges = refusal == "416"
    home.breaks_after = [1000]
    assert download(home.archive(), tmp_path).read_bytes() == CONTENT
    assert home.asked[:2] == [None, "bytes=1000-"]


def test_a_run_that_was_killed_is_continued(home: Home, tmp_path: Path) -> None:
    (tmp_path / ".corpus.tgz.part").write_bytes(CONTENT[:5000])
    assert download(home.archive(), tmp_path).read_bytes() == CONTENT
    assert home.asked == ["bytes=5000-"]


@pytest.mark.parametrize(
    "part", [CONTENT[::-1][:5000], CONTENT + b"more"], ids=["of another file", "too long"]
)
def test_a_wrong_beginning_is_thrown_away(home: Home, tmp_path: Path, part: bytes) -> None:
    (tmp_path / ".corpus.tgz.part").write_bytes(part)
    assert download(home.archive(), tmp_path).read_bytes() == CONTENT
    assert home.asked[-1] is None


def test_a_killed_run_of_which_nobody_knows_a_checksum_begins_again(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / ".corpus.tgz.part").write_bytes(b"x" * 5000)
    archive = home.archive(size=None, checksum=None)
    assert download(archive, tmp_path).read_bytes() == CONTENT
    assert home.asked == [None]


def test_a_server_that_does_not_tell_the_length(home: Home, tmp_path: Path) -> None:
    home.tells_length = False
    assert download(home.archive(), tmp_path).read_bytes() == CONTENT


def test_errors_that_pass(home: Home, tmp_path: Path) -> None:
    home.statuses = [503, 429, 500]
    assert download(home.archive(), tmp_path).read_bytes() == CONTENT


def test_the_next_home_is_asked(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.statuses = [404]
    urls = (home.url("moved.tgz"), home.url())
    assert download(home.archive(urls=urls), tmp_path).read_bytes() == CONTENT
    assert "HTTP 404 Not Found" in capsys.readouterr().err


def refused(archive: Archive, directory: Path) -> str:
    with pytest.raises(DataPrepError) as caught:
        download(archive, directory)
    assert not list(directory.iterdir())
    return str(caught.value)


def test_no_home_has_it(home: Home, tmp_path: Path) -> None:
    home.statuses = [404, 403]
    urls = (home.url("a/corpus.tgz"), home.url("b/corpus.tgz"))
    assert refused(home.archive(urls=urls), tmp_path) == (
        "the download failed:\n"
        f"  {urls[0]}: HTTP 404 Not Found\n"
        f"  {urls[1]}: HTTP 403 Forbidden\n"
        f"get corpus.tgz (512,000 bytes, sha256:{SHA256}) by other means, and give it with"
        f" --archive (make: ARCHIVE=), or put it at {tmp_path}/corpus.tgz"
    )


def test_an_md5_where_there_is_nothing_better(home: Home, tmp_path: Path) -> None:
    right = hashlib.md5(CONTENT).hexdigest()
    wrong = hashlib.md5(b"other").hexdigest()
    assert f"its md5:{right} is not" in refused(home.archive(checksum=f"md5:{wrong}"), tmp_path)
    assert download(home.archive(checksum=f"md5:{right}"), tmp_path).read_bytes() == CONTENT


def test_the_wrong_content(home: Home, tmp_path: Path) -> None:
    home.content = CONTENT[::-1]
    reversed_sha256 = hashlib.sha256(home.content).hexdigest()
    said = refused(home.archive(), tmp_path)
    assert f"its sha256:{reversed_sha256} is not corpus.tgz's sha256:{SHA256}" in said
    assert home.asked == [None]


@pytest.mark.parametrize("tells_length", [True, False])
@pytest.mark.parametrize("size", [None, 100_000])
def test_a_server_that_sends_more_and_more(
    home: Home,
    tmp_path: Path,
    size: int | None,
    tells_length: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it sends does not fill the disk, be the right size known or not."""
    monkeypatch.setattr(downloads, "LARGEST", 100_000)
    written: list[int] = []
    unlink = Path.unlink

    def measured(path: Path, missing_ok: bool = False) -> None:
        written.append(path.stat().st_size if path.exists() else 0)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", measured)
    home.tells_length = tells_length
    archive = home.archive(size=size, checksum=None)
    assert "it has more than 100,000 bytes" in refused(archive, tmp_path)
    assert max(written) <= 100_000
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_web_page_in_place_of_the_file(home: Home, tmp_path: Path) -> None:
    home.content = b"<html>Log in, please.</html>"
    home.content_type = "text/html; charset=utf-8"
    said = refused(home.archive(size=None, checksum=None), tmp_path)
    assert f"{home.url()}: a web page is there" in said
    home.content_type = "application/octet-stream"
    assert "it has 28 bytes, not the 512,000 of corpus.tgz" in refused(home.archive(), tmp_path)


def test_a_server_that_never_answers_well(home: Home, tmp_path: Path) -> None:
    home.statuses = [503] * 9
    assert "HTTP 503 Service Unavailable (5 times in a row)" in refused(home.archive(), tmp_path)
    assert len(home.asked) == 5


def test_no_server(home: Home, tmp_path: Path) -> None:
    urls = ("http://127.0.0.1:9/corpus.tgz", "http://nowhere.invalid/corpus.tgz")
    said = refused(home.archive(urls=urls), tmp_path)
    assert "refused (5 times in a row)" in said
    assert "nowhere.invalid" in said
