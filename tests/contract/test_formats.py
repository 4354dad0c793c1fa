"""What every target promises: the same model comes back, whole or not at all, all of it told."""

import json
import re
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from configurations import CONFIGURATIONS

from converter.conversion import convert
from converter.fetch.sources import resolve
from converter.formats.registry import find, formats
from converter.formats.target import Values
from converter.hparams.given import Hyperparameters
from converter.hparams.plain_yaml import yaml_text
from converter.hparams.writing import official_values
from converter.mappings.official import iterate_pairs
from converter.mappings.state_dicts import get_naming, namings
from converter.tensorflow_files.bundle import open_bundle
from efficientdet_spec import MODELS, TINY, VARIANTS, Fusion, InputError, Suppression, get_config

TARGETS = [name for name, one in formats().items() if one.write is not None]
EACH = pytest.mark.parametrize("name", TARGETS)
BOTH = [name for name in TARGETS if formats()[name].holds_both]

QUICK = ("d0", "d1-advprop", "lite0", "tiny")
"""Of each family the smallest, and a variant, for every target; files of the others have up to
310 MB, which the heavy tests write."""

SPECIAL = np.array(
    [0.0, -0.0, 1e-45, -1e-45, np.finfo("f4").tiny, np.finfo("f4").max, -np.finfo("f4").max, 1 / 3],
    np.float32,
)
"""What is changed by whoever rounds, flushes or compares values in place of bits."""

OTHERWISE = {
    "anchors": replace(TINY, anchor_scale=0.25, aspect_ratios=((1.4, 0.7), (1.0, 1.0), (0.7, 1.4))),
    "anchor scales by level": replace(TINY, anchor_scale=(1.0, 2.0, 3.0, 4.0, 5.0)),
    "input": replace(
        TINY,
        image_size=(128, 256),
        mean_rgb=(0.0,) * 3,
        stddev_rgb=(1.0, 2.0, 3.0),
        scale_range=True,
    ),
    "suppression": replace(TINY, suppression=Suppression(method="hard", iou_thresh=0.4)),
    "names of classes": replace(TINY, label_map=((1, "a"), (7, "null"))),
}
"""What no tensor shows."""


def values_of(config, seed=5):
    """For each parameter values of every kind that a network may have."""
    random = np.random.default_rng(seed)
    found = {}
    for pair in iterate_pairs(config):
        array = random.standard_normal(pair.shape).astype(np.float32)
        flat = array.reshape(-1)
        flat[: len(SPECIAL)] = np.roll(SPECIAL, seed)[: flat.size]
        # A batch norm takes the root of a variance.
        found[pair.parameter] = np.abs(array) if pair.parameter.endswith("running_var") else array
    return found


def cheap_values_of(config):
    """For each parameter other values, and within it at each place another one."""
    return {
        pair.parameter: (
            np.arange(np.prod(pair.shape, dtype=int), dtype=np.float32) + number
        ).reshape(pair.shape)
        for number, pair in enumerate(iterate_pairs(config))
    }


def bits(arrays):
    return {name: array.view(np.int32) for name, array in arrays.items()}


def same_bits(found, expected):
    one, other = bits(found), bits(expected)
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) and found[name].dtype == np.float32 for name in one
    )


def adapted(name, config):
    """zylo117's code knows no backbone feature that has the BiFPN's channels already."""
    return replace(config, fpn_channels=20) if name == "zylo117" else config


def can_be_built(name, config):
    try:
        return name not in namings() or bool(list(get_naming(name).keys(config)))
    except InputError:
        return False


def target(name, folder):
    return folder / f"there{formats()[name].ending}"


def written(name, folder, config, arrays, **more):
    return formats()[name].write(target(name, folder), Values(config, arrays, **more))


