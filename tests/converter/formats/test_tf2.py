"""TensorFlow 2 object checkpoints: those that the official code wrote, ours, and damaged ones."""

import shutil
from dataclasses import replace

import format_files
import numpy as np
import pytest
from configurations import CONFIGURATIONS

from converter.conversion import convert, files_at
from converter.fetch.sources import resolve
from converter.formats import registry
from converter.formats.target import Values
from converter.mappings.keras_paths import object_paths
from converter.mappings.official import iterate_pairs
from converter.seeded import seeded_variables
from converter.tensorflow_files.bundle import open_bundle
from converter.tensorflow_files.bundle_writer import write_bundle
from converter.tensorflow_files.object_graph import KEY, VALUE_SUFFIX, write_object_graph
from efficientdet_spec import TINY, InputError, get_config


def _open(path):
    container, place = registry.find(path)
    assert container.name == "tf2"
    return container.open(place)


def _drawn(config):
    generator = np.random.default_rng(5)
    return {
        pair.parameter: generator.normal(size=pair.shape).astype(np.float32)
        for pair in iterate_pairs(config)
    }


def _values(source, config):
    return {
        pair.parameter: pair.layout.to_torch([source.read(name) for name in pair.variables])
        for pair in source.naming.pairs(config)
    }


@pytest.fixture(scope="module")
def drawn():
    return _drawn(TINY)


@pytest.fixture
def written(tmp_path, drawn):
    registry.formats()["tf2"].write(tmp_path / "model", Values(TINY, drawn))
    return tmp_path / "model"


def _tensors(folder):
    """What a checkpoint holds, to be written again otherwise."""
    opened = open_bundle(folder / "model")
    return {
        name: np.array(opened.read_strings(name)[0], object) if name == KEY else opened.read(name)
        for name in opened.index.entries
    }


def _again(folder, tensors, graph=None):
    if graph is not None:
        tensors = {**tensors, KEY: np.array(graph, object)}
    shutil.rmtree(folder)
    folder.mkdir()
    write_bundle(folder / "model", tensors)
    return folder


def test_the_official_checkpoint_holds_the_seeded_values(test_data):
    source = _open(test_data / "formats" / "lite0_tf2")
    config = get_config("lite0")
    statistics = np.load(test_data / "formats" / "lite0_moving_statistics.npz")
    wanted = dict(seeded_variables(config, "fmt"))
    wanted |= {name: statistics[name].astype(np.float32) for name in statistics.files}
    paths = object_paths(config)
    assert len(paths) == 588 and set(source.entries) == {*paths, KEY}
    for path, name in paths.items():
        values = source.read(path)
        assert (values.dtype, values.shape) == (np.float32, wanted[name].shape)
        assert values.tobytes() == wanted[name].tobytes()
        assert source.entries[path].name == path + VALUE_SUFFIX
    assert set(source.left_out) == {KEY}
    assert all(source.verify(name) == 0 for name in source.entries)
    assert source.check(config) == source.notes == ()
    assert source.SAYS == "a TensorFlow 2 object checkpoint"


def test_the_official_training_checkpoint(test_data, tmp_path):
    folder = format_files.unpacked(test_data, "lite0_tf2_training_ids", tmp_path)
    source = _open(folder)
    ordinals = format_files.ordinals(test_data, "lite0")
    paths = object_paths(get_config("lite0"))
    for path, name in paths.items():
        assert np.all(source.read(path) == ordinals[name])
    assert set(source.entries) == {*paths, *source.left_out}
    assert len(source.entries) == 1336
    reasons = list(source.left_out.values())
    assert reasons.count("optimizer slot (average)") == 372
    assert reasons.count("optimizer slot (momentum)") == 372
    assert reasons.count("state of the optimizer") == 3
    assert len(reasons) == 372 * 2 + 3 + 1
    assert all(source.verify(name) == 0 for name in source.entries)
    assert source.SAYS == "a TensorFlow 2 training checkpoint"
    assert "moving average" in source.ONLY_VALUE and "lost" in source.ONLY_VALUE
    assert source.check(get_config("lite0")) == source.notes == ()


