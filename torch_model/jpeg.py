"""JPEG to RGB pixels, bit for bit as TensorFlow decodes it.

TensorFlow gives the whole file to libjpeg, and takes what it warns of: bytes between the segments,
damaged codes, missing restarts. What it refuses is a file that ends before the image does. Here
libjpeg is called by way of simplejpeg, which ends every file with an end of its own, so that
whether there was one is asked for separately.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError, install_command
from efficientdet_spec.encoded import (
    EOI,
    FRAMES,
    SOI,
    SOS,
    check_pixels,
    damaged,
    jpeg_frame,
    jpeg_segments,
    unpack,
)

_PROGRESSIVE = frozenset((0xC2, 0xCA))

_DECODED = frozenset((0xC0, 0xC1, 0xC9)) | _PROGRESSIVE
"""Baseline, extended sequential and progressive, the latter two also with arithmetic codes."""

_WARNINGS = (
    "Corrupt JPEG data",
    "Premature end of JPEG file",
    "Inconsistent progression sequence",
    "Invalid SOS parameters for sequential JPEG",
)
"""How libjpeg's warnings begin that are no errors (jerror.h); errors are told in other words."""

_APP0, _APP14 = 0xE0, 0xEE

_MAX_COMPONENTS = 10
"""Most colours of an image for libjpeg (``MAX_COMPONENTS`` of jmorecfg.h)."""

_SMOOTHED = range(1, 10)
"""Coefficients whose missing bits make libjpeg smooth an image (jdcoefct.c)."""


def decode_jpeg(data: bytes, source: str, *, fast_dct: bool) -> NDArray[np.uint8]:
    """A JPEG as [h, w, 3] RGB.

    Args:
        data: The content of the file.
        source: What to call it in messages.
        fast_dct: Decode with the fast integer DCT, TensorFlow's default.

    Raises:
        InputError: TensorFlow refuses it, or its pixels cannot be had exactly.
    """
    frame = jpeg_frame(data, source)
    if frame.kind not in _DECODED:
        raise InputError(
            f"{source} is a JPEG of a kind that TensorFlow does not decode (its frame header is "
            f"0x{frame.kind:02x}: lossless or hierarchical); save it as an "
            f"ordinary JPEG or as PNG.",
            Cause.FORMAT,
        )
    height, width, components = unpack(">HHB", data, frame.start + 5, source)
    check_pixels(source, height, width)
    if frame.kind in _PROGRESSIVE:
        _check_complete(data, source)
    decoder = _Decoder(_plain_header(data, source, components), source, fast_dct)
    pixels = decoder.pixels()
    if pixels.shape[2] == 3:
        return pixels
    return _rgb_from_inks(pixels, inverted=_has_adobe_marker(data, source))


class _Decoder:
    """libjpeg by way of simplejpeg, and what it says of a file.

    Args:
        data: A JPEG whose header libjpeg does not warn of.
        source: What to call it in messages.
        fast_dct: As of :func:`decode_jpeg`.
    """

    def __init__(self, data: bytes, source: str, fast_dct: bool) -> None:
        try:
            import simplejpeg
        except ImportError:
            raise InputError(
                f"{source}: decoding a JPEG exactly as TensorFlow does needs simplejpeg, "
                f"which is not installed; run {install_command('images')}.",
                Cause.MISSING_PACKAGE,
            ) from None
        self._library = simplejpeg
        self._data, self._source = data, source
        try:
            *_, colours, _ = simplejpeg.decode_jpeg_header(data)
        except (ValueError, KeyError) as error:
            raise damaged(source, str(error).strip()) from error
        # TensorFlow asks libjpeg for CMYK where the file is, and converts the inks itself.
        inks = colours in ("CMYK", "YCCK")
        self._options = {
            "colorspace": "CMYK" if inks else "RGB",
            "fastdct": fast_dct,
            "fastupsample": False,
        }

    def pixels(self) -> NDArray[np.uint8]:
        """[h, w, 3] RGB or [h, w, 4] inks.

        Raises:
            InputError: The file is damaged beyond what TensorFlow takes.
        """
        try:
            found: NDArray[np.uint8] = self._decoded(self._data, strict=True)
            return found
        except ValueError as error:
            told = str(error).strip()
        # What is told is the first warning, or the error behind it.
        if not told.startswith(_WARNINGS):
            raise damaged(self._source, told)
        if not self._has_its_end():
            raise damaged(self._source, "it ends before the image does")
        try:
            found = self._decoded(self._data, strict=False)
            return found
        except ValueError as error:
            raise damaged(self._source, str(error).strip()) from error

    def _has_its_end(self) -> bool:
        """Whether TensorFlow finds the end of the image.

        It takes half an end too, if the rows are complete without it: not one byte more was asked
        for, not even ahead. Bytes that are appended in its place and left over are counted in a
        warning: a zero of the coded data (``ff 00``) as one if it was read with these, as two if
        it was not. All scans of a progressive image, and of one whose components come one after
        another, are read before the first row.
        """
        # The beginning of a second image is an error where libjpeg gets as far as there, be it by
        # passing over the longest segment.
        if "two SOI" not in self._told(self._data + bytes((0xFF, SOI)) * 2**15):
            return True
        whole = self._data.rstrip(b"\xff")
        if whole == self._data or self._in_many_scans():
            return False
        end = bytes((0xFF, EOI))
        code, others = (self._told(whole + more + end) for more in (b"\xff\x00", b"\x00\x00"))
        return _EXTRANEOUS.match(code) is not None and code == others

    def _in_many_scans(self) -> bool:
        frame = jpeg_frame(self._data, self._source)
        (components,) = unpack(">B", self._data, frame.start + 9, self._source)
        for segment in jpeg_segments(self._data, self._source):
            if segment.kind == SOS:
                return (
                    frame.kind in _PROGRESSIVE
                    or unpack(">B", self._data, segment.start + 4, self._source)[0] < components
                )
        return False

    def _told(self, data: bytes) -> str:
        """What libjpeg says of a file first; empty where it says nothing."""
        try:
            self._decoded(data, strict=True)
        except ValueError as error:
            return str(error).strip()
        return ""

    def _decoded(self, data: bytes, *, strict: bool) -> Any:
        return self._library.decode_jpeg(data, **self._options, strict=strict)


