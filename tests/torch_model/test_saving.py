"""Files that are written without PyTorch are what PyTorch writes and reads."""

import errno
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.serialization import config as torch_settings

from efficientdet_spec import TINY, InputError
from torch_model import container_writing
from torch_model.container import is_torch_file, open_torch_file
from torch_model.container_writing import writing_torch_file
from torch_model.pickle_writing import pickle_of
from torch_model.pickled import StoredTensor
from torch_model.saving import save_arrays, save_backbone, save_state_dict

ROOT = Path(__file__).parents[2]

TENSORS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "none of them": np.zeros((0, 4), np.float32),
    "no rank": np.array(3),
    "half": np.linspace(0, 1, 5, dtype=np.float16),
    "double": np.full((1, 2, 1, 3), np.pi),
    "flags": np.array([True, False]),
    "bytes": np.arange(256, dtype=np.uint8),
    "small": np.arange(-3, 3, dtype=np.int8).reshape(3, 1, 2),
    "shorts": np.array([-(2**15)], np.int16),
    "integers": np.array([[2**31 - 1]], np.int32),
    "columns": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "others' order": np.arange(4, dtype=">f8"),
    "kernel": np.arange(36, dtype=np.float32).reshape(4, 1, 3, 3),
}

PLAIN = {
    "none": None, "yes": True, "no": False, "text": "ä\ud800 " * 100, "": "",
    "ints": [0, 255, 256, 65536, -1, -(2**31), 2**31, -(2**31) - 1, 2**70, -(2**63)],
    "floats": [0.0, -1.5, 1e-300, float("inf")], "tuple": (1, (), ("a",), [(2, 3, 4)]),
    "empty": [{}, [], ()], 7: {"same": "text", "again": "text"},
    "many": {f"name {number}": number for number in range(300)},
}  # fmt: skip


def torch_tensors(arrays):
    return {
        name: torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
        for name, array in arrays.items()
    }


@pytest.fixture
def both(tmp_path):
    """The same content as written here and as PyTorch writes it."""
    ours, theirs = tmp_path / "ours.pth", tmp_path / "theirs.pth"
    with writing_torch_file(ours) as file:
        stored = {name: file.add(array) for name, array in TENSORS.items()}
        file.finish({**PLAIN, "tensors": stored})
    with open(theirs, "wb") as stream:
        torch.save({**PLAIN, "tensors": torch_tensors(TENSORS)}, stream)
    return ours, theirs


