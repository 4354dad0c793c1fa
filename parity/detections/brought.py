"""Detections that another program has made: a file of results in COCO's format, or a function's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet_spec import Cause, InputError, printable
from parity.detections.annotations import Annotations
from parity.detections.rows import Rows
from parity.process.json_text import read_json

MAX_BYTES = 2**29
"""Largest file of results; those of 5000 images with 100 detections each take 0.07 GB."""

MAX_DETECTIONS = 5000
"""Most detections of one image, as many as there are candidates."""

MAX_CATEGORY = 10**6
"""Largest number of a category; whether there is such a one is not asked, for a wrong number is a
mistake to find."""

MAX_PIXELS = 1e7
"""Farthest that a number of a box may lie from 0; a network that explodes is no detector."""

FORMAT = (
    "a list of {image_id, category_id, bbox, score}, the bbox as [x, y, width, height] in pixels "
    "of the image"
)

FUNCTION = (
    "detect(paths) returns (boxes, scores, classes), each a list with one array for each path: "
    "boxes [K, 4] as [x1, y1, x2, y2] in pixels of the image, scores [K], and classes [K] as COCO "
    "category ids"
)


def read_results(path: Path, annotations: Annotations, known: Sequence[int]) -> dict[int, Rows]:
    """A file of results in COCO's format.

    Args:
        path: The file.
        annotations: Of the images wanted.
        known: Ids of all images that the annotation file lists; entries of those that are not
            wanted are left out.

    Returns:
        The detections of each image wanted, best first; none where the file has none.

    Raises:
        InputError: The file cannot be read or is something else.
    """
    entries = _entries(path)
    wanted: dict[int, list[list[float]]] = {image.id: [] for image in annotations.images}
    others, place = set(known), 0
    for place, entry in enumerate(entries):
        number, row = _entry(path, place, entry)
        if number in wanted:
            wanted[number].append(row)
            if len(wanted[number]) > MAX_DETECTIONS:
                raise InputError(
                    f"{path} has more than {MAX_DETECTIONS} detections of image {number}; write "
                    f"those of the highest scores.",
                    Cause.FORMAT,
                )
        elif number not in others:
            raise _wrong(path, place, f"image_id {number}", f"an image of {annotations.source}")
    if not any(wanted.values()):
        raise InputError(
            f"{path} has {len(entries)} detections, but none of the {len(wanted)} images asked "
            f"for; give the detections of these images.",
            Cause.FORMAT,
        )
    return {number: as_sorted(rows) for number, rows in wanted.items()}


def as_sorted(rows: Any) -> Rows:
    """Rows of detections, best first; of equal scores in the order in which they are given."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return table[np.argsort(-table[:, 4], kind="stable")]


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose every key is there once: of two it would not be known which is meant."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _entries(path: Path) -> list[Any]:
    if not path.is_file():
        raise InputError(f"{path} is no file; give {FORMAT}.", Cause.FILE)
    try:
        values = read_json(path, MAX_BYTES, pairs=_without_repeats, constants=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give {FORMAT}.", Cause.of(error)
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} is no JSON ({printable(error)!s:.120}); give {FORMAT}.", Cause.FORMAT
        ) from error
    if not isinstance(values, list):
        raise InputError(
            f"{path} holds no JSON list, but {type(values).__name__:.20}; give {FORMAT}.",
            Cause.FORMAT,
        )
    return values


def _wrong(path: Path, place: int, found: str, expected: str) -> InputError:
    return InputError(
        f"{path}: entry [{place}] has {found:.120}; expected {expected}.", Cause.FORMAT
    )


def _is_number(value: Any, most: float) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= most
        and math.isfinite(value)
    )


def _entry(path: Path, place: int, entry: Any) -> tuple[int, list[float]]:
    """An entry's image and row."""
    if not isinstance(entry, dict):
        raise _wrong(path, place, f"{entry!r:.80}", "an object with " + FORMAT)
    number, category = entry.get("image_id"), entry.get("category_id")
    if type(number) is not int:
        raise _wrong(path, place, f"image_id {number!r:.80}", "the whole number of an image")
    if type(category) is not int or abs(category) > MAX_CATEGORY:
        raise _wrong(path, place, f"category_id {category!r:.80}", "the whole number of a category")
    bbox, score = entry.get("bbox"), entry.get("score")
    if (
        not isinstance(bbox, list)
        or len(bbox) != 4
        or not all(_is_number(item, MAX_PIXELS) for item in bbox)
    ):
        raise _wrong(path, place, f"bbox {bbox!r:.80}", "[x, y, width, height] in pixels")
    if not _is_number(score, 1.0) or not float(score or 0) >= 0:
        raise _wrong(path, place, f"score {score!r:.80}", "a number from 0 to 1")
    return number, [*map(float, bbox), float(score or 0), float(category)]


