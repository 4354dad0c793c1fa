"""Downloads from a local server that misbehaves in every way that servers do."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from converter.fetch import addresses, parts, versions
from converter.fetch import download as download_module
from converter.fetch.addresses import display_url, redirected
from converter.fetch.download import MismatchError, download
from efficientdet_spec import Cause, InputError

ROOT = Path(__file__).parents[3]

CONTENT = bytes(range(256)) * 4000  # 1 MB, more than one chunk.
OTHER = CONTENT[::-1]
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the test's function."""

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers))
        self.server.answer(self)

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server whose behaviour a test sets through `answer`; it keeps the requests' headers."""

    daemon_threads = True
    answer: Callable

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, str]] = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/d0.tar.gz"

    def handle_error(self, request, client_address) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "d0.tar.gz"


def part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def notes(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


def get(server_or_url, target: Path, **options) -> str:
    """Downloads without waiting between attempts."""
    url = server_or_url if isinstance(server_or_url, str) else server_or_url.url
    defaults = {"sha256": None, "progress": None, "timeout": 5.0, "pause": 0.0}
    return download(url, target, **{**defaults, **options})


def serve(
    content: bytes = CONTENT,
    *,
    ranges: bool = True,
    if_range: bool = True,
    etag: str | None = '"one"',
    modified: str | None = None,
    drop: Callable[[int], int | None] = lambda request: None,
    length: bool = True,
):
    """Builds an answer; `drop` gives the bytes after which the n-th request's connection ends."""

    def answer(handler: Handler) -> None:
        # Counted before the headers go out: the client may send its next request upon them.
        end = drop(len(handler.server.requests))
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range") in (etag, modified) or not if_range
        if asked and ranges and same:
            start = int(asked[1])
            if start >= len(content):
                handler.send_error(416)
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        if etag:
            handler.send_header("ETag", etag)
        if modified:
            handler.send_header("Last-Modified", modified)
        if length:
            handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : None if end is None else start + end])

    return answer


def test_download(server, target):
    server.answer = serve()
    seen = []
    digest = get(
        server, target, sha256=SHA256.upper(), progress=lambda *amount: seen.append(amount)
    )
    assert digest == SHA256
    assert target.read_bytes() == CONTENT
    assert not part(target).exists() and not notes(target).exists()
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert "Range" not in server.requests[0]


def test_an_existing_target_is_replaced_only_at_the_end(server, target):
    target.parent.mkdir()
    target.write_bytes(b"old")
    server.answer = serve(drop=lambda request: 100)
    with pytest.raises(InputError):
        get(server, target, attempts=1)
    assert target.read_bytes() == b"old"
    server.answer = serve()
    get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("modified", [None, "Wed, 18 Mar 2020 10:00:00 GMT"])
def test_dropped_connections_resume_within_one_call(server, target, modified):
    etag = None if modified else '"one"'
    server.answer = serve(
        drop=lambda request: 300_000 if request < 3 else None, etag=etag, modified=modified
    )
    assert get(server, target) == SHA256
    assert [r.get("Range") for r in server.requests] == [None, "bytes=300000-", "bytes=600000-"]
    assert server.requests[1]["If-Range"] == (etag or modified)


def test_a_later_call_resumes(server, target):
    server.answer = serve(drop=lambda request: 300_000)
    with pytest.raises(InputError, match="run the command again to resume after 600,000") as caught:
        get(server, target, attempts=2)
    assert "600,000 of 1,024,000 bytes" in str(caught.value)
    assert part(target).read_bytes() == CONTENT[:600_000]
    server.answer = serve()
    assert get(server, target, sha256=SHA256) == SHA256
    assert server.requests[-1]["Range"] == "bytes=600000-"


def test_a_server_without_ranges_starts_over(server, target):
    server.answer = serve(ranges=False, drop=lambda request: 300_000 if request == 1 else None)
    assert get(server, target) == SHA256
    assert "Range" in server.requests[1]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_version_nothing_is_resumed(server, target, etag):
    server.answer = serve(etag=etag, drop=lambda request: 300_000 if request == 1 else None)
    assert get(server, target) == SHA256
    assert "Range" not in server.requests[1]


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_starts_over(server, target, if_range):
    server.answer = serve(drop=lambda request: 300_000)
    with pytest.raises(InputError):
        get(server, target, attempts=1)
    server.answer = serve(OTHER, etag='"two"', if_range=if_range)
    assert get(server, target) == hashlib.sha256(OTHER).hexdigest()


