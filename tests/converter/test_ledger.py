"""Every variable of a checkpoint is accounted for, and every parameter is filled once."""

import json
from dataclasses import replace

import pytest
from listed_source import listed
from made_entries import (
    checkpoint,
    entry,
    sentences,
    shapes_of,
    unaccounted,
    with_entries,
    without,
)

from converter.choice import choose_config, recognise
from converter.ledger import make_ledger
from converter.tensorflow_files.bundle import read_index
from converter.variables import EMA
from efficientdet_spec import MODELS, OFFICIAL_MODELS, TINY, InputError, get_config

INDEX_FILES = {
    "efficientdet-d0.coco.index": "efficientdet-d0",
    "efficientdet-d0.coco2.index": "efficientdet-d0",
    "efficientdet-d1.coco2.index": "efficientdet-d1",
    "efficientdet-d2.coco.index": "efficientdet-d2",
    "efficientdet-d2.coco2.index": "efficientdet-d2",
    "efficientdet-d3.coco.index": "efficientdet-d3",
    "efficientdet-d3.coco2.index": "efficientdet-d3",
    "efficientdet-d3.training.index": "efficientdet-d3",
    "efficientdet-d4.coco.index": "efficientdet-d4",
    "efficientdet-d5.training.index": "efficientdet-d5",
}
TWINS = ("efficientdet-d6", "efficientdet-d7")
STEM = "efficientnet-tiny/stem/conv2d/kernel"
BIAS = "class_net/class-predict/bias"


def rows_of(ledger):
    return {row.variable: row for row in ledger.rows}


def test_averages_are_preferred():
    entries = checkpoint(TINY)
    ledger = make_ledger(listed(entries), TINY)
    count = len(shapes_of(TINY))
    assert unaccounted(ledger, entries) == []
    assert ledger.counts() == {
        "ema": count,
        "raw twin of an EMA value": count,
        "training step counter": 1,
    }
    assert ledger.notes == ()
    row = rows_of(ledger)[f"{STEM}/{EMA}"]
    assert (row.use, row.parameter, row.shape) == ("ema", "backbone.stem_conv.weight", (3, 3, 3, 8))
    assert (row.layout, row.reason) == ("HWIO->OIHW", "EMA preferred")
    twin = rows_of(ledger)[STEM]
    assert (twin.use, twin.parameter) == ("excluded", "")


def test_raw_values_on_request():
    entries = checkpoint(TINY)
    ledger = make_ledger(listed(entries), TINY, "raw")
    assert unaccounted(ledger, entries) == []
    assert not any(name.endswith(EMA) for source in ledger.sources for name in source.variables)
    assert rows_of(ledger)[STEM].reason == "raw asked for"
    assert rows_of(ledger)[f"{STEM}/{EMA}"].reason == "EMA twin, raw values asked for"
    assert ledger.notes == ()


def test_a_checkpoint_without_averages():
    entries = checkpoint(TINY, ema=False)
    ledger = make_ledger(listed(entries), TINY)
    assert unaccounted(ledger, entries) == []
    assert rows_of(ledger)[STEM].reason == "no EMA of it in the file"
    assert len(ledger.notes) == 1 and "no moving averages" in ledger.notes[0]
    # Whoever asks for raw values need not be told.
    assert make_ledger(listed(entries), TINY, "raw").notes == ()


def test_some_averages_are_missing():
    names = list(shapes_of(TINY))[:5]
    entries = without(checkpoint(TINY), *(f"{name}/{EMA}" for name in names))
    ledger = make_ledger(listed(entries), TINY)
    assert unaccounted(ledger, entries) == []
    assert ledger.counts()["raw"] == 5
    total = len(shapes_of(TINY))
    assert ledger.notes == (
        f"Only {total - 5} of {total} variables have a moving average (EMA); the raw values of "
        "the others were taken.",
    )


