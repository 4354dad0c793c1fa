"""JSON files of any origin, read within limits of memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from efficientdet_spec import read_regular

MAX_VALUES = 20_000_000
"""Most values of a file, each of which takes some 60 bytes; the detections in COCO's 5,000 images
of validation, 100 in each, are 5 million."""


MAX_WIDE_BYTES = 2**29
"""Most memory for a text with letters beyond ASCII."""


def read_json(
    path: Path,
    max_bytes: int,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    constants: bool = False,
) -> Any:
    """What a file holds as JSON.

    Args:
        path: The file.
        max_bytes: The most bytes that it may have.
        pairs: Makes an object of its keys and values; a dictionary is made where it is None.
        constants: Take NaN and infinity, which are no JSON, for what Python's writer means by them.

    Raises:
        OSError: The file cannot be read, is no regular one or larger.
        ValueError: It holds something else, or too much.
    """
    data = read_regular(path, max_bytes)
    # Beyond ASCII a single letter makes Python keep four bytes of each.
    if not data.isascii() and 4 * len(data) > max(max_bytes, MAX_WIDE_BYTES):
        raise ValueError(f"it has {len(data):,} bytes, some beyond ASCII, of which fewer are read")
    # Every value but the outermost stands behind one of these.
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    refuse = None if constants else _refuse
    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("lists and objects lie within each other too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is no JSON")
