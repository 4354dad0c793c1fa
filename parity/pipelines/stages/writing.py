"""From boxes in the input to what stands in a file of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.pipelines.stages.pipeline import Mistake
from parity.pipelines.stages.resizing import Geometry

Floats = NDArray[np.float32]
Numbers = NDArray[np.float64]

THRESHOLDS = (0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
"""Least scores that ports write."""


_LOWEST = 20
"""Scores from which their density at the lower end is taken."""

_EMPTY = 7.0
"""Mean distances of neighbouring scores that may lie between a threshold and the least score. That
many are empty by chance with a probability of exp(-7), a thousandth."""


def read_off(scores: Numbers) -> Iterator[Mistake]:
    """A score threshold where a program's scores end, unless one of the list may have cut there.

    Args:
        scores: All that the program has written.
    """
    lowest = np.sort(scores)[: _LOWEST + 1]
    if len(lowest) < 2 or lowest[0] <= 0:
        return
    least = float(lowest[0])
    apart = float(lowest[-1] - least) / (len(lowest) - 1)
    if not any(least - _EMPTY * apart <= known <= least for known in THRESHOLDS):
        yield Mistake(
            "threshold-other", f"score threshold near {least:.3g}", "output", {"threshold": least}
        )


def undone(boxes: Floats, undo: str, geometry: Geometry, size: tuple[int, int]) -> Floats:
    """Boxes in pixels of the image from those in pixels of the input, both [y1, x1, y2, x2].

    Args:
        boxes: [K, 4].
        undo: Which way.
        geometry: Where the image lies in the input.
        size: (height, width) of the input.
    """
    if undo != "offset-kept" and undo != "nothing" and any(geometry.offset):
        boxes = boxes - np.tile(np.array(geometry.offset, np.float32), 2)
    result: Floats = boxes * np.tile(factors(undo, geometry, size), 2)
    return result


def factors(undo: str, geometry: Geometry, size: tuple[int, int]) -> Floats:
    """(y, x) factor from pixels of the input to those of the image."""
    one = np.float32(1)
    if undo == "nothing":
        return np.ones(2, np.float32)
    if undo == "rounded-size":
        pair = zip(geometry.image, geometry.scaled, strict=True)
        return np.array([whole / scaled for whole, scaled in pair], np.float32)
    if undo == "input-size":
        pair = zip(geometry.image, size, strict=True)
        return np.array([whole / side for whole, side in pair], np.float32)
    found = np.array([one / geometry.scale[0], one / geometry.scale[1]], np.float32)
    # Divided instead of multiplied.
    return np.array(geometry.scale, np.float32) if undo == "inverse" else found


def labelled(
    classes: NDArray[np.int64], labels: str, categories: Sequence[int]
) -> NDArray[np.float64]:
    """[K] the number that is written for a class index; NaN for those that are left out.

    Args:
        classes: [K].
        labels: Which way.
        categories: Ids that the annotations have, rising.
    """
    if labels in _OFFSETS:
        return classes.astype(np.float64) + _OFFSETS[labels]
    ids = np.asarray(categories)
    if labels.startswith("contiguous"):
        place = np.searchsorted(ids, classes + 1)
        known = ids[np.minimum(place, len(ids) - 1)] == classes + 1
        return np.where(known, place + (1.0 if labels == "contiguous-one" else 0.0), np.nan)
    known = classes < len(ids)
    return np.where(known, ids[np.minimum(classes, len(ids) - 1)].astype(np.float64), np.nan)


_OFFSETS = {"plus-one": 1.0, "plus-zero": 0.0, "plus-two": 2.0}


def _xywh(y1: Any, x1: Any, y2: Any, x2: Any) -> tuple[Any, ...]:
    return x1, y1, x2 - x1, y2 - y1


LAYOUTS: Mapping[str, Callable[..., tuple[Any, ...]]] = MappingProxyType(
    {
        "xywh": _xywh,
        "xyxy": lambda y1, x1, y2, x2: (x1, y1, x2, y2),
        "yxyx": lambda y1, x1, y2, x2: (y1, x1, y2, x2),
        "yxhw": lambda y1, x1, y2, x2: (y1, x1, y2 - y1, x2 - x1),
        "y-first-sides": lambda y1, x1, y2, x2: (y1, x1, x2 - x1, y2 - y1),
        "centre": lambda y1, x1, y2, x2: ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
        "xywh-plus-one": lambda y1, x1, y2, x2: (x1, y1, x2 - x1 + 1, y2 - y1 + 1),
        "xyxy-less": lambda y1, x1, y2, x2: (x1, y1, x2 - x1 - x1, y2 - y1 - y1),
        "normalised": _xywh,
        "normalised-xyxy": lambda y1, x1, y2, x2: (x1, y1, x2, y2),
        "normalised-yxyx": lambda y1, x1, y2, x2: (y1, x1, y2, x2),
        "normalised-input": _xywh,
    }
)
"""The four numbers that are written of the corners, by name."""


def laid_out(
    boxes: Floats, layout: str, geometry: Geometry, size: tuple[int, int]
) -> tuple[Floats, Numbers]:
    """The four numbers of each written box, and how far each may move with a pixel of an edge.

    Args:
        boxes: [K, 4] as [y1, x1, y2, x2] in pixels of the image.
        layout: Of :data:`LAYOUTS`.
        geometry: Of the image.
        size: (height, width) of the input.
    """
    unit = np.ones(4, np.float32)
    if layout.startswith("normalised"):
        sides = size if layout == "normalised-input" else geometry.image
        unit = np.tile(1 / np.array(sides, np.float32), 2)
    corners = boxes * unit
    columns = np.stack(LAYOUTS[layout](*corners.T), axis=1)
    # A side is a difference of two edges.
    moves = np.array([1.0, 1.0, 2.0, 2.0]) * float(unit.max())
    return columns, np.broadcast_to(moves, columns.shape)


def rounded(rows: Numbers, rounding: str) -> Numbers:
    """Rows [K, 6] with fewer digits.

    Args:
        rows: Four numbers of the box, score, category.
        rounding: Of :data:`ROUNDINGS`.
    """
    if rounding == "none":
        return rows
    rows = rows.copy()
    boxes, scores = ROUNDINGS[rounding]
    if isinstance(boxes, str):
        rows[:, :4] = np.trunc(rows[:, :4])
    elif boxes is not None:
        rows[:, :4] = np.round(rows[:, :4], boxes)
    if scores is not None:
        rows[:, 4] = np.round(rows[:, 4], scores)
    return rows


ROUNDINGS: Mapping[str, tuple[int | str | None, int | None]] = MappingProxyType(
    {
        "truncated": ("truncate", None),
        "whole": (0, None),
        "tenths": (1, None),
        "hundredths": (2, None),
        "scores-2": (None, 2),
        "scores-3": (None, 3),
        "tenths-scores-3": (1, 3),
        "hundredths-scores-3": (2, 3),
        "submission": (1, 5),
    }
)
"""Decimals of boxes and of scores; None: all."""

MISTAKES = (
    *(
        Mistake(
            f"threshold-{least:g}", f"score threshold {least:g}", "output", {"threshold": least}
        )
        for least in THRESHOLDS
    ),
    *(
        Mistake(slug, title, "output", {"undo": name})
        for slug, name, title in (
            ("scale-not-undone", "nothing", "boxes in the input's pixels instead of the image's"),
            ("scale-inverted", "inverse", "boxes multiplied by the scale instead of divided"),
            ("scale-per-axis", "rounded-size", "scale undone per axis, by the rounded sizes"),
            ("scale-of-input", "input-size", "scale undone by the input's whole size"),
            ("offset-not-undone", "offset-kept", "offset of the centred image not undone"),
        )
    ),
    *(
        Mistake(slug, title, "output", {"labels": name})
        for slug, name, title in (
            ("zero-based", "plus-zero", "class indices from 0 instead of category ids"),
            (
                "background-class",
                "plus-two",
                "categories one too high (a background class counted)",
            ),
            (
                "contiguous-zero",
                "contiguous-zero",
                "categories numbered without gaps from 0 (80 instead of 90 classes)",
            ),
            (
                "contiguous-one",
                "contiguous-one",
                "categories numbered without gaps from 1 (80 instead of 90 classes)",
            ),
            (
                "taken-as-contiguous",
                "mapped",
                "classes taken for 80 without gaps and mapped to 90 category ids",
            ),
        )
    ),
    *(
        Mistake(f"written-{name}", title, "output", {"layout": name})
        for name, title in (
            ("xyxy", "boxes written as x1, y1, x2, y2 instead of x, y, width, height"),
            ("yxyx", "boxes written as y1, x1, y2, x2"),
            ("yxhw", "boxes written as y, x, height, width"),
            ("y-first-sides", "boxes written as y, x, width, height"),
            ("centre", "boxes written as centre x, centre y, width, height"),
            ("xywh-plus-one", "width and height written with +1"),
            ("xyxy-less", "x, y subtracted twice from the lower right corner"),
            ("normalised", "boxes written as parts of the image (0 to 1)"),
            ("normalised-xyxy", "corners x1, y1, x2, y2 written as parts of the image (0 to 1)"),
            ("normalised-yxyx", "corners y1, x1, y2, x2 written as parts of the image (0 to 1)"),
            ("normalised-input", "boxes divided by the input's size"),
        )
    ),
    *(
        Mistake(f"rounded-{name}", title, "output", {"rounding": name})
        for name, title in (
            ("truncated", "boxes cut off to whole pixels"),
            ("whole", "boxes rounded to whole pixels"),
            ("tenths", "boxes rounded to tenths of a pixel"),
            ("hundredths", "boxes rounded to hundredths of a pixel"),
            ("scores-2", "scores rounded to 2 decimals"),
            ("scores-3", "scores rounded to 3 decimals"),
            ("tenths-scores-3", "boxes rounded to tenths, scores to 3 decimals"),
            ("hundredths-scores-3", "boxes rounded to hundredths, scores to 3 decimals"),
            ("submission", "boxes rounded to tenths, scores to 5 decimals"),
        )
    ),
)