_EXTRANEOUS = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")


def _plain_header(data: bytes, source: str, components: int) -> bytes:
    """A JPEG with the same image whose header libjpeg has no warning of.

    What lies between the segments is left out, and two numbers that libjpeg does not know are
    replaced by those that it takes instead: simplejpeg gives up where there is a warning so early.
    """
    parts = [data[:2]]
    for segment in jpeg_segments(data, source):
        content = data[segment.start : segment.end]
        if segment.kind == _APP0 and content[4:9] == b"JFIF\0" and len(content) >= 16:
            content = content[:9] + b"\1" + content[10:]
        if segment.kind == _APP14 and content[4:9] == b"Adobe" and content[15:16] not in b"\0":
            content = content[:15] + (b"\1" if components == 3 else b"\2") + content[16:]
        parts.append(content)
        if segment.kind == SOS:
            header = b"".join(parts)
            # A large file is not copied without need.
            plain = header == data[: segment.end]
            return data if plain else header + data[segment.end :]
    return b"".join(parts)


def _check_complete(data: bytes, source: str) -> None:
    """Refuse a progressive image that lacks scans.

    libjpeg smooths it, and not every version of it does so alike.
    """
    scans: list[tuple[bytes, int, int, int]] = []
    parts = b""
    for segment in jpeg_segments(data, source):
        if segment.kind in FRAMES:
            parts = data[segment.start + 10 : segment.end][::3][:_MAX_COMPONENTS]
        elif segment.kind == SOS:
            (count,) = unpack(">B", data, segment.start + 4, source)
            start = segment.start + 5
            first, last, bits = unpack(">BBB", data, start + 2 * count, source)
            scans.append((data[start : start + 2 * count : 2], first, last, bits & 15))
    # Of each coefficient the last scan says how many bits are still missing.
    missing = {(part, place): 1 for part in parts for place in _SMOOTHED}
    for of, first, last, bits in scans:
        places = range(max(first, _SMOOTHED.start), min(last + 1, _SMOOTHED.stop))
        missing |= {(part, place): bits for part in set(of) & set(parts) for place in places}
    if any(missing[part, place] for part in parts for place in _SMOOTHED):
        raise damaged(source, "it is a progressive JPEG without its last scans")


def _rgb_from_inks(pixels: NDArray[np.uint8], *, inverted: bool) -> NDArray[np.uint8]:
    """CMYK to RGB with TensorFlow's integer arithmetic.

    Args:
        pixels: [h, w, 4].
        inverted: Adobe's convention, 255 is no ink.
    """
    levels = pixels.astype(np.uint16)
    if not inverted:
        levels = 255 - levels
    return (levels[..., :3] * levels[..., 3:] // 255).astype(np.uint8)


def _has_adobe_marker(data: bytes, source: str) -> bool:
    """Whether a JPEG has an APP14 segment of Adobe's before its image data."""
    for segment in jpeg_segments(data, source):
        if segment.kind == SOS:
            break
        if segment.kind == _APP14 and data[segment.start + 4 : segment.start + 9] == b"Adobe":
            return segment.end - segment.start >= 16
    return False
