"""Downloads from a server that answers oddly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from converter.fetch.download import download
from fuzzing.answering import Answering
from fuzzing.damage.http import HTTP
from fuzzing.damage.raw import RAW
from fuzzing.target import Target

_CONTENT = bytes(range(256)) + b"the rest of a small file, which is no tar.gz"
_HEAD = 'HTTP/1.1 200 OK\r\nContent-Length: 300\r\nETag: "one"\r\n\r\n'
_MOST = 2**20


class Reader(Target):
    """The file that was downloaded."""

    WHAT = "answers of an HTTP server (`download`)"
    FORGED = frozenset({"unknown digest"})
    BATCH = 10
    SECONDS = 5.0
    EXAMPLES = 10_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        assert len(_CONTENT) == 300
        sound = {"known": True, "answers": [{"head": _HEAD, "body": 300}]}
        self.files = {"answers.json": json.dumps(sound).encode(), "cache/x.part.json": b"{}"}
        self.damages = {"answers.json": HTTP, "cache/x.part.json": RAW}
        self._server = Answering(_CONTENT)
        self._digest = hashlib.sha256(_CONTENT).hexdigest()

    def read(self, folder: Path, changed: frozenset[str]) -> bytes:
        told = json.loads((folder / "answers.json").read_text("utf-8"))
        self._server.tell(told["answers"])
        target = folder / "cache" / "x"
        download(
            self._server.address,
            target,
            sha256=self._digest if told["known"] else None,
            progress=None,
            timeout=0.1,
            window=0.5,
            least=50,
            attempts=2,
            pause=0.0,
            max_bytes=_MOST,
        )
        return target.read_bytes()

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == _CONTENT)

    def promise(self, value: Any) -> str | None:
        return "a file larger than is accepted" if len(value) > _MOST else None

    def left(self, folder: Path) -> str | None:
        return "a file that was refused" if (folder / "cache" / "x").exists() else None

    def clean(self, folder: Path) -> None:
        for path in (folder / "cache").iterdir():
            if path.name != "x.part.json":
                path.unlink()
        (folder / "cache" / "x.part.json").write_bytes(self.files["cache/x.part.json"])
