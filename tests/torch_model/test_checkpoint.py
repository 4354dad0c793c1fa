"""Files of converted models: what was written is what is loaded, or the file is refused."""

import json
import os
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_model
from efficientdet_spec import TINY, InputError
from torch_model import checkpoint
from torch_model.checkpoint import load_checkpoint
from torch_model.model_file import FORMAT_VERSION, tensor_digest
from torch_model.safetensors import write_safetensors
from torch_model.saving import save_arrays

ROOT = Path(__file__).parents[2]


def values(path):
    return {name: value.numpy() for name, value in load_checkpoint(path).state_dict.items()}


def same(found, expected):
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name], equal_nan=True) for name in expected
    )


@pytest.fixture(scope="module")
def sound(tiny_pth):
    return values(tiny_pth)


def content_of(path):
    return torch.load(path, weights_only=True)


def rewritten(source, target, change):
    """A sound archive of another content."""
    content = content_of(source)
    torch.save(change(content) or content, target)
    return target


# Flipped bits


def test_no_flipped_bit_gives_another_model(tiny_pth, sound, tmp_path):
    """PyTorch itself loads most of these files without a word."""
    good = tiny_pth.read_bytes()
    path, rng, refused, wrong = tmp_path / "flipped.pth", np.random.default_rng(0), 0, 0
    for place in rng.integers(len(good), size=60):
        content = bytearray(good)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            assert same(values(path), sound)
        except InputError as error:
            assert str(path) in str(error) and len(str(error)) < 1000
            refused += 1
        try:
            state = torch.load(path, weights_only=True)["state_dict"]
            wrong += not same({name: value.numpy() for name, value in state.items()}, sound)
        except Exception:
            continue
    # The rest fills the space between records, of which a small model has many.
    assert refused >= 40 and wrong >= 20


def test_a_bit_of_a_weight_is_named(tiny_pth, tmp_path):
    content = bytearray(tiny_pth.read_bytes())
    with zipfile.ZipFile(tiny_pth) as archive:
        records = [item for item in archive.infolist() if "/data/" in item.filename]
        record = max(records, key=lambda item: item.file_size)
    content[record.header_offset + 1000] ^= 64
    path = tmp_path / "flipped.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"record archive/data/\d+: Bad CRC-32"):
        torch_model.load(path)


# Contents that were changed and written again, so that every CRC-32 fits


def change_value(content):
    content["state_dict"]["backbone.stem_bn.weight"][0] += 1
    return "the values of backbone.stem_bn.weight do not have theirs"


def exchange_values(content):
    state = content["state_dict"]
    first, second = "backbone.stem_bn.weight", "backbone.stem_bn.bias"
    state[first], state[second] = state[second], state[first]
    return "do not have theirs"


def change_provenance(content):
    content["provenance"]["weights"] = "raw"
    return "what it says of itself does not have its digest"


def change_config(content):
    content["config"]["anchor_scale"] = 3.0
    return "what it says of itself"


def change_digest(content):
    content["digests"]["backbone.stem_bn.weight"] = "0" * 64
    return "what it says of itself"


def remove_seal(content):
    del content["seal"]
    return "what it says of itself"


def remove_digests(content):
    del content["digests"]
    return "garbles a part of it ('digests')"


def tensor_in_provenance(content):
    content["provenance"]["weights"] = torch.zeros(2)
    return "what it says of itself"