def test_the_version_check_prevents_a_mixed_file(server, target, monkeypatch):
    server.answer = serve(drop=lambda request: 300_000)
    with pytest.raises(InputError):
        get(server, target, attempts=1)
    server.answer = serve(OTHER, etag='"two"', if_range=False)
    monkeypatch.setattr(versions.Version, "__eq__", lambda self, other: True)
    get(server, target)
    assert target.read_bytes() == CONTENT[:300_000] + OTHER[300_000:]


def test_a_part_of_another_address_is_not_used(server, target):
    server.answer = serve(drop=lambda request: 300_000)
    with pytest.raises(InputError):
        get(server, target, attempts=1)
    server.answer = serve(OTHER)
    other = server.url.replace("d0", "d1")
    assert get(other, target) == hashlib.sha256(OTHER).hexdigest()
    assert ["Range" in request for request in server.requests] == [False, False]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"etag": 5}',
        json.dumps(
            {
                "url_sha256": "{url}",
                "etag": '"a"\r\nX-Injected: yes',
                "modified": None,
                "total": None,
            }
        ),
    ],
)
def test_damaged_notes_mean_starting_over(server, target, damage):
    server.answer = serve()
    target.parent.mkdir()
    part(target).write_bytes(b"something else")
    url = hashlib.sha256(server.url.encode()).hexdigest()
    notes(target).write_text(damage.replace("{url}", url))
    assert get(server, target) == SHA256
    assert "X-Injected" not in server.requests[0] and "Range" not in server.requests[0]


