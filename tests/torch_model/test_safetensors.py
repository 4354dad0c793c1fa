"""Safetensors files: the format to the letter, and nothing that is not of it."""

import json
import os
import struct
import time
import tracemalloc

import numpy as np
import pytest

from efficientdet_spec import InputError
from torch_model.safetensors import (
    DTYPES,
    MAX_HEADER,
    SafetensorsFile,
    is_safetensors,
    write_safetensors,
)

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.int64),
    "c": np.array(7.5),
    "d": np.zeros((0, 5), np.float32),
    "e": np.array([True, False, True]),
    "f": np.arange(3, dtype=np.float16),
}


def library():
    return pytest.importorskip("safetensors", reason="the safetensors package is not installed")


def described(tensors, data=b"", metadata=None):
    """A file of this header and these bytes."""
    header = json.dumps(tensors if metadata is None else {"__metadata__": metadata, **tensors})
    return with_header(header.encode(), data)


def with_header(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def one(kind="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.safetensors"


def test_what_is_written_is_read(path):
    write_safetensors(path, ARRAYS.items(), {"a": "ü\n\x1b"})
    file = SafetensorsFile(path)
    assert file.metadata == {"a": "ü\n\x1b"} and file.tensors.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        found = file.read(name)
        assert found.dtype == array.dtype and np.array_equal(found, array), name
        assert found.shape == array.shape and found.flags.writeable
        # Aligned, as whoever maps the file into memory needs it.
        assert file.tensors[name].start % array.dtype.itemsize == 0


def test_arrays_of_any_layout_are_written_row_by_row(path):
    arrays = {
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "other order of bytes": np.arange(3, dtype=">f4"),
        "every second": np.arange(8, dtype=np.float64)[::2],
    }
    write_safetensors(path, arrays.items(), {})
    file = SafetensorsFile(path)
    assert all(np.array_equal(file.read(name), array) for name, array in arrays.items())


def test_the_library_reads_what_is_written(path):
    library()
    from safetensors import safe_open
    from safetensors.numpy import load_file

    write_safetensors(path, ARRAYS.items(), {"who": "me"})
    found = load_file(path)
    assert found.keys() == ARRAYS.keys()
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())
    with safe_open(path, "np") as file:
        assert file.metadata() == {"who": "me"}


def test_what_the_library_writes_is_read(path):
    library()
    import torch
    from safetensors.torch import save_file

    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
    tensors = {name: (torch.arange(5) % 2).to(getattr(torch, name)) for name in names.split()}
    tensors["scalar"] = torch.tensor(3.5)
    tensors["empty"] = torch.zeros(0, 2)
    save_file(tensors, path, {"format": "pt"})
    file = SafetensorsFile(path)
    assert file.metadata == {"format": "pt"} and file.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.float() if name == "bfloat16" else tensor
        assert np.array_equal(file.read(name), expected.numpy()), name
        assert file.read(name).dtype == expected.numpy().dtype


def test_bfloat16_is_the_float32_that_it_is(path):
    path.write_bytes(described({"x": one("BF16", (2,), (0, 4))}, b"\x80\x3f\xc0\xff"))
    values = SafetensorsFile(path).read("x")
    assert values.dtype == np.float32 and values[0] == 1 and np.isnan(values[1])


GOOD = {"x": one()}
TWICE = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},' * 2