def test_other_averages_than_the_values_are_told(test_data, tmp_path):
    folder = format_files.unpacked(test_data, "lite0_tf2_training_ids", tmp_path)
    opened = open_bundle(folder / "emackpt-1")
    tensors = {
        name: np.array(opened.read_strings(name)[0], object) if name == KEY else opened.read(name)
        for name in opened.index.entries
    }
    changed = "resample_layers/0/conv2d/bias"
    assert np.all(tensors[changed + VALUE_SUFFIX] > 0)
    tensors[changed + VALUE_SUFFIX] = -tensors[changed + VALUE_SUFFIX]
    write_bundle(tmp_path / "other", tensors)
    (note,) = _open(tmp_path / "other").notes
    assert note.startswith("1 of 372 values are not the moving averages") and "raw" in note


@pytest.mark.parametrize("name", [".", "model", "model.index", "model.data-00000-of-00001"])
def test_it_is_found_by_any_of_its_files(written, name):
    container, place = registry.find(written / name)
    assert (container.name, place) == ("tf2", written / "model")


def test_what_has_no_description_of_objects_is_none(tmp_path):
    write_bundle(tmp_path / "model", {"CHECKPOINTABLE_OBJECT_GRAPH": np.ones(2, np.float32)})
    found = registry.find(tmp_path)
    assert found is None or found[0].name != "tf2"
    assert registry.formats()["tf2"].find(tmp_path / "nothing") is None


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_written_is_read(tmp_path, name):
    config = CONFIGURATIONS[name]
    arrays = _drawn(config)
    made = registry.formats()["tf2"].write(tmp_path / "model", Values(config, arrays))
    source = _open(tmp_path / "model")
    values = _values(source, config)
    assert values.keys() == arrays.keys()
    assert all(values[key].tobytes() == arrays[key].tobytes() for key in arrays)
    assert source.check(config) == source.notes == ()
    assert [row.name for row in made.rows] == [entry.name for entry in source.entries.values()]
    assert {row.parameter for row in made.rows} == {"", *arrays}
    assert all(path.is_file() for path in made.files)
    assert set(files_at(source.path)) <= set(made.files)


@pytest.mark.parametrize("path", ["model", "a/b/net", "optimizer/model"])
def test_the_network_is_found_below_another_object(written, drawn, path):
    tensors = _tensors(written)
    del tensors[KEY]
    nested = {f"{path}/{name}": array for name, array in tensors.items()}
    nested["save_counter" + VALUE_SUFFIX] = np.array(3, np.int64)
    nested["other/thing" + VALUE_SUFFIX] = np.ones(2, np.float32)
    names = {key.removesuffix(VALUE_SUFFIX): "" for key in nested}
    source = _open(_again(written, nested, write_object_graph(names)))
    assert source.root == path
    values = _values(source, TINY)
    assert all(values[key].tobytes() == drawn[key].tobytes() for key in drawn)
    counter, thing = (f"{name}{VALUE_SUFFIX}" for name in ("save_counter", "other/thing"))
    assert source.left_out[counter] == "counter of the checkpoints saved"
    assert thing in source.entries and thing not in source.left_out


def test_the_path_decides_where_names_are_those_of_a_second_model(written, drawn):
    tensors = _tensors(written)
    names = dict(object_paths(TINY))
    stem = "backbone/_stem/_conv_stem/kernel"
    names[stem] = names[stem].replace("stem/conv2d", "stem_1/conv2d_1")
    source = _open(_again(written, tensors, write_object_graph(names)))
    assert source.check(TINY) == ()
    assert _values(source, TINY)["backbone.stem_conv.weight"].tobytes() == (
        drawn["backbone.stem_conv.weight"].tobytes()
    )
    names[stem] = "quite/another"
    (note,) = _open(_again(written, tensors, write_object_graph(names))).check(TINY)
    assert note.startswith("1 of ") and "'quite/another'" in note


def test_two_swapped_names_are_refused(written):
    names = dict(object_paths(TINY))
    first, second = (f"backbone/_blocks/1/_{name}_conv/kernel" for name in ("expand", "project"))
    names[first], names[second] = names[second], names[first]
    source = _open(_again(written, _tensors(written), write_object_graph(names)))
    with pytest.raises(InputError, match="the name of another variable \\(and 1 more are so\\)"):
        source.check(TINY)


