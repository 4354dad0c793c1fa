"""SavedModels: those that the official code exported, and what may be wrong with one."""

import shutil

import format_files
import numpy as np
import pytest

from converter.conversion import convert
from converter.fetch.sources import resolve
from converter.formats import registry
from converter.formats.saved_model import Tf1SavedModel, Tf2SavedModel
from converter.mappings.keras_order import keras_order
from converter.mappings.keras_paths import object_paths
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import open_bundle
from converter.tensorflow_files.bundle_writer import write_bundle
from converter.tensorflow_files.object_graph import KEY, VALUE_SUFFIX, write_object_graph
from efficientdet_spec import EMA_SUFFIX, TINY, InputError, get_config

HEADER = b"\x08\x01\x12\x00"
TRAINED, START = np.float32(3), np.float32(1)


@pytest.fixture
def tf1(tmp_path):
    """A SavedModel of TensorFlow 1: trained plain values, untrained averages."""
    tensors = {"global_step": np.array(9, np.int64)}
    for pair in iterate_pairs(TINY):
        for name, shape in pair.variable_shapes.items():
            tensors[name] = np.full(shape, TRAINED)
            tensors[name + EMA_SUFFIX] = np.full(shape, START)
    return _exported(tmp_path / "exported", tensors)


def _exported(folder, tensors):
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(HEADER)
    write_bundle(folder / "variables" / "variables", tensors)
    (folder / "variables" / "checkpoint").unlink()
    return folder


def _positions(names, order, full_names=True):
    """Tensors of a SavedModel of TensorFlow 2, and a description that leads to them by paths."""
    position = {name: number for number, name in enumerate(order)}
    shapes = {
        name: shape for pair in iterate_pairs(TINY) for name, shape in pair.variable_shapes.items()
    }
    graph = write_object_graph(
        {f"model/{path}": name if full_names else "" for path, name in names.items()}
    )
    keys = {path: f"model/variables/{position[name]}{VALUE_SUFFIX}" for path, name in names.items()}
    tensors = {
        keys[path]: np.full(shapes[name], position[name] + 1, np.float32)
        for path, name in names.items()
    }
    graph = _with_keys(graph, {f"model/{path}{VALUE_SUFFIX}": key for path, key in keys.items()})
    return {**tensors, KEY: np.array(graph, object)}


def _with_keys(graph, keys):
    """The description with other keys, by those that it has."""
    protobuf = pytest.importorskip("tensorflow.core.protobuf.trackable_object_graph_pb2")
    message = protobuf.TrackableObjectGraph.FromString(graph)
    for node in message.nodes:
        for value in node.attributes:
            value.checkpoint_key = keys[value.checkpoint_key]
    return message.SerializeToString()


def _open(path, kind):
    container, place = registry.find(path)
    source = container.open(place)
    assert isinstance(source, kind)
    assert container.name == source.FORMAT
    return source


def test_the_official_one_of_tensorflow_1(test_data, tmp_path):
    folder = format_files.unpacked(test_data, "d0_tf1_saved_model_ids", tmp_path)
    source = _open(folder, Tf1SavedModel)
    assert source.path == folder / "saved_model.pb"
    ordinals = format_files.ordinals(test_data, "d0")
    assert len(source.entries) == 1419 == 2 * len(ordinals) + 1
    for name, ordinal in ordinals.items():
        assert np.all(source.read(name) == ordinal)
        assert name not in source.left_out
        # What training would have as the model's value is an untrained start value here.
        assert np.all(source.read(name + EMA_SUFFIX) == -1)
        assert "untrained" in source.left_out[name + EMA_SUFFIX]
    assert len(source.left_out) == len(ordinals)
    assert "plain name" in source.ONLY_VALUE
    container, place = registry.find(folder)
    assert {path.name for path in container.files(place)} == {
        "saved_model.pb",
        "variables.index",
        "variables.data-00000-of-00001",
    }
    assert set(source.digests()) == {"graph_sha256", "index_sha256"}


def test_the_official_one_of_tensorflow_2(test_data, tmp_path):
    folder = format_files.unpacked(test_data, "lite0_tf2_saved_model_ids", tmp_path)
    source = _open(folder, Tf2SavedModel)
    config = get_config("lite0")
    ordinals = format_files.ordinals(test_data, "lite0")
    paths = object_paths(config)
    for path, name in paths.items():
        assert np.all(source.read(path) == ordinals[name])
        assert source.entries[path].name == (
            f"model/variables/{ordinals[name] - 1}/.ATTRIBUTES/VARIABLE_VALUE"
        )
    assert set(source.entries) == {*paths, *source.left_out}
    head = [name for name in source.left_out if "/_head/" in name]
    assert len(head) == 7 and len(source.left_out) == 8
    assert all("ImageNet" in source.left_out[name] for name in head)
    assert all(source.verify(name) == 0 for name in source.entries)
    assert source.check(config) == source.notes == ()


