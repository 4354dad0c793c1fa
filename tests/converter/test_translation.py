"""The model of a file with foreign names is found from names and shapes of all of the family."""

import time
from dataclasses import replace

import pytest
from configurations import CONFIGURATIONS
from made_entries import entry, shapes_of

from converter.choice import choose_config, recognise
from converter.formats.own import NAMING as OWN
from converter.formats.source import OFFICIAL, Naming
from converter.formats.tf2 import OBJECT_PATHS
from converter.mappings.layouts import KEPT
from converter.mappings.official import Pair, iterate_pairs
from converter.mappings.state_dicts import namings
from converter.translation import as_official, official_shapes, structure_of
from efficientdet_spec import EMA_SUFFIX, MODELS, TINY, Fusion, InputError, get_config


class Listed:
    """A source without values: all that is looked at."""

    def __init__(self, naming, shapes, left_out=()):
        self.naming, self.said = naming, None
        self.entries = {name: entry(name, shape) for name, shape in shapes.items()}
        self.left_out = dict.fromkeys(left_out, "of no model")


def _renamed(config):
    """Official shapes under names that are none."""
    for pair in iterate_pairs(config):
        names = tuple(f"net.{name.replace('/', '.')}" for name in pair.variables)
        yield replace(pair, variables=names)


def _positions(config):
    """Nothing but places in a list, as keys of a SavedModel are."""
    place = 0
    for pair in iterate_pairs(config):
        names = tuple(f"model/{place + index}" for index in range(len(pair.variables)))
        place += len(names)
        yield replace(pair, variables=names)


def _of_code_base(naming):
    def pairs(config):
        for key in naming.keys(config):
            if key.parameter is not None and key.required:
                yield Pair(key.parameter, (key.name,), KEPT, key.shape)

    def unused(config):
        return {key.name: "unused" for key in naming.keys(config) if not key.required}

    return Naming(naming.name, naming.project, pairs, unused)


POSITIONS = Naming("positions", "a list", _positions)
NAMINGS = {
    item.name: item
    for item in (
        Naming("renamed", "somebody", _renamed),
        OWN,
        OBJECT_PATHS,
        POSITIONS,
        *map(_of_code_base, namings().values()),
    )
}


def _stages(config):
    """What hyperparameters have to tell: stages of the backbone and wiring."""
    return [replace(TINY, backbone_stages=config.backbone_stages, fpn_nodes=config.fpn_nodes)]


def _changed(name):
    usual = get_config(name)
    cells, repeats = usual.fpn_cells, usual.head_repeats
    yield "classes", replace(usual, num_classes=3)
    yield "widths", replace(usual, fpn_channels=usual.feature_channels()[4], num_classes=1)
    yield "repeats", replace(usual, fpn_channels=96, fpn_cells=cells + 2, head_repeats=repeats + 2)
    yield "few", replace(usual, fpn_cells=1, head_repeats=1, max_level=5)
    yield (
        "kinds",
        replace(usual, separable_conv=False, resample_bn=False, conv_bn_act=True),
    )
    yield (
        "all",
        replace(
            usual,
            num_classes=5,
            fpn_channels=96,
            fpn_cells=cells + 2,
            head_repeats=repeats - 2,
            max_level=6,
            fusion=Fusion.CHANNEL_FAST_ATTENTION,
        ),
    )


CHANGED = ("d0", "lite3x")

CASES = {
    **MODELS,
    **CONFIGURATIONS,
    **{f"{name} {what}": config for name in CHANGED for what, config in _changed(name)},
}

LIST_SAYS_TOO_LITTLE = {
    "several at once",
    *(f"{name} {what}" for name in CHANGED for what in ("few", "all")),
    *(f"{name} kinds" for name in CHANGED),
    "lite3x repeats",
}
"""Where several things are otherwise at once, positions alone may not lead to what they are."""


def stored(naming, config):
    """The shapes in a file.

    Raises:
        InputError: The naming has no such model.
    """
    shapes = {
        name: shape for pair in naming.pairs(config) for name, shape in pair.variable_shapes.items()
    }
    return {**shapes, **{name: () for name in naming.unused(config)}}


def _has_model(naming, config):
    try:
        next(iter(naming.pairs(config)))
    except InputError:
        return False
    return True


BUILT = [
    (name, case)
    for name, naming in NAMINGS.items()
    for case, config in CASES.items()
    if _has_model(naming, config) and not (naming is POSITIONS and case in LIST_SAYS_TOO_LITTLE)
]


def _turns():
    """Each configuration in the naming whose turn it is; in all the others it is a heavy test."""
    turns = {}
    for naming, case in BUILT:
        turns.setdefault(case, []).append(naming)
    for number, (case, names) in enumerate(turns.items()):
        for naming in names:
            light = naming == names[number % len(names)]
            yield pytest.param(naming, case, marks=() if light else pytest.mark.heavy)


TURNS = list(_turns())


@pytest.mark.parametrize(("naming", "case"), TURNS)
def test_every_configuration_is_found_in_every_naming(naming, case):
    naming, config = NAMINGS[naming], CASES[case]
    given = _stages(config) if config.backbone_stages or config.fpn_nodes else []
    assert as_official(Listed(naming, stored(naming, config)), given) == shapes_of(config)


