"""Checkpoint bundles: round trips, and every way in which a user's files can be wrong."""

import errno
import io
import os
import random
import struct
import time
import tracemalloc
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from converter.fetch.sources import resolve
from converter.tensorflow_files import bundle, bundle_writer, wire
from converter.tensorflow_files.bundle import open_bundle, read_index
from converter.tensorflow_files.bundle_writer import write_bundle
from converter.tensorflow_files.table import mask_crc, write_table
from efficientdet_spec import InputError, locked

TENSORS = {
    "scope/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "scope/kernel/ExponentialMovingAverage": np.linspace(-1, 1, 24, dtype=np.float32),
    "a_scalar": np.float32(0.5).reshape(()),
    "bytes": np.arange(3, dtype=np.uint8),
    "double": np.array([np.nan, -0.0, 1e300]),
    "empty": np.zeros((2, 0, 3), np.float32),
    "flags": np.array([True, False]),
    "global_step": np.array(12345678901, np.int64),
    "half": np.array([[1.5], [2.5]], np.float16),
    "integers": np.array([-1, 2], np.int32),
    "naïve/Ümlaut": np.array([1 + 2j], np.complex64),
}


@pytest.fixture
def prefix(tmp_path):
    write_bundle(tmp_path / "model", TENSORS)
    return tmp_path / "model"


def _data_path(prefix):
    return prefix.with_name(prefix.name + ".data-00000-of-00001")


def _index_path(prefix):
    return prefix.with_name(prefix.name + ".index")


def _record(**changes):
    values = dict(
        dtype=1,
        shape=(2,),
        shard=0,
        offset=0,
        size=8,
        masked_crc=mask_crc(google_crc32c.value(bytes(8))),
    )
    return wire.encode_record(wire.Record(**(values | changes)))


def _write_raw(tmp_path, records, header=None, data=bytes(8)):
    """Write a bundle of raw records, which are sound but for what the arguments make of them."""
    header = wire.encode_header(1) if header is None else header
    prefix = tmp_path / "raw"
    items = [(b"", header), *sorted(records.items())]
    _index_path(prefix).write_bytes(write_table(items))
    _data_path(prefix).write_bytes(data)
    return prefix


def _flip(path, position, mask=0xFF):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


def _signed(value):
    return wire.varint(value & ((1 << 64) - 1))


# Round trips


def test_round_trip_is_bit_exact(prefix):
    opened = open_bundle(prefix)
    assert list(opened.index.entries) == sorted(TENSORS)
    for name, expected in TENSORS.items():
        values = opened.read(name)
        assert values.dtype == expected.dtype
        assert values.shape == expected.shape
        assert values.tobytes() == expected.tobytes()


def test_entries_say_where_values_lie(prefix):
    entry = read_index(_index_path(prefix)).entries["a_scalar"]
    assert (entry.dtype, entry.dtype_name, entry.shape) == (np.float32, "DT_FLOAT", ())
    assert (entry.shard, entry.offset, entry.size) == (0, 0, 4)
    assert entry.crc32c == google_crc32c.value(struct.pack("<f", 0.5))


def test_values_are_aligned_read_only_and_their_own(prefix):
    opened = open_bundle(prefix)
    for name, expected in TENSORS.items():
        values = opened.read(name)
        assert values.flags.aligned
        assert not values.flags.writeable
        assert not expected.size or not np.shares_memory(values, opened.read(name))


def test_values_outlive_the_bundle_and_the_files(prefix):
    values = open_bundle(prefix).read("a_scalar")
    opened = open_bundle(prefix)
    new = write_bundle(prefix, {"a_scalar": np.float32(7).reshape(())})
    assert values == opened.read("a_scalar") == 0.5
    assert open_bundle(new).read("a_scalar") == 7


