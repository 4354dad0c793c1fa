"""Tensors of strings in a checkpoint."""

import numpy as np
import pytest

from converter.tensorflow_files import string_tensors
from converter.tensorflow_files.bundle import open_bundle
from converter.tensorflow_files.bundle_writer import write_bundle
from converter.tensorflow_files.string_tensors import decode, encode
from converter.tensorflow_files.wire import WireError
from efficientdet_spec import InputError

STRINGS = [b"some", b"", b"text" * 100, bytes(range(256))]


def _written(folder, array):
    return open_bundle(write_bundle(folder / "model", {"text": array, "x": np.ones(3)}))


def test_what_is_written_is_read(tmp_path):
    opened = _written(tmp_path, np.array(STRINGS, object).reshape(2, 2))
    assert opened.read_strings("text") == STRINGS
    assert opened.index.entries["text"].shape == (2, 2)
    assert opened.verify("text") == 0
    assert opened.read("x").tolist() == [1, 1, 1]


@pytest.mark.parametrize("array", [np.array(b"one", object), np.empty((0, 3), object)])
def test_scalars_and_empty_tensors(tmp_path, array):
    assert _written(tmp_path, array).read_strings("text") == list(array.flat)


def test_only_bytes_are_written(tmp_path):
    with pytest.raises(TypeError, match="dtype object"):
        write_bundle(tmp_path / "model", {"text": np.array(["no bytes"], object)})


@pytest.mark.parametrize("array", [STRINGS, [b"a"], [b"x" * 5, b"y" * 300]])
@pytest.mark.parametrize("shape", [(-1,), ()])
def test_tensorflow_writes_the_same_and_reads_it(tmp_path, array, shape):
    tensorflow = pytest.importorskip("tensorflow")
    array = np.array(array[:1] if shape == () else array, object).reshape(shape)
    theirs = tmp_path / "theirs" / "model"
    theirs.parent.mkdir()
    tensors = {"text": array, "x": np.ones(3)}
    tensorflow.raw_ops.SaveV2(
        prefix=str(theirs),
        tensor_names=list(tensors),
        shape_and_slices=["", ""],
        tensors=list(tensors.values()),
    )
    ours = write_bundle(tmp_path / "model", tensors)
    for end in ("index", "data-00000-of-00001"):
        name = f"model.{end}"
        assert ours.with_name(name).read_bytes() == theirs.with_name(name).read_bytes()
    assert open_bundle(theirs).read_strings("text") == list(array.flat)
    reader = tensorflow.train.load_checkpoint(str(ours))
    assert np.array_equal(reader.get_tensor("text"), array)


def test_every_changed_byte_is_seen(tmp_path):
    opened = _written(tmp_path, np.array(STRINGS[:2], object))
    path = tmp_path / "model.data-00000-of-00001"
    whole = path.read_bytes()
    size = opened.index.entries["text"].size
    assert size == 2 + 4 + 4
    for position in range(size):
        for bit in (1, 0x80):
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :]
            )
            damaged = open_bundle(tmp_path / "model")
            with pytest.raises(
                InputError, match="is damaged: bytes 0 to 10, tensor 'text'"
            ) as told:
                damaged.verify("text")
            assert len(str(told.value).encode()) < 1000


def test_other_tensors_are_no_strings(tmp_path):
    opened = _written(tmp_path, np.array(STRINGS, object))
    with pytest.raises(InputError, match="'x' of .* has type DT_DOUBLE; expected strings"):
        opened.read_strings("x")
    with pytest.raises(InputError, match="lists no tensor 'y'"):
        opened.read_strings("y")
    with pytest.raises(InputError, match="has type DT_STRING; expected a type that NumPy has"):
        opened.read("text")


def test_sizes_are_bounded(tmp_path, monkeypatch):
    opened = _written(tmp_path, np.array(STRINGS, object))
    monkeypatch.setattr(string_tensors, "MAX_BYTES", 600)
    with pytest.raises(InputError, match=r"has 6\d\d bytes of strings; expected at most 600"):
        opened.verify("text")


@pytest.mark.parametrize(
    ("content", "count", "match"),
    [
        (b"", 1, "too many"),
        (encode([b"a"] * 3)[0], 1 << 40, "too many"),
        (encode([b"a"] * 3)[0], 2, "take 2 bytes, but 4 follow"),
        (encode([b"a"] * 3)[0][:-1], 3, "take 3 bytes, but 2 follow"),
        (b"\xff" * 9 + b"\x01", 1, "claims 18,446,744,073,709,551,615 bytes"),
        (b"\x80", 1, "past the end"),
    ],
)
def test_what_are_no_strings_is_refused(content, count, match):
    with pytest.raises(WireError, match=match):
        decode(content, count)