def test_the_meta_test_covers_what_it_should():
    """Each naming has models that are changed, and most of the family."""
    for naming in NAMINGS:
        cases = [case for name, case in BUILT if name == naming]
        assert len(cases) > len(MODELS) / 2, naming
        assert any(case not in MODELS for case in cases), naming
    # What is not heavy has every configuration and every naming.
    assert [item.values for item in TURNS if item.values not in BUILT] == []
    assert len(TURNS) == len(BUILT)
    light = [item.values for item in TURNS if not item.marks]
    assert {naming for naming, _ in light} == set(NAMINGS)
    assert {case for _, case in light} == {case for _, case in BUILT}


@pytest.mark.parametrize("name", ["d0", "d3", "d6", "lite3x", "tiny"])
@pytest.mark.parametrize("naming", [OWN, OBJECT_PATHS], ids=["own", "tf2"])
def test_the_recognition_is_that_of_official_names(naming, name):
    config = get_config(name).with_classes(11)
    source = Listed(naming, stored(naming, config))
    official = shapes_of(config)
    found = recognise(source.entries, "file", shapes=as_official(source))
    assert found == recognise({key: entry(key, shape) for key, shape in official.items()}, "file")
    assert [item.name for item in found][0] == config.name
    if name != "d6":
        assert choose_config(source.entries, "file", shapes=as_official(source)) == config


def test_a_stored_shape_stays_the_stored_one():
    shapes = stored(OWN, TINY)
    shapes["fpn.cells.0.nodes.0.weights"] = (3,)
    shapes["class_head.predict.pointwise.weight"] = (14, 99, 5, 5)
    shapes["box_head.predict.pointwise.bias"] = (2, 2)
    del shapes["backbone.stem_conv.weight"]
    found = official_shapes(OWN, TINY, shapes)
    assert found["fpn_cells/cell_0/fnode0/WSM"] == (3,)
    assert "fpn_cells/cell_0/fnode0/WSM_1" not in found
    assert found["class_net/class-predict/pointwise_kernel"] == (5, 5, 99, 14)
    assert found["box_net/box-predict/bias"] == (2, 2)
    assert f"{TINY.backbone_name}/stem/conv2d/kernel" not in found
    # A vector of a thousand million fusion weights takes no memory.
    shapes["fpn.cells.0.nodes.0.weights"] = (10**9,)
    assert official_shapes(OWN, TINY, shapes)["fpn_cells/cell_0/fnode0/WSM"] == (10**9,)


@pytest.mark.parametrize("name", ["d0", "d7x", "lite0"])
def test_a_damaged_file_is_still_found(name):
    config = get_config(name)
    shapes = stored(OWN, config)
    for number, key in enumerate(list(shapes)):
        if number % 5 == 0:
            del shapes[key]
        elif number % 7 == 0:
            shapes[key] = (1, 2, 3)
    shapes |= {f"mine.{number}": (number,) for number in range(50)}
    found = structure_of(OWN, shapes)
    assert found is not None and (found.name, found.fpn_cells, found.levels) == (
        config.name,
        config.fpn_cells,
        config.levels,
    )


def test_suffixes_and_what_is_no_part_of_a_model_are_left_out():
    shapes = stored(OWN, TINY)
    twins = {name + EMA_SUFFIX: shape for name, shape in shapes.items()}
    source = Listed(OWN, {**twins, "steps": ()}, ["steps"])
    assert as_official(source) == shapes_of(TINY)


def test_less_than_half_of_a_model_is_none():
    shapes = stored(OWN, TINY)
    few = dict(list(shapes.items())[: len(shapes) // 8])
    assert structure_of(OWN, few) is None and as_official(Listed(OWN, few)) == {}
    assert structure_of(OWN, {}) is None
    # Other code bases' names are none of ours, however many there are.
    assert structure_of(OWN, stored(NAMINGS["effdet"], get_config("d0"))) is None


def test_official_names_are_taken_as_they_are():
    shapes = {**shapes_of(TINY), "global_step": ()}
    assert as_official(Listed(OFFICIAL, shapes)) == shapes


def test_equal_fits_are_decided_by_the_order_of_the_models():
    shapes = stored(OWN, get_config("d7"))
    assert {structure_of(OWN, shapes).name for _ in range(3)} == {"efficientdet-d6"}
    mine = replace(get_config("d7"), name="mine")
    assert structure_of(OWN, shapes, [mine]).name == "mine"


HOSTILE = {
    "every step of every list": {
        f"{head}.convs.{repeat}.{part}": (64, 64, 1, 1)
        for head in ("class_head", "box_head")
        for repeat in range(64)
        for part in ("depthwise.weight", "pointwise.weight", "pointwise.bias")
    },
    "cells without end": {
        pair.parameter: pair.shape
        for pair in iterate_pairs(replace(get_config("d7x"), fpn_cells=64))
    },
    "names of nothing": {f"x.{number}": (number,) for number in range(100_000)},
    "D7x and as many more": {
        **{pair.parameter: pair.shape for pair in iterate_pairs(get_config("d7x"))},
        **{f"y.{number}": () for number in range(100_000)},
    },
}


@pytest.mark.parametrize(
    "naming", [OWN, OBJECT_PATHS, NAMINGS["effdet"]], ids=lambda item: item.name
)
@pytest.mark.parametrize("case", HOSTILE)
def test_no_file_takes_long(naming, case):
    start = time.process_time()
    structure_of(naming, HOSTILE[case])
    # Measured below 1 s; a search without bounds takes minutes.
    assert time.process_time() - start < 5