def test_written_files_do_not_depend_on_the_order_of_the_tensors(prefix, tmp_path):
    (tmp_path / "other").mkdir()
    write_bundle(tmp_path / "other" / "model", dict(reversed(TENSORS.items())))
    for path in (_data_path(prefix), _index_path(prefix), prefix.with_name("checkpoint")):
        assert (tmp_path / "other" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "values",
    [np.arange(6, dtype=">f4").reshape(2, 3), np.arange(12, dtype="f4").reshape(3, 4).T[::2]],
    ids=["big-endian", "strided"],
)
def test_any_memory_layout_is_written(tmp_path, values):
    write_bundle(tmp_path / "model", {"x": values})
    np.testing.assert_array_equal(open_bundle(tmp_path / "model").read("x"), values)


@pytest.mark.parametrize("tensors", [{}, {"empty": np.zeros((0,), np.float32)}])
def test_bundles_without_bytes(tmp_path, tensors):
    write_bundle(tmp_path / "model", tensors)
    opened = open_bundle(tmp_path / "model")
    assert {name: opened.read(name).shape for name in tensors} == {
        name: values.shape for name, values in tensors.items()
    }


def test_state_file_names_the_checkpoint(tmp_path):
    write_bundle(tmp_path / 'my "model"', {})
    assert (tmp_path / "checkpoint").read_text() == (
        'model_checkpoint_path: "my \\042model\\042"\n'
        'all_model_checkpoint_paths: "my \\042model\\042"\n'
    )


def test_several_data_files(tmp_path):
    prefix = tmp_path / "model"
    second = struct.pack("<f", 2.5)
    items = [
        (b"", wire.encode_header(2)),
        (b"a", _record()),
        (
            b"b",
            _record(shape=(), shard=1, size=4, masked_crc=mask_crc(google_crc32c.value(second))),
        ),
    ]
    _index_path(prefix).write_bytes(write_table(items))
    (tmp_path / "model.data-00000-of-00002").write_bytes(bytes(8))
    (tmp_path / "model.data-00001-of-00002").write_bytes(second)
    opened = open_bundle(prefix)
    assert opened.read("a").tolist() == [0, 0]
    assert opened.read("b") == 2.5


# Fingerprints


def test_fingerprint_names_the_content(prefix, tmp_path):
    index = read_index(_index_path(prefix))
    fingerprint = index.fingerprint()
    assert len(fingerprint) == 64
    assert index.fingerprint(reversed(list(TENSORS))) == fingerprint
    assert index.fingerprint(["flags"]) != fingerprint
    with pytest.raises(KeyError):
        index.fingerprint(["missing"])

    write_bundle(tmp_path / "same", TENSORS)
    assert read_index(tmp_path / "same.index").fingerprint() == fingerprint
    write_bundle(tmp_path / "other", TENSORS | {"integers": np.array([-1, 3], np.int32)})
    assert read_index(tmp_path / "other.index").fingerprint() != fingerprint
    renamed = {"renamed" if name == "flags" else name: TENSORS[name] for name in TENSORS}
    write_bundle(tmp_path / "renamed", renamed)
    assert read_index(tmp_path / "renamed.index").fingerprint() != fingerprint


# Files that are no index


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "looks like a Keras HDF5 file"),
        (b"PK\x03\x04" + bytes(100), "looks like a ZIP archive"),
        (b"\x1f\x8b" + bytes(100), "looks like a gzip archive"),
        (b'model_checkpoint_path: "model"\n', "looks like a checkpoint state file"),
        (bytes(47), "its 47 bytes do not end in the table magic number"),
        (bytes(1000), "its 1000 bytes do not end in the table magic number"),
    ],
)
def test_other_files_are_recognised(tmp_path, content, message):
    path = tmp_path / "model.index"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_index(path)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(InputError, match=message):
        open_bundle(tmp_path / "model")