ODD = {
    "empty": (b"", "its header should have 0"),
    "a length alone": (struct.pack("<Q", 2), "its header should have 2 of its 8"),
    "a length beyond the file": (with_header(b"{}")[:9], "its header should have"),
    "a long header": (
        struct.pack("<Q", MAX_HEADER + 1) + b"{" + b" " * MAX_HEADER,
        "at most 4,194,304 are read",
    ),
    "no object": (with_header(b"[]"), "no JSON object"),
    "blanks first": (with_header(b" {}"), "no JSON object"),
    "no JSON": (with_header(b'{"x"}'), "cannot be read"),
    "no UTF-8": (with_header(b'{"\xff":1}'), "cannot be read"),
    "not a number": (with_header(b'{"x":NaN}'), "NaN is no number"),
    "a name twice": (with_header(TWICE[:-1].replace(b",{", b",") + b"}", bytes(8)), "twice"),
    "many values": (with_header(b'{"x":[' + b"1," * 2**18 + b"1]}"), "more than 262,144 values"),
    "deep": (with_header(b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "cannot be read"),
    "a long number": (
        with_header(b'{"x":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'),
        "cannot be read",
    ),
    "numbers as metadata": (described({}, metadata={"a": 1}), "no mapping of texts"),
    "a list as metadata": (described({"__metadata__": []}), "no mapping of texts"),
    "a tensor that is none": (described({"x": 3}), "is not described by"),
    "a tensor with more": (described({"x": {**one(), "more": 1}}, bytes(8)), "is not described"),
    "another type": (described({"x": one("F8_E4M3", (8,))}, bytes(8)), "has type F8_E4M3"),
    "a type that is no text": (described({"x": one(["F32"])}, bytes(8)), "has type"),
    "a negative extent": (described({"x": one(shape=(-2, -1))}, bytes(8)), "no whole numbers"),
    "a fraction": (described({"x": one(shape=(2.0,))}, bytes(8)), "no whole numbers"),
    "true as an extent": (described({"x": one(shape=(2, True))}, bytes(8)), "no whole numbers"),
    "three places": (described({"x": one(offsets=(0, 8, 8))}, bytes(8)), "no whole numbers"),
    "an immense shape": (
        described({"x": one(shape=(2**61,) * 32, offsets=(0, 8))}, bytes(8)),
        "stands at 0 to 8",
    ),
    "an immense shape of nothing": (
        described({"x": one(shape=(0, 2**40, 2**40), offsets=(0, 0))}),
        "stands at 0 to 0",
    ),
    "many dimensions": (described({"x": one(shape=(1,) * 33)}, bytes(4)), "33 dimensions"),
    "a length of its own": (described({"x": one(offsets=(0, 4))}, bytes(4)), "stands at 0 to 4"),
    "backwards": (described({"x": one(offsets=(8, 0))}, bytes(8)), "stands at 8 to 0"),
    "a gap": (described({"x": one(offsets=(4, 12))}, bytes(12)), "leaves a gap"),
    "an overlap": (
        described({"x": one(), "y": one(offsets=(4, 12))}, bytes(12)),
        "shares bytes with another",
    ),
    "the same bytes": (described({"x": one(), "y": one()}, bytes(8)), "shares bytes"),
    "cut short": (described(GOOD, bytes(7)), "cut short"),
    "bytes behind": (described(GOOD, bytes(9)), "1 bytes belong to no tensor"),
    "a web page": (b"<!doctype html><html>", "looks like a web page"),
    "a pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        "Git LFS pointer",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_of_the_format_is_refused(name, path):
    content, words = ODD[name]
    path.write_bytes(content)
    began = time.monotonic()
    tracemalloc.start()
    with pytest.raises(InputError) as error:
        SafetensorsFile(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    text = str(error.value)
    assert words in text and str(path) in text and len(text.encode()) < 1000
    assert text.isprintable()
    assert time.monotonic() - began < 5 and peak < 64 * 2**20


def test_names_from_a_file_are_shown_harmlessly(path):
    path.write_bytes(described({"\x1b[2J\n" + "y" * 5000: 3}))
    with pytest.raises(InputError) as error:
        SafetensorsFile(path)
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


def test_no_object_may_have_a_name_twice(path):
    inner = b'{"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    for header in (inner, b'{"__metadata__":{"a":"1","a":"2"}}'):
        path.write_bytes(with_header(header, bytes(8)))
        with pytest.raises(InputError, match="a name is there twice"):
            SafetensorsFile(path)


def test_an_empty_file_of_the_format(path):
    path.write_bytes(with_header(b"{}"))
    assert not SafetensorsFile(path).tensors


def test_a_file_that_becomes_shorter(path):
    write_safetensors(path, ARRAYS.items(), {})
    file = SafetensorsFile(path)
    os.truncate(path, 100)
    with pytest.raises(InputError, match="has become shorter"):
        file.read("a.weight")


def test_a_file_that_is_replaced_is_read_as_it_was(path):
    write_safetensors(path, ARRAYS.items(), {})
    file = SafetensorsFile(path)
    write_safetensors(path, [("a.weight", np.zeros((2, 3), np.float32))], {})
    assert np.array_equal(file.read("a.weight"), ARRAYS["a.weight"])


@pytest.mark.parametrize("kind", ["fifo", "zeros", "folder", "missing"])
def test_what_is_no_file(kind, path):
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    assert not is_safetensors(path)
    with pytest.raises(InputError, match="is not a file that can be read"):
        SafetensorsFile(path)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_safetensors(tmp_path / "none" / "x.safetensors", ARRAYS.items(), {})
    assert not list(tmp_path.iterdir())


def test_every_type_that_can_be_read_can_be_told():
    from torch_model.model_file import NUMPY_NAMES

    assert NUMPY_NAMES.keys() == DTYPES.keys()
    others = {kind: name for kind, name in NUMPY_NAMES.items() if kind != "BF16"}
    assert {kind: DTYPES[kind] for kind in others} == {k: np.dtype(n) for k, n in others.items()}
