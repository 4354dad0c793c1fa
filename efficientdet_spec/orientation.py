"""How an image is to be held, by its Exif data: what decoders do with it differs.

Cameras store pixels as the sensor lies and say in Exif's tag *Orientation* how the picture is to be
turned (CIPA DC-008, 4.6.4). Viewers and many annotation tools turn it; TensorFlow's decoder does
not.
"""

from __future__ import annotations

import struct

from efficientdet_spec.encoded import JPEG, PNG, SOS, jpeg_segments
from efficientdet_spec.errors import InputError

UPRIGHT = 1
"""The orientation of an image that is shown as it is stored, and of one that does not say."""

ON_ITS_SIDE = frozenset((5, 6, 7, 8))
"""Orientations with which height and width change places."""

_TAG, _SHORT = 0x0112, 3
_MAX_ENTRIES = 1000


def orientation(data: bytes) -> int:
    """Exif's orientation of an encoded image, 1 to 8; never fails.

    Args:
        data: The content of the file, or its beginning.
    """
    try:
        exif = _of_jpeg(data) if data.startswith(JPEG) else _of_png(data)
        return _oriented(exif)
    except (struct.error, InputError):
        return UPRIGHT


def _of_jpeg(data: bytes) -> bytes:
    for segment in jpeg_segments(data, "image"):
        if segment.kind == SOS:
            break
        if segment.kind == 0xE1 and data[segment.start + 4 : segment.start + 10] == b"Exif\0\0":
            return data[segment.start + 10 : segment.end]
    return b""


def _of_png(data: bytes) -> bytes:
    offset = len(PNG)
    while data.startswith(PNG) and (kind := data[offset + 4 : offset + 8]) not in (b"", b"IEND"):
        (size,) = struct.unpack_from(">I", data, offset)
        if kind == b"eXIf":
            return data[offset + 8 : offset + 8 + size]
        offset += 12 + size
    return b""


def _oriented(exif: bytes) -> int:
    """The tag in a TIFF header's first directory."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return UPRIGHT
    (place,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, place)
    for entry in range(min(count, _MAX_ENTRIES)):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, place + 2 + 12 * entry)
        if (tag, kind) == (_TAG, _SHORT) and 1 <= value <= 8:
            return int(value)
    return UPRIGHT