def test_a_complete_part_needs_no_request(server, target, monkeypatch):
    server.answer = serve()
    with monkeypatch.context() as patch:
        patch.setattr(download_module, "file_sha256", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            get(server, target)
    assert part(target).read_bytes() == CONTENT
    assert get(server, target) == SHA256
    assert len(server.requests) == 1


def test_a_range_that_cannot_be_satisfied_starts_over(server, target):
    server.answer = serve(drop=lambda request: 300_000)
    with pytest.raises(InputError):
        get(server, target, attempts=1)
    short = CONTENT[:1000]
    server.answer = serve(short)
    assert get(server, target) == hashlib.sha256(short).hexdigest()


@pytest.mark.parametrize("content_range", ["", "bytes 5-9/10", "bytes 300000-300001/1024000", "x"])
def test_a_wrong_range_starts_over(server, target, content_range):
    server.answer = serve(drop=lambda request: 300_000)
    with pytest.raises(InputError):
        get(server, target, attempts=1)

    def wrong(handler):
        if "Range" not in handler.headers:
            serve()(handler)
            return
        handler.send_response(206)
        handler.send_header("ETag", '"one"')
        if content_range:
            handler.send_header("Content-Range", content_range)
        handler.end_headers()
        handler.wfile.write(b"x" * 5)

    server.answer = wrong
    assert get(server, target) == SHA256


def test_short_bodies_are_reported(server, target):
    server.answer = serve(ranges=False, drop=lambda request: 300_000)
    with pytest.raises(InputError, match="300,000 of 1,024,000 bytes") as caught:
        get(server, target, attempts=3)
    assert "in 3 attempts" in str(caught.value)
    assert len(server.requests) == 3
    assert not target.exists()


def test_unknown_length(server, target):
    server.answer = serve(length=False)
    seen = []
    assert get(server, target, progress=lambda *amount: seen.append(amount)) == SHA256
    assert seen[-1] == (len(CONTENT), None)


def test_a_chunked_body_that_ends_early_is_lost(server, target):
    def chunked(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nhello\r\n" + (b"" if broken else b"0\r\n\r\n"))
        handler.close_connection = True

    server.answer = chunked
    broken = True
    with pytest.raises(InputError, match="in 2 attempts"):
        get(server, target, attempts=2)
    broken = False
    assert get(server, target) == hashlib.sha256(b"hello").hexdigest()


def test_a_piece_without_its_place_is_not_appended(server, target):
    def chunked_then_piece(handler):
        if len(handler.server.requests) == 3:
            serve()(handler)
            return
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(206 if "Range" in handler.headers else 200)
        handler.send_header("ETag", '"one"')
        if "Range" not in handler.headers:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nhello\r\n")
        handler.close_connection = True

    server.answer = chunked_then_piece
    assert get(server, target) == SHA256
    assert len(server.requests) == 3


def test_a_connection_that_stays_open_does_not_delay(server, target):
    def lingering(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"helloXXXXX")
        handler.wfile.flush()
        handler.server.release.wait(10)

    server.answer = lingering
    started = time.monotonic()
    assert get(server, target) == hashlib.sha256(b"hello").hexdigest()
    assert time.monotonic() - started < 4


def test_a_resumed_answer_gives_no_more_than_it_announced(server, target):
    def too_much(handler):
        if len(handler.server.requests) == 1:
            serve(drop=lambda request: 300_000)(handler)
            return
        last = len(CONTENT) - 1
        handler.send_response(206)
        handler.send_header("ETag", '"one"')
        handler.send_header("Content-Range", f"bytes 300000-{last}/{len(CONTENT)}")
        handler.end_headers()
        handler.wfile.write(CONTENT[300_000:] + b"and more")

    server.answer = too_much
    assert get(server, target) == SHA256
    assert len(server.requests) == 2


@pytest.mark.parametrize("headers_first", [True, False])
def test_a_hanging_server_times_out(server, target, headers_first):
    def hang(handler):
        if headers_first:
            handler.send_response(200)
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.flush()
        handler.server.release.wait(10)

    server.answer = hang
    with pytest.raises(InputError, match="no answer in time"):
        get(server, target, attempts=2, timeout=0.1)
    assert len(server.requests) == 2


def test_garbage_instead_of_http(server, target):
    server.answer = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    with pytest.raises(InputError, match="SSH-2.0"):
        get(server, target, attempts=2)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "login"), (403, "may not be read"), (404, "does not exist"), (410, "no longer"),
     (418, "refused")],
)  # fmt: skip
def test_refusals_are_final(server, target, status, words):
    server.answer = lambda handler: handler.send_error(status)
    with pytest.raises(InputError, match=words) as caught:
        get(server, target)
    assert f"status {status}" in str(caught.value) and "pass the file" in str(caught.value)
    assert server.url in str(caught.value)
    assert len(server.requests) == 1
    # Nothing came, so that there is nothing to resume.
    assert not part(target).exists()


def test_a_busy_server_is_asked_again(server, target):
    def busy(handler):
        if len(handler.server.requests) < 3:
            handler.send_error(503)
        else:
            serve()(handler)

    server.answer = busy
    assert get(server, target) == SHA256


def test_an_unexpected_success_is_not_the_file(server, target):
    def empty(handler):
        handler.send_response(204)
        handler.end_headers()

    server.answer = empty
    with pytest.raises(InputError, match="unexpected status 204"):
        get(server, target, attempts=2)


def test_attempts_wait_longer_each_time(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(download_module.time, "sleep", waits.append)
    server.answer = lambda handler: handler.send_error(500)
    with pytest.raises(InputError, match="status 500"):
        get(server, target, attempts=4, pause=1.0)
    assert waits == [1, 2, 4]


def redirect(location: str):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.end_headers()

    return answer


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "/folder/d0.tar.gz"],
)
def test_redirects_elsewhere_or_in_circles(server, target, location):
    server.answer = redirect(location)
    with pytest.raises(InputError, match="redirects in a circle or to something"):
        get(server, target)


def test_without_the_redirect_check_ftp_is_tried(server, target, monkeypatch):
    monkeypatch.setattr(addresses, "_is_usable", lambda url: True)
    server.answer = redirect("ftp://127.0.0.1:1/x")
    # The second wall: nothing here speaks any other protocol.
    with pytest.raises(InputError, match="in 1 attempt .unknown url type: ftp"):
        get(server, target, attempts=1)


