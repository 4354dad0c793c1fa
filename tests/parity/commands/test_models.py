"""The list of models is what the official variable lists, files and pages say."""

import json

import numpy as np
import pytest

from efficientdet_parity.command_line import COMPARISONS, main
from efficientdet_spec import get_config
from efficientdet_spec.releases import RELEASES
from parity.commands import models
from parity.results.reading import read
from parity.results.records.models import ModelsResult
from parity.results.records.record import plain

OFFICIAL = [
    *(f"d{number}" for number in range(8)),
    "d7x",
    *(f"lite{name}" for name in ("0", "1", "2", "3", "3x", "4")),
]


@pytest.fixture(scope="module")
def found():
    return {item.name: item for item in models.collect().models}


def test_all_releases_are_listed_in_order(found):
    assert list(found) == sorted(RELEASES)
    assert models.__name__ in {item.module for item in COMPARISONS}


@pytest.mark.parametrize("name", OFFICIAL)
def test_variables_and_parameters_are_the_official_ones(found, test_data, name):
    content = json.loads((test_data / "official" / f"{name}.variables.json").read_text())
    item = found[f"efficientdet-{name}"]
    assert item.variables == len(content["variables"])
    sizes = [
        1 if not shape else int(np.prod(shape))
        for _, shape, trainable in content["variables"]
        if trainable
    ]
    assert item.parameters == sum(sizes)


def test_anchors_are_those_of_the_pipeline(found):
    from torch_model.anchors import make_anchors

    for name in ("efficientdet-d0", "efficientdet-lite0", "efficientdet-d2-640"):
        config = get_config(name)
        assert found[name].anchors == len(make_anchors(config, *config.image_size))


def test_what_tells_variants_apart(found):
    normal, advprop = found["efficientdet-d0"], found["efficientdet-d0-advprop"]
    assert not normal.preprocessing.scale_range and advprop.preprocessing.scale_range
    assert tuple(advprop.preprocessing.mean_rgb) == (0, 0, 0)
    assert tuple(advprop.preprocessing.stddev_rgb) == (1, 1, 1)
    assert list(normal.same_variables) == ["efficientdet-d0-advprop"]
    assert list(found["efficientdet-d3-640"].size) == [640, 640]
    assert found["efficientdet-d0-2020-03"].ap.profile == "release-2020-03"
    assert found["efficientdet-lite0"].archive.container == "tf2"
    # What a published comparison of D0 shows holds for AdvProp's D0: the network is the same.
    assert advprop.proof == "efficientdet-d0" and found["efficientdet-d6-640"].proof


def test_the_text_fits_and_says_what_is_known(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("efficientdet-")}
    assert rows["efficientdet-d3"] == ["46.8", "47.2", "coco2/efficientdet-d3.tar.gz", "cp"]
    assert rows["efficientdet-d3-640"] == ["44.0", "coco640/efficientdet-d3-640.tar.gz", "p"]
    assert rows["efficientdet-lite0"] == ["26.41", "coco/efficientdet-lite0.tgz", "p2"]
    network = next(line for line in lines if line.startswith("efficientdet-lite3x "))
    assert network.split()[1:5] == ["640x640", "922", "9,280,862", "76,725"]


def test_as_json(tmp_path, capsys):
    path = tmp_path / "models.json"
    assert main(["models", "--json", str(path)]) == 0
    capsys.readouterr()
    written = read(path, ModelsResult)
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())
    assert plain(written) == plain(models.collect())
    assert main(["models", "--json", str(tmp_path / "no" / "such.json")]) == 2