def test_paths_that_are_no_index(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_index(tmp_path / "missing.index")
    with pytest.raises(InputError, match="not a regular file"):
        read_index(tmp_path)


def test_indexes_of_an_absurd_size_are_not_read(tmp_path):
    path = tmp_path / "model.index"
    with open(path, "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InputError, match=r"has 1099511627776 bytes"):
        read_index(path)


def test_a_missing_index_says_what_was_given_instead(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(InputError, match=r"model\.h5 itself looks like a Keras HDF5 file"):
        open_bundle(tmp_path / "model.h5")
    with pytest.raises(InputError, match=r"itself is a folder; .*without \.index"):
        open_bundle(tmp_path)
    with pytest.raises(InputError, match=r"missing\.index is missing or not a regular file; expec"):
        open_bundle(tmp_path / "missing")


@pytest.mark.parametrize("prefix", [Path(""), Path("/")])
def test_prefixes_without_a_name(prefix):
    with pytest.raises(InputError, match="names a folder"):
        open_bundle(prefix)
    with pytest.raises(InputError, match="names a folder"):
        write_bundle(prefix, {})


# Damaged and lying indexes


def test_every_truncated_index_is_refused(prefix):
    path = _index_path(prefix)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError):
            read_index(path)


def test_every_flipped_byte_of_an_index_is_found_or_harmless(tmp_path):
    prefix = tmp_path / "model"
    write_bundle(prefix, dict(list(TENSORS.items())[:3]))
    path = _index_path(prefix)
    sound = read_index(path)
    data = path.read_bytes()
    refused = 0
    for position in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            changed = bytearray(data)
            changed[position] ^= mask
            path.write_bytes(changed)
            try:
                assert read_index(path) == sound
            except InputError:
                refused += 1
    assert refused >= 3 * len(data) - 3


HEADERS = {
    "big-endian": (b"\x08\x01\x10\x01", "big-endian"),
    "no data files": (b"", "claims 0 data files"),
    "negative number of data files": (b"\x08" + _signed(-1), "claims -1 data files"),
    "newer format": (b"\x08\x01\x1a\x02\x10\x02", "format version 2"),
    "endless number": (b"\x08" + b"\xff" * 20, "longer than 64 bits"),
    "wrong wire type": (b"\x0a\x00", "header field 1 has wire type 2"),
    "group": (b"\x0b", "wire type 3"),
    "field zero": (b"\x00\x00", "header field 0"),
}


@pytest.mark.parametrize(("header", "message"), HEADERS.values(), ids=HEADERS)
def test_headers_that_cannot_be_used(tmp_path, header, message):
    prefix = _write_raw(tmp_path, {b"x": _record()}, header)
    with pytest.raises(InputError, match=message) as caught:
        read_index(_index_path(prefix))
    assert str(caught.value).startswith(str(_index_path(prefix)))


def test_tables_without_a_header(tmp_path):
    path = tmp_path / "model.index"
    for items in ([], [(b"x", _record())]):
        path.write_bytes(write_table(items))
        with pytest.raises(InputError, match="without a checkpoint header"):
            read_index(path)


def _shape(*extents):
    dims = b"".join(
        b"\x12" + wire.varint(len(d)) + d for d in (b"\x08" + _signed(e) for e in extents)
    )
    return b"\x12" + wire.varint(len(dims)) + dims


RECORDS = {
    "no type": (_record(dtype=0), "has no type"),
    "size too small": (_record(size=7), "takes 8 bytes, but 7 are recorded"),
    "size too large": (_record(size=9), "takes 8 bytes, but 9 are recorded"),
    "negative extent": (b"\x08\x01" + _shape(-2), r"negative shape \[-2\]"),
    "negative extents with a good product": (
        b"\x08\x01" + _shape(-1, -2) + b"\x28\x08",
        "negative shape",
    ),
    "product wraps around to the size": (
        _record(shape=(1 << 62, 4), size=0),
        "takes 73786976294838206464 bytes",
    ),
    "empty but too large": (_record(shape=(1 << 62, 0), size=0), "takes 0 bytes"),
    "too many dimensions": (_record(shape=(1,) * 33, size=4), "33 dimensions"),
    "data file out of range": (_record(shard=1), "data file 1 of 1"),
    "negative data file": (
        b"\x08\x01\x12\x00\x18" + _signed(-1) + b"\x28\x04",
        "data file -1 of 1",
    ),
    "negative offset": (b"\x08\x01\x12\x00\x20" + _signed(-4) + b"\x28\x04", "offset -4"),
    "negative size": (b"\x08\x01\x12\x00\x28" + _signed(-4), "size -4"),
    "offset beyond 64 bits": (
        _record(offset=(1 << 63) - 1),
        "offset 9223372036854775807",
    ),
    "unknown rank": (b"\x08\x01\x12\x02\x18\x01", "unknown rank"),
    "wrong wire type of the shape": (b"\x08\x01\x10\x02", "entry field 2 has wire type 0"),
    "wrong wire type of an extent": (b"\x08\x01\x12\x02\x10\x02", "shape field 2 has wire type 0"),
    "checksum cut off": (b"\x08\x01\x35\x00", "runs past the end of its record"),
    "shape cut off": (b"\x08\x01\x12\x7f\x00", "runs past the end of its record"),
    "endless number": (b"\x08" + b"\x80" * 20, "longer than 64 bits"),
}


@pytest.mark.parametrize(("record", "message"), RECORDS.values(), ids=RECORDS)
def test_records_that_lie(tmp_path, record, message):
    prefix = _write_raw(tmp_path, {b"name": record})
    with pytest.raises(InputError, match=message) as caught:
        read_index(_index_path(prefix))
    assert str(caught.value).startswith(str(_index_path(prefix)))
    assert "'name'" in str(caught.value)


def test_the_sound_record_of_these_tests_is_accepted(tmp_path):
    prefix = _write_raw(tmp_path, {b"name": _record()})
    assert open_bundle(prefix).read("name").tolist() == [0, 0]


def test_names_that_are_not_text(tmp_path):
    prefix = _write_raw(tmp_path, {b"a\xff": _record()})
    with pytest.raises(InputError, match="not UTF-8"):
        read_index(_index_path(prefix))


def test_names_cannot_break_the_message(tmp_path):
    prefix = _write_raw(tmp_path, {b"a\n\x1b[2J": _record(size=7)})
    with pytest.raises(InputError) as caught:
        read_index(_index_path(prefix))
    assert str(caught.value).isprintable()


def test_partitioned_tensors_are_refused(tmp_path):
    whole = _record() + b"\x3a\x00"
    prefix = _write_raw(tmp_path, {b"\0x\0\1": _record(), b"x": whole})
    with pytest.raises(InputError, match="tensor 'x' in several pieces"):
        read_index(_index_path(prefix))
    prefix = _write_raw(tmp_path, {b"\0x\0\1": _record()})
    with pytest.raises(InputError, match="pieces of partitioned tensors"):
        read_index(_index_path(prefix))


@pytest.mark.parametrize(
    ("number", "dtype_name"), [(7, "DT_STRING"), (11, "DT_QINT8"), (99, "type 99")]
)
def test_other_types_are_listed_but_not_read(tmp_path, number, dtype_name):
    records = {b"x": _record(dtype=number), b"y": _record(offset=8)}
    prefix = _write_raw(tmp_path, records, data=bytes(16))
    opened = open_bundle(prefix)
    assert opened.index.entries["x"].dtype is None
    assert opened.index.entries["x"].dtype_name == dtype_name
    assert opened.read("y").tolist() == [0, 0]
    with pytest.raises(InputError, match=f"'x' .* has type {dtype_name}"):
        opened.read("x")


def test_bfloat16_is_read_as_the_float32_that_it_is(tmp_path):
    # 1, -2, infinity and NaN: the upper halves of their float32.
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x7FC0], "<u2")
    crc = mask_crc(google_crc32c.value(bits.tobytes()))
    records = {b"x": _record(dtype=14, shape=(2, 2), masked_crc=crc)}
    opened = open_bundle(_write_raw(tmp_path, records, data=bits.tobytes()))
    values = opened.read("x")
    assert opened.index.entries["x"].dtype is None and not values.flags.writeable
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [[1, -2], [np.inf, np.nan]])
    assert opened.verify("x") == 2


