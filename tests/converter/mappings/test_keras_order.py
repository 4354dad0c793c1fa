"""The order of the Keras network's variables is the official code's in every configuration."""

import gzip
import hashlib
import json
from pathlib import Path

import h5py
import hparams_goldens
import pytest
from configurations import CONFIGURATIONS

from converter.hparams.applying import apply
from converter.hparams.plain_yaml import parse_yaml, yaml_text
from converter.mappings.keras_order import (
    creation_order,
    is_statistic,
    iterate_layers,
    keras_order,
)
from converter.mappings.official import iterate_pairs
from efficientdet_spec import LITE_MODELS, MODELS, OFFICIAL_MODELS, get_config

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "keras_order.json").read_text())


def digest(names):
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def layers(config, frozen=()):
    place = {name: number for number, name in enumerate(creation_order(config))}
    return digest(
        line
        for layer, names in iterate_layers(config)
        for line in (
            f"[{layer}]",
            *(sorted(names, key=place.__getitem__) if layer in frozen else names),
        )
    )


def configuration(name):
    if not name.startswith("hparams/"):
        return get_config(name)
    golden = hparams_goldens.read(f"{name.removeprefix('hparams/')}.json.gz")
    given = parse_yaml(yaml_text(golden["hparams"]).encode(), "golden")
    return apply(get_config(golden["base"]), given)


def test_every_published_model_and_every_network_with_hyperparameters_has_a_golden():
    published = {*OFFICIAL_MODELS, *LITE_MODELS}
    cases = {f"hparams/{name}" for name in hparams_goldens.networks()}
    assert GOLDEN["networks"].keys() == published | cases


@pytest.mark.parametrize("name", GOLDEN["networks"])
def test_the_order_is_that_of_the_official_network(name):
    config, golden = configuration(name), GOLDEN["networks"][name]
    order = keras_order(config)
    assert len(order) == golden["variables"]
    assert digest(order) == golden["weights"]
    assert layers(config) == golden["layers"]


def test_frozen_parts_list_their_variables_in_the_order_of_creation():
    config = get_config("efficientdet-d0")
    assert layers(config, frozen=("efficientnet-b0",)) == GOLDEN["frozen"]["backbone"]
    everything = [layer for layer, _ in iterate_layers(config)]
    assert layers(config, everything) == GOLDEN["frozen"]["all"]


@pytest.mark.parametrize("name", ["d0", "d1", "d2", "lite0", "lite1", "lite2", "lite3"])
def test_the_order_is_the_published_one(name, test_data):
    path = test_data / "formats" / "variables" / f"{name}.keras_order.json"
    golden = json.loads(path.read_text())["variables"]
    order = keras_order(get_config(f"efficientdet-{name}"))
    assert list(order) == [variable for variable, _, _ in golden]
    assert [not is_statistic(name) for name in order] == [trained for _, _, trained in golden]


@pytest.mark.parametrize("name", ["d0", "lite0"])
def test_the_layers_are_those_that_a_file_of_the_official_network_lists(name, test_data, tmp_path):
    packed = (test_data / "formats" / f"{name}_ids.h5.gz").read_bytes()
    (tmp_path / "x.h5").write_bytes(gzip.decompress(packed))
    with h5py.File(tmp_path / "x.h5") as file:
        found = [
            (layer, tuple(name.removesuffix(":0") for name in file[layer].attrs["weight_names"]))
            for layer in file.attrs["layer_names"]
        ]
    assert found == list(iterate_layers(get_config(f"efficientdet-{name}")))


@pytest.mark.parametrize(
    "config", [*MODELS.values(), *CONFIGURATIONS.values()], ids=[*MODELS, *CONFIGURATIONS]
)
def test_every_variable_is_there_once(config):
    names = sorted(name for pair in iterate_pairs(config) for name in pair.variables)
    assert sorted(keras_order(config)) == names
    assert sorted(creation_order(config)) == names
    assert sorted(name for _, names in iterate_layers(config) for name in names) == names