def test_only_averages():
    entries = checkpoint(TINY, raw=False)
    assert unaccounted(make_ledger(listed(entries), TINY), entries) == []
    assert choose_config(entries, "file") == TINY
    findings = make_ledger(listed(entries), TINY, "raw").findings
    assert len(findings) == len(shapes_of(TINY))
    assert all(str(finding).endswith("is missing (only its EMA is there)") for finding in findings)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"{STEM}/Momentum", "optimizer slot (Momentum)"),
        (f"{STEM}/Adam", "optimizer slot (Adam)"),
        (f"{STEM}/Adam_1", "optimizer slot (Adam_1)"),
        (f"{STEM}/RMSProp", "optimizer slot (RMSProp)"),
        ("beta1_power", "Adam's running power"),
        ("beta2_power", "Adam's running power"),
        ("global_step", "training step counter"),
        (f"{STEM}/replica_1", "copy of another training replica"),
        (f"{STEM}/{EMA}/replica_12", "copy of another training replica"),
        (f"{STEM}/replica_3/Momentum", "copy of another training replica"),
        (
            "efficientnet-tiny/stem/tpu_batch_normalization/moving_normalizer",
            "normaliser of moving statistics, unused at inference",
        ),
        (
            f"efficientnet-tiny/stem/tpu_batch_normalization/moving_normalizer/{EMA}",
            "normaliser of moving statistics, unused at inference",
        ),
    ],
)
def test_training_state_is_left_out_for_a_reason(name, reason):
    entries = with_entries(checkpoint(TINY), entry(name, (3, 3, 3, 8)))
    ledger = make_ledger(listed(entries), TINY)
    assert unaccounted(ledger, entries) == []
    row = rows_of(ledger)[name]
    assert (row.use, row.parameter, row.reason) == ("excluded", "", reason)
    assert choose_config(entries, "file") == TINY


def test_a_whole_training_checkpoint():
    entries = checkpoint(TINY)
    slots = [
        entry(f"{name}/{slot}", shape)
        for name, shape in shapes_of(TINY).items()
        for slot in ("Momentum", "replica_1")
    ]
    entries = with_entries(entries, *slots)
    assert choose_config(entries, "file") == TINY
    assert unaccounted(make_ledger(listed(entries), TINY), entries) == []


@pytest.mark.parametrize(
    "name",
    ["some/layer/kernel", f"{STEM}_1", "some/layer/Momentum", f"{STEM}/Momentum_of_mine", "step"],
)
def test_what_is_unknown_is_a_finding(name):
    entries = with_entries(checkpoint(TINY), entry(name, (2, 3)))
    ledger = make_ledger(listed(entries), TINY)
    assert sentences(ledger) == [f"{name} [2, 3] is no variable of efficientdet-tiny"]
    assert rows_of(ledger)[name].reason == "unknown"
    assert choose_config(entries, "file") == TINY
    with pytest.raises(InputError, match=r"\[2, 3\] is no variable of .*convert --list"):
        ledger.require_complete("file")


def test_all_findings_come_together():
    """One missing, one unknown, one of another shape and one of another type: one error."""
    missing, reshaped, retyped = "box_net/box-0/bias", "box_net/box-1/bias", STEM
    entries = without(checkpoint(TINY), missing, f"{missing}/{EMA}")
    entries = with_entries(
        entries,
        entry("one/more", (4,)),
        entry(f"{reshaped}/{EMA}", (17,)),
        entry(f"{retyped}/{EMA}", (3, 3, 3, 8), "<i4"),
    )
    ledger = make_ledger(listed(entries), choose_config(entries, "file"))
    with pytest.raises(InputError) as error:
        ledger.require_complete("file")
    text = str(error.value)
    assert text.startswith("file does not convert to efficientdet-tiny: ")
    for finding in (
        f"{missing}, which fills box_head.convs.0.pointwise.bias, is missing",
        "one/more [4] is no variable of efficientdet-tiny",
        f"{reshaped}/{EMA} has shape [17], not [16]",
        f"{retyped}/{EMA} holds DT_INT32, which is no floating-point number",
    ):
        assert finding in sentences(ledger)
    for told in (
        f"1 missing: {missing}",
        "1 unknown: one/more [4]",
        f"1 of another shape: {reshaped}/{EMA} [17], not [16]",
        f"1 of another type: {retyped}/{EMA} DT_INT32, which is no floating-point number",
    ):
        assert told in text
    assert "\n" not in text
    # Without the faults there is no error.
    make_ledger(listed(checkpoint(TINY)), TINY).require_complete("file")