CHANGES = [
    change_value,
    exchange_values,
    change_provenance,
    change_config,
    change_digest,
    remove_seal,
    remove_digests,
    tensor_in_provenance,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_was_changed_since_is_refused(change, tiny_pth, tmp_path):
    told = []
    path = rewritten(tiny_pth, tmp_path / "c.pth", lambda content: told.append(change(content)))
    with pytest.raises(InputError) as error:
        torch_model.load(path)
    assert told[0] in str(error.value) and str(path) in str(error.value)


def test_what_is_written_again_unchanged_loads(tiny_pth, sound, tmp_path):
    assert same(values(rewritten(tiny_pth, tmp_path / "again.pth", lambda content: None)), sound)


def test_files_of_version_1_load(tiny_pth, sound, tmp_path):
    def old(content):
        kept = ("format", "model", "config", "state_dict", "provenance")
        return {**{name: content[name] for name in kept}, "version": 1}

    path = rewritten(tiny_pth, tmp_path / "old.pth", old)
    assert same(values(path), sound)
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(InputError, match="Bad CRC-32"):
        torch_model.load(path)


def test_a_model_that_was_trained_on_is_saved_with_its_own_digests(tiny_pth, tmp_path):
    import efficientdet_parity as ep

    model = ep.load(tiny_pth)
    with torch.no_grad():
        model.backbone.stem_bn.weight[0] = 3
    ep.save(model, tmp_path / "mine.pth")
    again = ep.load(tmp_path / "mine.pth")
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    strides = {name: value.stride() for name, value in model.state_dict().items()}
    assert strides == {name: value.stride() for name, value in state.items()}
    # Of the checkpoint it is no longer but its source.
    assert again.provenance["source"] == model.provenance["source"]
    assert "changed after they were converted" in again.provenance["notes"][-1]


def test_a_digest_is_of_type_shape_and_values():
    array = np.arange(6, dtype=np.float32)
    digest = tensor_digest(array)
    assert digest == tensor_digest(array.astype(">f4"))
    others = [array.reshape(2, 3), array.astype(np.float64), array.view(np.int32), -array]
    assert digest not in [tensor_digest(other) for other in others]
    assert tensor_digest(array.reshape(2, 3).T) == tensor_digest(array.reshape(2, 3).T.copy())
    assert tensor_digest(np.float32(2)) != tensor_digest(np.float32([2]))


def test_what_a_file_says(tiny_pth, tiny_conversion):
    content = content_of(tiny_pth)
    assert content["version"] == FORMAT_VERSION == 2
    assert set(content["digests"]) == set(content["state_dict"])
    assert content["licence"] is None
    assert content["provenance"]["checkpoint_fingerprint"]
    json.dumps({name: content[name] for name in content if name != "state_dict"})


def test_provenance_that_is_no_plain_value_is_refused(tiny_conversion, tmp_path):
    path = tmp_path / "odd.pth"
    with pytest.raises(InputError, match="no plain value"):
        save_arrays(path, TINY, tiny_conversion.arrays, {"odd": object()})
    assert not list(tmp_path.iterdir())


# Containers that PyTorch does not write


def repacked(source, target, change=lambda name, content: content, **options):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return target


def with_pickle(tiny_pth, path, pickled):
    return repacked(
        tiny_pth, path, lambda name, content: pickled if name.endswith("data.pkl") else content
    )


def test_a_compressed_archive_is_refused(tiny_pth, sound, tmp_path):
    path = repacked(tiny_pth, tmp_path / "packed.pth", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="is compressed or encrypted"):
        torch_model.load(path)
    assert same(values(repacked(tiny_pth, tmp_path / "plain.pth")), sound)


def test_a_record_that_is_there_twice(tiny_pth, tmp_path):
    path = repacked(tiny_pth, tmp_path / "twice.pth")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    with pytest.raises(InputError, match="the record archive/data.pkl twice"):
        torch_model.load(path)


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"\x80\x02" + b"N0" * 2**22 + b".", "its pickle has 8,388,611 bytes"),
        (b"\x80\x02" + b"]" * 2**20 + b".", "more than 400,000 instructions"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "not one that convert.py wrote"),
        (b"\x80\x02)" + b"\x85" * 300_000 + b"}" + b"h\x00Ns.", "cannot be read"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "cannot be read"),
        (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "holds a pickled os.system"),
        (b"\x80\x02cbuiltins\neval\n.", "holds a pickled builtins.eval"),
        (b"\x80\x02c\x1b[2J\nwrote good.pth\n.", r"a pickled \x1b[2J wrote.good.pth"),
        (b"\x80\x02}", "cannot be read"),
        (b"", "cannot be read"),
        (b"\x80\x02.", "cannot be read"),
        (b"\x80\x02K\x01K\x02R.", "something is called that is no function"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "cannot be read"),
        (b"\x80\x02(K\x01.", "not one that convert.py wrote"),
    ],
)
def test_hostile_pickles(pickled, words, tiny_pth, tmp_path):
    path = with_pickle(tiny_pth, tmp_path / "hostile.pth", pickled)
    with pytest.raises(InputError) as error:
        torch_model.load(path)
    text = str(error.value)
    assert words in text and text.isprintable() and len(text) < 1000


