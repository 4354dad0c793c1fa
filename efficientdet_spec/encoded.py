"""Encoded images before they are decoded: read within limits, and refused by what headers claim."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from efficientdet_spec.errors import Cause, InputError
from efficientdet_spec.files import read_regular
from efficientdet_spec.lookalikes import HEAD_BYTES, lookalike
from efficientdet_spec.texts import printable

MAX_SIDE = 30_000
"""Longest side of an image in pixels."""

MAX_PIXELS = 2**27
"""Most pixels of an image; decoded they take 400 MB."""

MAX_FILE_BYTES = 4 * MAX_PIXELS + 2**16
"""Largest image file: that of the largest BMP with 32 bits a pixel, and its headers."""

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
BMP = b"BM"

MAX_SEGMENTS = 100_000
"""Most segments of a JPEG; an ordinary one has some dozens, and some more for each scan."""

_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])", re.DOTALL)
_ANIMATED = re.compile(rb"GIF8|RIFF....WEBP", re.DOTALL)


def read_encoded(path: str | os.PathLike[str]) -> bytes:
    """The content of an image file, whatever it holds.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, is no regular file, or is larger than any image.
    """
    try:
        return read_regular(path, MAX_FILE_BYTES)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give an image file.",
            Cause.of(error),
        ) from error


def check_encoded(data: bytes, source: str = "image") -> None:
    """Raise where an encoded image has more pixels than are decoded, by what its header says.

    A few bytes can stand for gigabytes of pixels, so this belongs before any decoder.

    Args:
        data: The content of the file.
        source: What to call it in messages.

    Raises:
        InputError: The image is too large, or of a format whose size is not known here.
    """
    check_pixels(source, *encoded_size(data, source))


def encoded_size(data: bytes, source: str = "image") -> tuple[int, int]:
    """Height and width in pixels of an encoded image as its header has them.

    Args:
        data: The content of the file.
        source: What to call it in messages.

    Raises:
        InputError: The image is of a format whose size is not known here.
    """
    if data.startswith(JPEG):
        return _jpeg_size(data, source)
    if data.startswith(PNG):
        width, height = unpack(">II", data, 16, source)
        return height, width
    if data.startswith(BMP):
        width, height = unpack("<ii", data, 18, source)
        return abs(height), width
    raise no_image(data, source)


def no_image(data: bytes, source: str) -> InputError:
    """The error of data that are no image of the formats that are read.

    Args:
        data: What they begin with.
        source: What to call them.
    """
    if _ANIMATED.match(data):
        return InputError(
            f"{source} is a GIF or WebP file, which TensorFlow decodes to a sequence of frames "
            f"that the official code refuses; convert it to PNG.",
            Cause.FORMAT,
        )
    if (found := lookalike(data[:HEAD_BYTES])) is not None:
        return InputError(
            f"{source} is no image but looks like {found.kind}; "
            f"{found.advice or 'give a JPEG, PNG or BMP image'}.",
            Cause.FORMAT,
        )
    return InputError(
        f"{source} ({len(data)} bytes) is no JPEG, PNG or BMP image; give one of these.",
        Cause.FORMAT,
    )


@dataclass(frozen=True)
class Segment:
    """A part of a JPEG that a marker begins.

    Attributes:
        kind: The second byte of the marker (ITU-T T.81, table B.1).
        start: Where the marker begins.
        end: Behind what belongs to it; the coded data of a scan do not.
    """

    kind: int
    start: int
    end: int


SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
"""Kinds of segments: the start of an image, its end, and the header of a scan."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Kinds of segments that say what an image is: baseline, extended, progressive, ..."""


def jpeg_segments(data: bytes, source: str) -> Iterator[Segment]:
    """The segments of a JPEG, found as libjpeg finds them.

    It passes over bytes that belong to none, padding, and markers without content. The end of the
    image is the last one, and so is a second start of one, which decoders refuse.

    Args:
        data: The content of the file.
        source: What to call it in messages.

    Raises:
        InputError: There are more than in any image.
    """
    offset = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, offset)
        if found is None:
            return
        kind, start, offset = found[1][0], found.start(), found.end()
        if kind in (SOI, EOI):
            yield Segment(kind, start, offset)
            return
        offset += max(2, int.from_bytes(data[offset : offset + 2], "big"))
        yield Segment(kind, start, offset)
    raise damaged(source, f"it has more than {MAX_SEGMENTS:,} segments")


def jpeg_frame(data: bytes, source: str) -> Segment:
    """The segment that says what a JPEG is.

    The first counts: decoders refuse a second.

    Raises:
        InputError: There is none before the image.
    """
    for segment in jpeg_segments(data, source):
        if segment.kind in FRAMES:
            return segment
        if segment.kind == SOS:
            break
    raise damaged(source, "it has no frame header")


def _jpeg_size(data: bytes, source: str) -> tuple[int, int]:
    """Height and width of a JPEG from its frame header (ITU-T T.81, B.2.2)."""
    height, width = unpack(">HH", data, jpeg_frame(data, source).start + 5, source)
    return height, width


def damaged(source: str, reason: str) -> InputError:
    """The error of an image that is not as it was saved.

    Args:
        source: What to call it.
        reason: What is wrong.
    """
    return InputError(
        f"{source} is damaged or cut short ({printable(reason)}); fetch or save the image again.",
        Cause.FORMAT,
    )


def unpack(layout: str, data: bytes, offset: int, source: str) -> tuple[int, ...]:
    """Numbers of a header, as :func:`struct.unpack_from`.

    Raises:
        InputError: The data end before.
    """
    try:
        return struct.unpack_from(layout, data, offset)
    except struct.error:
        raise damaged(source, f"its header ends after {len(data)} bytes") from None


def check_pixels(source: str, height: int, width: int) -> None:
    """Raise where an image is larger than those that are decoded.

    Args:
        source: What to call it.
        height: In pixels, as its header says.
        width: Likewise.

    Raises:
        InputError: It is.
    """
    if min(height, width) < 1 or max(height, width) > MAX_SIDE:
        raise InputError(
            f"{source} is {width}x{height} pixels; give an image of 1 to {MAX_SIDE} a side.",
            Cause.FORMAT,
        )
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{source} is {width}x{height} pixels; give an image of at most {MAX_PIXELS} in all.",
            Cause.FORMAT,
        )
