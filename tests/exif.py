"""Exif data for images, as cameras write them."""

import struct
import zlib


def with_exif(data, orientation, order=">"):
    """A JPEG or PNG with Exif's tag *Orientation*.

    Args:
        data: The content of the file.
        orientation: The tag's value.
        order: Of the bytes of a number, as of :mod:`struct`.
    """
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = start + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)
    if data.startswith(b"\xff\xd8"):
        content = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + data[at:]