def test_redirect_to_a_broken_address(server, target):
    server.answer = redirect("http://[broken/")
    with pytest.raises(InputError):
        get(server, target, attempts=1)


def test_a_redirect_keeps_the_range(server, target):
    def moved(handler):
        if handler.path.endswith("new"):
            serve(drop=lambda request: 300_000 if request < 3 else None)(handler)
        else:
            redirect("/new")(handler)

    server.answer = moved
    assert get(server, target) == SHA256
    assert server.requests[-1]["Range"] == "bytes=300000-"


def test_wrong_hash(server, target):
    server.answer = serve(OTHER)
    with pytest.raises(InputError) as caught:
        get(server, target, sha256=SHA256)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("length", [True, False])
def test_size_limit(server, target, length):
    server.answer = serve(length=length)
    with pytest.raises(InputError, match="larger than the 5,000 bytes"):
        get(server, target, max_bytes=5000)
    assert not part(target).exists()


def test_nobody_listens(target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match="refused.*check the connection, then try again"):
        get(f"http://127.0.0.1:{port}/x.tgz", target, attempts=2)


def test_unknown_host(target, monkeypatch):
    def fail(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(InputError, match="host nowhere.example of .* was not found"):
        get("http://nowhere.example/x.tgz", target)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/x",
        "gs://bucket/x",
        "x.tgz",
        "http://",
        "http:///path",
        "http://host:port/x",
        "http://host:99999/x",
        "http://[broken/x",
        "http://user:secret@host/x",
        "http://host/a b",
        "http://host/a\nb",
        "http://h\u00f6st/x",
    ],
)
def test_unusable_addresses(target, url):
    with pytest.raises(InputError, match="not an address that can be downloaded") as caught:
        get(url, target)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_display_url_hides_secrets():
    assert display_url("https://me:pw@host:1/a/b.tgz?token=x#y") == "https://host:1/a/b.tgz"
    assert "pw" not in display_url("https://me:pw@[broken/a?token=x")


def test_a_full_disk(server, target, monkeypatch):
    server.answer = serve()

    def full(self, *arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_module._Fetch, "_copy", full)
    with pytest.raises(InputError, match="cannot be written .No space left"):
        get(server, target)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        get("http://127.0.0.1:1/x", tmp_path / "file" / "x.tgz")


def test_interruption_keeps_the_part(server, target):
    server.answer = serve()

    def interrupt(done, total):
        if done >= 200_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, target, progress=interrupt)
    kept = part(target).stat().st_size
    assert kept >= 200_000
    assert get(server, target) == SHA256
    assert server.requests[-1]["Range"] == f"bytes={kept}-"


def test_two_at_once_do_not_disturb_each_other(server, target):
    server.answer = serve()
    inner = []

    def second(done, total):
        if not inner:
            inner.append(get(server, target, sha256=SHA256))
            assert target.read_bytes() == CONTENT

    assert get(server, target, sha256=SHA256, progress=second) == SHA256
    assert inner == [SHA256]
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_second_one_cannot_resume_and_says_so(server, target):
    server.answer = serve(drop=lambda request: None if request == 1 else 100)
    messages = []

    def second(done, total):
        if not messages:
            with pytest.raises(InputError) as caught:
                get(server, target, attempts=1)
            messages.append(str(caught.value))

    get(server, target, progress=second)
    assert "resume" not in messages[0] and "try again" in messages[0]
    assert not list(target.parent.glob("*.part*"))


def test_a_file_that_cannot_be_resumed_leaves_nothing_and_is_not_promised(server, target):
    server.answer = serve(etag=None, drop=lambda request: 300_000)
    with pytest.raises(InputError, match="300,000 of 1,024,000") as caught:
        get(server, target, attempts=1)
    assert "resume" not in str(caught.value)
    assert list(target.parent.iterdir()) == []


# What killed processes leave.


