"""State dicts as sources: which dictionary is the model, in whose names, and what is beside it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from converter.formats.renamed import without_prefix
from converter.formats.source import StoredEntry, dtype_name
from converter.formats.state_dict import state_dict_source
from converter.ledger import make_ledger
from converter.mappings import effdet
from converter.mappings.official import iterate_pairs
from converter.mappings.own import OWN
from converter.mappings.state_dicts import get_naming, to_naming
from efficientdet_spec import (
    EMA_SUFFIX,
    LITE_MODELS,
    MODELS,
    OFFICIAL_MODELS,
    TINY,
    Fusion,
    InputError,
    get_config,
)

EFFDET, ZYLO117 = get_naming("effdet"), get_naming("zylo117")
LEVEL_FIRST = effdet.NAMING.variants[0]
NAMINGS = {"effdet": EFFDET, "level first": LEVEL_FIRST, "zylo117": ZYLO117, "own": OWN}
# zylo117's code has no model in which a feature has the BiFPN's channels already.
OF = {name: replace(TINY, fpn_channels=20 if name == "zylo117" else 16) for name in NAMINGS}
COUNTER = "counter of training steps, not read at inference"


def arrays_of(config, seed=3):
    random = np.random.default_rng(seed)
    return {
        pair.parameter: random.standard_normal(pair.shape).astype("float32")
        for pair in iterate_pairs(config)
    }


def state_of(name, seed=3):
    return to_naming(NAMINGS[name], OF[name], arrays_of(OF[name], seed))


def opened(groups):
    """The source of dictionaries of arrays."""
    return state_dict_source(
        path=Path("x.pth"),
        format_name="pth",
        says="a PyTorch file",
        groups={
            group: {
                key: StoredEntry(key, dtype_name(array.dtype), array.shape, array.nbytes)
                for key, array in arrays.items()
            }
            for group, arrays in groups.items()
        },
        read=lambda group, key: groups[group][key],
        digests={"file_sha256": "0"},
    )


def named(*names):
    return {name: np.zeros(2, np.float32) for name in names}


def before(prefix, arrays):
    return {prefix + key: array for key, array in arrays.items()}


def converted(source, config, suffix=""):
    """The arrays that a source has for each parameter."""
    return {
        pair.parameter: pair.layout.to_torch(
            [source.read(name + suffix) for name in pair.variables]
        )
        for pair in source.naming.pairs(config)
    }


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def reasons(source, config, weights="ema"):
    """Of all tensors that are not used, how many are for which reason; there are no findings."""
    ledger = make_ledger(source, config, weights, shapes={})
    assert not ledger.findings
    return Counter(row.reason for row in ledger.rows if row.use == "excluded")


@pytest.mark.parametrize("name", NAMINGS)
@pytest.mark.parametrize("prefix", ["", "module.", "net.", "_orig_mod.module.", "a.b.c.d.e.f.g.h."])
@pytest.mark.parametrize("group", ["", "state_dict", "anything"])
def test_there_and_back_bit_for_bit(name, prefix, group):
    config = OF[name]
    source = opened({group: before(prefix, state_of(name))})
    assert same(converted(source, config), arrays_of(config))
    assert source.naming.name == NAMINGS[name].name
    assert {entry.name for entry in source.entries.values()} == set(before(prefix, state_of(name)))
    assert set(reasons(source, config)) == {COUNTER}
    assert not source.left_out and source.ONLY_VALUE
    told = f"Keys were read without {prefix!r} before them."
    assert (told in source.notes) is bool(prefix)


@pytest.mark.parametrize(
    "name, model",
    [
        (name, model)
        for name in NAMINGS
        for model in (*OFFICIAL_MODELS, *(() if name == "zylo117" else LITE_MODELS))
    ],
)
def test_every_key_of_every_model_is_accounted_for(name, model):
    config = get_config(model).with_classes(3)
    keys = {key.name: key.shape for key in NAMINGS[name].keys(config)}
    # One element stands for an array of any size.
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in keys.items()}
    source = opened({"": state})
    ledger = make_ledger(source, config, shapes={})
    assert not ledger.findings and len(ledger.rows) == len(keys)
    filled = {part.pair.parameter: part.pair.shape for part in ledger.sources}
    assert filled == {pair.parameter: pair.shape for pair in iterate_pairs(config)}
    unused = 64 if name == "zylo117" and config.fusion is Fusion.SUM else 0
    assert reasons(source, config)["never read by zylo117/Yet-Another-EfficientDet-Pytorch"] == (
        unused
    )
    # A batch norm has four parameters and a counter.
    norms = sum(parameter.endswith(".running_var") for parameter in filled)
    assert len(keys) == len(filled) + norms + unused


@pytest.mark.parametrize("keys", [("state_dict", "state_dict_ema"), ("model", "model_ema")])
@pytest.mark.parametrize("name", NAMINGS)
def test_averages_beside_the_raw_values_are_told_by_their_dictionary(name, keys):
    config = OF[name]
    raw, averages = state_of(name, 3), before("module.", state_of(name, 4))
    moments = {"exp_avg": np.zeros(3, np.float32)}
    source = opened(
        {
            keys[0]: raw,
            keys[1]: averages,
            "optimizer/state/0": moments,
            "optimizer/state/1": moments,
        }
    )
    assert same(converted(source, config), arrays_of(config, 3))
    assert same(converted(source, config, EMA_SUFFIX), arrays_of(config, 4))
    assert not source.ONLY_VALUE
    first = next(iter(raw))
    assert source.entries[first].name == f"{keys[0]}/{first}"
    assert source.entries[first + EMA_SUFFIX].name == f"{keys[1]}/module.{first}"
    found = reasons(source, config)
    assert found["in 'optimizer', which holds no model"] == 2
    assert found[COUNTER] == 2 * sum(key.endswith("num_batches_tracked") for key in raw)
    assert found["raw twin of an EMA value"] == len(arrays_of(config))
    assert reasons(source, config, "raw")["EMA twin, raw values asked for"] == len(
        arrays_of(config)
    )
    # The order in a file says nothing.
    turned = opened({keys[1]: averages, keys[0]: raw})
    assert same(converted(turned, config, EMA_SUFFIX), arrays_of(config, 4))


@pytest.mark.parametrize("name", NAMINGS)
@pytest.mark.parametrize(
    "raw, averages",
    [
        (("state_dict", ""), ("state_dict_ema", "ema.")),
        (("state_dict", ""), ("ema/shadow", "net.")),
        (("model", "module."), ("ema", "")),
        (("state_dict", "model."), ("state_dict", "ema_model.")),
        (("", "model."), ("", "ema.module.")),
        (("", ""), ("", "ModelEMA.")),
        (("", "net.model."), ("", "net.shadow.")),
        # What both are in says nothing of one.
        (("ema_run/model", ""), ("ema_run/averaged_model", "")),
    ],
)
def test_averages_win_under_any_wrapper(name, raw, averages):
    groups = {}
    for (group, prefix), seed in ((raw, 3), (averages, 4)):
        groups.setdefault(group, {}).update(before(prefix, state_of(name, seed)))
    source = opened(groups)
    ledger = make_ledger(source, OF[name], shapes={})
    assert not ledger.findings and not source.ONLY_VALUE
    chosen = {
        part.pair.parameter: part.pair.layout.to_torch([source.read(v) for v in part.variables])
        for part in ledger.sources
    }
    assert same(chosen, arrays_of(OF[name], 4))
    assert same(converted(source, OF[name]), arrays_of(OF[name], 3))
    place = "/".join(filter(None, (averages[0], averages[1] and averages[1] + "*")))
    assert f"Moving averages are what is in {place!r}, as its name says." in ledger.notes
    assert set(reasons(source, OF[name])) == {COUNTER, "raw twin of an EMA value"}


@pytest.mark.parametrize(
    "raw, averages",
    [
        (("state_dict", ""), ("ema", "")),
        (("state_dict", "net."), ("ema/shadow", "net.")),
        (("", "model."), ("", "model_ema.")),
        (("", ""), ("", "ema.module.")),
    ],
)
def test_averages_of_some_values_are_these_and_the_others_raw(raw, averages):
    config, groups = OF["effdet"], {}
    some = {k: v for k, v in state_of("effdet", 4).items() if k.startswith("class_net.predict")}
    for (group, prefix), state in ((raw, state_of("effdet", 3)), (averages, some)):
        groups.setdefault(group, {}).update(before(prefix, state))
    groups[averages[0]][averages[1] + "decay"] = np.float32(0.9)
    source = opened(groups)
    ledger = make_ledger(source, config, shapes={})
    assert not ledger.findings
    expected = {
        name: arrays_of(config, 4 if name.startswith("class_head.predict") else 3)[name]
        for name in arrays_of(config)
    }
    chosen = {
        part.pair.parameter: part.pair.layout.to_torch([source.read(v) for v in part.variables])
        for part in ledger.sources
    }
    assert same(chosen, expected)
    told = f"Only {len(some)} of {len(expected)} variables have a moving average (EMA)"
    assert any(note.startswith(told) for note in ledger.notes)
    assert reasons(source, config)["one number beside the averages, which is no value of the model"]


@pytest.mark.parametrize(
    "groups",
    [
        {"state_dict": state_of("effdet"), "ema/shadow_params": named("0", "1")},
        {"state_dict": state_of("effdet"), "state_dict_ema": named("backbone_conv_stem_weight")},
        {"": {**before("model.", state_of("effdet")), **named("model_ema.backbonebn1weight")}},
        {"state_dict": state_of("effdet"), "": named("ema")},
        # Parameters and statistics apart, so that no dictionary has the averages of all.
        {
            "model": state_of("effdet"),
            "ema/parameters": {k: v for k, v in state_of("effdet").items() if "running" not in k},
            "ema/buffers": {k: v for k, v in state_of("effdet").items() if "running" in k},
        },
        {
            "state_dict": state_of("effdet"),
            "ema": {**named("other"), "class_net.predict.conv_pw.bias": np.zeros(9, np.float32)},
        },
    ],
)
def test_averages_that_are_not_understood_are_refused(groups):
    with pytest.raises(InputError, match="as their name says, moving averages") as raised:
        opened(groups)
    assert len(str(raised.value).encode()) < 1000 and "'*'" not in str(raised.value)


def test_what_an_optimizer_keeps_are_no_averages():
    source = opened(
        {"model": state_of("effdet"), "optimizer/exp_avg": named("0"), "optim/0": named("ema")}
    )
    assert source.ONLY_VALUE and len(source.left_out) == 2


def test_many_models_and_dots_are_told_apart_in_time():
    names = list(state_of("effdet"))
    many = {f"m{i}.{key}": np.broadcast_to(np.float32(0), ()) for i in range(300) for key in names}
    started = perf_counter()
    with pytest.raises(InputError, match="holds 300 models") as raised:
        opened({"": many})
    assert len(str(raised.value).encode()) < 1000
    with pytest.raises(InputError, match="holds 1,000 tensors"):
        opened({"": named(*("." * 5000 + str(i) for i in range(1000)))})
    # Measured 1 to 2 s; what grows with the square takes minutes.
    assert perf_counter() - started < 60


@pytest.mark.parametrize(
    "key, why",
    [
        ("criterion.weight", "part of a training wrapper, which computes the loss"),
        ("loss.weight", "part of a training wrapper, which computes the loss"),
        ("mask_head.weight", "beside the model, whose keys have 'net.' before them"),
        ("total_ops", "count of operations"),
        ("net.total_params", "count of operations"),
        ("net.backbone.bn1.total_ops", "count of operations"),
        ("net.backbone.total_params", "count of operations"),
        ("ema_decay", "beside the model"),
        ("net.ema_decay", "one number beside the averages"),
    ],
)
def test_what_wrappers_and_tools_add_is_left_out_for_a_reason(key, why):
    added = {key: np.ones((1,), np.float32)}
    source = opened({"": {**before("net.", state_of("effdet")), **added}})
    assert same(converted(source, OF["effdet"]), arrays_of(OF["effdet"]))
    assert source.left_out.keys() == {key} and source.left_out[key].startswith(why)
    assert reasons(source, OF["effdet"])[source.left_out[key]] == 1


def test_a_prefix_that_is_taken_off_already():
    source = opened({"": before("net.", state_of("effdet"))})
    assert without_prefix(source, "net.") is source
    both = {**before("net.", state_of("effdet")), **before("ema.", state_of("effdet"))}
    for groups, prefix in (({"": before("net.", state_of("effdet"))}, "x."), ({"": both}, "net.")):
        with pytest.raises(InputError, match="leave --strip-prefix out") as raised:
            without_prefix(opened(groups), prefix)
        assert "'net.'" in str(raised.value)


def test_averages_alone_are_averages():
    source = opened({"state_dict_ema": state_of("effdet")})
    assert same(converted(source, OF["effdet"], EMA_SUFFIX), arrays_of(OF["effdet"]))


def test_what_a_bench_of_effdet_has_besides_is_left_out():
    state = {**before("model.", state_of("effdet")), "anchors.boxes": np.zeros((9, 4), np.float32)}
    source = opened({"": state})
    assert same(converted(source, OF["effdet"]), arrays_of(OF["effdet"]))
    assert "anchors.boxes" in source.left_out
    assert reasons(source, OF["effdet"])[source.left_out["anchors.boxes"]] == 1


def test_what_nobody_knows_is_a_finding():
    state = {**state_of("effdet"), "box_net.more": np.zeros(3, np.float32)}
    ledger = make_ledger(opened({"": state}), OF["effdet"], shapes={})
    assert [finding.name for finding in ledger.findings] == ["box_net.more"]
    with pytest.raises(InputError, match="of a state dict, delete the key"):
        ledger.require_complete("x.pth")
    state = {**before("model.", state_of("effdet")), "box_net.more": np.zeros(3, np.float32)}
    ledger = make_ledger(opened({"": state}), OF["effdet"], shapes={})
    assert [finding.name for finding in ledger.findings] == ["box_net.more"]


def test_repeats_and_levels_are_told_apart():
    """effdet can turn its heads' batch norms, all of which have one shape."""
    state = state_of("effdet")
    turned = {
        ("{0}.bn_rep.{3}.{2}.{5}".format(*key.split(".")) if ".bn_rep." in key else key): array
        for key, array in state.items()
    }
    assert turned.keys() == state_of("level first").keys() != state.keys()
    for one in (state, turned):
        assert same(converted(opened({"": one}), OF["effdet"]), arrays_of(OF["effdet"]))