def doubled(levels):
    """Pairs of pairs of pairs, by three instructions each."""
    place = [(1000 + level).to_bytes(4, "little") for level in range(levels + 1)]
    pairs = (b"j" + place[n] + b"\x86r" + place[n + 1] for n in range(levels))
    return b"]r" + place[0] + b"".join(pairs)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + doubled(60) + b".",
        b"\x80\x02}(X\x06\x00\x00\x00formatX\x13\x00\x00\x00efficientdet-parity"
        b"X\x07\x00\x00\x00version" + doubled(60) + b"u.",
        b"\x80\x02]q\x01h\x01a.",
        b"\x80\x02(X" + (10**6).to_bytes(4, "little") + b"x" * 10**6 + b"q\x01"
        + b"h\x01" * 1000 + b"t.",
    ],
    ids=["pairs of pairs", "as the version", "a list in itself", "a long text again and again"],
)  # fmt: skip
def test_a_short_pickle_that_stands_for_much(content, tiny_pth, tmp_path):
    path = with_pickle(tiny_pth, tmp_path / "hostile.pth", content)
    began = time.monotonic()
    with pytest.raises(InputError, match="stands for much more|lie within each other"):
        torch_model.load(path)
    assert time.monotonic() - began < 10


def test_a_size_of_many_numbers(tiny_pth, tmp_path):
    size = b"ctorch\nSize\nq\x01](" + b"K\x01" * 100_000 + b"eq\x02" + b"h\x01h\x02\x85R0" * 1000
    with pytest.raises(InputError, match="a size is none"):
        torch_model.load(with_pickle(tiny_pth, tmp_path / "size.pth", b"\x80\x02" + size + b"N."))


@pytest.mark.parametrize("side", [float("inf"), float("nan"), 10**70, -1, 128.0, "128"])
def test_a_size_of_images_that_is_none(side, tiny_pth, tmp_path):
    def change(content):
        content["config"]["image_size"] = (side, 128)

    with pytest.raises(InputError, match="image_size is|cannot be read"):
        torch_model.load(rewritten(tiny_pth, tmp_path / "size.pth", change))


def test_tensors_that_share_one_large_storage(tiny_pth, tmp_path):
    """Each would have it read again."""

    def share(content):
        whole = torch.zeros(10**6)
        state = content["state_dict"]
        for name, value in state.items():
            if value.dtype == torch.float32:
                state[name] = whole[: value.numel()].view(value.shape)
        return {**content, "version": 1}

    def old(content):
        return {n: v for n, v in share(content).items() if n not in ("digests", "seal")}

    for change in (share, old):
        with pytest.raises(InputError, match="shares its values with others|its digest"):
            torch_model.load(rewritten(tiny_pth, tmp_path / "shared.pth", change))


def test_a_file_with_digests_is_of_no_version_without(tiny_pth, tmp_path):
    def change(content):
        content["state_dict"]["backbone.stem_bn.weight"][0] += 1
        content["version"] = 1

    with pytest.raises(InputError, match="does not have its digest"):
        torch_model.load(rewritten(tiny_pth, tmp_path / "older.pth", change))