def test_litter_of_killed_downloads_is_swept(server, target):
    target.parent.mkdir()
    for name in ("0123456789abcdef", "fedcba9876543210"):
        for end in (".part", ".part.json", ".part.lock"):
            target.with_name(f"{target.name}.{name}{end}").write_text("left")
    target.with_name(target.name + ".lock").touch()
    others = ["d0.tar.gz.thesis.part", "d1.tar.gz.0123456789abcdef.part", "d0.tar.gz.bak"]
    for name in others:
        target.with_name(name).write_text("somebody's")
    server.answer = serve()
    get(server, target)
    assert sorted(path.name for path in target.parent.iterdir()) == sorted([*others, target.name])


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("end", [".part", ".part.json"])
def test_what_is_no_file_in_the_place_of_a_part_is_replaced(server, target, tmp_path, kind, end):
    """A link would lead to somebody's file, and a pipe would be waited for."""
    target.parent.mkdir()
    victim, way = tmp_path / "victim", target.with_name(target.name + end)
    victim.write_text("precious")
    way.symlink_to(victim) if kind == "link" else os.mkfifo(way)
    server.answer = serve()
    assert get(server, target) == SHA256
    assert victim.read_text() == "precious"
    assert target.is_file() and not target.is_symlink()


def test_a_private_file_in_use_is_not_swept(server, target):
    server.answer = serve()
    seen = []

    def third(done, total):
        (private,) = target.parent.glob("*.part.lock")
        seen.append(private)
        parts._sweep(target)
        assert private.exists() and private.with_name(private.name[: -len(".lock")]).exists()

    def second(done, total):
        if not seen:
            assert get(server, target, progress=third) == SHA256

    assert get(server, target, progress=second) == SHA256
    assert seen and [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_download_that_was_killed_is_resumed_and_its_lock_goes(server, target):
    script = (
        "import os, sys; from pathlib import Path; from converter.fetch.download import download\n"
        "def die(done, total):\n"
        "    done < 200_000 or os.kill(os.getpid(), 9)\n"
        "download(sys.argv[1], Path(sys.argv[2]), sha256=None, progress=die)\n"
    )
    server.answer = serve()
    command = [sys.executable, "-c", script, server.url, str(target)]
    assert subprocess.run(command, cwd=ROOT).returncode == -9
    names = sorted(path.name for path in target.parent.iterdir())
    assert names == ["d0.tar.gz.lock", "d0.tar.gz.part", "d0.tar.gz.part.json"]
    kept = part(target).stat().st_size
    assert get(server, target) == SHA256
    assert server.requests[-1]["Range"] == f"bytes={kept}-"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


# Sizes that are known.


def test_a_file_of_another_size_is_refused_before_its_bytes_come(server, target):
    seen = []
    server.answer = serve()
    with pytest.raises(MismatchError, match="1,024,000 bytes, expected 5: it is another") as caught:
        get(server, target, size=5, progress=lambda *amount: seen.append(amount))
    assert not seen and len(server.requests) == 1 and list(target.parent.iterdir()) == []
    assert caught.value.cause is Cause.NETWORK
    with pytest.raises(MismatchError, match=f"SHA-256 is not the expected {SHA256}"):
        get(server, target, size=1_024_001, sha256=SHA256)
    assert get(server, target, size=len(CONTENT), sha256=SHA256) == SHA256


def test_a_file_without_a_stated_size_ends_at_the_known_one(server, target):
    server.answer = serve(length=False)
    with pytest.raises(MismatchError, match="more than 500,000 bytes, expected 500,000"):
        get(server, target, size=500_000)
    assert list(target.parent.iterdir()) == []
    assert get(server, target, size=len(CONTENT)) == SHA256


# Connections that give next to nothing.


class RawServer:
    """Gives bytes one by one, for ever, whatever is asked."""

    def __init__(self, first: bytes, drip: bytes, pause: float = 0.02) -> None:
        self.connections = 0
        self._first, self._drip, self._pause = first, drip, pause
        self._done = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._give, args=(connection,), daemon=True).start()

    def _give(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(self._first)
            while not self._done.wait(self._pause):
                connection.sendall(self._drip)


HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    # A record of TLS that announces 16 kB.
    "handshake": (b"\x16\x03\x03\x40\x00", b"\x02"),
    "status line": (b"", b"H"),
    "reason": (b"HTTP/1.1 200 ", b"O"),
    "a header": (HEAD + b"ETag: ", b"x"),
    "headers": (HEAD, b"A: b\r\n"),
    "more headers than there may be, slowly": (HEAD, b"X"),
    "answers before the answer": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "body of any length": (HEAD + b"Connection: close\r\n\r\n", b"x"),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "size of a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "extension of a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"b"),
    "trailer": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
    "error": (b"HTTP/1.1 404 ", b"N"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /", b"x"),
}


