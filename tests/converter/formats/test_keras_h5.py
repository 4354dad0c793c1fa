"""Keras HDF5 files: official ones are read, ours are like them, and no other is taken for one."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from configurations import CONFIGURATIONS

from converter.formats.keras_h5 import KerasH5, _content, find
from converter.formats.registry import formats
from converter.formats.target import Values
from converter.hdf5 import file as hdf5_file
from converter.hdf5.child import LISTS
from converter.hdf5.listing import Inconsistent, read_listing
from converter.mappings.keras_order import creation_order, iterate_layers, keras_order
from converter.mappings.official import iterate_pairs
from efficientdet_spec import TINY, InputError, get_config

ROOT = Path(__file__).parents[3]
FIRST, SECOND = (
    "class_net/class-0-bn-3/gamma:0",
    "class_net/class-0-bn-3/beta:0",
)
KERNEL = "resample_p6/resample_p6/conv2d/kernel:0"


def drawn(config, seed=0):
    rng = np.random.default_rng(seed)
    return {
        pair.parameter: rng.standard_normal(pair.shape, np.float32)
        for pair in iterate_pairs(config)
    }


def as_variables(config, arrays):
    return {
        name: value
        for pair in iterate_pairs(config)
        for name, value in zip(
            pair.variables, pair.layout.to_tensorflow(arrays[pair.parameter]), strict=True
        )
    }


def write(path, config=TINY, arrays=None):
    return formats()["h5"].write(path, Values(config, arrays or drawn(config)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("h5") / "tiny.h5"
    write(path)
    return path


@pytest.fixture
def changed(sound, tmp_path):
    """Makes a copy of the sound file with something done to it."""

    def change(edit):
        path = tmp_path / "changed.h5"
        shutil.copy(sound, path)
        with h5py.File(path, "r+") as file:
            edit(file)
        return path

    return change


@pytest.fixture
def official(test_data, tmp_path):
    """Unpacks one of the official files."""

    def unpack(name):
        path = tmp_path / f"{name}_official.h5"
        path.write_bytes(
            gzip.decompress((test_data / "formats" / f"{name}_ids.h5.gz").read_bytes())
        )
        return path

    return unpack


def refusal(path):
    with pytest.raises(InputError) as error:
        source = KerasH5(path)
        for name in source.entries:
            source.read(name)
    message = str(error.value)
    assert len(message.encode()) < 1000
    assert "\n" not in message
    assert str(path) in message
    return message


# Sound files


@pytest.mark.parametrize("name", ["d0", "lite0"])
def test_an_official_file_has_every_variable_at_its_place(name, official):
    config, path = get_config(f"efficientdet-{name}"), official(name)
    assert find(path) == path
    source = KerasH5(path)
    order = keras_order(config)
    assert set(source.entries) == set(order)
    for number, variable in enumerate(order, 1):
        values = source.read(variable)
        assert values.dtype == np.float32
        assert np.array_equal(values, np.full(values.shape, number, np.float32))
        assert source.entries[variable].name.endswith(f"/{variable}:0")
    assert source.check(config) == ()
    assert source.left_out == {}
    assert source.CHECKED == "this container carries no checksum"


@pytest.mark.parametrize("name", ["d0", "lite0"])
def test_our_file_has_all_that_the_official_one_has_and_nothing_else(name, official, tmp_path):
    config, path = get_config(f"efficientdet-{name}"), official(name)
    source = KerasH5(path)
    arrays = {
        pair.parameter: pair.layout.to_torch([source.read(item) for item in pair.variables])
        for pair in iterate_pairs(config)
    }
    write(tmp_path / "ours.h5", config, arrays)
    assert described(tmp_path / "ours.h5") == described(path)


def described(path):
    """Every object of a file with its attributes, types, shapes and values."""
    found = {}

    def describe(name, item):
        attributes = {}
        for key in item.attrs:
            stored = item.attrs.get_id(key)
            kind = stored.get_type()
            is_text = isinstance(kind, h5py.h5t.TypeStringID)
            coded = (kind.is_variable_str(), kind.get_size(), kind.get_cset()) if is_text else ()
            attributes[key] = (
                stored.shape,
                str(stored.dtype),
                coded,
                np.array(item.attrs[key]).tolist(),
            )
        values = None
        if isinstance(item, h5py.Dataset):
            values = (item.shape, item.dtype.str, item.chunks, item.compression, item[()].tobytes())
        found[name] = (type(item).__name__, attributes, values)

    with h5py.File(path) as file:
        describe("", file)
        file.visititems(describe)
    return found


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_every_variable_comes_back_bit_for_bit(config, tmp_path):
    arrays = drawn(config)
    written = write(tmp_path / "x.h5", config, arrays)
    source = KerasH5(tmp_path / "x.h5")
    expected = as_variables(config, arrays)
    assert set(source.entries) == set(expected)
    for name, values in expected.items():
        found = source.read(name)
        assert found.shape == values.shape
        assert found.tobytes() == values.tobytes()
    assert source.check(config) == ()
    assert [row.name for row in written.rows] == [
        f"{layer}/{name}:0" for layer, names in iterate_layers(config) for name in names
    ]


def test_long_lists_are_split_as_keras_splits_them(tmp_path, monkeypatch):
    from converter.formats import keras_h5_writing

    monkeypatch.setattr(keras_h5_writing, "MOST_ATTRIBUTE_BYTES", 1000)
    write(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        group = file["class_net"]
        parts = [name for name in group.attrs if name.startswith("weight_names")]
        assert parts == [f"weight_names{number}" for number in range(len(parts))]
        assert len(parts) > 2
        assert all(group.attrs[part].nbytes <= 1000 for part in parts)
        # The fewest parts that will do.
        names = np.concatenate([group.attrs[part] for part in parts])
        assert any(part.nbytes > 1000 for part in np.array_split(names, len(parts) - 1))
    source = KerasH5(tmp_path / "x.h5")
    assert source.check(TINY) == ()
    assert set(source.entries) == set(creation_order(TINY))


KERAS = """
import sys

