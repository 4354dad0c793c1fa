"""JPEGs that are not as encoders write them: what cameras, tools and broken transfers leave."""

import random

import cv2
import numpy as np
import simplejpeg
from made_images import waves

from efficientdet_spec.encoded import EOI, SOS, jpeg_segments

IMAGE = waves(61, 77)
INKS = np.dstack([IMAGE, IMAGE[..., :1]])
HEADER = 10
"""Bytes of the header of a scan that are always there."""


def _sound():
    for subsampling in ("420", "422", "440", "444"):
        yield subsampling, simplejpeg.encode_jpeg(IMAGE, 90, "RGB", subsampling)
    yield "flat", simplejpeg.encode_jpeg(np.full((61, 77, 3), 90, np.uint8), 90, "RGB", "420")
    for subsampling in ("420", "444"):
        yield f"inks {subsampling}", simplejpeg.encode_jpeg(INKS, 90, "CMYK", subsampling)
    for name, image, options in (
        ("grey", IMAGE[..., 0], []),
        ("progressive", IMAGE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ("progressive grey", IMAGE[..., 0], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ("restarts", IMAGE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 3]),
        ("own codes", IMAGE, [cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
    ):
        yield name, cv2.imencode(".jpg", image, options)[1].tobytes()


SOUND = dict(_sound())


def parts(data):
    """(start, kind) of every segment."""
    return [(segment.start, segment.kind) for segment in jpeg_segments(data, "image")]


def between(data, rng):
    """Bytes that belong to nothing before each segment, the end included."""
    for start, _ in parts(data):
        for odd in (b"\x12\x34\x56", b"\xff\xff", b"\xff\x00", b"\xff\x01", b"\xff\xd3"):
            yield data[:start] + odd + data[start:]


def behind(data, rng):
    """Bytes behind the image."""
    yield data + b"trailing" * 5
    yield data + bytes(100)
    yield data + data


def without_end(data, rng):
    """The end-of-image is missing, or there is half of it, or something else."""
    end = parts(data)[-1][0]
    for tail in (b"", b"\xff", b"\xff" * 9, bytes(100), bytes(9000), b"\xff\xd0", b"\0\xff"):
        yield data[:end] + tail
    # A comment that leads beyond the file.
    yield data[:end] + b"\xff\xfe\xff\xffa"


def cut(data, rng):
    """The file ends early."""
    last = range(len(data) - 30, len(data))
    for end in [*last, *(rng.randrange(3, len(data)) for _ in range(40))]:
        yield data[:end]
        yield data[:end] + bytes(5000)
        if data not in (SOUND["progressive"], SOUND["progressive grey"]):
            yield data[:end] + b"\xff\xd9"


def garbled(data, rng):
    """Coded data are changed, lost or inserted."""
    body = [start for start, kind in parts(data) if kind == SOS][0] + HEADER
    end = parts(data)[-1][0]
    for _ in range(60):
        at = rng.randrange(body, end)
        yield data[:at] + rng.randbytes(1) + data[at + 1 :]
        yield data[:at] + rng.randbytes(5) + data[at:]
        yield data[:at] + data[at + rng.randrange(1, 9) :]
    yield data[:body] + data[end:]


def header(data, rng):
    """A byte of the header is another."""
    first = [start for start, kind in parts(data) if kind == SOS][0]
    for _ in range(60):
        at = rng.randrange(2, first + HEADER)
        yield data[:at] + rng.randbytes(1) + data[at + 1 :]


def restarts(data, rng):
    """Restart markers are missing, wrong, or have something before them."""
    found = [at for at in range(600, len(data) - 1) if data[at] == 0xFF and data[at + 1] >> 3 == 26]
    for at in found:
        yield data[:at] + data[at + 2 :]
        yield data[:at] + b"abc" + data[at:]
        for other in range(8):
            yield data[: at + 1] + bytes((0xD0 + other,)) + data[at + 2 :]


CHANGES = (between, behind, without_end, cut, garbled, header, restarts)


def odd(change, name):
    """The files that a change makes of a sound one, always the same."""
    return list(change(SOUND[name], random.Random(name)))


def scans(data):
    """The same with fewer scans each time."""
    starts = [start for start, kind in parts(data) if kind == SOS]
    return [data[:start] + bytes((0xFF, EOI)) for start in starts[1:]]