def require_same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            require_same(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            require_same(one, other)
    elif isinstance(theirs, torch.Tensor):
        assert (ours.dtype, ours.shape, ours.device) == (theirs.dtype, theirs.shape, theirs.device)
        # Where there is nothing to step over, PyTorch's own strides depend on how it came about.
        assert ours.is_contiguous() and ours.storage_offset() == 0
        assert ours.untyped_storage().nbytes() == ours.numel() * ours.element_size()
        assert torch.equal(ours, theirs) and not ours.requires_grad
    else:
        assert ours == theirs


@pytest.mark.parametrize("mapped", [False, True], ids=["read", "mapped"])
def test_pytorch_reads_the_same(mapped, both):
    ours, theirs = (torch.load(path, weights_only=True, mmap=mapped) for path in both)
    require_same(ours, theirs)
    plain = [name for name, value in TENSORS.items() if value.size]
    state = theirs["tensors"]
    assert {n: ours["tensors"][n].stride() for n in plain} == {n: state[n].stride() for n in plain}


def test_pytorch_tells_the_places_of_storages_without_reading(both, monkeypatch):
    """It computes them from sizes and its own rules, and compares with the table of contents."""
    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")
    for computed in (False, True):
        with torch_settings.patch({"load.calculate_storage_offsets": computed}):
            require_same(*(torch.load(path, weights_only=True, mmap=True) for path in both))


def test_records_are_pytorchs(both):
    ours, theirs = (zipfile.ZipFile(path) for path in both)
    expected = {item.filename: item for item in theirs.infolist()}
    found = {item.filename: item for item in ours.infolist()}
    assert found.keys() == expected.keys()
    assert ours.testzip() is None
    different = {
        name.partition("/")[2]
        for name, item in found.items()
        if (item.CRC, item.file_size) != (expected[name].CRC, expected[name].file_size)
    }
    # What stands once in a pickle and is named again, and what tells one file from another.
    assert different <= {"data.pkl", ".data/serialization_id"}
    data = both[0].read_bytes()
    for name, item in found.items():
        assert (item.flag_bits, item.compress_type) == (
            expected[name].flag_bits, zipfile.ZIP_STORED,
        )  # fmt: skip
        place = item.header_offset
        lengths = (int.from_bytes(data[place + at : place + at + 2], "little") for at in (26, 28))
        assert (place + 30 + sum(lengths)) % 64 == 0


def test_records_beyond_32_bits(both, tmp_path, monkeypatch):
    """A file of more than 4 GiB, made small: sizes and places stand in 64 bits all the same."""
    for most in (1, 24, 2_000):
        monkeypatch.setattr(container_writing, "_MOST", most)
        path = tmp_path / f"large {most}.pth"
        with writing_torch_file(path) as file:
            stored = {name: file.add(array) for name, array in TENSORS.items()}
            file.finish({**PLAIN, "tensors": stored})
        assert b"\x01\x00\x18\x00" in path.read_bytes() or most > 1
        for mapped in (False, True):
            require_same(
                torch.load(path, weights_only=True, mmap=mapped),
                torch.load(both[1], weights_only=True),
            )
        assert zipfile.ZipFile(path).testzip() is None


def test_the_own_reader_reads_the_same(both):
    assert all(map(is_torch_file, both))
    ours, theirs = map(open_torch_file, both)
    assert list(ours.content) == list(theirs.content)
    assert ours.content["many"] == theirs.content["many"]
    for name, array in TENSORS.items():
        assert np.array_equal(ours.read(ours.content["tensors"][name]), array)


def test_a_file_that_is_cut_short_is_told_as_one(both, tmp_path):
    path = tmp_path / "cut.pth"
    path.write_bytes(both[0].read_bytes()[:2000])
    assert is_torch_file(path)
    with pytest.raises(InputError, match="it is cut short"):
        open_torch_file(path)


def test_no_flipped_bit_of_a_value_goes_unseen(both, tmp_path):
    content = bytearray(both[0].read_bytes())
    with zipfile.ZipFile(both[0]) as archive:
        item = archive.getinfo("archive/data/6")
    lengths = (int.from_bytes(content[item.header_offset + at :][:2], "little") for at in (26, 28))
    start, path = item.header_offset + 30 + sum(lengths), tmp_path / "flipped.pth"
    for place in range(start, start + item.file_size, 5):
        content[place] ^= 1
        path.write_bytes(content)
        content[place] ^= 1
        file = open_torch_file(path)
        with pytest.raises(InputError, match="record archive/data/6: Bad CRC-32"):
            file.read(file.content["tensors"]["bytes"])


def test_the_same_content_gives_the_same_file(tiny_conversion, tmp_path):
    done, paths = tiny_conversion, [tmp_path / "a.pth", tmp_path / "b.pth"]
    for path in paths:
        save_arrays(path, done.config, done.arrays, done.provenance)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("what", [object(), {"a": [1j]}, (np.int64(3),), {"b": b"bytes"}])
def test_what_is_no_plain_value(what, tmp_path):
    path = tmp_path / "odd.pth"
    with (
        pytest.raises(InputError, match="which is no plain value"),
        writing_torch_file(path) as file,
    ):
        file.add(np.zeros(3))
        file.finish(what)
    assert not list(tmp_path.iterdir())


def test_types_that_pytorch_lacks(tmp_path):
    with pytest.raises(InputError, match="Values of type complex64 cannot be kept"):
        save_state_dict(tmp_path / "odd.pth", {"a": np.zeros(3, np.complex64)})
    assert not list(tmp_path.iterdir())


def threads():
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_goes_wrong_in_between_leaves_nothing(error, tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"an earlier model")
    with pytest.raises((InputError, KeyboardInterrupt)), writing_torch_file(path) as file:
        file.add(np.zeros(3_000_000, np.float32))
        raise error
    assert [item.name for item in tmp_path.iterdir()] == ["model.pth"]
    assert path.read_bytes() == b"an earlier model" and "writing" not in threads()


@pytest.mark.parametrize("count", [1, 40], ids=["the last", "one of many"])
def test_a_disk_that_is_full_is_noticed(count, tmp_path, monkeypatch):
    """The thread that writes has the error, and the caller is told."""

    def refuse(self, batch):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(container_writing.WritingThread, "write", refuse)
    arrays = {str(number): np.zeros(600_000, np.float32) for number in range(count)}
    with pytest.raises(InputError, match="No space left on device.*nothing was left behind"):
        save_state_dict(tmp_path / "model.pth", arrays)
    assert not list(tmp_path.iterdir()) and "writing" not in threads()


def test_a_backbone_has_its_own_keys(tiny_conversion, tmp_path):
    path = tmp_path / "backbone.pth"
    arrays = {n: a for n, a in tiny_conversion.arrays.items() if n.startswith("backbone.")}
    save_backbone(path, tiny_conversion.config, arrays, {})
    found = torch.load(path, weights_only=True)
    assert list(found["state_dict"]) == [name.removeprefix("backbone.") for name in arrays]


def test_content_of_a_model_is_what_pytorch_would_have_written(tiny_conversion, tmp_path):
    done, path, again = tiny_conversion, tmp_path / "model.pth", tmp_path / "again.pth"
    raw = {name: array + 1 for name, array in done.arrays.items()}
    save_arrays(path, done.config, done.arrays, done.provenance, raw)
    content = torch.load(path, weights_only=True)
    assert list(content) == [
        "format", "version", "model", "config", "licence", "provenance", "digests", "raw_digests",
        "seal", "state_dict", "raw_state_dict",
    ]  # fmt: skip
    for part, arrays in (("state_dict", done.arrays), ("raw_state_dict", raw)):
        require_same(content[part], torch_tensors(arrays))
        strides = {name: value.stride() for name, value in torch_tensors(arrays).items()}
        assert {name: value.stride() for name, value in content[part].items()} == strides
    torch.save(content, again)
    ours, theirs = map(open_torch_file, (path, again))
    assert {k: v for k, v in ours.content.items() if "state_dict" not in k} == {
        k: v for k, v in theirs.content.items() if "state_dict" not in k
    }


def test_texts_are_written_once():
    twice = pickle_of(["a long name", {"a long name": StoredTensor}] and ["a long name"] * 2)
    assert twice.count(b"a long name") == 1


def test_no_framework_is_imported(tiny_checkpoint, tmp_path):
    code = (
        "import sys, convert\n"
        f"assert convert.main([{str(tiny_checkpoint)!r}, {str(tmp_path / 'tiny.pth')!r}]) == 0\n"
        "assert not {'torch', 'tensorflow'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert torch.load(tmp_path / "tiny.pth", weights_only=True)["model"] == TINY.name
