"""A server that answers as it is told, whatever it is asked."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any

_PATIENCE = 1.0


class Answering:
    """Listens on this machine and gives the answers of a list, the last again and again.

    Attributes:
        address: Where it is.
        asked: How often it was asked since the answers were told.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._answers: list[dict[str, Any]] = []
        self.asked = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/small.tar.gz"
        threading.Thread(target=self._serve, daemon=True).start()

    def tell(self, answers: list[dict[str, Any]]) -> None:
        """What to answer from now on."""
        self._answers, self.asked = answers, 0

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_PATIENCE)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            got = connection.recv(65_536)
            if not got:
                return
            request += got
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        text, times = answer.get("before", ["", 0])
        _repeat(connection, _bytes(text), times)
        connection.sendall(_bytes(answer["head"]) + self._content[: answer["body"]])
        text, times = answer.get("more", ["", 0])
        _repeat(connection, _bytes(text), times)
        self._end(connection, answer.get("end", "close"))

    def _end(self, connection: socket.socket, how: str) -> None:
        if how == "reset":
            now = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        elif how == "stall":
            connection.recv(1)
        elif how == "drip":
            for _ in range(10):
                connection.sendall(b"x")
                time.sleep(0.01)
        else:
            connection.shutdown(socket.SHUT_WR)


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "replace")


def _repeat(connection: socket.socket, piece: bytes, times: int) -> None:
    """Send a piece many times, some at once."""
    together = max(1, min(times, 65_536 // max(len(piece), 1)))
    for _ in range(-(-times // together)):
        connection.sendall(piece * together)
