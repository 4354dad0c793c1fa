"""PyTorch's files as sources: whose they are, what their types become, and what is refused."""

import io
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch

import efficientdet_parity as ep
from converter.formats import registry
from converter.formats.pth import find
from converter.mappings.effdet import NAMING as EFFDET
from converter.mappings.state_dicts import to_naming
from efficientdet_spec import EMA_SUFFIX, InputError, get_config
from torch_model.container import open_torch_file
from torch_model.pickled import iterate_tensors
from torch_model.saving import save_backbone

LEGACY = {"_use_new_zipfile_serialization": False}
FORMS = pytest.mark.parametrize("form", [{}, LEGACY], ids=["archive", "before 1.6"])


@pytest.fixture(scope="module")
def state():
    return dict(ep.build("efficientdet-tiny").state_dict())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.pth"


def opened(path):
    kind, place = registry.find(path)
    assert (kind.name, place) == ("pth", path)
    return kind.open(place)


def refusal(path):
    with pytest.raises(InputError) as error:
        source = opened(path)
        for name in source.entries:
            source.read(name)
    text = str(error.value)
    assert str(path) in text and len(text.encode()) < 1000 and text.isprintable()
    return text


@FORMS
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "float64"])
def test_every_type_as_it_is(form, kind, state, path):
    dtype = getattr(torch, kind)
    state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in state.items()}
    torch.save(state, path, **form)
    source = opened(path)
    assert source.entries.keys() == state.keys() and source.path == path
    names = {"float32": "DT_FLOAT", "float16": "DT_HALF", "float64": "DT_DOUBLE"}
    for name, value in state.items():
        found, entry = source.read(name), source.entries[name]
        expected = value.float() if value.dtype == torch.bfloat16 else value
        assert np.array_equal(found, expected.numpy()) and found.dtype == expected.numpy().dtype
        assert entry.shape == tuple(value.shape) and entry.size == value.nbytes
        if value.is_floating_point():
            assert entry.dtype_name == names.get(kind, "DT_BFLOAT16")
    assert ("no checksum" in source.CHECKED) is bool(form)