def odd_tensors():
    yield "a meta tensor", torch.zeros(3, device="meta")
    yield "a sparse tensor", torch.zeros(3).to_sparse()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)
    yield "a quantised tensor", quantised


def test_tensors_of_other_kinds(tiny_pth, tmp_path):
    for words, tensor in odd_tensors():

        def put(content, tensor=tensor):
            content["state_dict"]["backbone.stem_bn.weight"] = tensor

        with pytest.raises(InputError, match=words):
            torch_model.load(rewritten(tiny_pth, tmp_path / "odd.pth", put))


def test_a_nested_tensor(tiny_pth, tmp_path):
    program = (
        "import sys, torch, warnings; warnings.simplefilter('ignore')\n"
        "content = torch.load(sys.argv[1], weights_only=True)\n"
        "content['state_dict']['x'] = torch.nested.nested_tensor([torch.zeros(2)])\n"
        "torch.save(content, sys.argv[2])\n"
    )
    path = tmp_path / "nested.pth"
    subprocess.run([sys.executable, "-c", program, str(tiny_pth), str(path)], check=True)
    with pytest.raises(InputError, match="a nested tensor"):
        torch_model.load(path)


def test_a_tensor_that_claims_more_than_there_is(tiny_pth, tmp_path):
    """A view that repeats one value looks like a tensor of any size."""

    def repeat(content):
        content["state_dict"]["backbone.stem_bn.weight"] = torch.zeros(1).expand(2**40)

    with pytest.raises(InputError, match="has more than its own"):
        torch_model.load(rewritten(tiny_pth, tmp_path / "wide.pth", repeat))

    def repeat_right_shape(content):
        weight = content["state_dict"]["backbone.stem_bn.weight"]
        content["state_dict"]["backbone.stem_bn.weight"] = weight[:1].clone().expand(len(weight))

    with pytest.raises(InputError, match="has more than its own"):
        torch_model.load(rewritten(tiny_pth, tmp_path / "wide.pth", repeat_right_shape))


@pytest.mark.parametrize("kind", ["fifo", "zeros"])
def test_what_is_no_file_is_not_waited_for(kind, tmp_path):
    path = tmp_path / "odd.pth"
    os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is not a file that can be read"):
        torch_model.load(path)


# What loading takes


def test_loading_takes_little_more_memory_than_the_model(tmp_path):
    """A model of 100 MB, in a process that may not have the same again beside it."""
    program = (
        "import sys, torch_model\n"
        "from parity.process.environment import peak_memory_bytes\n"
        "from torch_model.checkpoint import load_checkpoint\n"
        "before = peak_memory_bytes()\n"
        "model = torch_model.load(sys.argv[1])\n"
        "after = peak_memory_bytes()\n"
        "size = sum(v.nbytes for v in model.state_dict().values())\n"
        "print((after - before) / size, size)\n"
    )
    from efficientdet_spec import get_config
    from torch_model import build
    from torch_model.checkpoint import ModelCheckpoint, save_checkpoint

    path = tmp_path / "d4.pth"
    config = get_config("d4")
    save_checkpoint(path, ModelCheckpoint(config, build(config).state_dict(), {}))
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    ratio, size = map(float, done.stdout.split())
    assert size > 80e6 and 0.9 < ratio < 1.6, done.stdout


def test_keys_are_read_without_their_values(tiny_pth, tmp_path):
    state = content_of(tiny_pth)["state_dict"]
    for name, options in (("new", {}), ("old", {"_use_new_zipfile_serialization": False})):
        path = tmp_path / f"{name}.pth"
        torch.save(
            {"model": {f"module.{key}": value for key, value in state.items()}}, path, **options
        )
        assert checkpoint.plain_keys(path) == list(state)
        with pytest.raises(InputError, match="not one that convert.py wrote"):
            torch_model.load(path)
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [(f"module.{key}", v.numpy()) for key, v in state.items()], {})
    assert checkpoint.plain_keys(path) == list(state)