def test_bfloat16_of_another_size_is_damaged(tmp_path):
    prefix = _write_raw(tmp_path, {b"x": _record(dtype=14, shape=(3,))}, data=bytes(8))
    with pytest.raises(InputError, match="takes 6 bytes, but 8 are recorded"):
        open_bundle(prefix)


def test_random_records_with_good_checksums_never_raise_anything_else(tmp_path):
    generator = random.Random(0)
    refused = 0
    for _ in range(1500):
        record = bytearray(_record(shape=(1, 2), offset=8, size=8))
        for _ in range(generator.randrange(1, 4)):
            record[generator.randrange(len(record))] = generator.randrange(256)
        prefix = _write_raw(tmp_path, {b"a": _record(), b"x": bytes(record)}, data=bytes(16))
        try:
            opened = open_bundle(prefix)
            if opened.index.entries["x"].dtype is not None:
                opened.read("x")
        except InputError:
            refused += 1
    assert 0 < refused < 1500


# Damaged data


def test_missing_tensors(prefix):
    with pytest.raises(InputError, match=r"model\.index lists no tensor 'nothing' among its 11"):
        open_bundle(prefix).read("nothing")


def test_missing_data_file(prefix):
    _data_path(prefix).unlink()
    with pytest.raises(InputError, match=r"model\.data-00000-of-00001 is missing"):
        open_bundle(prefix)


