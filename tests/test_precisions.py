"""Checkpoints in other precisions: both frameworks compute with the same values."""

import json

import numpy as np
import pytest

import compare
from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from converter.tensorflow_files.bundle import open_bundle
from efficientdet_spec import EMA_SUFFIX

tensorflow = pytest.importorskip("tensorflow")

TYPES = ("float16", "bfloat16", "float64")


@pytest.fixture(scope="module", params=TYPES)
def stored(request, tiny_checkpoint, tmp_path_factory):
    """A type, and a checkpoint that TensorFlow has written with all its values in it."""
    bundle = open_bundle(tiny_checkpoint / "model")
    values = {
        name: tensorflow.cast(bundle.read(name), request.param)
        if name != "global_step"
        else bundle.read(name)
        for name in bundle.index.entries
    }
    folder = tmp_path_factory.mktemp(request.param)
    tensorflow.raw_ops.SaveV2(
        prefix=str(folder / "model"),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    return request.param, folder


def test_nodes_are_compared(stored, tmp_path):
    kind, folder = stored
    path = tmp_path / "nodes.json"
    options = ["--size", "96x128", "--threads", "1", "--json", str(path)]
    assert compare.main(["nodes", str(folder), *options]) == 0
    result = json.loads(path.read_text())
    assert f"411 of the 411 variables used are stored as {kind}" in result["coverage"]["notes"][0]


def test_values_are_those_that_tensorflow_reads(stored):
    kind, folder = stored
    read = tensorflow.train.load_checkpoint(str(folder / "model")).get_tensor
    done = convert(CheckpointFiles(folder / "model", "x", None))
    assert done.provenance["dtypes"] == {kind: 411}
    for parameter, name in (
        (
            "backbone.stem_bn.running_var",
            "efficientnet-tiny/stem/tpu_batch_normalization/moving_variance",
        ),
        ("box_head.predict.pointwise.bias", "box_net/box-predict/bias"),
    ):
        expected = np.asarray(read(name + EMA_SUFFIX)).astype(np.float32)
        assert done.arrays[parameter].dtype == np.float32
        np.testing.assert_array_equal(done.arrays[parameter], expected)