@pytest.mark.parametrize("what", DRIPS)
def test_one_byte_in_time_is_not_enough(target, monkeypatch, what):
    monkeypatch.setenv("no_proxy", "*")
    shaking = what == "handshake"
    server = RawServer(*DRIPS[what])
    url = f"http{'s' if shaking else ''}://127.0.0.1:{server.port}/x"
    started = time.monotonic()
    try:
        with pytest.raises(InputError, match="fewer than 1,000 bytes in 0.2 seconds") as caught:
            get(url, target, attempts=2, window=0.2, least=1000)
    finally:
        server.close()
    assert time.monotonic() - started < 3
    assert server.connections == 2 and "in 2 attempts" in str(caught.value)


def test_a_proxy_that_drips(target, monkeypatch):
    server = RawServer(b"HTTP/1.1 ", b"2")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    try:
        with pytest.raises(InputError, match="fewer than 1,000 bytes"):
            get("https://nowhere.example/x", target, attempts=1, window=0.2, least=1000)
    finally:
        server.close()


def test_a_redirect_whose_body_never_ends_is_not_read(server, target):
    def endless(handler):
        if handler.path.endswith("new"):
            serve()(handler)
            return
        handler.send_response(302)
        handler.send_header("Location", "/new")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not handler.server.release.is_set():
                handler.wfile.write(bytes(65536))

    server.answer = endless
    assert get(server, target) == SHA256


def test_slow_but_steady_is_enough_and_what_came_is_resumed(server, target):
    def steady(handler):
        serve(drop=lambda request: 0)(handler)
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        for place in range(start, len(CONTENT), 50_000):
            if len(handler.server.requests) == 1 and place >= 300_000:
                handler.server.release.wait(5)
            handler.wfile.write(CONTENT[place : place + 50_000])
            handler.wfile.flush()
            time.sleep(0.05)

    server.answer = steady
    # All of it takes a second, which is longer than a window.
    assert get(server, target, window=0.4, least=50_000) == SHA256
    assert [request.get("Range") for request in server.requests] == [None, "bytes=300000-"]


def test_what_the_program_does_itself_counts_for_nothing(server, target):
    server.answer = serve()

    def slow(done, total):
        time.sleep(0.2)

    assert get(server, target, window=0.1, least=1_000, progress=slow, attempts=1) == SHA256
    assert len(server.requests) == 1


def test_the_watchdog_ends_with_the_download(server, target):
    server.answer = serve()
    get(server, target)
    assert "watchdog" not in [thread.name for thread in threading.enumerate()]


# Redirects from encrypted to plain.


@pytest.mark.parametrize(
    ("url", "location", "found"),
    [
        ("http://a/x", "https://b/y", "https://b/y"),
        ("http://a/x", "http://b/y", "http://b/y"),
        ("https://a/x", "https://b/y", "https://b/y"),
        ("https://a/x", "/y", "https://a/y"),
        ("https://a/x", "//b/y", "https://b/y"),
        ("http://a/x/", "y z?q=\xe9#f", "http://a/x/y%20z?q=%E9#f"),
        ("https://a/x", "HTTPS://b/y", "https://b/y"),
    ],
)
def test_where_a_redirect_leads(url, location, found):
    assert redirected(url, location, url) == found


@pytest.mark.parametrize("location", ["http://b/y", "HTTP://b/y", "http://a/x"])
def test_a_redirect_from_https_to_http_is_refused(location):
    with pytest.raises(InputError, match="redirects from https to http://.*could read") as caught:
        redirected("https://a/x", location, "https://start/x?token=secret")
    assert "https://start/x" in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    [None, "", "http://me:pw@b/", "http://b:99999/", "javascript:x", "x://y"]
    + ["http://[b", "http://b:port/"],
)
def test_a_redirect_to_nowhere(location):
    with pytest.raises(InputError, match="in a circle or to something that is not") as caught:
        redirected("http://a/x", location, "http://a/x")
    assert "pw" not in str(caught.value)