@FORMS
def test_tensors_of_any_layout(form, state, path):
    """Views, in channels-last order, of one storage, of no element and of one."""
    whole = torch.arange(24, dtype=torch.float32)
    odd = {
        "turned": whole[:6].view(2, 3).T,
        "part": whole[5:7],
        "every third": whole[::3],
        "last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(2.5),
        "a parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save({**state, **odd}, path, **form)
    source = opened(path)
    for name, value in odd.items():
        assert np.array_equal(source.read(name), value.detach().numpy()), name
        assert source.read(name).shape == tuple(value.shape)


@FORMS
def test_what_trainers_put_around_it(form, state, path):
    averages = {f"module.{name}": value + 1 for name, value in state.items()}
    content = {
        "state_dict": {f"module.{name}": value for name, value in state.items()},
        "state_dict_ema": averages,
        "epoch": 7,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(content, path, **form)
    source = opened(path)
    for name, value in state.items():
        assert np.array_equal(source.read(name), value.numpy())
        assert np.array_equal(source.read(name + EMA_SUFFIX), (value + 1).numpy())
    assert source.read("optimizer/state/0/exp_avg").shape == (3,)
    assert "'optimizer'" in source.left_out["optimizer/state/0/exp_avg"]


@FORMS
def test_another_code_bases_state_dict(form, state, path):
    config = get_config("efficientdet-tiny")
    arrays = to_naming(EFFDET, config, {name: value.numpy() for name, value in state.items()})
    torch.save({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}, path, **form)
    source = opened(path)
    assert source.naming.name == "effdet" and source.entries.keys() == arrays.keys()
    assert all(np.array_equal(source.read(name), array) for name, array in arrays.items())


def test_a_backbone_alone_is_no_source(tiny_conversion, path):
    arrays = {n: a for n, a in tiny_conversion.arrays.items() if n.startswith("backbone.")}
    save_backbone(path, tiny_conversion.config, arrays, {})
    assert "holds a backbone alone" in refusal(path)


def test_own_files_of_version_1(tiny_pth, tiny_conversion, path):
    content = torch.load(tiny_pth, weights_only=True)
    kept = ("format", "model", "config", "state_dict", "provenance")
    torch.save({**{name: content[name] for name in kept}, "version": 1}, path)
    source = opened(path)
    assert source.said.config == tiny_conversion.config
    for name, array in tiny_conversion.arrays.items():
        assert np.array_equal(source.read(name + EMA_SUFFIX), array)


def change_raw_value(content):
    content["raw_state_dict"]["backbone.stem_bn.weight"][0] += 1
    return "the values of backbone.stem_bn.weight do not have theirs"


def exchange_raw_and_average(content):
    name = "backbone.stem_bn.weight"
    ours, raw = content["state_dict"], content["raw_state_dict"]
    ours[name], raw[name] = raw[name], ours[name]
    return "the values of backbone.stem_bn.weight do not have theirs"


def change_raw_digest(content):
    content["raw_digests"]["backbone.stem_bn.weight"] = "0" * 64
    return "what it says of itself does not have its digest"


def remove_raw_digests(content):
    del content["raw_digests"]
    return "garbles a part of it ('raw_digests')"


def remove_raw_values(content):
    del content["raw_state_dict"]
    return "raw values do not belong into version 3, or are missing"


def remove_one_raw_value(content):
    del content["raw_state_dict"]["backbone.stem_bn.weight"]
    return "(its raw values) does not fit"


def say_version_2(content):
    content["version"] = 2
    return "what it says of itself does not have its digest"


def say_version_1(content):
    for name in ("digests", "raw_digests", "seal"):
        del content[name]
    content["version"] = 1
    return "raw values do not belong into version 1"


def garble_raw_values(content):
    content["raw_state_dict"] = {"a": 3}
    return "raw_state_dict is no mapping of names to tensors"


def share_raw_values(content):
    whole = torch.zeros(10**6)
    state = content["raw_state_dict"]
    for name, value in state.items():
        state[name] = whole[: value.numel()].view(value.shape)
    return "a tensor shares its values with others"


CHANGES = [
    change_raw_value,
    exchange_raw_and_average,
    change_raw_digest,
    remove_raw_digests,
    remove_raw_values,
    remove_one_raw_value,
    say_version_2,
    say_version_1,
    garble_raw_values,
    share_raw_values,
]


@pytest.fixture(scope="module")
def both(tiny_conversion, tmp_path_factory):
    from torch_model.saving import save_arrays

    path, done = tmp_path_factory.mktemp("both") / "both.pth", tiny_conversion
    raw = {name: array + 1 for name, array in done.arrays.items()}
    save_arrays(path, done.config, done.arrays, done.provenance, raw)
    return path


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_raw_values_that_were_changed_since(change, weights, both, path):
    """Also where the averages alone are wanted: what was changed is not trusted in part."""
    content = torch.load(both, weights_only=True)
    words = change(content)
    torch.save(content, path)
    with pytest.raises(InputError) as error:
        ep.load(path, weights=weights)
    assert words in str(error.value) and str(path) in str(error.value)
    if change is not remove_one_raw_value:
        refusal(path)


def test_what_a_file_with_both_says(both):
    content = torch.load(both, weights_only=True)
    assert content["version"] == 3
    assert content["raw_digests"].keys() == content["raw_state_dict"].keys()
    assert content["raw_digests"].keys() == content["digests"].keys()


# Files of before 1.6, which have no checksums


@pytest.fixture
def legacy(state, path):
    torch.save({name: value for name, value in state.items()}, path, **LEGACY)
    return path


def test_every_bit_of_a_length_in_an_old_file_counts(legacy, state):
    good, place = legacy.read_bytes(), 0
    sizes = [value.numel() * value.element_size() for value in state.values()]
    place = len(good) - sum(sizes) - 8 * len(sizes)
    # The storages stand in the order of their keys, which are numbers of memory.
    file = open_torch_file(legacy)
    assert file.content.keys() == state.keys()
    flipped = bytearray(good)
    for bit in range(64):
        flipped[place + bit // 8] ^= 1 << bit % 8
        legacy.write_bytes(flipped)
        assert "the length of storage" in refusal(legacy)
        flipped[place + bit // 8] ^= 1 << bit % 8
    legacy.write_bytes(flipped)
    assert opened(legacy).entries.keys() == state.keys()


@pytest.mark.parametrize("left", [0.999, 0.5, 0.05])
def test_an_old_file_that_is_cut_short(left, legacy):
    good = legacy.read_bytes()
    legacy.write_bytes(good[: int(len(good) * left)])
    text = refusal(legacy)
    assert "is a damaged PyTorch file" in text


def test_an_old_file_with_more_behind_it(legacy):
    legacy.write_bytes(legacy.read_bytes() + b"\0")
    assert "1 bytes stand behind its last storage" in refusal(legacy)


def legacy_of(*parts, tail=b""):
    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, *parts):
        stream.write(part if isinstance(part, bytes) else pickle.dumps(part, 2))
    return stream.getvalue() + tail


STORAGE = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x00%sX\x03\x00\x00\x00cpuK%cNtQK\x00K\x02\x85K\x01\x85\x89NtR"
)


def pickled(*storages):
    items = b"".join(
        b"X\x01\x00\x00\x00" + bytes([97 + n]) + STORAGE % item for n, item in enumerate(storages)
    )
    return b"\x80\x02}(" + items + b"u."


TWO = np.float32([1, 2]).tobytes()
COUNT = (2).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (legacy_of(pickled((b"0", 2)), ["0"], tail=COUNT + TWO), None),
        (legacy_of(pickled((b"0", 2), (b"0", 2)), ["0"], tail=COUNT + TWO), None),
        (legacy_of(pickled((b"0", 2)), [], tail=COUNT + TWO), "lists 0 storages, and 1 are used"),
        (legacy_of(pickled((b"0", 2)), ["1"], tail=COUNT + TWO), "lists 1 storages"),
        (legacy_of(pickled((b"0", 2)), ["0", "0"], tail=COUNT + TWO), "lists 2 storages"),
        (legacy_of(pickled((b"0", 2)), "0", tail=COUNT + TWO), "its list of storages is none"),
        (legacy_of(pickled((b"0", 2)), [0], tail=COUNT + TWO), "its list of storages is none"),
        (legacy_of(pickled((b"0", 2)), ["0"], tail=b"\3" + COUNT[1:] + TWO), "is another"),
        (legacy_of(pickled((b"0", 2)), ["0"], tail=b"\xff" * 8 + TWO), "is another"),
        (legacy_of(pickled((b"0", 2)), ["0"], tail=COUNT + TWO[:-1]), "cut short"),
        (legacy_of(pickled((b"0", 2)), ["0"], tail=COUNT[:-1]), "is another"),
        (legacy_of(pickled((b"0", 2), (b"0", 3)), ["0"], tail=COUNT + TWO), "described twice"),
        (legacy_of(pickled((b"0", 1)), ["0"], tail=b"\1" + COUNT[1:] + TWO[:4]), "has 1 values"),
        (legacy_of(b"\x80\x02cos\nsystem\n."), "holds a pickled os.system"),
        (legacy_of(), "its pickle has no end|cannot be read"),
        (legacy_of({}, []), "no tensors"),
    ],
)
def test_old_files_that_somebody_has_made(content, words, path):
    path.write_bytes(content)
    if words is None:
        file = open_torch_file(path)
        values = [file.read(tensor) for _, tensor in iterate_tensors(file.content)]
        assert values and all(np.array_equal(value, [1, 2]) for value in values)
        return
    text = refusal(path)
    assert any(part in text for part in words.split("|")), text