def test_truncated_data_is_found_at_opening(prefix):
    path = _data_path(prefix)
    size = path.stat().st_size
    for length in (size - 1, 1, 0):
        os.truncate(path, length)
        with pytest.raises(InputError, match=f"is truncated: it has {length} bytes, but tensor"):
            open_bundle(prefix)


PLACES = {
    "far outside": ({b"a": 0, b"x": 1 << 60}, "'x' .* leaves 1152921504606846968 bytes behind"),
    "a hole": ({b"a": 0, b"x": 12}, r"'x' .* leaves 4 bytes behind tensor 'a', which ends at 8"),
    "a hole at the beginning": ({b"x": 4}, "'x' .* leaves 4 bytes behind the beginning"),
    "an overlap": ({b"a": 0, b"x": 4}, "'x' .* overlaps tensor 'a', which ends at 8"),
    "the same place": ({b"a": 0, b"x": 0}, "'x' .* overlaps tensor 'a', which ends at 8"),
    "exchanged and overlapping": ({b"a": 8, b"b": 0, b"c": 12}, "'c' .* overlaps tensor 'a'"),
}


@pytest.mark.parametrize(("offsets", "message"), PLACES.values(), ids=PLACES)
def test_tensors_share_no_bytes_and_leave_none(tmp_path, offsets, message):
    """With every checksum right, such a file is still not what was saved."""
    records = {name: _record(offset=offset) for name, offset in offsets.items()}
    prefix = _write_raw(tmp_path, records, data=bytes(24))
    with pytest.raises(InputError, match=message):
        read_index(_index_path(prefix))


def test_the_order_of_places_need_not_be_that_of_names(tmp_path):
    records = {
        b"a": _record(offset=8),
        b"b": _record(),
        b"c": _record(offset=8, size=0, shape=(0,), masked_crc=mask_crc(0)),
    }
    assert open_bundle(_write_raw(tmp_path, records, data=bytes(16))).read("a").tolist() == [0, 0]


def test_bytes_behind_the_last_tensor(tmp_path):
    with pytest.raises(InputError, match="has bytes behind its last tensor: it has 9 bytes"):
        open_bundle(_write_raw(tmp_path, {b"a": _record()}, data=bytes(9)))


