"""The keys of other code bases: every one once, each holding the parameter that it should."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from converter.mappings.layouts import CONVOLUTION, DEPTHWISE, SCALARS, VECTOR
from converter.mappings.official import iterate_pairs
from converter.mappings.state_dicts import (
    findings,
    from_naming,
    get_naming,
    naming_of,
    namings,
    to_naming,
)
from efficientdet_spec import (
    LITE_MODELS,
    MODELS,
    OFFICIAL_MODELS,
    TINY,
    Fusion,
    InputError,
    get_config,
)

TABLES = {
    ("effdet", "d0"): ("effdet_d0_keys.json", "keys/effdet_d0_pairs.json"),
    ("effdet", "lite0"): ("keys/effdet_lite0_keys.json", "keys/effdet_lite0_pairs.json"),
    ("effdet", "d6"): ("keys/effdet_d6_keys.json", "keys/effdet_d6_pairs.json"),
    ("zylo117", "d0"): ("zylo_d0_keys.json", "keys/zylo_d0_pairs.json"),
    ("zylo117", "d6"): ("keys/zylo_d6_keys.json", "keys/zylo_d6_pairs.json"),
}
LAYOUTS = {"conv": CONVOLUTION, "dw": DEPTHWISE, "vec": VECTOR, "stack": SCALARS}
# The number of keys of each code base's models, counted in models that it has built.
BUILT = {
    "efficientdet-d0": (784, 784),
    "efficientdet-d1": (1004, 1004),
    "efficientdet-d2": (1076, 1076),
    "efficientdet-d3": (1270, 1270),
    "efficientdet-d4": (1474, 1474),
    "efficientdet-d5": (1622, 1622),
    "efficientdet-d6": (1818, 1882),
    "efficientdet-d7": (1818, 1882),
    "efficientdet-d7x": (2210, 2274),
}
# zylo117's code has no model in which a feature has the BiFPN's channels already.
TINY_OF = {"effdet": TINY, "zylo117": replace(TINY, fpn_channels=20)}
BOTH = pytest.mark.parametrize("name", TINY_OF)


def arrays_of(config, *, counters=True):
    """Arrays with values of their own for every key of our state dict."""
    random = np.random.default_rng(3)
    arrays = {
        pair.parameter: random.standard_normal(pair.shape).astype("float32")
        for pair in iterate_pairs(config)
    }
    norms = [name.rpartition(".")[0] for name in arrays if name.endswith(".running_mean")]
    if counters:
        for number, norm in enumerate(norms, 1):
            arrays[f"{norm}.num_batches_tracked"] = np.array(number, np.int64)
    return arrays


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def test_there_are_two():
    assert set(namings()) == set(TINY_OF)


@pytest.mark.parametrize("name, model", TABLES)
def test_keys_and_shapes_are_those_of_the_built_model(name, model, test_data):
    table = json.loads((test_data / "formats" / TABLES[name, model][0]).read_text())
    keys = list(get_naming(name).keys(get_config(model)))
    assert len(keys) == len({key.name for key in keys}) == len(table)
    assert {key.name: list(key.shape) for key in keys} == table
    assert [key.name for key in keys] == list(table)


@pytest.mark.parametrize("name, model", TABLES)
def test_each_key_holds_the_variables_that_it_should(name, model, test_data):
    table = json.loads((test_data / "formats" / TABLES[name, model][1]).read_text())
    config = get_config(model)
    pairs = {pair.parameter: pair for pair in iterate_pairs(config)}
    expected = {
        key: ([one] if isinstance(one, str) else one, LAYOUTS[layout]) for key, one, layout in table
    }
    held = {
        key.name: (list(pairs[key.parameter].variables), pairs[key.parameter].layout)
        for key in get_naming(name).keys(config)
        if key.parameter in pairs
    }
    assert held == expected


@BOTH
@pytest.mark.parametrize("model", OFFICIAL_MODELS)
def test_the_account_is_complete(name, model):
    config = get_config(model)
    keys = list(get_naming(name).keys(config))
    assert set(Counter(key.name for key in keys).values()) == {1}
    assert len(keys) == BUILT[model][("effdet", "zylo117").index(name)]
    shapes = {pair.parameter: pair.shape for pair in iterate_pairs(config)}
    held = {key.parameter: key.shape for key in keys if key.required}
    assert held == shapes and sum(key.required for key in keys) == len(shapes)
    norms = {path.removesuffix(".running_mean") for path in shapes if path.endswith("running_mean")}
    counters = {key.parameter for key in keys if not key.required and key.parameter}
    assert counters == {f"{path}.num_batches_tracked" for path in norms}
    unused = {key.name for key in keys if key.parameter is None}
    weights = ("p6_w1", "p5_w1", "p4_w1", "p3_w1", "p4_w2", "p5_w2", "p6_w2", "p7_w2")
    made = name == "zylo117" and config.fusion is Fusion.SUM
    cells = range(config.fpn_cells if made else 0)
    assert unused == {f"bifpn.{cell}.{weight}" for cell in cells for weight in weights}
    assert len(unused) == (64 if made else 0)


@BOTH
@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize("changed", [{}, {"fusion": Fusion.SUM, "max_level": 8}])
def test_there_and_back_bit_for_bit(name, counters, changed):
    config = replace(TINY_OF[name], **changed)
    arrays = arrays_of(config, counters=counters)
    naming = get_naming(name)
    theirs = to_naming(naming, config, arrays)
    assert list(theirs) == [key.name for key in naming.keys(config)]
    back = from_naming(naming, config, theirs)
    if not counters:
        added = {key: value for key, value in back.items() if key not in arrays}
        assert added and all(not value.any() and value.shape == () for value in added.values())
        back = {key: value for key, value in back.items() if key in arrays}
    assert same(back, arrays)


def test_unused_weights_need_not_be_there():
    config = replace(TINY_OF["zylo117"], fusion=Fusion.SUM)
    naming = get_naming("zylo117")
    theirs = to_naming(naming, config, arrays_of(config))
    unused = [key for key in theirs if key.endswith(("_w1", "_w2"))]
    assert len(unused) == 8 * config.fpn_cells and all((theirs[key] == 1).all() for key in unused)
    for key in unused:
        del theirs[key]
    assert same(from_naming(naming, config, theirs), arrays_of(config))


@BOTH
def test_what_does_not_fit_is_refused(name):
    config, naming = TINY_OF[name], get_naming(name)
    theirs = to_naming(naming, config, arrays_of(config))
    first = next(iter(theirs))
    shape = list(theirs[first].shape)
    for damaged, said in (
        ({key: value for key, value in theirs.items() if key != first}, f"{first} is missing"),
        ({**theirs, "extra": np.zeros(2)}, "extra is unknown"),
        ({**theirs, first: np.zeros((2, 3))}, f"{first} is [2, 3], not {shape}"),
    ):
        with pytest.raises(InputError) as raised:
            from_naming(naming, config, damaged, "x.pth")
        assert str(raised.value) == (
            f"x.pth does not fit efficientdet-tiny in the naming of {name}: {said}. Give the state "
            f"dict of a whole model of this size and number of classes."
        )
    with pytest.raises(InputError, match=r"efficientdet-tiny: [0-9]+ missing, .* under .*, \.\.\."):
        to_naming(naming, config, {})


def test_two_levels_exchanged_do_not_go_unseen():
    """Heads' batch norms have one shape; only their names keep levels and repeats apart."""
    for name, key in (
        ("effdet", "class_net.bn_rep.1.4.bn.weight"),
        ("zylo117", "classifier.bn_list.4.1.weight"),
    ):
        config = TINY_OF[name]
        held = {item.name: item.parameter for item in get_naming(name).keys(config)}
        assert held[key] == "class_head.bns.1.P7.weight"


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"fusion": Fusion.SOFTMAX_ATTENTION}, "fpn_weight_method attn, for"),
        ({"max_level": 8}, "levels 3 to 8 and its fusion"),
        ({"min_level": 4}, "levels 4 to 7 and its fusion"),
        ({"fpn_channels": 16}, "a backbone feature that has the BiFPN's channels already"),
    ],
)
def test_zylo117_has_no_such_model(changed, said):
    config = replace(TINY_OF["zylo117"], **changed)
    with pytest.raises(InputError) as raised:
        list(get_naming("zylo117").keys(config))
    assert f"efficientdet-tiny has {said}" in str(raised.value)
    assert "zylo117/Yet-Another-EfficientDet-Pytorch" in str(raised.value)


@pytest.mark.parametrize("model", MODELS)
def test_a_state_dict_is_recognised(model):
    config = get_config(model)
    for name, naming in namings().items():
        if name == "zylo117" and model in (TINY.name, *LITE_MODELS):
            continue
        keys = [key.name for key in naming.keys(config.with_classes(3))]
        assert naming_of(keys) is naming
        # One that lacks a part, or has more, is still of this code base.
        assert naming_of([*keys[: len(keys) * 3 // 4], "anchors.boxes"]) is naming
    ours = arrays_of(config)
    assert naming_of(ours) is None and naming_of([]) is None


def test_an_unknown_naming_is_refused():
    with pytest.raises(InputError) as raised:
        get_naming("efdet")
    assert str(raised.value) == (
        "There is no naming 'efdet' (did you mean effdet?); choose one of effdet, zylo117."
    )


def test_findings_are_none_where_all_fits():
    config = TINY_OF["effdet"]
    keys = {key.name: key for key in get_naming("effdet").keys(config)}
    assert findings(keys, {name: key.shape for name, key in keys.items()}) == []
