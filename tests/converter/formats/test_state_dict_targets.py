"""Plain state dicts for other code bases, which load them strictly."""

import contextlib
import gc
import os
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_images import waves

from converter.formats.registry import find, formats
from converter.formats.target import Values
from converter.mappings.official import iterate_pairs
from converter.mappings.state_dicts import get_naming
from efficientdet_spec import (
    EMA_SUFFIX,
    LITE_MODELS,
    OFFICIAL_MODELS,
    TINY,
    Activation,
    Fusion,
    InputError,
    get_config,
)
from torch_model.checkpoint import from_arrays

TINY_OF = {"effdet": TINY, "zylo117": replace(TINY, fpn_channels=20)}
BOTH = pytest.mark.parametrize("name", TINY_OF)
SUM = {"fusion": Fusion.SUM}


def arrays_of(config):
    random = np.random.default_rng(5)
    return {
        pair.parameter: random.standard_normal(pair.shape).astype("float32")
        for pair in iterate_pairs(config)
    }


def write(name, path, config, **more):
    return formats()[name].write(path, Values(config, arrays_of(config), **more))


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


@BOTH
@pytest.mark.parametrize("changed", [{}, SUM])
def test_there_and_back_bit_for_bit(name, changed, tmp_path):
    config = replace(TINY_OF[name], **changed)
    path = tmp_path / "x.pth"
    write(name, path, config)
    container, place = find(path)
    source = container.open(place)
    assert source.naming.name == name
    arrays = {
        pair.parameter: pair.layout.to_torch([source.read(part) for part in pair.variables])
        for pair in source.naming.pairs(config)
    }
    assert same(arrays, arrays_of(config))


@BOTH
@pytest.mark.parametrize("changed", [{}, SUM])
def test_every_tensor_of_the_file_has_a_row(name, changed, tmp_path):
    config = replace(TINY_OF[name], **changed)
    path = tmp_path / "x.pth"
    written = write(name, path, config)
    state = torch.load(path, weights_only=True)
    assert written.files == (path,) and os.listdir(tmp_path) == ["x.pth"]
    assert [row.name for row in written.rows] == list(state)
    assert {row.name: row.shape for row in written.rows} == {
        key: tuple(value.shape) for key, value in state.items()
    }
    arrays = arrays_of(config)
    assert Counter(row.parameter for row in written.rows if row.parameter) == Counter(list(arrays))
    for row in written.rows:
        value = state[row.name].numpy()
        if row.parameter:
            assert (row.layout, row.reason) == ("as it is", "model")
            assert value.tobytes() == arrays[row.parameter].tobytes()
        elif row.name.endswith("num_batches_tracked"):
            assert row.reason == "counter of training steps, not read at inference"
            assert value.dtype == np.int64 and value == 0
        else:
            assert row.reason.startswith("never read by zylo117/") and (value == 1).all()
    unused = sum(row.reason.startswith("never read") for row in written.rows)
    assert unused == (8 * config.fpn_cells if (name, changed) == ("zylo117", SUM) else 0)


def test_what_the_code_base_does_otherwise_is_told(tmp_path):
    path, config = tmp_path / "x.pth", get_config("d0").with_classes(3)
    call = "Load it into effdet.create_model('tf_efficientdet_d0', num_classes=3)."
    assert write("effdet", path, config).notes == (call,)
    call = "Load it into effdet.create_model('tf_efficientdet_d0_ap', num_classes=90)."
    loading, unsaid = write("effdet", path, get_config("d0-advprop")).notes
    assert loading == call and "does not say its mean_rgb, stddev_rgb, scale_range" in unsaid
    loading, pools = write("zylo117", path, config).notes
    assert loading == "Load it into EfficientDetBackbone(compound_coef=0, num_classes=3)."
    assert "max-pools pad with zeros" in pools
    # Of a model that the code base has no call for, none is named.
    assert write("effdet", path, TINY).notes == ()
    loading, unsaid = write("zylo117", path, TINY_OF["zylo117"]).notes
    assert loading == pools and "does not say its fpn_num_filters" in unsaid
    (unsaid,) = write("effdet", path, replace(config, num_scales=2)).notes
    assert "does not say its num_scales" in unsaid


@BOTH
def test_what_cannot_be_written_leaves_nothing(name, tmp_path):
    path, config = tmp_path / "x.pth", TINY_OF[name]
    with pytest.raises(InputError, match="one value of each variable"):
        write(name, path, config, raw=arrays_of(config))
    for changed in ({"conv_bn_act": True}, {"fusion": Fusion.SOFTMAX_ATTENTION}):
        with pytest.raises(InputError, match="the keys of .* are not known; write another kind"):
            write(name, path, replace(config, **changed))
    with pytest.raises(InputError, match="cannot be written"):
        write(name, tmp_path / "none" / "x.pth", config)
    assert not os.listdir(tmp_path)


