"""Checkpoints of other networks, and of this one under other names, are told for what they are."""

import argparse
import json
import shlex

import numpy as np
import pytest
from listed_source import listed
from made_entries import checkpoint, entry

from converter.choice import choose_config
from converter.conversion import account, convert
from converter.fetch.cached import CheckpointFiles
from converter.formats.renamed import without_prefix
from converter.variables import EMA
from converter.wrong_models import common_prefix
from efficientdet_spec import TINY, InputError

DETECTION_API = {
    "TF1": "FeatureExtractor/MobilenetV1/Conv2d_{}/weights",
    "TF1 heads": "WeightSharedConvolutionalBoxPredictor/BoxPredictionTower/conv2d_{}/weights",
    "TF2": "model/_feature_extractor/_bifpn_stage/blocks/{}/.ATTRIBUTES/VARIABLE_VALUE",
    "two stages": "FirstStageFeatureExtractor/resnet_v1_50/block{}/weights",
}


@pytest.mark.parametrize("kind", DETECTION_API)
def test_the_object_detection_api(kind):
    names = [DETECTION_API[kind].format(i) for i in range(50)]
    names += ["_CHECKPOINTABLE_OBJECT_GRAPH"] if kind == "TF2" else []
    with pytest.raises(InputError, match="Object Detection API .50 of 5[01] variables.*; give a"):
        choose_config({name: entry(name, (3, 3)) for name in names}, "file")


def test_a_backbone_alone():
    """As official EfficientNets are released: with a head for ImageNet."""
    entries = {
        name: item for name, item in checkpoint(TINY).items() if name.startswith("efficientnet")
    }
    for name, shape in (("conv2d/kernel", (1, 1, 320, 1280)), ("dense/kernel", (1280, 1000))):
        name = f"efficientnet-tiny/head/{name}"
        entries[name] = entry(name, shape)
    message = f"a backbone alone: {len(entries)} variables of efficientnet-tiny.*--backbone"
    with pytest.raises(InputError, match=message):
        choose_config(entries, "file")


def test_what_is_counted_are_names_in_the_file():
    """Of which training writes two a variable."""
    entries = {name.replace("efficientnet-", "net-"): 0 for name in checkpoint(TINY)}
    entries = {name: entry(name) for name in entries if name.startswith("net-")}
    assert sum(name.endswith(f"/{EMA}") for name in entries) * 2 == len(entries)
    with pytest.raises(InputError, match=f"program knows: {len(entries)} variables, mostly under"):
        choose_config(entries, "file")


@pytest.mark.parametrize("prefix", ["model/", "a/b/c/", "efficientdet-d0/"])
def test_names_behind_a_prefix(prefix):
    entries = {
        prefix + name: entry(prefix + name, item.shape) for name, item in checkpoint(TINY).items()
    }
    assert common_prefix(entries) == prefix
    message = (
        f"has '{prefix}' before 823 of its 823 names.*-tiny/stem; give --strip-prefix {prefix} "
    )
    with pytest.raises(InputError, match=message):
        choose_config(entries, "file")
    assert choose_config(without_prefix(listed(entries), prefix).entries, "file") == TINY


@pytest.mark.parametrize("prefix", ["my model/", "it's $HOME/", "-x/", "a;b/"])
def test_a_prefix_is_offered_as_a_shell_takes_it(prefix):
    entries = {
        prefix + name: entry(prefix + name, item.shape) for name, item in checkpoint(TINY).items()
    }
    with pytest.raises(InputError) as caught:
        choose_config(entries, "file")
    parser = argparse.ArgumentParser()
    parser.add_argument("--strip-prefix")
    words = shlex.split(str(caught.value).partition("; give ")[2].partition(" to have")[0])
    assert parser.parse_args(words).strip_prefix == prefix


def test_names_of_the_official_code_have_no_prefix():
    assert common_prefix(checkpoint(TINY)) is None
    assert common_prefix([]) is None
    assert common_prefix(["resnet/conv/kernel"]) is None


@pytest.fixture
def prefixed(rewrite):
    def change(tensors):
        for name in list(tensors):
            if name != "global_step":
                tensors["my/model/" + name] = tensors.pop(name)

    return CheckpointFiles(rewrite(change) / "model", "x", None, strip="my/model/")


def test_a_prefix_is_stripped(prefixed, tiny_conversion):
    done = convert(prefixed)
    for name, array in tiny_conversion.arrays.items():
        np.testing.assert_array_equal(done.arrays[name], array)
    assert done.provenance["stripped_prefix"] == done.ledger.stripped == "my/model/"
    assert "822 of 823 names were read without 'my/model/'" in done.provenance["notes"][0]
    # The account speaks of the file's own names.
    names = {row.variable for row in done.ledger.rows}
    assert f"my/model/box_net/box-0/bias/{EMA}" in names and "global_step" in names
    assert account(prefixed).rows == done.ledger.rows


@pytest.mark.parametrize(
    ("prefix", "names", "message"),
    [
        ("other/", ["a/x", "b"], "no name that begins with 'other/' .the first is a/x.; leave"),
        ("a/", ["a/x", "x"], "has a/x with and without 'a/' before it"),
    ],
)
def test_a_prefix_that_is_none_or_makes_two_names_one(prefix, names, message):
    with pytest.raises(InputError, match=message):
        without_prefix(listed({name: entry(name) for name in names}), prefix)


def test_both_frameworks_read_the_same_names(prefixed, tmp_path):
    pytest.importorskip("tensorflow")
    import compare

    path = tmp_path / "nodes.json"
    options = ["--size", "96x128", "--threads", "1", "--json", str(path)]
    code = compare.main(["nodes", str(prefixed.prefix), "--strip-prefix", "my/model/", *options])
    assert code == 0
    assert "read without 'my/model/'" in json.loads(path.read_text())["coverage"]["notes"][0]
    assert compare.main(["nodes", str(prefixed.prefix), *options]) == 2