def test_other_precisions_are_no_finding():
    entries = checkpoint(TINY, ema=False)
    entries = with_entries(entries, entry(STEM, (3, 3, 3, 8), "<f2"), entry(BIAS, (63,), "<f8"))
    ledger = make_ledger(listed(entries), TINY, "raw")
    assert unaccounted(ledger, entries) == []
    total = len(shapes_of(TINY))
    assert ledger.notes == (
        f"1 of the {total} variables used are stored as float16 and widened to float32, which "
        f"changes no value.",
        f"1 of the {total} variables used are stored as float64 and narrowed to float32, which is "
        f"refused where it would change a value.",
    )
    assert rows_of(ledger)[STEM].reason == "raw asked for, float16 to float32"


def test_a_transposed_kernel_is_a_finding():
    name = "class_net/class-predict/pointwise_kernel"
    entries = with_entries(checkpoint(TINY, ema=False), entry(name, (1, 1, 63, 16)))
    findings = sentences(make_ledger(listed(entries), TINY))
    assert findings == [f"{name} has shape [1, 1, 63, 16], not [1, 1, 16, 63]"]


def test_one_scalar_of_a_fusion_is_missing():
    name = "fpn_cells/cell_0/fnode4/WSM_2"
    entries = without(checkpoint(TINY, ema=False), name)
    ledger = make_ledger(listed(entries), TINY)
    parameter = "fpn.cells.0.nodes.4.weights"
    assert sentences(ledger) == [f"{name}, which fills {parameter}, is missing"]
    assert parameter not in {source.pair.parameter for source in ledger.sources}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in TWINS])
def test_models_are_recognised(name):
    config = get_config(name)
    entries = checkpoint(config)
    assert recognise(entries, "file") == (config,)
    assert choose_config(entries, "file") == config
    assert unaccounted(make_ledger(listed(entries), config), entries) == []


def test_d6_and_d7_are_told_apart_by_the_user():
    entries = checkpoint(get_config("d6"))
    assert shapes_of(get_config("d6")) == shapes_of(get_config("d7"))
    assert [config.name for config in recognise(entries, "file")] == list(TWINS)
    with pytest.raises(InputError, match=r"fits efficientdet-d6 and efficientdet-d7 .*--model"):
        choose_config(entries, "file")
    for name in TWINS:
        chosen = choose_config(entries, "file", get_config(name))
        assert chosen == get_config(name)
        assert unaccounted(make_ledger(listed(entries), chosen), entries) == []
    with pytest.raises(
        InputError, match="of efficientdet-d6 or efficientdet-d7, not of efficientdet-d5"
    ):
        choose_config(entries, "file", get_config("d5"))


def test_another_model_than_asked_for():
    with pytest.raises(
        InputError, match="variables of efficientdet-tiny, not of efficientdet-d0; leave --model"
    ):
        choose_config(checkpoint(TINY), "file", get_config("d0"))


@pytest.mark.parametrize("classes", [1, 2, 20, 90, 91])
def test_class_count_is_read_from_the_file(classes):
    config = get_config("d0").with_classes(classes)
    entries = checkpoint(config, ema=False)
    assert choose_config(entries, "file") == config
    assert choose_config(entries, "file", get_config("d0"), classes) == config
    assert unaccounted(make_ledger(listed(entries), config), entries) == []
    with pytest.raises(InputError, match=rf"has {classes} classes .*, not {classes + 1};"):
        choose_config(entries, "file", num_classes=classes + 1)