def test_more_tensors_than_any_model_has(tmp_path):
    """A million entries took 40 seconds."""
    began = time.monotonic()
    crc = mask_crc(google_crc32c.value(b""))
    record = _record(shape=(0,), size=0, masked_crc=crc)
    prefix = _write_raw(tmp_path, {b"%06d" % number: record for number in range(60_000)}, data=b"")
    with pytest.raises(InputError, match="lists more than 50,000 tensors"):
        read_index(_index_path(prefix))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nwrote good.pth", "a\u202e", "\n" * 2000])
def test_names_that_a_terminal_would_obey(name, tmp_path):
    prefix = _write_raw(tmp_path, {name.encode(): _record()})
    with pytest.raises(InputError, match="the tensor name '.*' cannot be printed") as caught:
        read_index(_index_path(prefix))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


@pytest.mark.parametrize("letters", [1000, 1001, 4000])
def test_names_of_many_letters_are_no_damage(letters, tmp_path):
    prefix = _write_raw(tmp_path, {b"x" * letters: _record()})
    if letters <= 1000:
        assert "x" * letters in read_index(_index_path(prefix)).entries
        return
    with pytest.raises(InputError, match=f"has a tensor name of {letters:,} letters") as caught:
        read_index(_index_path(prefix))
    assert "at most 1,000" in str(caught.value) and "damaged" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_file_that_becomes_shorter_while_it_is_open(prefix):
    opened = open_bundle(prefix)
    os.truncate(_data_path(prefix), 4)
    with pytest.raises(InputError, match="has become shorter than"):
        opened.read("double")


@pytest.mark.parametrize("which", [_data_path, _index_path])
def test_a_pipe_in_the_place_of_a_file(prefix, which):
    which(prefix).unlink()
    os.mkfifo(which(prefix))
    with pytest.raises(InputError, match="regular file"):
        open_bundle(prefix)


def test_every_flipped_byte_of_the_data_is_found(prefix):
    path = _data_path(prefix)
    entries = read_index(_index_path(prefix)).entries.values()
    for position in range(path.stat().st_size):
        _flip(path, position, 0x10)
        opened = open_bundle(prefix)
        for entry in entries:
            if entry.offset <= position < entry.offset + entry.size:
                with pytest.raises(InputError) as caught:
                    opened.read(entry.name)
                message = str(caught.value)
                assert message.startswith(str(path))
                assert f"bytes {entry.offset} to {entry.offset + entry.size}" in message
                assert repr(entry.name) in message
            else:
                opened.read(entry.name)
        _flip(path, position, 0x10)


def test_checksums_are_verified_on_every_read(prefix):
    opened = open_bundle(prefix)
    opened.read("a_scalar")
    with open(_data_path(prefix), "r+b") as stream:
        stream.write(b"\xff")
    with pytest.raises(InputError, match="is damaged"):
        opened.read("a_scalar")


# Writing


class _FullDisk(io.FileIO):
    """A file on a disk that is full after some bytes."""

    def __init__(self, path, mode, room):
        super().__init__(path, mode)
        self._room = room

    def write(self, data):
        self._room[0] -= len(data)
        if self._room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, existing):
    prefix = tmp_path / "model"
    write_bundle(prefix, TENSORS)
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    if existing:
        write_bundle(prefix, {"before": np.ones(3, np.float32)})
    else:
        for path in tmp_path.iterdir():
            path.unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    failures = 0
    for room in range(0, total, 7):
        left = [room]
        monkeypatch.setattr(
            bundle_writer,
            "open",
            lambda path, mode, left=left: _FullDisk(path, mode, left),
            raising=False,
        )
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            write_bundle(prefix, TENSORS)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        failures += 1
    assert failures > 50
    left = [total]
    monkeypatch.setattr(
        bundle_writer, "open", lambda path, mode: _FullDisk(path, mode, left), raising=False
    )
    write_bundle(prefix, TENSORS)
    assert left == [0]