def rows_of_call(found: Any, count: int, source: str, plain: Callable[[Any], Any]) -> list[Rows]:
    """What a detecting function has returned for some images, as rows.

    Where an image is one dict of ``boxes``, ``scores`` and ``labels`` or ``classes``, as
    torchvision's models return it, that is taken too.

    Args:
        found: The returned value.
        count: Number of the images.
        source: What the function is called in messages.
        plain: A framework's array as one of NumPy's.

    Raises:
        InputError: It is something else.
    """
    if isinstance(found, list | tuple) and found and all(isinstance(x, dict) for x in found):
        found = [[_value(item, names) for item in found] for names in _KEYS]
    if not isinstance(found, list | tuple) or len(found) != 3:
        raise _returned(source, f"{type(found).__name__:.40}")
    parts = [_each(part, count, plain) for part in found]
    if any(part is None for part in parts):
        shapes = ", ".join(_shape(part) for part in found)
        raise _returned(source, f"({shapes}) for {count} images")
    return [_checked(source, *(plain(part[place]) for part in parts)) for place in range(count)]


_KEYS = (("boxes",), ("scores",), ("labels", "classes"))


def _value(entry: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((entry[name] for name in names if name in entry), None)


def _each(part: Any, count: int, plain: Callable[[Any], Any]) -> Any:
    """A part with one entry for each image; None where it has another number."""
    if isinstance(part, list | tuple):
        return part if len(part) == count else None
    array = plain(part)
    return (
        array
        if isinstance(array, np.ndarray) and len(array.shape) and len(array) == count
        else None
    )


def _shape(part: Any) -> str:
    return (
        f"{len(part)} entries" if isinstance(part, list | tuple) else f"{type(part).__name__:.30}"
    )


def _returned(source: str, what: str) -> InputError:
    return InputError(f"{source} returns {what}, but {FUNCTION}.", Cause.CANDIDATE)


def _checked(source: str, boxes: Any, scores: Any, classes: Any) -> Rows:
    """One image's detections; corners become x, y, width, height."""
    try:
        found = [np.asarray(part) for part in (boxes, scores, classes)]
    except (TypeError, ValueError):
        raise _returned(source, "what is no array of numbers") from None
    # Texts, truth values and complex numbers would be taken for numbers by a cast.
    if any(part.size and part.dtype.kind not in "iuf" for part in found):
        types = ", ".join(str(part.dtype) for part in found)
        raise _returned(source, f"arrays of {types:.60}, which are not all of real numbers")
    corners, values, labels = (part.astype(np.float64) for part in found)
    corners = corners.reshape(0, 4) if not corners.size else corners
    shapes = (
        f"boxes {list(corners.shape)}, scores {list(values.shape)}, classes {list(labels.shape)}"
    )
    if (
        corners.ndim != 2
        or corners.shape[1] != 4
        or values.size != len(corners)
        or labels.size != len(corners)
    ):
        raise _returned(source, f"for an image {shapes}")
    if len(corners) > MAX_DETECTIONS:
        raise InputError(
            f"{source} returns {len(corners)} detections of an image; return at most "
            f"{MAX_DETECTIONS}, those of the highest scores.",
            Cause.CANDIDATE,
        )
    rows = np.column_stack(
        [corners[:, :2], corners[:, 2:] - corners[:, :2], values.reshape(-1), labels.reshape(-1)]
    )
    wrong = ~np.isfinite(rows) | (np.abs(rows) > MAX_PIXELS)
    if wrong.any() or (rows[:, 4] < 0).any() or (rows[:, 4] > 1).any():
        raise _returned(source, "numbers that are not finite, or scores that are not from 0 to 1")
    if (rows[:, 5] != np.round(rows[:, 5])).any():
        raise _returned(source, "classes that are no whole numbers")
    return as_sorted(rows)
