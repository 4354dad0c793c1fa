"""Image files to RGB pixels, bit for bit as ``tf.io.decode_image(channels=3)`` gives them.

TensorFlow decodes JPEG with libjpeg's fast integer DCT; most other programs use the accurate one,
and their pixels differ by up to 4 grey levels. Like TensorFlow, nothing here applies an orientation
(EXIF), a colour profile or a gamma; alpha is dropped and of 16 bits the upper 8 are kept.
"""

from __future__ import annotations

import os
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError, install_command
from efficientdet_spec.encoded import (
    BMP,
    JPEG,
    PNG,
    check_pixels,
    damaged,
    no_image,
    read_encoded,
    unpack,
)
from torch_model.jpeg import decode_jpeg

RGBImage = NDArray[np.uint8]


def read_image(path: str | os.PathLike[str], *, fast_dct: bool = True) -> RGBImage:
    """An image file as [h, w, 3] RGB.

    Args:
        path: A JPEG, PNG or BMP file.
        fast_dct: As for :func:`decode_image`.

    Raises:
        InputError: The file cannot be read or is no image that can be decoded exactly.
    """
    return decode_image(read_encoded(path), str(path), fast_dct=fast_dct)


def decode_image(data: bytes, source: str = "image", *, fast_dct: bool = True) -> RGBImage:
    """An encoded image as [h, w, 3] RGB.

    Args:
        data: The content of a JPEG, PNG or BMP file.
        source: What to call it in messages.
        fast_dct: Decode JPEG with the fast integer DCT, TensorFlow's default; otherwise with
            the accurate one, as OpenCV and Pillow do.

    Raises:
        InputError: The data are damaged, cut short, too large, or of a format whose pixels
            cannot be had exactly.
    """
    if data.startswith(JPEG):
        return decode_jpeg(data, source, fast_dct=fast_dct)
    if data.startswith(PNG):
        width, height = unpack(">II", data, 16, source)
        return _decode_png(_plain_png(data, source), source, height, width)
    if data.startswith(BMP):
        return _decode_bmp(data, source)
    raise no_image(data, source)


def _plain_png(data: bytes, source: str) -> bytes:
    """A PNG of the chunks that make its pixels, the checksum of each verified.

    TensorFlow's decoder verifies them, and OpenCV's does not. Chunks whose names begin with a
    small letter say what pixels need not (PNG specification, 5.4); of an animation, which they
    make of an image, OpenCV shows something else than the image.

    Raises:
        InputError: A chunk has no name, or one that matters does not have its CRC-32, stands where
            it must not, or is cut short.
    """
    kept, offset, kind, seen = [PNG], len(PNG), b"", False
    while kind != b"IEND":
        (size,) = unpack(">I", data, offset, source)
        before, kind = kind, data[offset + 4 : offset + 8]
        end = offset + 8 + size
        (stored,) = unpack(">I", data, end, source)
        name = kind.decode("latin-1")
        if not (name.isascii() and name.isalpha()) or (kind == b"IDAT" != before and seen):
            raise damaged(source, f"its part {name!r} is none, or stands where it must not")
        if kind[:1].isupper():
            if zlib.crc32(data[offset + 4 : end]) != stored:
                raise damaged(source, f"its part {name!r} does not have its checksum")
            kept.append(data[offset : end + 4])
        offset, seen = end + 4, seen or kind == b"IDAT"
    return b"".join(kept)


def _decode_bmp(data: bytes, source: str) -> RGBImage:
    """A BMP as TensorFlow sees it: whatever its header says, rows of plain levels.

    It looks at neither palette nor compression. 8 bits are a level of grey, 24 are blue, green and
    red, and of 32 the last are alpha.
    """
    (start,) = unpack("<i", data, 10, source)
    width, height, _, bits = unpack("<iiHH", data, 18, source)
    if bits not in (8, 24, 32):
        raise InputError(
            f"{source} is a BMP file of {bits} bits, but TensorFlow decodes 8, 24 and 32 bits; "
            f"convert it to PNG.",
            Cause.FORMAT,
        )
    # A negative height means rows from top to bottom.
    rows = abs(height)
    check_pixels(source, rows, width)
    channels = bits // 8
    row = (width * channels + 3) // 4 * 4
    # TensorFlow refuses bytes behind the pixels too.
    if start < 0 or start + row * rows != len(data):
        raise damaged(source, f"it has {len(data)} bytes, not those of its pixels")
    levels = np.frombuffer(data, np.uint8, row * rows, start).reshape(rows, row)
    pixels = levels[:: 1 if height < 0 else -1, : width * channels].reshape(rows, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., 2::-1])


def _decode_png(data: bytes, source: str, height: int, width: int) -> RGBImage:
    check_pixels(source, height, width)
    try:
        import cv2
    except ImportError:
        raise InputError(
            f"{source}: decoding a PNG needs OpenCV, which is not installed; run "
            f"{install_command('images')}, or give a JPEG or BMP.",
            Cause.MISSING_PACKAGE,
        ) from None
    decoded: Any = None
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise damaged(source, str(error).strip().splitlines()[0]) from error
    if decoded is None or decoded.shape != (height, width, 3):
        raise damaged(source, "OpenCV cannot decode it")
    return np.ascontiguousarray(decoded[..., ::-1])