def told_of(notes, path, config):
    """The hyperparameters that are known where a user does what the notes say, and no more."""
    files = resolve(str(path), path.parent)
    told = [note for note in notes if "The file does not say" in note]
    if not told:
        return files, Hyperparameters.of(files.prefix)
    line = re.search(r"give --hparams '([^']*)' when", told[0])
    if line is None:
        assert "give them with --hparams FILE.yaml when it is read" in told[0]
        said = path.with_name("said.yaml")
        said.write_text(yaml_text(official_values(config)))
        return files, Hyperparameters.of(files.prefix, str(said))
    return files, Hyperparameters.of(files.prefix, line[1])


def require_back(name, folder, config, arrays):
    """Write a model, and read it again as a user does."""
    if not can_be_built(name, config):
        with pytest.raises(InputError):
            written(name, folder, config, arrays)
        assert not list(folder.iterdir())
        return
    done = written(name, folder, config, arrays)
    assert all(path.is_file() for path in done.files)
    files, known = told_of(done.notes, target(name, folder), config)
    conversion = convert(files, hyperparameters=known)
    assert same_bits(conversion.arrays, arrays)
    # Whoever says nothing else gets a variant under its model's name.
    own = formats()[name].find is not None and name in ("pth", "safetensors")
    names = config.name if own else official_values(config)["name"]
    assert conversion.config == replace(config, name=names)


@EACH
def test_there_and_back_bit_for_bit(name, tmp_path):
    config = adapted(name, TINY)
    require_back(name, tmp_path, config, values_of(config))


def in_turn(cases):
    """Every case with every target; of three in a row one is not heavy, for each in its turn."""
    return [
        pytest.param(name, case, marks=pytest.mark.heavy if (place + number) % 3 else ())
        for place, name in enumerate(TARGETS)
        for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("name", "case"), in_turn([*CONFIGURATIONS, *OTHERWISE]))
def test_every_configuration_comes_back(name, case, tmp_path):
    config = adapted(name, {**CONFIGURATIONS, **OTHERWISE}[case])
    require_back(name, tmp_path, config, values_of(config))


@EACH
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(model, marks=() if short in QUICK else pytest.mark.heavy)
        for model in (*MODELS, *VARIANTS)
        for short in [model.removeprefix("efficientdet-")]
    ],
)
def test_every_model_comes_back(name, model, tmp_path):
    config = get_config(model)
    require_back(name, tmp_path, config, cheap_values_of(config))


@pytest.mark.parametrize("name", BOTH)
def test_raw_values_come_back_beside_averages(name, tmp_path):
    arrays, raw = values_of(TINY), values_of(TINY, seed=6)
    done = written(name, tmp_path, TINY, arrays, raw=raw)
    files = resolve(str(target(name, tmp_path)), tmp_path)
    both = convert(files, weights="both")
    assert same_bits(both.arrays, arrays) and same_bits(both.raw, raw)
    assert same_bits(convert(files).arrays, arrays)
    assert same_bits(convert(files, weights="raw").arrays, raw)
    require_rows(done, target(name, tmp_path), {"ema": arrays, "raw": raw})


@pytest.mark.parametrize("name", sorted(set(TARGETS) - set(BOTH)))
def test_who_holds_one_value_does_not_take_two(name, tmp_path):
    config = adapted(name, TINY)
    with pytest.raises(InputError):
        written(name, tmp_path, config, values_of(config), raw=values_of(config))
    assert not list(tmp_path.iterdir())


def tensors_of(path):
    """Every tensor of a file with its values, by what reads such a file at its simplest."""
    if path.is_dir():
        bundle = open_bundle(path / "model")
        return {
            key: np.array(bundle.read_strings(key)[0] if entry.dtype_name == "DT_STRING" else 0)
            if entry.dtype_name == "DT_STRING"
            else bundle.read(key)
            for key, entry in bundle.index.entries.items()
        }
    content = path.read_bytes()
    if content.startswith(b"\x89HDF"):
        import h5py

        found = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda key, item: found.update({key: item[()]} if hasattr(item, "dtype") else {})
            )
        return found
    if content.startswith(b"PK"):
        import torch

        loaded = torch.load(path, weights_only=True)
        parts = {"": loaded.get("state_dict", loaded), "raw_state_dict/": {}}
        parts["raw_state_dict/"] = loaded.get("raw_state_dict", {})
        return {
            before + key: value.numpy()
            for before, part in parts.items()
            for key, value in part.items()
        }
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__")
    return {
        key: np.frombuffer(
            content[start + item["data_offsets"][0] : start + item["data_offsets"][1]],
            {"F32": "<f4", "I64": "<i8"}[item["dtype"]],
        ).reshape(item["shape"])
        for key, item in header.items()
    }