def test_a_class_bias_that_no_class_count_gives():
    # 64 channels are no multiple of nine anchors.
    entries = with_entries(checkpoint(TINY, ema=False), entry(BIAS, (64,)))
    config = choose_config(entries, "file")
    assert config.name == TINY.name
    findings = sentences(make_ledger(listed(entries), config))
    assert any(finding.startswith(f"{BIAS} has shape [64]") for finding in findings)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "no EfficientDet that this program knows: 0 variables"),
        (
            {
                f"resnet50/conv{i}/weights": entry(f"resnet50/conv{i}/weights", (3, 3, 8, 8))
                for i in range(50)
            },
            r"50 variables, mostly under resnet50, which convert .*; give one of efficientdet-d0, ",
        ),
    ],
    ids=["empty", "another network"],
)
def test_other_checkpoints(entries, message):
    with pytest.raises(InputError, match=message):
        choose_config(entries, "file")


@pytest.mark.parametrize("name", ["lite0", "lite1", "lite2", "lite3", "lite3x", "lite4"])
def test_official_lite_models_are_recognised(name, test_data):
    content = json.loads((test_data / "official" / f"{name}.variables.json").read_text())
    entries = {variable: entry(variable, shape) for variable, shape, _ in content["variables"]}
    config = choose_config(entries, "file")
    assert config == get_config(name)
    assert unaccounted(make_ledger(listed(entries), config), entries) == []


def test_every_official_index_is_looked_at(test_data):
    found = {path.name for path in (test_data / "official" / "index").glob("*.index")}
    assert found == INDEX_FILES.keys()


@pytest.mark.parametrize("weights", ["ema", "raw"])
@pytest.mark.parametrize("name", INDEX_FILES)
def test_official_checkpoints_are_accounted_for(name, weights, test_data):
    path = test_data / "official" / "index" / name
    entries = read_index(path).entries
    config = choose_config(entries, str(path))
    assert config == get_config(INDEX_FILES[name])
    assert config.num_classes == 90
    ledger = make_ledger(listed(entries), config, weights)
    assert unaccounted(ledger, entries) == []
    assert ledger.notes == ()
    assert ledger.counts()[weights] == len(shapes_of(config))
    # Nothing but the other twin, the step and, in training checkpoints, momentum is left out.
    slots = len([variable for variable in entries if variable.endswith("/Momentum")])
    assert (slots > 0) == (".training." in name)
    assert len(entries) == 2 * len(shapes_of(config)) + 1 + slots


def test_incomplete_ledgers_are_seen(test_data):
    """The check of the official files itself fails where something is lost."""
    path = test_data / "official" / "index" / "efficientdet-d0.coco2.index"
    entries = read_index(path).entries
    ledger = make_ledger(listed(entries), get_config("d0"))
    assert unaccounted(ledger, entries) == []
    for broken in (
        replace(ledger, rows=ledger.rows[1:]),
        replace(ledger, rows=(*ledger.rows, ledger.rows[0])),
        replace(ledger, sources=ledger.sources[1:]),
        replace(ledger, sources=(*ledger.sources, ledger.sources[0])),
        replace(ledger, rows=(replace(ledger.rows[0], reason=""), *ledger.rows[1:])),
    ):
        assert unaccounted(broken, entries) != []
    fewer = without(dict(entries), f"box_net/box-predict/bias/{EMA}", "box_net/box-predict/bias")
    assert unaccounted(make_ledger(listed(fewer), get_config("d0")), fewer) != []


def test_the_registry_knows_the_official_models():
    assert {*INDEX_FILES.values(), *TWINS} < set(OFFICIAL_MODELS)
