"""Decoding: TensorFlow's pixels, bit for bit, or a clear refusal."""

import os
import re
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from made_images import waves
from odd_jpegs import CHANGES, SOUND, between, cut, garbled, odd, scans

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


def interlaced(depth, colour, channels, width=13, height=11):
    """Adam7: seven images of ever more pixels (PNG specification, 8.2)."""
    rows = b""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    for left, top, right, down in (*passes, (0, 1, 1, 2)):
        wide, high = -(-(width - left) // right), -(-(height - top) // down)
        rows += b"".join(
            bytes([row % 5]) + draw((wide * depth * channels + 7) // 8) for row in range(high)
        )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bmp(width, height, bits, data=None, compression=0):
    row = (width * bits // 8 + 3) // 4 * 4
    data = draw(row * abs(height)) if data is None else data
    header = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0
    )
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
    "jpeg without codes": jpeg().replace(b"\xff\xc4", b"\xff\xfe"),
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
    "bmp 8 bits": bmp(5, 7, 8),
    "bmp 8 bits from the top": bmp(33, -3, 8),
    "bmp one pixel": bmp(1, 1, 24),
    "bmp said to be compressed": bmp(5, 7, 32, compression=3),
}
for colour, depths, channels in ((0, (1, 2, 4, 8, 16), 1), (2, (8, 16), 3), (4, (8, 16), 2)):
    for depth in depths:
        DECODED[f"png interlaced {colour} {depth}"] = interlaced(depth, colour, channels)
DECODED |= {f"jpeg {name}": data for name, data in SOUND.items()}


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
    "jpeg cut behind damage": (jpeg()[:1500] + bytes(300) + jpeg()[1800:-9], "before the image"),
    "jpeg lossless": (jpeg().replace(b"\xff\xc0", b"\xff\xc3"), "0xc3: lossless"),
    "jpeg two images in one": (jpeg()[:20] + jpeg(), "no frame header"),
    "jpeg two images behind a frame": (jpeg()[:-2] + jpeg(), "two SOI"),
    "png header": (DECODED["png"][:20], "header ends after 20 bytes"),
    "png half": (DECODED["png"][:2000], "damaged or cut short"),
    "png flipped": (DECODED["png"][:900] + b"!" + DECODED["png"][901:], "damaged or cut short"),
    "png huge": (png(8, 2, 0, width=60000, height=60000), "give an image of 1 to 30000"),
    "png large": (png(8, 2, 0, width=20000, height=20000), "at most 134217728"),
    "bmp header": (b"BM123", "header ends after 5 bytes"),
    "bmp end": (bmp(5, 7, 24)[:-1], "not those of its pixels"),
    "bmp 16 bits": (bmp(5, 7, 16), "16 bits"),
    "bmp palette": (bmp(8, 7, 4), "4 bits"),
    "bmp from nowhere": (bmp(5, 7, 24).replace(b"\x36\0\0\0", b"\xff" * 4, 1), "of its pixels"),
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


def tensorflows(data):
    """TensorFlow's pixels; None where it refuses."""
    tf = pytest.importorskip("tensorflow")
    try:
        return tf.io.decode_image(data, channels=3).numpy()
    except tf.errors.InvalidArgumentError:
        return None


def ours(data):
    """The pixels; None where they are refused, and a text where on purpose."""
    try:
        return decode_image(data)
    except InputError as error:
        return "ours" if re.search("last scans|pixels; give", str(error)) else None


def disagreeing(files):
    """Places of the files that one side decodes and the other refuses, or decodes otherwise."""
    wrong = []
    for place, data in enumerate(files):
        expected, found = tensorflows(data), ours(data)
        if isinstance(found, str):
            continue
        if (expected is None) != (found is None) or (
            expected is not None and not np.array_equal(expected, found)
        ):
            wrong.append(place)
    return wrong


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", SOUND)
def test_odd_jpegs_are_decoded_as_tensorflow_does_or_refused_as_it_does(name, change):
    files = odd(change, name)
    assert not disagreeing(files)


def test_odd_jpegs_are_of_both_kinds():
    """A comparison in which everything is refused, or nothing, would show little."""
    for change, least in ((between, 20), (garbled, 100)):
        assert sum(tensorflows(data) is not None for data in odd(change, "420")) >= least
    assert sum(tensorflows(data) is None for data in odd(cut, "420")) >= 40


def test_a_decoder_that_takes_every_warning_is_found(monkeypatch):
    """TensorFlow refuses a file that ends too early, of which libjpeg only warns."""
    monkeypatch.setattr("torch_model.jpeg._Decoder._has_its_end", lambda self: True)
    assert disagreeing(odd(cut, "420"))


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    """libjpeg smooths it, and versions of it do so differently."""
    for data in scans(SOUND["progressive"]):
        with pytest.raises(InputError, match="progressive JPEG without its last scans"):
            decode_image(data, "a.jpg")


def test_pngs_that_are_cut_anywhere():
    data = png(8, 2, 36)
    assert not disagreeing(data[:end] for end in range(8, len(data)))


@pytest.mark.parametrize("transform", [0, 1, 2, 3, 255])
def test_what_adobe_says_of_the_colours(transform):
    marker = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    plain = jpeg("444")
    bare = plain[:2] + plain[20:]
    assert plain[2:4] == b"\xff\xe0"
    files = [plain[:20] + marker + plain[20:], bare[:2] + marker + bare[2:], bare]
    odd_inks = bytearray(inks())
    odd_inks[odd_inks.index(b"Adobe") + 11] = transform
    unknown = bytearray(plain)
    unknown[11] = 7
    files += [bytes(odd_inks), bytes(unknown)]
    assert not disagreeing(files)
    assert all(tensorflows(data) is not None for data in files)


def test_hostile_scans_take_no_time():
    """Headers of scans with as many colours and coefficients as bytes can name."""
    start = SOUND["progressive"].index(b"\xff\xda")
    scan = b"\xff\xda\x02\x04\xff" + bytes(range(255)) * 2 + b"\0\xff\0"
    data = SOUND["progressive"][:start] + scan * 20_000 + SOUND["progressive"][start:]
    began = time.process_time()
    with pytest.raises(InputError):
        decode_image(data)
    assert time.process_time() - began < 5


def test_segments_without_end(monkeypatch):
    monkeypatch.setattr("efficientdet_spec.encoded.MAX_SEGMENTS", 50)
    many = jpeg()[:2] + b"\xff\xfe\0\2" * 60 + jpeg()[2:]
    with pytest.raises(InputError, match="more than 50 segments"):
        check_encoded(many)
    with pytest.raises(InputError, match="more than 50 segments"):
        decode_image(many)
