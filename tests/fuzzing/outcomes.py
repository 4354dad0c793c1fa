"""Files that commands write: whether each is complete, and what of it two equal runs share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from efficientdet_spec import InputError

TIMES = frozenset(
    (
        "seconds",
        "seconds_per_image",
        "started",
        "peak_memory_bytes",
        # Digests of files that hold times.
        "outputs",
        "inputs",
    )
)
"""The fields of JSON files that hold times, memory, or digests of files with these in them."""

_SPOKEN = re.compile(rb"\b\d[\d,.]* ?(?:s|ms|MB|GB|seconds|minutes)\b(?: per image)?")
"""Times, and sizes, in printed lines."""

LITTER = re.compile(r"^\..*\.tmp$|^\.partial-|\.lock$|\.part$|\.part\.json$|^\.")
"""Names of what a command makes while it works, and removes."""


def files(folder: Path) -> dict[str, Path]:
    """Every file in a folder that is no litter, by its place there."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    places = ((str(path.relative_to(folder)), path) for path in found)
    return {place: path for place, path in places if not litter_in(place)}


def litter(folder: Path) -> list[str]:
    """Places of files and folders that should not outlive a command."""
    found = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return sorted(place for place in found if litter_in(place))


def litter_in(place: str) -> bool:
    """Whether a file's name, or a folder's around it, is that of litter."""
    return any(LITTER.search(part) for part in Path(place).parts)


def normal(path: Path) -> Any:
    """What two equal runs share of a file: all of it but :data:`TIMES`, and times in texts."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_without_times(json.loads(data)))
    if path.suffix == ".html":
        return _SPOKEN.sub(b"", re.sub(rb"(?s)<script type=.application/[^>]*>.*?</script>", b"", data))
    if path.suffix in (".txt", ".md", ".xml"):
        return _SPOKEN.sub(b"", re.sub(rb'(time|timestamp)="[^"]*"', b"", data))
    return data


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(item) for name, item in value.items() if name not in TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def incomplete(path: Path) -> str | None:
    """Why a file is not one that its reader takes; None if it is complete."""
    check = _READERS.get(path.suffix)
    if check is None:
        return f"no reader for {path.name}, and it is not as an undisturbed run leaves it"
    try:
        check(path)
    except (InputError, ValueError, OSError) as error:
        return f"{path.name} is half written: {error!s:.200}"
    return None


def _pth(path: Path) -> None:
    from torch_model.checkpoint import load

    load(path)


def _trace(path: Path) -> None:
    from parity.traces.reader import open_trace

    trace = open_trace(path)
    with trace.stream() as tensors:
        for node in trace.header.recorded:
            tensors.take(node.name)
            tensors.release()


def _index(path: Path) -> None:
    from converter.bundle import open_bundle

    bundle = open_bundle(path.with_suffix(""))
    for name in bundle.index.entries:
        bundle.verify(name)


def _json(path: Path) -> None:
    json.loads(path.read_bytes())


def _ends(*endings: bytes) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        if not path.read_bytes().rstrip(b"\n").endswith(endings):
            raise ValueError("its end is missing")

    return check


def _image(path: Path) -> None:
    from torch_model.decode import read_image

    read_image(path)


def _lines(path: Path) -> None:
    if not path.read_bytes().endswith(b"\n"):
        raise ValueError("its last line has no end")


_READERS: dict[str, Callable[[Path], None]] = {
    ".pth": _pth,
    ".h5": _trace,
    ".index": _index,
    ".json": _json,
    ".html": _ends(b"</html>"),
    ".xml": _ends(b">"),
    ".png": _image,
    ".txt": _lines,
    ".md": _lines,
    ".csv": _lines,
}