@pytest.fixture
def secure(server, tmp_path, monkeypatch):
    """The same server, with encryption, behind a certificate that is trusted."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 "
        f"-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    other = Server()
    other.socket = context.wrap_socket(other.socket, server_side=True)
    thread = threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield other
    other.release.set()
    other.shutdown()
    other.server_close()
    thread.join()


def https(server: Server, path: str = "/folder/d0.tar.gz") -> str:
    return f"https://127.0.0.1:{server.server_port}{path}"


def test_encrypted_downloads_resume_and_are_watched(secure, target):
    secure.answer = serve(drop=lambda request: 300_000 if request == 1 else None)
    assert get(https(secure), target) == SHA256
    assert [r.get("Range") for r in secure.requests] == [None, "bytes=300000-"]

    def hang(handler):
        serve(drop=lambda request: 100)(handler)
        while not handler.server.release.wait(0.02):
            handler.wfile.write(b"x")

    secure.answer = hang
    with pytest.raises(InputError, match="fewer than 1,000 bytes"):
        get(https(secure, "/other"), target, attempts=1, window=0.2, least=1000)


def test_a_chain_that_comes_to_http_from_https_is_refused(server, secure, target):
    server.answer = redirect(https(secure))
    secure.answer = serve()
    assert get(server, target) == SHA256
    server.answer = lambda handler: (
        redirect(https(secure, "/one"))(handler)
        if handler.path.endswith("gz")
        else serve()(handler)
    )
    secure.answer = lambda handler: (
        redirect(f"http://127.0.0.1:{server.server_port}/plain")(handler)
        if handler.path == "/two"
        else redirect("/two")(handler)
    )
    before = len(server.requests)
    with pytest.raises(InputError, match="redirects from https to http://127"):
        get(server, target)
    assert len(server.requests) == before + 1


# What servers write.


EVIL = "\x1b[2Jx\x9b1m\u202egood"


@pytest.mark.parametrize(
    "answer",
    [
        "HTTP/1.1 200 OK\x1b]0;owned\x07\r\nContent-Length: 9\r\n\r\nshort",
        "\x1b[2Jwrote good.pth\r\n\r\n",
        "nonsense\rwrote good.pth\r\n",
        "HTTP/1.1 4\x1b4 Not\r\n\r\n",
        "HTTP/1.1 404 \x1b[2J\rwrote good.pth\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: ftp://\x1b[2J/\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\x1b[2J\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://h\x1b[2J\xe2\x80\xae.example/\r\n\r\n",
        "HTTP/1.1 206 Some\r\nContent-Range: bytes \x1b[2J\r\n\r\n",
        "HTTP/1.1 200 OK\r\nETag: \x1b[2J\r\nContent-Length: \x1b\r\n"
        "Transfer-Encoding: chunked\r\n\r\n\x1b[2J\r\n",
        "HTTP/1.1 200 OK\r\n" + "A\x1b: b\r\n" * 200 + "\r\n",
        "HTTP/1.1 200 OK\r\nA: " + "\x1b" * 70000 + "\r\n\r\n",
        EVIL + "\r\n",
    ],
)
def test_what_a_server_writes_moves_no_cursor(target, monkeypatch, answer):
    monkeypatch.setenv("no_proxy", "*")
    server = RawServer(answer.encode(), b"", pause=0.05)
    try:
        with pytest.raises(InputError) as caught:
            url = f"http://127.0.0.1:{server.port}/x"
            get(url, target, attempts=1, window=0.3, least=100, timeout=0.3)
    finally:
        server.close()
    assert str(caught.value).isprintable(), str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["http://a/\x1b[2J", "http://a/\u202e", "http://a/\rx", "\x1b://"])
def test_addresses_are_shown_printable(text):
    assert display_url(text).isprintable()
