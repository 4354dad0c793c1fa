"""Pictures of detections: both frameworks side by side, and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError, install_command, replacing
from parity.detections.matching import ImageMatch, edges, match_image
from parity.detections.rows import Rows

MIN_SCORE = 0.3
"""Detections with a lower score are not drawn; the official visualisation draws from 0.4 or 0.3."""

SEEN_PIXELS = 0.5
"""A box that is off by less is drawn on the same pixels."""

SEEN_SCORE = 0.005
"""Scores that are closer look alike with two decimals."""

MAX_SIDE = 800
"""Longest side of a panel in pixels."""

_BAR = 24
_TITLE = 380
"""Pixels that the longest title of a framework takes."""

_NAME = 20
"""Letters of a side's name at most."""

_LETTER = 10
"""Pixels of a letter of a name; few take more."""

_FONT_SCALE = 0.45
_PAD = 2
"""Pixels around the text of a label."""

_STEP = 4
"""Pixels between the places that are tried for a label."""

_COLOURS = ((255, 140, 0), (0, 130, 255))
"""Of the reference and of the other side, in RGB."""
_WHITE = (255, 255, 255)

RGBImage = NDArray[np.uint8]


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError(
            f"Drawing needs OpenCV, which is not installed; run {install_command('images')}.",
            Cause.MISSING_PACKAGE,
        ) from None
    return cv2