def test_an_old_file_of_a_big_endian_machine(path):
    path.write_bytes(legacy_of().replace(b"\x88", b"\x89"))
    assert "its numbers are not little-endian" in refusal(path)


# What is no such file


def test_whose_files_are_found(tiny_pth, tiny_checkpoint, state, tmp_path):
    assert find(tiny_pth) == tiny_pth
    renamed = tmp_path / "no suffix"
    shutil.copy(tiny_pth, renamed)
    assert find(renamed) == renamed
    for name in ("missing", "folder", "text.pth", "other.zip"):
        path = tmp_path / name
        if name == "folder":
            path.mkdir()
        elif name == "text.pth":
            path.write_text("nothing")
        elif name == "other.zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("model/readme.txt", "a")
        assert find(path) is None
    assert find(tiny_checkpoint) is None and find(tiny_checkpoint / "model.index") is None
    plain = tmp_path / "plain.pkl"
    plain.write_bytes(pickle.dumps({"a": 1}))
    assert find(plain) is None


def test_an_archive_with_its_records_in_another_order(tiny_pth, tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(tiny_pth) as old, zipfile.ZipFile(path, "w") as new:
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    source = opened(path)
    assert source.said and all(source.read(name) is not None for name in source.entries)


def test_a_file_that_only_code_could_load(path):
    torch.save({"state_dict": {"a": torch.zeros(2)}, "args": object.__new__(Own)}, path)
    text = refusal(path)
    assert "loading it would run code" in text and "save its state dict alone" in text


class Own:
    """Something that is no plain value."""


def test_small_parts_of_a_large_storage(state, path):
    whole = torch.zeros(2**22)
    torch.save({**state, **{f"x{n}": whole[n : n + 1] for n in range(40)}}, path)
    assert "small parts of large storages" in refusal(path)


@FORMS
def test_steps_that_are_never_taken(form, path):
    """PyTorch does not look at the stride of an extent of one, or of a tensor without values."""
    whole = torch.arange(3, dtype=torch.float32)
    odd = {"one": whole.as_strided((1,), (2**61,), 2), "none": whole.as_strided((0, 3), (1, 2**61))}
    torch.save(odd, path, **form)
    file = open_torch_file(path)
    assert file.read(file.content["one"]).tolist() == [2]
    assert file.read(file.content["none"]).shape == (0, 3)


@FORMS
def test_an_immense_shape_of_nothing(form, path):
    torch.save({"x": torch.zeros(0).as_strided((0, 2**31, 2**31), (1, 0, 0))}, path, **form)
    file = open_torch_file(path)
    with pytest.raises(InputError, match=r"a tensor \[0, 2147483648, 2147483648\] has 0 values"):
        file.read(file.content["x"])


def test_keys_that_differ_in_type_alone(state, path):
    torch.save({**state, 1: torch.zeros(2), "1": torch.zeros(2)}, path)
    assert "holds two tensors called 1" in refusal(path)


def test_a_record_of_another_length(state, tmp_path):
    good, path = tmp_path / "good.pth", tmp_path / "x.pth"
    torch.save(state, good)
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            cut = 4 if name.endswith("/data/7") else 0
            content = old.read(name)
            new.writestr(name, content[: len(content) - cut])
    assert "storage 7 has" in refusal(path)