def test_of_two_networks_none_is_taken(written):
    tensors = _tensors(written)
    del tensors[KEY]
    both = {f"{at}/{name}": array for at in ("net", "ema") for name, array in tensors.items()}
    names = {key.removesuffix(VALUE_SUFFIX): "" for key in both}
    with pytest.raises(InputError, match="holds 2 networks, at 'net', 'ema'"):
        _open(_again(written, both, write_object_graph(names)))


def test_what_is_no_network_keeps_its_keys(written):
    key = "thing" + VALUE_SUFFIX
    tensors = {key: np.ones(2, np.float32)}
    source = _open(_again(written, tensors, write_object_graph({"thing": "thing"})))
    assert set(source.entries) == {KEY, key}
    assert source.located == {} and source.root == ""


def test_a_variable_that_two_objects_share_is_taken_once(written):
    names = dict(object_paths(TINY))
    graph = write_object_graph(names)
    key = b"box_net/boxes/bias/.ATTRIBUTES"
    shared = graph.replace(key, b"box_net/boxes/bias/.ATTRIBUTED")
    assert shared != graph
    source = _open(_again(written, _tensors(written), shared))
    # Its key is nowhere described, so that it is missing and the tensor unknown.
    assert "box_net/boxes/bias" not in source.entries
    assert "box_net/boxes/bias" + VALUE_SUFFIX in source.entries


@pytest.mark.parametrize(
    ("graph", "match"),
    [
        (b"", "has no objects"),
        (b"\x0a\x05ab", "runs past the end"),
    ],
)
def test_a_description_that_is_none_is_refused(written, graph, match):
    folder = _again(written, _tensors(written), graph)
    with pytest.raises(InputError, match=match) as told:
        _open(folder)
    assert "cannot be used" in str(told.value) and len(str(told.value).encode()) < 1000


def test_a_description_of_another_shape_or_type_is_refused(written):
    tensors = _tensors(written)
    graph = tensors[KEY].item()
    for array, match in (
        (np.array([graph], object), r"it has shape \[1\]"),
        (np.ones(2, np.float32), "has type DT_FLOAT; expected strings"),
    ):
        with pytest.raises(InputError, match=match):
            _open(_again(written, {**tensors, KEY: array}))


def test_damage_is_found(written):
    data = written / "model.data-00000-of-00001"
    whole = data.read_bytes()
    source = _open(written)
    graph, other = source.entries[KEY], source.entries["box_net/boxes/bias"]
    damaged = bytearray(whole)
    damaged[graph.offset + graph.size // 2] ^= 1
    data.write_bytes(damaged)
    with pytest.raises(InputError, match="is damaged"):
        _open(written)
    damaged = bytearray(whole)
    damaged[other.offset] ^= 1
    data.write_bytes(damaged)
    source = _open(written)
    for look in (source.read, source.verify):
        with pytest.raises(InputError, match="tensor 'box_net/boxes/bias/.ATTRIBUTES"):
            look("box_net/boxes/bias")
    data.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="is truncated"):
        _open(written)
    data.unlink()
    with pytest.raises(InputError, match="is missing"):
        _open(written)


def test_a_tensor_named_like_a_path_is_refused(written):
    tensors = {**_tensors(written), "box_net/boxes/bias": np.ones(2, np.float32)}
    with pytest.raises(InputError, match="has a tensor 'box_net/boxes/bias' beside"):
        _open(_again(written, tensors))


@pytest.mark.parametrize("model", ["d0", "lite0"])
def test_tensorflow_restores_what_is_written(tmp_path, model):
    tensorflow = pytest.importorskip("tensorflow")
    config = get_config(model)
    arrays = _drawn(config)
    registry.formats()["tf2"].write(tmp_path / "model", Values(config, arrays))
    reader = tensorflow.train.load_checkpoint(str(tmp_path / "model"))
    official = {
        name: array
        for pair in iterate_pairs(config)
        for name, array in zip(
            pair.variables, pair.layout.to_tensorflow(arrays[pair.parameter]), strict=True
        )
    }
    paths = object_paths(config)
    assert set(reader.get_variable_to_shape_map()) == {KEY, *(f"{p}{VALUE_SUFFIX}" for p in paths)}
    mirrored, variables = _mirror(tensorflow, paths, official)
    status = mirrored.read(tensorflow.train.latest_checkpoint(str(tmp_path / "model")))
    status.assert_consumed()
    assert len(variables) == len(official)
    for name, variable in variables.items():
        assert variable.numpy().tobytes() == official[name].tobytes()