def test_interruptions_leave_nothing(tmp_path, monkeypatch):
    def interrupt(items):
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_writer, "write_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "model", TENSORS)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written: No such file"):
        write_bundle(tmp_path / "missing" / "model", TENSORS)
    (tmp_path / "model.index").mkdir()
    with pytest.raises(InputError, match=r"model\.index is a folder"):
        write_bundle(tmp_path / "model", TENSORS)
    assert [path.name for path in tmp_path.iterdir()] == ["model.index"]


def test_values_and_names_that_cannot_be_written(tmp_path):
    with pytest.raises(TypeError, match="'x' has dtype object"):
        write_bundle(tmp_path / "model", {"x": np.array([None])})
    for name in ("", "\0x"):
        with pytest.raises(ValueError, match="cannot be named"):
            write_bundle(tmp_path / "model", {name: np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


# One checkpoint in the place of another


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def checkpoint_names(stem):
    return ["checkpoint", f"{stem}.data-00000-of-00001", f"{stem}.index"]


def test_another_checkpoint_takes_turns_with_the_one_that_is_there(tmp_path):
    other = {"x": np.ones(3, np.float32)}
    assert write_bundle(tmp_path / "model", TENSORS) == tmp_path / "model"
    assert names_in(tmp_path) == checkpoint_names("model")
    assert write_bundle(tmp_path / "model", other) == tmp_path / "model.2"
    assert names_in(tmp_path) == checkpoint_names("model.2")
    assert '"model.2"' in (tmp_path / "checkpoint").read_text()
    assert write_bundle(tmp_path / "model", TENSORS) == tmp_path / "model"
    assert names_in(tmp_path) == checkpoint_names("model")


def test_the_same_checkpoint_stays(tmp_path):
    write_bundle(tmp_path / "model", TENSORS)
    before = {path: path.stat().st_ino for path in tmp_path.glob("model.*")}
    assert write_bundle(tmp_path / "model", TENSORS) == tmp_path / "model"
    assert {path: path.stat().st_ino for path in tmp_path.glob("model.*")} == before


def test_at_no_moment_is_there_a_mixture(tmp_path, monkeypatch):
    """Every step of writing one checkpoint over another is the last of a killed process."""
    other = {name: values + 1 for name, values in TENSORS.items() if name != "flags"}

    class KilledError(BaseException):
        pass

    def sound(folder):
        files = resolve(str(folder), folder)
        opened = open_bundle(files.prefix)
        return {name: opened.read(name).tobytes() for name in opened.index.entries}

    contents = [{n: v.tobytes() for n, v in tensors.items()} for tensors in (TENSORS, other)]
    steps, seen = 0, []
    for last in range(100):
        folder = tmp_path / str(last)
        folder.mkdir()
        write_bundle(folder / "model", TENSORS)
        left = [last]

        def step(function, left=left):
            def counted(*arguments, **named):
                if not left[0]:
                    raise KilledError
                left[0] -= 1
                return function(*arguments, **named)

            return counted

        with monkeypatch.context() as changed:
            for name in ("replace", "unlink", "fsync"):
                changed.setattr(os, name, step(getattr(os, name)))
            changed.setattr(Path, "unlink", step(Path.unlink))
            try:
                write_bundle(folder / "model", other)
                break
            except KilledError:
                steps += 1
        assert sound(folder) in contents
        seen.append(contents.index(sound(folder)))
        # The same command goes on, and leaves one checkpoint and nothing else.
        new = write_bundle(folder / "model", other)
        assert sound(folder) == contents[1] and names_in(folder) == checkpoint_names(new.name)
    assert steps > 8 and seen == sorted(seen) and set(seen) == {0, 1}


def test_two_processes_do_not_write_one_checkpoint_at_once(tmp_path):
    with (
        locked(tmp_path / ".model.efficientdet-parity.lock"),
        pytest.raises(InputError, match="by another process"),
    ):
        write_bundle(tmp_path / "model", TENSORS)
    assert names_in(tmp_path) == []


# Google's files


@pytest.fixture(scope="module")
def material():
    folder = os.environ.get("EFFICIENTDET_TEST_DATA")
    if not folder:
        pytest.skip("EFFICIENTDET_TEST_DATA does not name a folder of official files")
    return Path(folder)


def test_official_indexes(material, tmp_path):
    paths = sorted((material / "official" / "index").glob("*.index"))
    assert paths
    fingerprints = set()
    for path in paths:
        index = read_index(path)
        assert {entry.dtype_name for entry in index.entries.values()} <= {"DT_FLOAT", "DT_INT64"}
        assert "global_step" in index.entries
        fingerprints.add(index.fingerprint())
    assert len(fingerprints) == len(paths)


def test_trained_checkpoint_survives_a_round_trip_byte_for_byte(material, tmp_path):
    prefix = material / "checkpoints" / "efficientdet-d0" / "model"
    opened = open_bundle(prefix)
    assert len(opened.index.entries) == 1419
    write_bundle(tmp_path / "model", {name: opened.read(name) for name in opened.index.entries})
    for path in (_data_path(prefix), _index_path(prefix), prefix.with_name("checkpoint")):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("chunk", [8, 16, 1 << 20])
def test_verifying_counts_what_is_not_finite(chunk, prefix, monkeypatch):
    monkeypatch.setattr(bundle, "_CHUNK_BYTES", chunk)
    found = open_bundle(prefix)
    assert {name: found.verify(name) for name in TENSORS} == {
        name: int(name == "double") for name in TENSORS
    }
    with pytest.raises(KeyError):
        found.verify("nothing")


@pytest.mark.parametrize("name", [name for name, values in TENSORS.items() if values.size])
def test_verifying_finds_every_flipped_bit(name, prefix, monkeypatch):
    monkeypatch.setattr(bundle, "_CHUNK_BYTES", 16)
    entry = read_index(_index_path(prefix)).entries[name]
    good = _data_path(prefix).read_bytes()
    for place in {entry.offset, entry.offset + entry.size - 1}:
        damaged = bytearray(good)
        damaged[place] ^= 4
        _data_path(prefix).write_bytes(damaged)
        opened = open_bundle(prefix)
        messages = []
        for look in (opened.verify, opened.read):
            with pytest.raises(InputError) as refused:
                look(name)
            messages.append(str(refused.value))
        assert repr(name) in messages[0] and "is damaged: bytes" in messages[0]
        assert messages[0] == messages[1]
        assert all(opened.verify(other) >= 0 for other in TENSORS if other != name)


def test_types_without_numbers_are_verified_too_but_for_objects(tmp_path):
    records = {b"qint8": _record(dtype=11, shape=(8,)), b"text": _record(dtype=21, offset=8)}
    opened = open_bundle(_write_raw(tmp_path, records, data=bytes(16)))
    assert opened.verify("qint8") == 0
    with pytest.raises(InputError, match="'text' of .* has type DT_VARIANT, which cannot be verif"):
        opened.verify("text")


def test_verifying_keeps_nothing_in_memory(tmp_path):
    """Of 64 MB no more than a little is ever there at once."""
    values = np.ones(16 << 20, np.float32)
    write_bundle(tmp_path / "model", {"large": values})
    size = values.nbytes
    opened = open_bundle(tmp_path / "model")
    tracemalloc.start()
    try:
        assert opened.verify("large") == 0
        assert tracemalloc.get_traced_memory()[1] < size / 8
        # The measure sees what reading takes, which is the tensor once.
        assert opened.read("large").sum() == size / 4
        assert size <= tracemalloc.get_traced_memory()[1] < 1.1 * size
    finally:
        tracemalloc.stop()
