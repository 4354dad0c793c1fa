"""Files that commands write: whether each is complete, and what of it two equal runs share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from efficientdet_spec import InputError

TIMES = frozenset(
    (
        "seconds",
        "convert_seconds",
        "seconds_per_image",
        "started",
        "peak_memory_bytes",
        # Which steps of a report an earlier run has done: what was killed is said to be.
        "reused",
    )
)
"""The fields of JSON files that hold times, memory, or what was done by an earlier run."""

DIGESTS = frozenset(("inputs", "outputs"))
"""The fields of ``run.json`` that hold digests of files with times in them."""

_STAGES = (
    b"convert|nodes|structure|self-check|coco|detect|decode|preprocess|network|postprocess|wall"
)

_SPOKEN = re.compile(
    # A number with a unit of time, as in "3.0 s"; Markdown escapes the point.
    rb"\d[\d,]*(?:\\?\.\d+)? (?:s|ms|min|h)\b"
    # What the stages took, in a line of text.
    rb"|milliseconds per image: .*"
    # When a run began.
    rb"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d"
    # Rows of the tables of times of steps and stages.
    rb"|<tr><td>(?:" + _STAGES + rb")</td>(?:<td>[\d.]+</td>)+</tr>"
    # Which steps of a report an earlier run has done, in each form that says so.
    rb"|\n *(?:- |<p class=.note.>)[^\n]*[Rr]eused from an earlier run[^\n]*"
    rb"|; reused from an earlier run"
    # The most memory that a step took.
    rb'|<td data-title="Memory"[^>]*>[^<]*</td>'
    # The charts' values, among which are these times.
    rb'|(?s:<script type="application/json" id="chart-options"[^>]*>.*?</script>)'
)
"""What texts and pages say of times, memory, and what was done by an earlier run.

Of JUnit's XML the same is left out: ``time``, ``timestamp``, and what tests say of such runs.
"""

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
    if path.suffix == ".json":
        left_out = TIMES | DIGESTS if path.name == "run.json" else TIMES
        if "shards" in path.parts:
            # The digest of a shard is also of how long it took.
            left_out |= {"sha256"}
        return json.dumps(_without(left_out, json.loads(path.read_bytes())))
    if path.suffix == ".xml":
        return _xml(ElementTree.parse(path).getroot())
    if path.suffix in (".html", ".txt", ".md"):
        return b" ".join(_SPOKEN.sub(b"", path.read_bytes()).replace(b">", b"> ").split())
    return path.read_bytes()


def _without(names: frozenset[str], value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(names, item) for name, item in value.items() if name not in names}
    return [_without(names, item) for item in value] if isinstance(value, list) else value


def _xml(element: ElementTree.Element) -> str:
    """An element of JUnit's, with those within it, in one line."""
    kept = [
        child
        for child in element
        if child.tag != "system-out" or "eused from an earlier run" not in str(child.text)
    ]
    named = {n: v for n, v in element.attrib.items() if n not in ("time", "timestamp")}
    text = " ".join((element.text or "").split())
    return f"<{element.tag} {named} {text} {' '.join(map(_xml, kept))}>"


def incomplete(path: Path) -> str | None:
    """Why a file is not one that its reader takes; None if it is complete."""
    check = _READERS.get(path.suffix)
    if check is None:
        return f"no reader for {path.name}, and it is not as an undisturbed run leaves it"
    try:
        check(path)
    except (InputError, ValueError, OSError, ElementTree.ParseError) as error:
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
    from converter.tensorflow_files.bundle import open_bundle

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


_READERS: dict[str, Callable[[Path], object]] = {
    ".pth": _pth,
    ".h5": _trace,
    ".index": _index,
    ".json": _json,
    ".html": _ends(b"</html>"),
    ".xml": ElementTree.parse,
    ".png": _image,
    ".txt": _lines,
    ".md": _lines,
    ".csv": _lines,
}