def _mirror(tensorflow, paths, official):
    """Objects that hold variables on these paths, and the variables by their official names."""
    module = tensorflow.Module
    root, variables = tensorflow.train.Checkpoint(), {}
    for path, name in paths.items():
        holder = root
        *parts, last = path.split("/")
        for part in parts:
            if not hasattr(holder, part):
                setattr(holder, part, module())
            holder = getattr(holder, part)
        variables[name] = tensorflow.Variable(tensorflow.zeros(official[name].shape))
        setattr(holder, last, variables[name])
    return root, variables


@pytest.mark.parametrize("listed", [False, True])
def test_what_tensorflow_saves_is_read(tmp_path, drawn, listed):
    """Also where a list leads to the variables by a shorter way, which becomes their keys."""
    tensorflow = pytest.importorskip("tensorflow")
    official = {
        name: array
        for pair in iterate_pairs(TINY)
        for name, array in zip(
            pair.variables, pair.layout.to_tensorflow(drawn[pair.parameter]), strict=True
        )
    }
    mirrored, variables = _mirror(tensorflow, object_paths(TINY), official)
    for name, variable in variables.items():
        variable.assign(official[name])
    other = {"all": list(variables.values())} if listed else {}
    saved = tensorflow.train.Checkpoint(net=mirrored, step=tensorflow.Variable(7), **other)
    saved.save(str(tmp_path / "ckpt"))
    source = _open(tmp_path)
    assert source.root == "net"
    values = _values(source, TINY)
    at = "all/" if listed else "net/"
    assert {source.entries[path].name[:4] for path in object_paths(TINY)} == {at}
    assert all(values[key].tobytes() == drawn[key].tobytes() for key in drawn)
    assert sorted(source.left_out.values()) == [
        "counter of the checkpoints saved",
        "description of the objects that hold the variables",
        "training step counter",
    ]
    assert set(source.entries) == {*object_paths(TINY), *source.left_out}


def test_another_model_of_the_same_variables_gives_the_same_file(tmp_path, drawn):
    """Nothing but names, values and paths is in it."""
    for name, config in {"one": TINY, "two": replace(TINY, image_size=(256, 256))}.items():
        registry.formats()["tf2"].write(tmp_path / name, Values(config, drawn))
    for end in ("index", "data-00000-of-00001"):
        one, two = (tmp_path / name / f"model.{end}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_the_official_training_checkpoint_converts(test_data, tmp_path):
    folder = format_files.unpacked(test_data, "lite0_tf2_training_ids", tmp_path)
    converted = convert(resolve(str(folder), tmp_path))
    assert converted.config.name == "efficientdet-lite0"
    format_files.require_ordinals(test_data, "lite0", converted.arrays)
    with pytest.raises(InputError, match="the raw values are lost"):
        convert(resolve(str(folder), tmp_path), weights="raw")


def test_what_is_written_converts_to_the_same(tmp_path, drawn):
    # A batch norm's variance cannot be negative.
    sane = {
        key: np.abs(array) if key.endswith("running_var") else array for key, array in drawn.items()
    }
    registry.formats()["tf2"].write(tmp_path / "model", Values(TINY, sane))
    converted = convert(resolve(str(tmp_path / "model"), tmp_path), model=TINY.name)
    assert all(converted.arrays[key].tobytes() == sane[key].tobytes() for key in sane)


def test_swapped_names_convert_to_nothing(written, tmp_path):
    names = dict(object_paths(TINY))
    first, second = (f"backbone/_blocks/1/_{name}_conv/kernel" for name in ("expand", "project"))
    names[first], names[second] = names[second], names[first]
    folder = _again(written, _tensors(written), write_object_graph(names))
    with pytest.raises(InputError, match="the name of another variable"):
        convert(resolve(str(folder), tmp_path), model=TINY.name)
