"""The table container: layout, and every way in which one can be damaged."""

import random
import struct

import google_crc32c
import pytest

from converter.tensorflow_files import table
from converter.tensorflow_files.table import mask_crc, read_table, unmask_crc, write_table
from converter.tensorflow_files.wire import varint
from efficientdet_spec import InputError

SOURCE = "model.index"


def _block(entries, restarts=(0,), block_type=0, crc_error=0):
    content = entries + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    covered = content + bytes([block_type])
    crc = mask_crc(google_crc32c.value(covered)) ^ crc_error
    return content, covered + struct.pack("<I", crc)


def _entry(shared, key, value):
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def _table(entries, restarts=(0,), separator=b"\xff", **trailer):
    """Return a table of one data block, which is sound but for what the arguments make of it."""
    content, data = _block(entries, restarts, **trailer)
    meta_content, meta = _block(b"")
    index_content, index = _block(_entry(0, separator, varint(0) + varint(len(content))))
    places = varint(len(data)) + varint(len(meta_content))
    places += varint(len(data) + len(meta)) + varint(len(index_content))
    return data + meta + index + places.ljust(40, b"\0") + table.MAGIC


def _many(count):
    return [(f"scope/{i:06d}/kernel".encode(), bytes([i % 251]) * (i % 300)) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 16, 17, 5000])
def test_round_trip(count):
    items = _many(count)
    assert read_table(write_table(items), SOURCE) == items


def test_round_trip_of_random_keys_over_many_blocks(monkeypatch):
    monkeypatch.setattr(table, "_BLOCK_SIZE", 64)
    generator = random.Random(0)
    keys = {generator.randbytes(generator.randrange(12)) for _ in range(2000)}
    keys |= {bytes([0xFF]) * n for n in range(1, 9)} | {bytes([0xFF, 0xFE]), b""}
    items = [(key, generator.randbytes(generator.randrange(20))) for key in sorted(keys)]
    data = write_table(items)
    assert len(data) > 64 * 100
    assert read_table(memoryview(data), SOURCE) == items


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"]])
def test_writing_refuses_keys_that_do_not_ascend(keys):
    with pytest.raises(ValueError, match="must ascend"):
        write_table([(key, b"") for key in keys])


@pytest.mark.parametrize("crc", [0, 1, 0x8A9136AA, 0xFFFFFFFF])
def test_masking_is_undone(crc):
    assert unmask_crc(mask_crc(crc)) == crc


def test_masking_is_tensorflows():
    # CRC32C of nothing, as it stands in index files for empty tensors.
    assert mask_crc(0) == 0xA282EAD8


def test_the_sound_table_of_these_tests_is_accepted():
    entries = _entry(0, b"abc", b"1") + _entry(2, b"d", b"2")
    assert read_table(_table(entries), SOURCE) == [(b"abc", b"1"), (b"abd", b"2")]


DAMAGE = {
    "prefix longer than the previous key": (
        dict(entries=_entry(0, b"a", b"") + _entry(2, b"b", b"")),
        "shares 2 bytes with one that has only 1",
    ),
    "shared prefix without a previous key": (
        dict(entries=_entry(1, b"a", b"")),
        "shares 1 bytes with one that has only 0",
    ),
    "descending keys": (
        dict(entries=_entry(0, b"b", b"") + _entry(0, b"a", b"")),
        "not greater than the one before",
    ),
    "duplicate keys": (
        dict(entries=_entry(0, b"a", b"") + _entry(1, b"", b"")),
        "not greater than the one before",
    ),
    "duplicate empty keys": (
        dict(entries=_entry(0, b"", b"1") + _entry(0, b"", b"2")),
        "not greater than the one before",
    ),
    "key past the block": (
        dict(entries=varint(0) + varint(1 << 62) + varint(0) + b"a"),
        "runs past the end of its block",
    ),
    "value past the block": (
        dict(entries=varint(0) + varint(1) + varint(9) + b"a"),
        "runs past the end of its block",
    ),
    "endless number": (dict(entries=b"\x80" * 30), "longer than 64 bits"),
    "number over 64 bits": (dict(entries=b"\xff" * 9 + b"\x7f"), "longer than 64 bits"),
    "number cut off": (dict(entries=b"\x00\x80"), "runs past the end of its record"),
    "no restart point": (
        dict(entries=_entry(0, b"a", b""), restarts=()),
        "claims 0 restart points",
    ),
    "restart point inside an entry": (
        dict(entries=_entry(0, b"a", b""), restarts=(0, 1)),
        "restart points",
    ),
    "restart point at a key with a prefix": (
        dict(entries=_entry(0, b"a", b"") + _entry(1, b"b", b""), restarts=(0, 4)),
        "restart points",
    ),
    "restart points out of order": (
        dict(entries=_entry(0, b"a", b"") + _entry(0, b"b", b""), restarts=(0, 4, 0)),
        "restart points",
    ),
    "first restart point not at the start": (
        dict(entries=_entry(0, b"a", b"") + _entry(0, b"b", b""), restarts=(4,)),
        "restart points",
    ),
    "keys beyond the index's": (
        dict(entries=_entry(0, b"b", b""), separator=b"a"),
        "not those the index names",
    ),
    "data block without pairs": (dict(entries=b""), "not those the index names"),
    "wrong checksum": (dict(entries=_entry(0, b"a", b""), crc_error=1), "as stored"),
}