def require_rows(done, path, values):
    """Every tensor has a row, and every row is true."""
    tensors = tensors_of(path)
    assert len(done.rows) == len({row.name for row in done.rows})
    assert {row.name for row in done.rows} == set(tensors)
    held = {reason: set() for reason in values}
    for row in done.rows:
        assert row.shape == np.shape(tensors[row.name])
        if not row.parameter:
            assert row.reason not in values and row.reason
            continue
        held[row.reason].add(row.parameter)
        array = values[row.reason][row.parameter]
        # Whatever the layout, the values are those of the parameter, or a part of them.
        own = np.sort(tensors[row.name].reshape(-1).view(np.int32))
        assert np.isin(own, array.reshape(-1).view(np.int32)).all()
        assert own.size in (array.size, 1) or array.shape[0] % own.size == 0
    for reason, arrays in values.items():
        assert held[reason] == set(arrays)


@EACH
@pytest.mark.parametrize("fusion", [Fusion.FAST_ATTENTION, Fusion.SUM])
def test_every_tensor_of_the_file_has_a_row(name, fusion, tmp_path):
    config = adapted(name, replace(TINY, fusion=fusion))
    arrays = values_of(config)
    done = written(name, tmp_path, config, arrays)
    (reason,) = {row.reason for row in done.rows if row.parameter}
    require_rows(done, target(name, tmp_path), {reason: arrays})


@EACH
def test_a_row_that_is_not_true_is_found(name, tmp_path):
    config = adapted(name, TINY)
    arrays = values_of(config)
    done = written(name, tmp_path, config, arrays)
    (reason,) = {row.reason for row in done.rows if row.parameter}
    other = {**arrays, "backbone.stem_conv.weight": arrays["backbone.stem_conv.weight"] + 1}
    for wrong, values in (
        (done, other),
        (replace(done, rows=done.rows[1:]), arrays),
        (replace(done, rows=(*done.rows, replace(done.rows[0], name="more"))), arrays),
    ):
        with pytest.raises(AssertionError):
            require_rows(wrong, target(name, tmp_path), {reason: values})


@contextmanager
def room_for(size):
    """No file can become larger, as on a disk that is full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@EACH
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_what_was_there(name, existing, tmp_path):
    config = adapted(name, TINY)
    arrays = values_of(config)
    done = written(name, tmp_path, config, arrays)
    largest = max(path.stat().st_size for path in done.files)
    if existing:
        written(name, tmp_path, replace(config, anchor_scale=3.0), values_of(config, seed=7))
    else:
        for path in done.files:
            path.unlink()
    before = content_of(tmp_path)
    # The first are too little for a configuration, and for a list of the tensors.
    for room in (16, 1000, largest // 3, largest - 1):
        with room_for(room), pytest.raises(InputError, match="cannot be written"):
            written(name, tmp_path, config, arrays)
        assert content_of(tmp_path) == before, room
    with room_for(largest):
        written(name, tmp_path, config, arrays)
    assert find(target(name, tmp_path)) is not None


@EACH
def test_a_folder_that_is_not_there_stays_so(name, tmp_path):
    config = adapted(name, TINY)
    (tmp_path / "none").write_text("no folder")
    with pytest.raises(InputError):
        written(name, tmp_path / "none", config, values_of(config))
    assert [path.name for path in tmp_path.iterdir()] == ["none"]
