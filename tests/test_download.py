from __future__ import annotations

import io
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from runtimes import InvalidInput, UserError
from yolox_deploy.model import download
from yolox_deploy.model.download import StayEncrypted, official_weights
from yolox_deploy.model.yolox import YOLOX


class Server(ThreadingHTTPServer):
    """Serves one file with ranges, and breaks off where it is told to."""

    content: bytes
    break_at: int | None = None
    announces = True  # how much there is
    sends_on = False  # to another address
    ranges: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if not self.path.endswith("/yolox_nano.pth"):
            self.send_error(404)
            return
        if self.server.sends_on:
            self.send_response(302)
            self.send_header("Location", "/elsewhere/yolox_nano.pth")
            self.end_headers()
            return
        content, wanted = self.server.content, self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        if self.server.announces:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.break_at])

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    torch.save({"model": YOLOX("yolox-nano").state_dict()}, tmp_path / "source.pth")
    server = Server(("127.0.0.1", 0), Handler)
    server.content, server.ranges = (tmp_path / "source.pth").read_bytes(), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("YOLOX_DEPLOY_MIRROR", f"http://127.0.0.1:{server.server_port}/weights/")
    monkeypatch.setenv("YOLOX_DEPLOY_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_download_once_then_from_the_cache(server: Server, tmp_path: Path) -> None:
    path = official_weights("yolox-nano")
    assert path == tmp_path / "cache" / "yolox_nano.pth"
    assert path.read_bytes() == server.content
    official_weights("yolox-nano")
    assert server.ranges == [None]


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_at = 1_000_000
    with pytest.raises(UserError, match=r"1000000 of \d+ bytes.*run it again.*--weights FILE"):
        official_weights("yolox-nano")
    assert not (tmp_path / "cache" / "yolox_nano.pth").exists()
    server.break_at = None
    assert official_weights("yolox-nano").read_bytes() == server.content
    assert server.ranges == [None, "bytes=1000000-"]


def test_a_stale_part_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "yolox_nano.pth.part").write_bytes(bytes(len(server.content) + 5))
    assert official_weights("yolox-nano").read_bytes() == server.content


def test_a_damaged_download_is_removed(server: Server, tmp_path: Path) -> None:
    damaged = bytearray(server.content)
    damaged[len(damaged) // 2] ^= 0xFF
    server.content = bytes(damaged)
    with pytest.raises(UserError, match="damaged"):
        official_weights("yolox-nano")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cached_file_that_changed_is_noticed(server: Server) -> None:
    path = official_weights("yolox-nano")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="has changed"):
        official_weights("yolox-nano")


def test_offline_and_missing_files_say_what_to_do(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"404.*--weights FILE.*YOLOX_DEPLOY_MIRROR"):
        official_weights("yolox-s")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("YOLOX_DEPLOY_MIRROR", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UserError, match="--weights FILE"):
            official_weights("yolox-s")


def test_only_the_web_is_a_mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOX_DEPLOY_MIRROR", "file:///etc")
    with pytest.raises(InvalidInput, match="https"):
        official_weights("yolox-nano")


@pytest.mark.parametrize(
    ("first", "then", "goes"),
    [
        ("https://a.example/f", "https://b.example/f", True),
        ("https://a.example/f", "http://b.example/f", False),
        ("http://a.local/f", "http://b.local/f", True),
    ],
)
def test_a_server_cannot_send_on_to_what_is_not_encrypted(first: str, then: str, goes: bool) -> None:
    def follow() -> urllib.request.Request | None:
        request = urllib.request.Request(first)
        return StayEncrypted().redirect_request(request, io.BytesIO(), 302, "Found", HTTPMessage(), then)

    if goes:
        request = follow()
        assert request is not None and request.full_url == then
    else:
        with pytest.raises(URLError, match="not encrypted"):
            follow()


def test_every_redirect_is_asked_about(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise URLError("it was asked")

    server.sends_on = True
    monkeypatch.setattr(StayEncrypted, "redirect_request", refuse)
    with pytest.raises(UserError, match="it was asked"):
        official_weights("yolox-nano")


@pytest.mark.parametrize("announced", [True, False])
def test_more_than_any_official_file_has_is_refused(
    announced: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LARGEST", 1 << 20)
    server.announces = announced
    with pytest.raises(UserError, match="more than any official file has"):
        official_weights("yolox-nano")
    kept = sum(file.stat().st_size for file in (tmp_path / "cache").iterdir())
    assert kept <= (0 if announced else (1 << 20) + (1 << 16))