def test_averages_never_win_in_tensorflow_1(tf1):
    source = _open(tf1, Tf1SavedModel)
    for pair in iterate_pairs(TINY):
        for name in pair.variables:
            assert np.all(source.read(name) == TRAINED)
            assert name + EMA_SUFFIX in source.left_out
    assert source.ONLY_VALUE
    # The same bundle alone is a training checkpoint, of which the averages are the model.
    shutil.move(tf1 / "variables", tf1.parent / "alone")
    other = registry.find(tf1.parent / "alone")
    assert other is None or other[0].name == "tf1"


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "saved_model.pb",
        "variables",
        "variables/variables",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    ],
)
def test_it_is_found_by_any_of_its_files(tf1, name):
    container, place = registry.find(tf1 / name)
    assert (container.name, place) == ("saved_model_tf1", tf1 / "saved_model.pb")


def test_without_its_variables_it_is_incomplete(tf1):
    (tf1 / "variables" / "variables.index").unlink()
    with pytest.raises(InputError, match=r"variables/variables.index is not there"):
        registry.find(tf1 / "saved_model.pb")


@pytest.mark.parametrize("content", [b"", b"\x0a\x02\x0a\x00", b"text"])
def test_variables_beside_a_damaged_graph_are_no_checkpoint(tf1, content):
    """Of a checkpoint of these names the averages would be the model, and here they are not."""
    (tf1 / "saved_model.pb").write_bytes(content)
    for name in (".", "variables", "variables/variables.index"):
        with pytest.raises(InputError, match="does not begin like one"):
            registry.find(tf1 / name)
    shutil.rmtree(tf1 / "variables")
    found = registry.find(tf1)
    assert found is None or not found[0].name.startswith("saved_model")


def test_damage_is_found(tf1):
    data = tf1 / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    source = _open(tf1, Tf1SavedModel)
    last = max(source.entries, key=lambda name: source.entries[name].offset)
    with pytest.raises(InputError, match="is damaged: bytes"):
        source.verify(last)
    index = tf1 / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(InputError, match="is cut short"):
        _open(tf1, Tf1SavedModel)


def test_positions_are_held_against_the_paths(tmp_path):
    names, order = object_paths(TINY), list(keras_order(TINY))
    source = _open(_exported(tmp_path / "right", _positions(names, order)), Tf2SavedModel)
    assert source.check(TINY) == () and source.root == "model"
    assert set(source.entries) == {*names, KEY}
    for path, name in names.items():
        assert np.all(source.read(path) == order.index(name) + 1)
    order[3], order[8] = order[8], order[3]
    # As after training with other layers frozen: path and name agree, and decide.
    source = _open(_exported(tmp_path / "moved", _positions(names, order)), Tf2SavedModel)
    (note,) = source.check(TINY)
    assert note.startswith("2 of ") and "other positions" in note
    # Nobody can tell whether position or path is wrong.
    tensors = _positions(names, order, full_names=False)
    source = _open(_exported(tmp_path / "unsure", tensors), Tf2SavedModel)
    with pytest.raises(InputError, match="2 variables are so without a name") as told:
        source.check(TINY)
    assert len(str(told.value).encode()) < 1000


def test_swapped_names_are_refused(tmp_path):
    names, order = dict(object_paths(TINY)), keras_order(TINY)
    first, second = (f"backbone/_blocks/1/_bn{number}/gamma" for number in (0, 1))
    tensors = _positions(names, order)
    names[first], names[second] = names[second], names[first]
    swapped = _positions(names, order)
    # The tensors stay, and the description swaps what leads to them.
    folder = _exported(tmp_path / "swapped", {**tensors, KEY: swapped[KEY]})
    with pytest.raises(InputError, match="the name of another variable"):
        _open(folder, Tf2SavedModel).check(TINY)


def test_its_bundle_is_opened_where_it_lies(tf1):
    source = _open(tf1, Tf1SavedModel)
    assert open_bundle(tf1 / "variables" / "variables").index.entries.keys() == (
        source.entries.keys()
    )


def test_a_conversion_takes_the_plain_values(tf1, tmp_path):
    converted = convert(resolve(str(tf1), tmp_path))
    assert converted.ledger.findings == ()
    assert all(np.all(array == TRAINED) for array in converted.arrays.values())
    # The very tensors as a training checkpoint: there the averages are the model.
    opened = open_bundle(tf1 / "variables" / "variables")
    tensors = {name: opened.read(name) for name in opened.index.entries}
    write_bundle(tmp_path / "model", tensors)
    trained = convert(resolve(str(tmp_path / "model"), tmp_path))
    assert all(np.all(array == START) for array in trained.arrays.values())


@pytest.mark.parametrize(
    ("name", "model", "place"),
    [("d0_tf1_saved_model_ids", "d0", "."), ("lite0_tf2_saved_model_ids", "lite0", "variables")],
)
def test_official_ones_convert(test_data, tmp_path, name, model, place):
    folder = format_files.unpacked(test_data, name, tmp_path)
    converted = convert(resolve(str(folder / place), tmp_path))
    assert converted.config.name == f"efficientdet-{model}"
    format_files.require_ordinals(test_data, model, converted.arrays)
