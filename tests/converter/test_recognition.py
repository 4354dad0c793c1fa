"""A network's structure from its variables, and in what it is not the nearest model."""

import json
from dataclasses import replace

import pytest
from listed_source import listed
from made_entries import checkpoint, entry, shapes_of, unaccounted, with_entries, without

from converter.choice import choose_config, recognise
from converter.ledger import make_ledger
from converter.recognition import adopted, differences, facts_of, unsettled
from efficientdet_spec import MODELS, TINY, Fusion, InputError, get_config

D0 = get_config("d0")
QUFPN_NODES = 4


@pytest.mark.parametrize("name", MODELS)
def test_every_model_agrees_with_its_own_variables(name):
    config = MODELS[name]
    facts = facts_of(shapes_of(config))
    assert differences(facts, config) == () and unsettled(facts, config) == []
    assert None not in vars(facts).values() or config.fusion is Fusion.SUM
    assert (facts.anchors, facts.classes) == (9, config.num_classes)
    assert facts.levels == (config.min_level, config.max_level)


@pytest.mark.parametrize("name", ["d0", "d3", "d6", "d7x", "lite0", "lite3x", "lite4"])
def test_the_official_lists_say_what_the_models_are(name, test_data):
    content = json.loads((test_data / "official" / f"{name}.variables.json").read_text())
    facts = facts_of({variable: tuple(shape) for variable, shape, _ in content["variables"]})
    assert differences(facts, get_config(name)) == ()


SETTLED = {
    "fpn_num_filters": {"fpn_channels": 24},
    "fpn_cell_repeats": {"fpn_cells": 1},
    "box_class_repeats": {"head_repeats": 4},
    "min_level": {"min_level": 2},
    "max_level": {"max_level": 6},
    "num_classes": {"num_classes": 601},
    "separable_conv": {"separable_conv": False},
    "apply_bn_for_resampling": {"resample_bn": False},
    "conv_bn_act_pattern": {"conv_bn_act": True},
    "fpn_weight_method": {"fusion": Fusion.SUM},
}


@pytest.mark.parametrize("hparam", SETTLED)
def test_what_the_variables_settle_is_taken_from_them(hparam):
    config = replace(TINY, **SETTLED[hparam])
    facts = facts_of(shapes_of(config))
    (found,) = differences(facts, TINY)
    assert found.hparam == hparam and found.settled
    assert adopted(facts, TINY) == config
    # What the user has given is not changed in silence.
    assert adopted(facts, TINY, {hparam}) == TINY
    entries = checkpoint(config)
    chosen = choose_config(entries, "file")
    assert chosen == config
    ledger = make_ledger(listed(entries), chosen)
    assert unaccounted(ledger, entries) == [] and ledger.unsettled == ()
    told = f"in place of what efficientdet-tiny has: {hparam} "
    assert any(told in note for note in ledger.notes) == (hparam != "num_classes")
    with pytest.raises(
        InputError, match=rf"--hparams says {hparam} so that .* is expected; correct"
    ):
        choose_config(entries, "file", TINY, given={hparam: "--hparams"})
    with pytest.raises(
        InputError, match=rf"--hparams says {hparam} so that .* is expected; correct"
    ):
        choose_config(entries, "file", given={hparam: "--hparams"})


def test_several_at_once():
    config = replace(TINY, fpn_channels=40, fpn_cells=3, head_repeats=1, min_level=2, num_classes=1)
    assert choose_config(checkpoint(config), "file") == config


UNSETTLED = {
    "aspect_ratios": (
        {"num_scales": 4},
        r"has 12 anchors a place .*48 = 4 \\* 12 values.* has 9: ",
    ),
    "one aspect": (
        {"aspect_ratios": (1.0,)},
        r"has 3 anchors a place .*: give aspect_ratios or num",
    ),
    "fpn_weight_method": (
        {"fusion": Fusion.CHANNEL_FAST_ATTENTION},
        r"has channel_fastattn or channel_attn by its fusion weights, .* give fpn_weight_method",
    ),
}


@pytest.mark.parametrize("case", UNSETTLED)
def test_what_they_do_not_settle_is_asked_for(case):
    values, message = UNSETTLED[case]
    config = replace(TINY, **values)
    entries = checkpoint(config)
    chosen = choose_config(entries, "file")
    ledger = make_ledger(listed(entries), chosen)
    with pytest.raises(InputError, match=message.replace("\\\\", "\\")) as refused:
        ledger.require_complete("file")
    assert len(str(refused.value)) < 400
    # The classes follow from both heads, whatever the anchors are.
    assert chosen.num_classes == config.num_classes
    with pytest.raises(InputError, match="has 7 classes .*, not 8; leave --num-classes out"):
        choose_config(entries, "file", num_classes=8)
    # With the hyperparameter it converts.
    assert choose_config(entries, "file", config, given={"num_scales": "--hparams"}) == config
    make_ledger(listed(entries), config).require_complete("file")


@pytest.mark.parametrize(
    ("bias", "count", "message"),
    [
        ("class_net/class-predict/bias", 64, "64 values, which is no multiple of the 9 anchors"),
        ("box_net/box-predict/bias", 35, "35 values, which is no multiple of the 4 that each"),
    ],
)
def test_heads_that_no_numbers_of_anchors_and_classes_make(bias, count, message):
    entries = with_entries(checkpoint(TINY, ema=False), entry(bias, (count,)))
    with pytest.raises(InputError, match=message):
        make_ledger(listed(entries), choose_config(entries, "file")).require_complete("file")


def test_a_name_that_is_missing_settles_nothing_wrong():
    """A damaged file is not taken for a smaller model."""
    gone = "class_net/class-0/bias", "box_net/box-0/bias"
    entries = without(checkpoint(TINY, ema=False), *gone)
    config = choose_config(entries, "file")
    assert config == TINY
    assert {finding.name for finding in make_ledger(listed(entries), config).findings} == set(gone)


def test_numbers_in_names_are_bounded():
    names = ["class_net/class-0-bn-99999999999999999999/gamma", "fpn_cells/cell_9999999/fnode0/WSM"]
    facts = facts_of({name: (3,) for name in names})
    assert facts.levels is None and facts.cells is None
    huge = {f"class_net/class-0-bn-{level}/gamma": (16,) for level in (3, 88888888)}
    assert unsettled(facts_of(huge), TINY) and recognise(
        with_entries(checkpoint(TINY), *(entry(name, (16,)) for name in huge)), "file"
    )