def test_zylo117_has_one_activation(tmp_path):
    config = replace(TINY_OF["zylo117"], activation=Activation.RELU)
    with pytest.raises(InputError, match="act_type relu"):
        write("zylo117", tmp_path / "x.pth", config)


def test_they_are_chosen_by_name_alone():
    for name in TINY_OF:
        one = formats()[name]
        assert not one.suffixes and not one.holds_both and one.find is None


@pytest.fixture
def effdet():
    return pytest.importorskip("effdet", reason="effdet is not installed", exc_type=ImportError)


@pytest.fixture(scope="module")
def zylo117():
    """The class of its model, from the checkout that PORT_SOURCE names."""
    folder = os.environ.get("PORT_SOURCE", "")
    if not (Path(folder) / "efficientdet" / "model.py").is_file():
        pytest.skip("PORT_SOURCE names no checkout of zylo117/Yet-Another-EfficientDet-Pytorch")
    sys.path.insert(0, folder)
    try:
        from backbone import EfficientDetBackbone
    finally:
        sys.path.remove(folder)
    return EfficientDetBackbone


@contextlib.contextmanager
def unfilled():
    """Modules are made without values, which would take minutes for the large ones."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        yield


def require_loaded(model, path):
    """A model takes exactly the keys of a file, which are in the order of its own."""
    state = torch.load(path, weights_only=True, mmap=True)
    assert list(state) == list(model.state_dict())
    assert {key: (value.shape, value.dtype) for key, value in state.items()} == {
        key: (value.shape, value.dtype) for key, value in model.state_dict().items()
    }
    model.load_state_dict(state, strict=True, assign=True)
    # Before the file is removed.
    gc.collect()


def written_zeros(name, path, config):
    """A file with one value in every parameter: large ones take seconds to fill otherwise."""
    arrays = {pair.parameter: np.zeros(pair.shape, np.float32) for pair in iterate_pairs(config)}
    formats()[name].write(path, Values(config, arrays))
    return path


@pytest.mark.parametrize("classes", [90, 3])
@pytest.mark.parametrize("model", [*OFFICIAL_MODELS, *LITE_MODELS])
def test_effdet_loads_it_strictly(model, classes, effdet, tmp_path):
    path = written_zeros("effdet", tmp_path / "x.pth", get_config(model).with_classes(classes))
    name = f"tf_{model.replace('-', '_')}"
    with unfilled():
        port = effdet.EfficientDet(effdet.get_efficientdet_config(name), pretrained_backbone=False)
        port.reset_head(num_classes=classes)
    require_loaded(port, path)
    # Its heads' batch norms by level are another order of the same.
    variant = get_naming("effdet").variants[0]
    port.toggle_head_bn_level_first()
    keys = variant.keys(get_config(model).with_classes(classes))
    assert {key.name: key.shape for key in keys} == {
        key: tuple(value.shape) for key, value in port.state_dict().items()
    }


@pytest.mark.parametrize("model", OFFICIAL_MODELS)
def test_zylo117_loads_it_strictly(model, zylo117, tmp_path, monkeypatch):
    path = written_zeros("zylo117", tmp_path / "x.pth", get_config(model).with_classes(80))
    arange = torch.arange
    # Its anchors ask for values while the model is made.
    monkeypatch.setattr(torch, "arange", lambda *args: arange(*args, device="cpu"))
    with unfilled():
        port = zylo117(num_classes=80, compound_coef=OFFICIAL_MODELS.index(model))
    require_loaded(port, path)


def test_effdet_computes_what_the_model_does(effdet, test_data, tmp_path):
    """The trained D0, bit for bit in effdet's layers, gives the same outputs but for rounding."""
    prefix = test_data / "checkpoints" / "efficientdet-d0"
    if not prefix.exists():
        pytest.skip("the folder of optional material has no trained D0")
    container, place = find(prefix)
    source, config = container.open(place), get_config("d0")
    arrays = {
        pair.parameter: pair.layout.to_torch(
            [source.read(name + EMA_SUFFIX) for name in pair.variables]
        )
        for pair in source.naming.pairs(config)
    }
    formats()["effdet"].write(tmp_path / "x.pth", Values(config, arrays))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        port = effdet.create_model(
            "tf_efficientdet_d0", pretrained_backbone=False, image_size=(128, 128)
        )
    port.load_state_dict(torch.load(tmp_path / "x.pth", weights_only=True), strict=True)
    image = (torch.from_numpy(waves(128, 128)).permute(2, 0, 1)[None] - 120) / 58
    with torch.no_grad():
        ours = from_arrays(config, arrays, "D0").double().eval()(image.double())
        exact = port.double().eval()(image.double())
    for one, other in zip((*ours[0], *ours[1]), (*exact[0], *exact[1]), strict=True):
        # A few hundred layers, each of which rounds to float64.
        rounding = 300 * np.finfo(np.float64).eps * float(one.abs().max())
        assert float((one - other).abs().max()) <= rounding