import h5py
import numpy as np

import keras
from keras.src.legacy.saving.legacy_h5_format import load_weights_from_hdf5_group
from converter.mappings.keras_order import is_statistic, iterate_layers
from converter.mappings.official import iterate_pairs
from efficientdet_spec import get_config

path, values, name = sys.argv[1:]
config = get_config(name)
pairs = iterate_pairs(config)
shapes = {key: shape for pair in pairs for key, shape in pair.variable_shapes.items()}


class Held(keras.layers.Layer):
    def __init__(self, name, variables):
        super().__init__(name=name)
        self.held = {
            key: self.add_weight(
                shape=shapes[key],
                name=key.replace("/", "_"),
                trainable=not is_statistic(key),
                initializer="zeros",
            )
            for key in variables
        }
        self.built = True


class Network(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = [Held(layer, names) for layer, names in iterate_layers(config)]
        self.built = True


network = Network()
with h5py.File(path) as file:
    load_weights_from_hdf5_group(file, network)
np.savez(values, **{
    key: np.array(value) for part in network.parts for key, value in part.held.items()
})
"""


def loaded_by_keras(path, tmp_path, name="efficientdet-tiny"):
    pytest.importorskip("tensorflow", reason="Keras computes with TensorFlow")
    values = tmp_path / "values.npz"
    subprocess.run(
        [sys.executable, "-c", KERAS, str(path), str(values), name],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"},
        check=True,
        capture_output=True,
    )
    with np.load(values) as found:
        return dict(found)


@pytest.mark.parametrize("name", ["efficientdet-tiny", "efficientdet-d0", "efficientdet-lite0"])
def test_keras_own_reader_fills_every_variable_with_its_values(name, tmp_path):
    config = get_config(name)
    arrays = drawn(config)
    write(tmp_path / "x.h5", config, arrays)
    found = loaded_by_keras(tmp_path / "x.h5", tmp_path, name)
    expected = as_variables(config, arrays)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].tobytes() == values.tobytes()


def test_packed_files_are_read_too(sound, tmp_path):
    packings = ({"compression": "gzip"}, {"shuffle": True, "compression": 1}, {"fletcher32": True})
    with h5py.File(sound) as file, h5py.File(tmp_path / "x.h5", "w", userblock_size=1024) as to:
        for key, value in file.attrs.items():
            to.attrs[key] = value

        def copied(name, item):
            if isinstance(item, h5py.Group):
                made = to.create_group(name)
            else:
                packing = packings[len(name) % 3] if item.shape else {}
                made = to.create_dataset(name, data=item[()], **packing)
            for key, value in item.attrs.items():
                made.attrs[key] = value

        file.visititems(copied)
    assert find(tmp_path / "x.h5") == tmp_path / "x.h5"
    same(KerasH5(tmp_path / "x.h5"), KerasH5(sound))


def same(source, other):
    assert source.entries.keys() == other.entries.keys()
    for name in reversed(source.entries):
        assert source.read(name).tobytes() == other.read(name).tobytes()


def test_whole_models_and_other_types_are_read(sound, tmp_path):
    with h5py.File(sound) as file, h5py.File(tmp_path / "x.h5", "w") as to:
        to.attrs["model_config"] = "{}"
        weights = to.create_group("model_weights")
        for key, value in file.attrs.items():
            weights.attrs[key] = value
        for name in file:
            file.copy(name, weights)
        to["optimizer_weights/SGD/iter:0"] = np.int64(7)
        to["optimizer_weights/SGD/class_net/momentum:0"] = np.zeros(3, ">f4")
        to["model_weights/class_net/class_net/leftover:0"] = np.zeros(3, np.float16)
    source = KerasH5(tmp_path / "x.h5")
    assert source.left_out == {
        "optimizer_weights/SGD/iter:0": "state of the optimizer",
        "optimizer_weights/SGD/class_net/momentum:0": "state of the optimizer",
        "model_weights/class_net/class_net/leftover:0": (
            "listed by no weight_names, so that Keras does not load it"
        ),
    }
    assert source.read("optimizer_weights/SGD/iter:0") == 7
    assert source.entries["optimizer_weights/SGD/iter:0"].dtype_name == "DT_INT64"
    assert source.read("optimizer_weights/SGD/class_net/momentum:0").dtype.isnative
    first = creation_order(TINY)[0]
    assert source.read(first).tobytes() == KerasH5(sound).read(first).tobytes()
    assert source.check(TINY) == ()


def test_what_is_not_needed_is_looked_at_in_parts(changed):
    name = KERNEL.partition("/")[2].removesuffix(":0")

    def edit(file):
        file[KERNEL][0, 0, 0, :3] = np.nan, np.inf, -np.inf
        large = np.zeros(700_000, ">f4")
        large[[0, 300_000, 699_999]] = np.nan
        file["large"] = large
        file["whole"] = np.arange(3)
        file["text"] = ["a", "b"]

    source = KerasH5(changed(edit))
    found = {name: source.verify(name) for name in source.entries}
    assert {name: count for name, count in found.items() if count} == {name: 3, "large": 3}


# Names against order


def reorder(layer, change):
    def edit(file):
        names = list(file[layer].attrs["weight_names"])
        change(names)
        file[layer].attrs["weight_names"] = [name.encode() for name in names]

    return edit


def swap(names):
    one, two = names.index(FIRST), names.index(SECOND)
    names[one], names[two] = names[two], names[one]


def test_two_swapped_names_are_refused_and_keras_would_have_mixed_them_up(changed, tmp_path):
    path = changed(reorder("class_net", swap))
    source = KerasH5(path)
    with pytest.raises(InputError) as error:
        source.check(TINY)
    message = str(error.value)
    assert FIRST.removesuffix(":0") in message
    assert SECOND.removesuffix(":0") in message
    assert len(message.encode()) < 1000
    found = loaded_by_keras(path, tmp_path)
    gamma, beta = FIRST.removesuffix(":0"), SECOND.removesuffix(":0")
    assert found[gamma].tobytes() == source.read(beta).tobytes()
    assert found[beta].tobytes() == source.read(gamma).tobytes()


def test_any_two_swapped_names_are_told(sound):
    """What a frozen network lists is another order too, but no swap makes it."""
    source, layers = KerasH5(sound), dict(iterate_layers(TINY))
    rng = np.random.default_rng(0)
    for layer, official in layers.items():
        trained = [i for i, name in enumerate(official) if "/moving_" not in name]
        others = [i for i, name in enumerate(official) if "/moving_" in name]
        for alike in (trained, others) * 50:
            if len(alike) < 2:
                continue
            one, two = rng.choice(alike, 2, replace=False)
            names = list(official)
            names[one], names[two] = names[two], names[one]
            source._layers = layers | {layer: names}
            with pytest.raises(InputError, match="contradicts itself"):
                source.check(TINY)
    source._layers = layers
    assert source.check(TINY) == ()


def test_layers_in_another_order_are_refused(changed):
    def edit(file):
        names = list(file.attrs["layer_names"])
        file.attrs["layer_names"] = [*names[:-2], names[-1], names[-2]]

    with pytest.raises(InputError, match="contradicts itself: in the list of layers"):
        KerasH5(changed(edit)).check(TINY)


def test_what_a_network_with_frozen_parts_lists_is_read_by_name_with_a_note(changed, sound):
    place = {f"{name}:0": number for number, name in enumerate(creation_order(TINY))}

    def frozen(names):
        names.sort(key=place.__getitem__)

    path = changed(reorder("class_net", frozen))
    (note,) = KerasH5(path).check(TINY)
    assert "class_net" in note
    assert "frozen" in note
    same(KerasH5(path), KerasH5(sound))


# What is refused


def linked(file):
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("/etc/passwd", "/x")


def softly_linked(file):
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/class_net")


def twice(file):
    del file[KERNEL]
    file[KERNEL] = file["class_net"]


def circle(file):
    file["class_net/again"] = file["class_net"]


def missing(file):
    del file[KERNEL]


def no_layer(file):
    del file["class_net"]


def listed_twice(file):
    file.attrs["layer_names"] = [*file.attrs["layer_names"], "class_net"]


def name_twice(file):
    swapped = reorder("class_net", lambda names: names.append(names[0]))
    swapped(file)


def elsewhere(file):
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape, "f4", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)])


def virtual(file):
    shape = file[KERNEL].shape
    del file[KERNEL]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource("/dev/zero", "x", shape)
    file.create_virtual_dataset(KERNEL, layout)


def immense(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, (2**40,), "f4", chunks=(2**10,))


def immense_alike(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, (2**40,), "f4")


def packed_bomb(file):
    del file[KERNEL]
    data = np.zeros(2**28 // 4 + 2**20, np.float32)
    file.create_dataset(KERNEL, data=data, chunks=(2**24,), compression=9)


def packed_twice(file):
    del file[KERNEL]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((2**20,))
    plan.set_deflate(9)
    plan.set_deflate(9)
    space = h5py.h5s.create_simple((2**20,))
    group = file["resample_p6/resample_p6/conv2d"]
    made = h5py.h5d.create(group.id, b"kernel:0", h5py.h5t.IEEE_F32LE, space, plan)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(2**20, np.float32))


def never_written(file):
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape, "f4")


def partly_written(file):
    del file[KERNEL]
    made = file.create_dataset(KERNEL, (64, 64), "f4", chunks=(8, 8))
    made[:8] = 1


def odd_filter(file):
    values = file[KERNEL][()]
    del file[KERNEL]
    file.create_dataset(KERNEL, data=values, chunks=values.shape, compression="lzf")


def deep(file):
    file.create_group("class_net/" + "/".join("x" * 100))


def crowded(file):
    group = file.create_group("crowd")
    for number in range(20_001):
        group.create_group(str(number))


def texts(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, data=["a", "b"], dtype=h5py.string_dtype())


def odd_float(file):
    values = file[KERNEL][()]
    del file[KERNEL]
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 20, 8, 0, 20)
    kind.set_precision(32)
    group = file["resample_p6/resample_p6/conv2d"]
    space = h5py.h5s.create_simple(values.shape)
    h5py.h5d.create(group.id, b"kernel:0", kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def references(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, data=[file.ref], dtype=h5py.ref_dtype)


def names_of_numbers(file):
    file["class_net"].attrs["weight_names"] = np.arange(5)


def many_names(file):
    file["class_net"].attrs.create("weight_names", np.zeros(30_000, "S2"))


def immense_nothing(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, (0, 2**40, 2**40), "f4")


def one_name(file):
    file["class_net"].attrs["weight_names"] = "class_net/class-0/bias:0"


def odd_type(file):
    file["kind"] = np.dtype("f4")


REFUSED = {
    linked: "link to elsewhere",
    softly_linked: "link to elsewhere",
    twice: "another name of",
    circle: "another name of",
    missing: "which it does not have",
    no_layer: "which it does not have",
    listed_twice: "twice",
    name_twice: "listed twice",
    elsewhere: "in another file",
    virtual: "a view of other datasets",
    immense: "of the 1,073,741,824 parts",
    immense_alike: "bytes of values",
    packed_bomb: "bytes of values",
    packed_twice: "filters",
    never_written: "bytes of values",
    partly_written: "of the 64 parts",
    odd_filter: "filters",
    deep: "deep",
    crowded: "groups and datasets",
    texts: "no numbers",
    odd_float: "no numbers",
    references: "no numbers",
    names_of_numbers: "no names",
    immense_nothing: "has the shape [0, 1099511627776, 1099511627776]",
    many_names: "no list of at most",
    one_name: "no list of at most",
    odd_type: "neither a group nor a dataset",
}


@pytest.mark.parametrize("edit", REFUSED, ids=lambda edit: edit.__name__)
def test_what_is_no_file_of_keras_is_refused_in_a_sentence(edit, changed):
    assert REFUSED[edit] in refusal(changed(edit))


def test_long_lists_of_layers_take_little_time(tmp_path):
    path = tmp_path / "long.h5"
    layers = [f"{number:05}" for number in range(19_000)]
    groups = [[name, dict.fromkeys(LISTS)] for name in layers]
    whole = ["", {"layer_names": layers, "weight_names": None}]
    told = json.dumps({"groups": [whole, *groups], "datasets": []}).encode()
    began = time.monotonic()
    assert len(_content(path, read_listing(told, 0)).layers) == len(layers)
    assert time.monotonic() - began < 3


def test_shared_bytes_are_refused(sound):
    listing = hdf5_file.Hdf5File(sound).listing

    def item(path, offset, stored=400):
        return [path, "<f4", [100], offset, stored, [], None, None, "contiguous"]

    def told(*items):
        return json.dumps({"groups": [], "datasets": items}).encode()

    assert len(read_listing(told(item("a", 0), item("b", 400)), 800).datasets) == 2
    for wrong in (
        told(item("a", 0), item("b", 399)),
        told(item("a", 0), item("b", 401)),
        told(item("a", 0, 401), item("b", 400)),
        told(item("a", 0, 399)),
        told(item("a", -1)),
        told([*item("a", 0)[:-1]]),
        told(["a", "<f4", [10**30], 0, 400, [], None, None, "contiguous"]),
        told(["a", "<f4", [2**64, 0], None, 0, [], None, None, "contiguous"]),
        told(["a", "<f4,<f4", [1], 0, 400, [], None, None, "contiguous"]),
        told(["a", "(((", [1], 0, 400, [], None, None, "contiguous"]),
        told(["a", "O", [1], 0, 400, [], None, None, "contiguous"]),
        told(["a", "<f4", [1] * 33, 0, 400, [], None, None, "contiguous"]),
        b"[" * 100_000,
        b"{}",
        b"\xff",
    ):
        with pytest.raises(Inconsistent):
            read_listing(wrong, 800)
    assert listing.datasets


def test_other_hdf5_files_are_refused_by_what_they_are(tmp_path):
    def made(*names):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            for name in names:
                file[name] = np.zeros(3)
        assert find(tmp_path / "x.h5")
        return refusal(tmp_path / "x.h5")

    assert "nothing in it" in made()
    assert "trace" in made("header", "nodes/a")
    assert "Keras 3" in made("layers/conv/vars/0")
    assert "has other" in made("other")


def test_what_is_no_hdf5_file_is_left_to_others(tmp_path, sound):
    for content in (b"", b"\x89HDF", b"x" * 5000, b"PK\x03\x04" + bytes(508) + sound.read_bytes()):
        (tmp_path / "x.h5").write_bytes(content)
        assert find(tmp_path / "x.h5") is None
    assert find(tmp_path) is None
    assert find(tmp_path / "none.h5") is None


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_refused(share, sound, tmp_path):
    data = sound.read_bytes()
    (tmp_path / "x.h5").write_bytes(data[: int(len(data) * share)])
    assert "damaged" in refusal(tmp_path / "x.h5")


def test_a_checksum_that_hdf5_wrote_is_verified(changed, tmp_path):
    def edit(file):
        for layer, names in iterate_layers(TINY):
            for name in names:
                values = file[f"{layer}/{name}:0"][()]
                if values.shape:
                    del file[f"{layer}/{name}:0"]
                    file.create_dataset(f"{layer}/{name}:0", data=values, fletcher32=True)

    def summed(file):
        edit(file)
        place = file[KERNEL].id.get_chunk_info(0).byte_offset
        places.append(place)

    places = []
    path = changed(summed)
    source = KerasH5(path)
    name = KERNEL.partition("/")[2].removesuffix(":0")
    source.read(name)
    data = bytearray(path.read_bytes())
    data[places[0] + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        KerasH5(path).read(name)


# The process


def dies(monkeypatch, code):
    monkeypatch.setattr(hdf5_file, "_BEGIN", code)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "died of SIGSEGV"),
        ("import os; os._exit(3)", "ended with exit code 3"),
        ("print('x' * 10**6)", "takes 8,6"),
        ("import os; os.write(1, bytes(7) + b'\\x05' + b'12345')", "cannot be told"),
        ("import os; os.write(1, bytes(7) + b'\\x05' + b'12')", "ended with exit code 0"),
        ("import os; os.write(1, b'\\xff' * 8 + bytes(7) + b'\\x02' + b'no')", "no; copy"),
    ],
)
def test_a_process_that_dies_or_raves_is_one_sentence(code, words, sound, monkeypatch):
    dies(monkeypatch, code)
    assert words in refusal(sound)


def test_a_process_that_hangs_is_ended(sound, monkeypatch):
    monkeypatch.setattr(hdf5_file, "SECONDS", 0.5)
    dies(monkeypatch, "import time; time.sleep(1000)")
    assert "took longer" in refusal(sound)


LIMITED = """
import resource, sys
from converter.hdf5 import child
child._limit()
{}
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("bytearray(2**31)", "MemoryError"),
        (
            "import os; os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b'x')",
            "File too large",
        ),
        ("[open('/dev/null') for _ in range(100)]", "Too many open files"),
        ("resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))", "not allowed"),
    ],
)
def test_the_process_has_little_memory_and_may_write_nothing(code, words, tmp_path):
    if os.geteuid() == 0 and "setrlimit" in code:
        pytest.skip("the superuser may raise limits")
    run = subprocess.run(
        [sys.executable, "-c", LIMITED.format(code), str(tmp_path / "x")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **hdf5_file._ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert words in run.stderr


def test_the_process_imports_nothing_from_the_current_folder(sound, tmp_path, monkeypatch):
    folder = tmp_path / "current"
    folder.mkdir()
    for name in ("h5py", "json", "numpy", "os", "resource", "converter", "encodings"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert KerasH5(sound).entries
    assert not (tmp_path / "ran").exists()


def test_no_process_is_left(changed):
    def packed(file):
        values = file[KERNEL][()]
        del file[KERNEL]
        file.create_dataset(KERNEL, data=values, compression=1)

    source = KerasH5(changed(packed))
    process = source._file._child._process
    assert process.poll() is None
    del source
    assert process.poll() is not None


def test_reading_imports_no_hdf5_and_no_framework(sound):
    code = (
        "import sys; from pathlib import Path; from converter.formats.keras_h5 import KerasH5\n"
        f"source = KerasH5(Path({str(sound)!r})); [source.read(name) for name in source.entries]\n"
        "assert not {'h5py', 'torch', 'tensorflow'} & set(sys.modules), 'imported'"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


def test_without_h5py_it_is_said_what_to_install(sound, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for act in (lambda: KerasH5(sound), lambda: write(tmp_path / "x.h5")):
        with pytest.raises(InputError, match="needs h5py, which is not installed"):
            act()


# Writing


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "none" / "x.h5")
    arrays = drawn(TINY)
    arrays.pop("box_head.predict.pointwise.weight")
    with pytest.raises(KeyError):
        write(tmp_path / "x.h5", TINY, arrays)
    assert list(tmp_path.iterdir()) == []


def test_raw_values_beside_averages_have_no_place(tmp_path):
    arrays = drawn(TINY)
    with pytest.raises(InputError, match="one value of each variable"):
        formats()["h5"].write(tmp_path / "x.h5", Values(TINY, arrays, raw=arrays))
    assert not formats()["h5"].holds_both
    assert list(tmp_path.iterdir()) == []
