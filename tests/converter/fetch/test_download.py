"""Downloads from a local server that misbehaves in every way that servers do."""

import errno
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from converter.fetch import download as download_module
from converter.fetch.download import display_url, download
from efficientdet_spec import InputError

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
    monkeypatch.setattr(download_module._Version, "__eq__", lambda self, other: True)
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
    monkeypatch.delattr(download_module._WebRedirects, "redirect_request")
    server.answer = redirect("ftp://127.0.0.1:1/x")
    with pytest.raises(InputError, match="in 1 attempt "):
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
    assert [path.name for path in target.parent.iterdir()] == [target.name + ".lock"]


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

    def full(self, response, output, have, total):
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
    assert sorted(p.name for p in target.parent.iterdir()) == [target.name, target.name + ".lock"]


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
