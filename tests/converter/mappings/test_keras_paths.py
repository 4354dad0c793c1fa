"""The paths of object checkpoints, held against Google's own objects."""

import hashlib
import json
from pathlib import Path

import pytest
from configurations import CONFIGURATIONS

from converter.hparams.applying import apply
from converter.hparams.override import parse_text
from converter.mappings.keras_order import keras_order
from converter.mappings.keras_paths import (
    HEAD,
    ROOTS,
    is_part,
    iterate_object_pairs,
    object_paths,
)
from converter.mappings.official import iterate_pairs
from efficientdet_spec import LITE_MODELS, MODELS, get_config

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "keras_objects.json").read_text())
ALL = {name: get_config(name) for name in (*MODELS, *LITE_MODELS)} | CONFIGURATIONS


@pytest.mark.parametrize("model", ["d0", "lite0"])
def test_paths_are_those_of_the_official_checkpoints(test_data, model):
    table = test_data / "formats" / "keys" / f"tf2_object_path_to_name.{model}.json"
    assert dict(object_paths(get_config(model))) == json.loads(table.read_text())


@pytest.mark.parametrize("case", GOLDEN)
def test_paths_names_and_shapes_are_those_of_the_official_network(case):
    golden = GOLDEN[case]
    config = apply(get_config(golden["model"]), parse_text(golden["hparams"]))
    shapes = {
        path: list(shape)
        for pair in iterate_object_pairs(config)
        for path, shape in pair.variable_shapes.items()
    }
    lines = [f"{path} {name} {shapes[path]}\n" for path, name in object_paths(config).items()]
    assert len(lines) == golden["variables"]
    assert _digest(sorted(lines)) == golden["paths"]
    assert _digest(f"{name}\n" for name in keras_order(config)) == golden["order"]


def _digest(lines):
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", ALL)
def test_every_variable_has_one_path(name):
    config = ALL[name]
    paths = object_paths(config)
    official = [variable for pair in iterate_pairs(config) for variable in pair.variables]
    assert list(paths.values()) == official
    assert {path.split("/")[0] for path in paths} - {"resample_layers"} == ROOTS
    assert all(is_part(part) for path in paths for part in path.split("/"))
    assert not any(path.startswith(HEAD) for path in paths)


@pytest.mark.parametrize("name", ALL)
def test_only_the_names_are_others(name):
    config = ALL[name]
    for theirs, ours in zip(iterate_object_pairs(config), iterate_pairs(config), strict=True):
        assert (theirs.parameter, theirs.layout, theirs.shape) == (
            ours.parameter,
            ours.layout,
            ours.shape,
        )
        assert len(theirs.variables) == len(ours.variables)


@pytest.mark.parametrize(
    "part", ["_head", "variables", "vars", "keras_api", "endpoints", "", "WSM_"]
)
def test_other_ways_to_a_variable_are_no_paths(part):
    assert not is_part(part)
