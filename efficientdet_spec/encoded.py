"""Encoded images before they are decoded: read within limits, and refused by what headers claim."""

from __future__ import annotations

import os
import re
import struct

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
    if data.startswith(JPEG):
        size = _jpeg_size(data, source)
    elif data.startswith(PNG):
        width, height = unpack(">II", data, 16, source)
        size = height, width
    elif data.startswith(BMP):
        width, height = unpack("<ii", data, 18, source)
        size = abs(height), width
    else:
        raise no_image(data, source)
    check_pixels(source, *size)


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


def _jpeg_size(data: bytes, source: str) -> tuple[int, int]:
    """Height and width of a JPEG from its frame header (ITU-T T.81, B.2.2).

    Markers are found as libjpeg finds them, over bytes that belong to no segment. The first frame
    header counts: decoders refuse a second.
    """
    offset = 2
    while (offset := data.find(b"\xff", offset)) >= 0 and offset + 4 <= len(data):
        kind = data[offset + 1]
        # Padding, a byte of data, and markers without content.
        if kind == 0xFF or kind <= 0x01 or 0xD0 <= kind <= 0xD8:
            offset += 1 if kind == 0xFF else 2
            continue
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = unpack(">HH", data, offset + 5, source)
            return height, width
        if kind in (0xD9, 0xDA):
            break
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    raise damaged(source, "it has no frame header")


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