def side_by_side(
    image: RGBImage,
    reference: Rows,
    judged: Rows,
    names: Mapping[int, str],
    *,
    min_score: float = MIN_SCORE,
    anchor: float = 0.0,
    titles: Sequence[str] = ("TensorFlow", "PyTorch"),
) -> RGBImage:
    """Three panels: the reference's detections, those of the side judged, and those that differ.

    Each has a title with the number of detections and the lowest score that is shown. Labels do not
    overlap; one for which there is no room is left out, and the title says how many are.

    Args:
        image: [h, w, 3] RGB.
        reference: The reference's detections.
        judged: The other side's.
        names: Name by category id; the number stands for one without.
        min_score: Leave out detections below it.
        anchor: Longest side of an anchor in the image's pixels.
        titles: What the two sides are called.
    """
    found = match_image(0, reference, judged, anchor)
    lone = differing(found, reference, judged, min_score)
    low = f"{min_score:g}"
    titles = [_drawable(title) for title in titles]
    longer = max(len(title) for title in titles) - len("TensorFlow")
    base, factor = _scaled(image, _TITLE + max(longer, 0) * _LETTER)
    panels = []
    for title, rows, colour in zip(titles, (reference, judged), _COLOURS, strict=True):
        shown = rows[rows[:, 4] >= min_score]
        heading = f"{title}: {_of(shown, low)}"
        panels.append(_panel(base, factor, heading, [(shown, colour)], names))
    count = sum(map(len, lone))
    layers = list(zip(lone, _COLOURS, strict=True))
    panels.append(_panel(base // 3, factor, f"differences: {count or 'none'}", layers, names))
    return np.concatenate(panels, axis=1)


def _drawable(title: str) -> str:
    """A name of a side as OpenCV's fonts have it, in the room that there is."""
    plain = title.encode("ascii", "replace").decode()
    return plain if len(plain) <= _NAME else f"...{plain[3 - _NAME :]}"


def _of(rows: Rows, low: str) -> str:
    return f"{len(rows)} with score >= {low}"


def differing(
    found: ImageMatch, reference: Rows, judged: Rows, min_score: float
) -> tuple[Rows, Rows]:
    """The detections of either side that lack a partner, or have one that looks otherwise.

    What a cut, a threshold, a tie or rounding explains is no difference. Matching takes all
    detections, so that none loses its partner for being just below ``min_score`` on the other side.

    Args:
        found: Both sides' detections, matched.
        reference: The reference's detections.
        judged: The other side's.
        min_score: Leave out detections below it.
    """
    pairs = _visibly_apart(found, reference, judged)
    first = np.sort(np.concatenate([found.reference_unexplained, pairs[:, 0]]))
    second = np.sort(np.concatenate([found.candidate_unexplained, pairs[:, 1]]))
    one, other = reference[first], judged[second]
    return one[one[:, 4] >= min_score], other[other[:, 4] >= min_score]


def _visibly_apart(found: ImageMatch, reference: Rows, judged: Rows) -> NDArray[np.int64]:
    one, other = reference[found.apart[:, 0]], judged[found.apart[:, 1]]
    far = np.abs(edges(one) - edges(other)).max(axis=1, initial=0.0)
    seen = (far >= SEEN_PIXELS) | (np.abs(one[:, 4] - other[:, 4]) >= SEEN_SCORE)
    pairs: NDArray[np.int64] = found.apart[seen]
    return pairs


def _scaled(image: RGBImage, title: int) -> tuple[RGBImage, float]:
    """The image within :data:`MAX_SIDE`, at least wide enough for a title, and its factor."""
    cv2 = _opencv()
    height, width = image.shape[:2]
    factor = min(1.0, MAX_SIDE / max(height, width))
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
    room = max(title - size[0], 0)
    return np.pad(small, ((0, 0), (0, room), (0, 0))), factor


def _panel(
    base: RGBImage,
    factor: float,
    title: str,
    layers: list[tuple[Rows, tuple[int, int, int]]],
    names: Mapping[int, str],
) -> RGBImage:
    cv2 = _opencv()
    canvas = np.ascontiguousarray(base)
    if canvas is base:
        canvas = base.copy()
    for rows, colour in layers:
        # The best last, so that it is on top.
        for row in rows[::-1]:
            cv2.rectangle(canvas, *_corners(canvas, row, factor), colour, 2)
    left_out = _label_all(cv2, canvas, layers, factor, names)
    if left_out:
        title = f"{title}, {left_out} unlabelled"
    bar = np.zeros((_BAR, base.shape[1], 3), np.uint8)
    cv2.putText(bar, title, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _WHITE, 1, cv2.LINE_AA)
    return np.concatenate([bar, canvas])


def _corners(
    canvas: RGBImage, row: NDArray[np.float64], factor: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two corners of a box in the canvas's pixels; it may end a pixel outside."""
    height, width = canvas.shape[:2]
    x, y = row[:2] * factor
    right, bottom = (row[:2] + row[2:4]) * factor
    # OpenCV's coordinates are 32-bit and boxes may reach far out of the image.
    return (
        (int(np.clip(round(x), -1, width)), int(np.clip(round(y), -1, height))),
        (int(np.clip(round(right), -1, width)), int(np.clip(round(bottom), -1, height))),
    )


def _label_all(
    cv2: Any,
    canvas: RGBImage,
    layers: list[tuple[Rows, tuple[int, int, int]]],
    factor: float,
    names: Mapping[int, str],
) -> int:
    """Write the labels of all boxes, the best first; how many found no room."""
    found = [(row, colour) for rows, colour in layers for row in rows]
    found.sort(key=lambda item: -item[0][4])
    taken = np.zeros(canvas.shape[:2], bool)
    left_out = 0
    for row, colour in found:
        label = label_of(int(row[5]), float(row[4]), names)
        size = _label_size(cv2, label)
        place = free_place(taken, _corners(canvas, row, factor), size)
        if place is None:
            left_out += 1
            continue
        (left, top), (wide, tall) = place, size
        taken[top : top + tall, left : left + wide] = True
        end = (left + wide - 1, top + tall - 1)
        cv2.rectangle(canvas, (left, top), end, colour, -1)
        at = (left + _PAD, top + tall - _PAD - 3)
        font = (cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, _WHITE, 1, cv2.LINE_AA)
        cv2.putText(canvas, label, at, *font)
    return left_out


def _label_size(cv2: Any, label: str) -> tuple[int, int]:
    """Width and height of a label with its ground, in pixels."""
    (wide, tall), below = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, 1)
    return wide + 2 * _PAD, tall + below + _PAD


def free_place(
    taken: NDArray[np.bool_],
    box: tuple[tuple[int, int], tuple[int, int]],
    size: tuple[int, int],
) -> tuple[int, int] | None:
    """Where a label overlaps no other: above its box if there is room, or else as near as can be.

    Args:
        taken: [h, w], which pixels other labels cover.
        box: Two corners of the box, (x, y) each.
        size: Width and height of the label.

    Returns:
        The label's left upper corner, (x, y); None where there is no room within the box's reach.
    """
    height, width = taken.shape
    (x, y), (right, bottom) = box
    wide, tall = size
    if wide > width or tall > height:
        return None
    # Above the box, then along its left edge to below it, then the same further right.
    rows = [y - tall, *range(y + 1, bottom + 1, _STEP), bottom]
    columns = [x, *range(x, max(right - wide, x) + 1, _STEP), right - wide]
    for column in columns:
        for row in rows:
            left = int(np.clip(column, 0, width - wide))
            top = int(np.clip(row, 0, height - tall))
            if not taken[top : top + tall, left : left + wide].any():
                return left, top
    return None


def label_of(category: int, score: float, names: Mapping[int, str]) -> str:
    """Name and score in the characters that OpenCV can draw."""
    name = names.get(category, f"class {category}")
    return f"{name.encode('ascii', 'replace').decode()} {score:.2f}"


def write_png(path: Path, image: RGBImage) -> None:
    """Write a picture; the file appears complete or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    data = _opencv().imencode(".png", image[..., ::-1])[1].tobytes()
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); choose a folder that is writable and "
            f"has room.",
            Cause.of(error),
        ) from error