@pytest.mark.parametrize(("arguments", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        read_table(_table(**arguments), SOURCE)
    assert str(caught.value).startswith(SOURCE)


@pytest.mark.parametrize(("block_type", "name"), [(1, "Snappy"), (2, "type 2")])
def test_compressed_blocks_are_refused(block_type, name):
    data = _table(_entry(0, b"a", b""), block_type=block_type)
    with pytest.raises(InputError, match=rf"compressed \({name}\).*save it again"):
        read_table(data, SOURCE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes is too short"),
        (bytes(3), "3 bytes is too short"),
        (b"\xff" * 4, "claims 4294967295 restart points"),
    ],
)
def test_blocks_without_room_for_their_restart_points(content, message):
    covered = content + b"\0"
    block = covered + struct.pack("<I", mask_crc(google_crc32c.value(covered)))
    place = varint(0) + varint(len(content))
    with pytest.raises(InputError, match=message):
        read_table(block + (place + place).ljust(40, b"\0") + table.MAGIC, SOURCE)


@pytest.mark.parametrize(
    ("footer", "message"),
    [
        (varint(0) + varint(1 << 63) + varint(0) + varint(0), "runs into the footer"),
        (varint((1 << 64) - 1) + varint(0) + varint(0) + varint(0), "runs into the footer"),
        (varint(0) + varint(8) + varint(1000) + varint(8), "runs into the footer"),
        (b"\x80" * 40, "longer than 64 bits"),
        (varint(0) + varint(8) + varint(13) + varint(8) + b"x", "bytes after the place"),
    ],
)
def test_footers_that_lie(footer, message):
    data = write_table([])[:-48] + footer.ljust(40, b"\0") + table.MAGIC
    with pytest.raises(InputError, match=message):
        read_table(data, SOURCE)


def test_index_entries_with_extra_bytes():
    content, data = _block(_entry(0, b"a", b""))
    meta_content, meta = _block(b"")
    index_content, index = _block(_entry(0, b"a", varint(0) + varint(len(content)) + b"x"))
    places = varint(len(data)) + varint(len(meta_content))
    places += varint(len(data) + len(meta)) + varint(len(index_content))
    with pytest.raises(InputError, match="is too long"):
        read_table(data + meta + index + places.ljust(40, b"\0") + table.MAGIC, SOURCE)


def test_one_block_named_twice():
    content, data = _block(_entry(0, b"a", b""))
    meta_content, meta = _block(b"")
    place = varint(0) + varint(len(content))
    index_content, index = _block(_entry(0, b"a", place) + _entry(0, b"b", place))
    places = varint(len(data)) + varint(len(meta_content))
    places += varint(len(data) + len(meta)) + varint(len(index_content))
    with pytest.raises(InputError, match="not those the index names"):
        read_table(data + meta + index + places.ljust(40, b"\0") + table.MAGIC, SOURCE)


def test_keys_that_unfold_to_more_than_the_memory():
    long = bytes(1 << 20)
    entries = _entry(0, long, b"")
    entries += b"".join(_entry(len(long) + i, b"a", b"") for i in range(100))
    with pytest.raises(InputError, match="keys take more than"):
        read_table(_table(entries), SOURCE)


@pytest.mark.parametrize("data", [b"", b"x", table.MAGIC, bytes(48), bytes(1000)])
def test_files_that_are_no_tables(data):
    with pytest.raises(InputError, match=rf"model\.index is not .* its {len(data)} bytes"):
        read_table(data, SOURCE)


def test_every_truncation_is_found():
    data = write_table(_many(40))
    for length in range(len(data)):
        with pytest.raises(InputError):
            read_table(data[:length], SOURCE)


def test_every_flipped_byte_is_found():
    items = _many(40)
    data = bytearray(write_table(items))
    accepted = []
    for position in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            data[position] ^= mask
            try:
                assert read_table(bytes(data), SOURCE) == items
                accepted.append(position)
            except InputError:
                pass
            data[position] ^= mask
    # Only the footer may spell the same number with one byte more.
    assert len(accepted) < 4
    assert all(position >= len(data) - 48 for position in accepted)


def test_random_blocks_with_good_checksums_never_raise_anything_else():
    generator = random.Random(1)
    sound = _entry(0, b"abA", b"v")
    sound += b"".join(_entry(2, b"%c" % (65 + i), b"v") for i in range(1, 20))
    refused = 0
    for _ in range(3000):
        entries = bytearray(sound)
        for _ in range(generator.randrange(1, 4)):
            entries[generator.randrange(len(entries))] = generator.randrange(256)
        try:
            read_table(_table(bytes(entries)), SOURCE)
        except InputError:
            refused += 1
    assert 0 < refused < 3000
