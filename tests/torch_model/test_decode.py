"""Decoding: TensorFlow's pixels, bit for bit, or a clear refusal."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from made_images import waves

from efficientdet_spec import InputError
from efficientdet_spec.encoded import check_encoded
from torch_model.decode import decode_image, read_image

IMAGE = waves(61, 77)
RNG = np.random.default_rng(0)


def draw(count):
    return RNG.integers(0, 256, count, dtype=np.uint8).tobytes()


def jpeg(subsampling="420", quality=90, image=IMAGE, colours="RGB"):
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, colours, subsampling)


def inks(subsampling="444"):
    return jpeg(subsampling, image=np.dstack([IMAGE, IMAGE[..., :1]]), colours="CMYK")


def opencv(kind, image, *options):
    return cv2.imencode(f".{kind}", image, options)[1].tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits, colour, row_bytes, *, width=12, height=10, before=b""):
    rows = b"".join(b"\0" + draw(row_bytes) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


def bmp(width, height, bits, data=None):
    row = (width * bits // 8 + 3) // 4 * 4
    data = draw(row * abs(height)) if data is None else data
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + header + data


PALETTE = chunk(b"PLTE", draw(768))
ORIENTATION = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
EXIF = b"Exif\0\0" + ORIENTATION

DECODED = {
    "jpeg 4:2:0": jpeg("420"),
    "jpeg 4:2:2": jpeg("422"),
    "jpeg 4:4:0": jpeg("440"),
    "jpeg 4:4:4 coarse": jpeg("444", quality=30),
    "jpeg grey": opencv("jpg", IMAGE[..., 0]),
    "jpeg progressive": opencv("jpg", IMAGE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg restarts": opencv("jpg", IMAGE, cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    "jpeg turned": jpeg()[:2] + b"\xff\xe1" + struct.pack(">H", len(EXIF) + 2) + EXIF + jpeg()[2:],
    "jpeg with data after it": jpeg() + b"something else",
    "jpeg inks": inks(),
    "jpeg inks 4:2:0": inks("420"),
    "jpeg inks not Adobe's": inks().replace(b"Adobe", b"Adobx"),
    "png": opencv("png", IMAGE),
    "png grey": opencv("png", IMAGE[..., 0]),
    "png alpha": opencv("png", np.dstack([IMAGE, IMAGE[..., 0]])),
    "png 16 bits": png(16, 2, 72),
    "png 16 bits grey": png(16, 0, 24),
    "png 16 bits alpha": png(16, 6, 96),
    "png 1 bit": png(1, 0, 2),
    "png 2 bits": png(2, 0, 3),
    "png grey alpha": png(8, 4, 24),
    "png palette": png(8, 3, 12, before=PALETTE),
    "png palette transparent": png(8, 3, 12, before=PALETTE + chunk(b"tRNS", bytes(range(256)))),
    "png gamma": png(8, 2, 36, before=chunk(b"gAMA", struct.pack(">I", 100000))),
    "png one colour transparent": png(8, 2, 36, before=chunk(b"tRNS", b"\0\1\0\2\0\3")),
    "png turned": png(8, 2, 36, before=chunk(b"eXIf", ORIENTATION)),
    "bmp": bmp(5, 7, 24),
    "bmp from the top": bmp(5, -7, 24),
    "bmp 32 bits": bmp(5, 7, 32),
}


@pytest.mark.parametrize("name", DECODED)
def test_pixels_are_tensorflows(name):
    tf = pytest.importorskip("tensorflow")
    expected = tf.io.decode_image(DECODED[name], channels=3).numpy()
    decoded = decode_image(DECODED[name], name)
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    assert decoded.shape == expected.shape and (decoded == expected).all()


def test_the_accurate_dct_is_opencvs_and_differs():
    tf = pytest.importorskip("tensorflow")
    data = jpeg()
    accurate = decode_image(data, fast_dct=False)
    expected = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    assert (accurate == expected).all()
    opencvs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert (accurate == opencvs).all()
    assert (accurate != decode_image(data)).any()


REFUSED = {
    "empty": (b"", "0 bytes"),
    "text": (b"no image", "is no JPEG, PNG or BMP"),
    "jpeg header": (jpeg()[:100], "damaged or cut short"),
    "jpeg half": (jpeg()[: len(jpeg()) // 2], "damaged or cut short"),
    "jpeg end": (jpeg()[:-2], "damaged or cut short"),
    "jpeg garbled": (jpeg()[:1500] + bytes(300) + jpeg()[1800:], "damaged or cut short"),
    "png header": (DECODED["png"][:20], "header ends after 20 bytes"),
    "png half": (DECODED["png"][:2000], "damaged or cut short"),
    "png flipped": (DECODED["png"][:900] + b"!" + DECODED["png"][901:], "damaged or cut short"),
    "png huge": (png(8, 2, 0, width=60000, height=60000), "give an image of 1 to 30000"),
    "png large": (png(8, 2, 0, width=20000, height=20000), "at most 134217728"),
    "bmp header": (b"BM123", "header ends after 5 bytes"),
    "bmp end": (bmp(5, 7, 24)[:-1], "not those of its pixels"),
    "bmp 16 bits": (bmp(5, 7, 16), "16 bits"),
    "bmp palette": (bmp(8, 7, 8), "8 bits"),
    "bmp huge": (bmp(5, -(2**31), 24, b""), "give an image of 1 to 30000"),
    "gif": (b"GIF89a" + bytes(20), "sequence of frames"),
    "webp": (b"RIFF\x10\0\0\0WEBPVP8 ", "sequence of frames"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_decoded_exactly_is_refused(name, tmp_path):
    data, message = REFUSED[name]
    path = tmp_path / "ü.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert "ü.jpg" in str(caught.value)


def test_a_huge_jpeg_is_refused_before_it_is_decoded():
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(InputError, match="65000x65000"):
        decode_image(bytes(data), "big.jpg")


def test_what_makes_an_animation_of_a_png_changes_nothing():
    """OpenCV would show a frame of it, or nothing."""
    plain = png(8, 2, 36)
    at = plain.index(b"IDAT") - 4
    animated = plain[:at] + chunk(b"acTL", struct.pack(">II", 2, 0)) + plain[at:]
    assert (decode_image(animated) == decode_image(plain)).all()
    tf = pytest.importorskip("tensorflow")
    assert (decode_image(animated) == tf.io.decode_image(animated, channels=3).numpy()).all()


def test_a_damaged_part_of_a_png():
    """Of a part that makes no pixels it is none."""
    plain = png(8, 2, 36)
    at = plain.index(b"IDAT") - 4
    text = bytearray(chunk(b"tEXt", b"a\0b"))
    text[-1] ^= 1
    assert (decode_image(plain[:at] + bytes(text) + plain[at:]) == decode_image(plain)).all()
    for kind in (b"IHDR", b"IDAT", b"IEND"):
        changed = bytearray(plain)
        changed[
            plain.index(kind) + 4 + struct.unpack_from(">I", plain, plain.index(kind) - 4)[0]
        ] ^= 1
        with pytest.raises(
            InputError, match=f"its part '{kind.decode()}' does not have its checksum"
        ):
            decode_image(bytes(changed))
    with pytest.raises(InputError, match="its header ends"):
        decode_image(plain[:-12])


def test_bytes_behind_a_bmp():
    with pytest.raises(InputError, match="not those of its pixels"):
        decode_image(bmp(5, 7, 24) + b"x")


@pytest.mark.parametrize("between", [b"", b"\xff\xff", b"garbage", b"\xff\x00\xff\x01"])
def test_the_size_of_a_jpeg_is_where_libjpeg_finds_it(between):
    """It skips what belongs to no segment, with a warning."""
    data = jpeg()
    at = data.index(b"\xff\xc0")
    odd = data[:at] + between + data[at:]
    check_encoded(odd, "odd.jpg")
    large = bytearray(odd)
    at += len(between)
    large[at + 5 : at + 9] = struct.pack(">HH", 60000, 50000)
    with pytest.raises(InputError, match="odd.jpg is 50000x60000 pixels"):
        check_encoded(bytes(large), "odd.jpg")


@pytest.mark.parametrize("kind", ["pipe", "zeros", "sparse"])
def test_what_is_no_image_file_is_not_waited_for(kind, tmp_path):
    path = tmp_path / "image.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 2**40)
    with pytest.raises(InputError, match=r"cannot be read \(it (is|has)"):
        read_image(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="missing.jpg cannot be read"):
        read_image(tmp_path / "missing.jpg")


def test_all_photographs_decode_as_tensorflow_decodes_them(test_data):
    tf = pytest.importorskip("tensorflow")
    paths = sorted((test_data / "coco_tiny" / "val2017").glob("*.jpg"))
    assert len(paths) == 80
    for path in paths:
        expected = tf.io.decode_image(path.read_bytes(), channels=3).numpy()
        assert (read_image(path) == expected).all(), path.name