def test_half_precision_is_named():
    state = {key: array.astype("float16") for key, array in state_of("effdet").items()}
    source = opened({"": state})
    name = "class_net.predict.conv_pw.bias"
    assert source.entries[name].dtype_name == "DT_HALF"
    assert source.read(name).dtype == np.float16


def without_biases():
    inner = (
        "conv_rep.0.conv_pw.bias",
        "conv_rep.1.conv_pw.bias",
        "conv.conv_pw.bias",
        "conv.conv.bias",
    )
    return {key: array for key, array in state_of("effdet").items() if not key.endswith(inner)}


@pytest.mark.parametrize(
    "groups, said",
    [
        ({}, "x.pth holds no tensors, which are not the parameters of an EfficientDet"),
        ({"": {}}, "holds no tensors"),
        ({"a": named("fc.weight"), "b": named("fc.bias")}, "holds 2 tensors (fc.weight, fc.bias)"),
        (
            {"": named("backbone.stem.weight", "neck.bifpn.0", "bbox_head.conv_cls.weight")},
            "x.pth is a model of mmdetection, whose names are not read",
        ),
        (
            {
                "m": named(
                    "module.conv_stem.weight", "module.bn1.bias", "module.blocks.0.0.conv_dw.weight"
                )
            },
            "x.pth is timm's backbone alone",
        ),
        (
            {"": named("_conv_stem.weight", "_bn0.bias", "_blocks.0._bn1.bias")},
            "zylo117's) backbone alone",
        ),
        (
            {"": named("features.0.0.weight", "features.1.0.block.0.0.weight")},
            "torchvision's backbone",
        ),
        (
            {"": named("stem_conv.weight", "stem_bn.bias", "blocks.0.x")},
            "this project's backbone alone",
        ),
        (
            {"a": state_of("effdet"), "b": state_of("effdet")},
            "holds 2 models (in 'a', 'b'), and nothing",
        ),
        (
            {"state_dict": state_of("effdet"), "state_dict_ema": state_of("own")},
            "holds 2 models (in 'state_dict', 'state_dict_ema')",
        ),
        ({"student": state_of("own"), "teacher": state_of("own")}, "holds 2 models"),
        (
            {"model": state_of("own"), "ema": state_of("own"), "shadow": state_of("own")},
            "holds 3 models (in 'model', 'ema', 'shadow')",
        ),
        (
            {"": {**before("a.b.", state_of("own")), **before("c.", state_of("own"))}},
            "holds 2 models (in 'a.b.*', 'c.*')",
        ),
        ({"": without_biases()}, "without biases before batch norms (redundant_bias=False)"),
        (
            {"": {**state_of("own"), f"fpn.x{EMA_SUFFIX}": np.zeros(1)}},
            "keys of a state dict that end like a moving average's variable",
        ),
        (
            {
                "": {
                    **before("model.", state_of("own")),
                    "class_head.predict.pointwise.bias": np.zeros(1),
                }
            },
            "two tensors for one name of the model",
        ),
        ({"": before("module." * 9, state_of("own"))}, "which are not the parameters"),
        ({"": named(*(f"{'x' * 5000}{i}" for i in range(50)))}, "holds 50 tensors (xxxx"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(groups, said):
    with pytest.raises(InputError) as raised:
        opened(groups)
    text = str(raised.value)
    assert said in text and len(text.encode()) < 1000 and text.endswith(".")
    assert "\n" not in text


def test_each_naming_is_told_for_every_model():
    for name, naming in NAMINGS.items():
        for model, config in MODELS.items():
            if name == "zylo117" and model in (TINY.name, *LITE_MODELS):
                continue
            keys = {key.name: np.zeros(0, np.float32) for key in naming.keys(config)}
            assert opened({"": keys}).naming.name == naming.name
