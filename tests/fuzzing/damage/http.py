"""What a server may answer: odd status lines and headers, redirects, endless and cut bodies.

An answer is a JSON object: ``head`` is the text before the body, ``body`` how many bytes of the
file follow, ``more`` what comes after them and how often, ``end`` how the connection ends. A server
gives the answers of its list one after the other, and the last again and again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from fuzzing.target import Damage

Answer = dict[str, Any]

_STATUS = (
    "HTTP/1.1 206 Partial Content",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 416 Range Not Satisfiable",
    "HTTP/1.1 500 \x1b[2J",
    "HTTP/1.1 503 Busy",
    "HTTP/1.1 999 What",
    "HTTP/1.1 000 Zero",
    "HTTP/1.1 -1 Less",
    "HTTP/1.1 2000 More",
    "HTTP/1.1 abc",
    "HTTP/1.1",
    "HTTP/9.9 200 OK",
    "HTTP/0.9 200 OK",
    "ICY 200 OK",
    "SSH-2.0-OpenSSH_9",
    "",
    "\x00\x00\x00",
    "HTTP/1.1 200 " + "x" * 70_000,
    "HTTP/1.1 101 Switching Protocols",
    "HTTP/1.1 401 Login",
)

_HEADERS = (
    "Content-Length: -1",
    "Content-Length: 0",
    "Content-Length: abc",
    "Content-Length: 5",
    "Content-Length: 99999",
    "Content-Length: 999999999999999999",
    "Content-Length: " + "9" * 5000,
    "Content-Length: 300, 300",
    "Content-Encoding: gzip",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Content-Range: bytes 0-299/300",
    "Content-Range: bytes 5-2/1",
    "Content-Range: bytes */300",
    'ETag: "a\x1b[2J"',
    "ETag: " + "x" * 60_000,
    'ETag: "\xff\xfe"',
    'ETag: "a"',
    "ETag: W/x",
    "Last-Modified: yesterday",
    "X: " + "x" * 70_000,
    " folded",
    "no colon",
    ": no name",
    "Connection: keep-alive",
    "Set-Cookie: a=b",
)

_TARGETS = (
    "/",
    "//",
    "/again",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://x",
    "http://",
    "http://[::1",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:1/",
    "http://user:secret@127.0.0.1:1/",
    "data:text/plain,x",
    "\x1b[2J",
    "/" + "x" * 60_000,
    "http://\u00e4/",
    "/a b",
    "",
    "javascript:alert(1)",
)

_MORE: tuple[tuple[str, int], ...] = (
    ("x" * 1000, 1),
    ("x" * 65_536, 10_000),
    ("5\r\nabcde\r\n", 3),
    ("5\r\nabc", 1),
    ("fffffffffffffff\r\n", 1),
    ("-5\r\nabcde\r\n", 1),
    ("zz\r\n", 1),
    ("0\r\n", 1),
    ("0\r\nX: y\r\n\r\n", 1),
    ("1\r\nx\r\n", 100_000),
    ("x" * 70_000 + "\r\n", 1),
)

_ENDS = ("close", "close", "close", "reset", "stall", "drip")


def status(rng: Random, answer: Answer) -> None:
    lines = answer["head"].split("\r\n")
    answer["head"] = "\r\n".join([rng.choice(_STATUS), *lines[1:]])


def headers(rng: Random, answer: Answer) -> None:
    lines = answer["head"].split("\r\n")
    for _ in range(rng.randint(1, 3)):
        lines.insert(rng.randint(1, max(1, len(lines) - 2)), rng.choice(_HEADERS))
    if rng.random() < 0.3:
        lines = [line for line in lines if not line.startswith("Content-Length: 300")]
    answer["head"] = "\r\n".join(lines)


def many(rng: Random, answer: Answer) -> None:
    """Headers without end, or one interim answer after the other."""
    form = rng.randrange(3)
    if form == 0:
        answer["head"] = answer["head"].replace("\r\n", "\r\nX: y" * rng.choice((90, 120, 5000)), 1)
    elif form == 1:
        interim = rng.choice(("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 100 C\r\nX: y\r\n\r\n"))
        answer["before"] = [interim, rng.choice((1, 50, 10**7))]
    else:
        answer["before"] = ["X: y\r\n", rng.choice((1, 10**5))]


def redirect(rng: Random, answer: Answer) -> None:
    code = rng.choice((300, 301, 302, 303, 307, 308))
    answer["head"] = f"HTTP/1.1 {code} Elsewhere\r\nLocation: {rng.choice(_TARGETS)}\r\n\r\n"
    answer["body"] = 0


def body(rng: Random, answer: Answer) -> None:
    answer["body"] = rng.choice((0, 1, 150, 299, 300))
    if rng.random() < 0.6:
        answer["more"] = list(rng.choice(_MORE))


def chunked(rng: Random, answer: Answer) -> None:
    answer["head"] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer["body"] = 0
    answer["more"] = list(rng.choice(_MORE[2:]))


def ending(rng: Random, answer: Answer) -> None:
    answer["end"] = rng.choice(_ENDS)
    answer["body"] = rng.choice((answer["body"], 10, 299))


def cut(rng: Random, answer: Answer) -> None:
    """The head ends somewhere."""
    answer["head"] = answer["head"][: rng.randrange(len(answer["head"]) + 1)]


def noise(rng: Random, answer: Answer) -> None:
    place = rng.randrange(len(answer["head"]) + 1)
    answer["head"] = answer["head"][:place] + chr(rng.randrange(256)) + answer["head"][place + 1 :]


def _of_list(change: Callable[[Random, Answer], None]) -> Damage:
    def damage(rng: Random, data: bytes) -> bytes:
        told = json.loads(data)
        change(rng, rng.choice(told["answers"]))
        if rng.random() < 0.3:
            told["answers"].append(json.loads(json.dumps(rng.choice(told["answers"]))))
            change(rng, told["answers"][-1])
        return json.dumps(told).encode()

    return damage


def unknown_digest(rng: Random, data: bytes) -> bytes:
    """The file's SHA-256 is not known beforehand."""
    return json.dumps({**json.loads(data), "known": False}).encode()


HTTP: dict[str, Damage] = {
    change.__name__: _of_list(change)
    for change in (status, headers, many, redirect, body, chunked, ending, cut, noise)
}
HTTP["unknown digest"] = unknown_digest
