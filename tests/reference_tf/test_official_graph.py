"""The reference graph is Google's: names, types, shapes, inputs and attributes."""

import gzip
import json
from pathlib import Path

import pytest
import tensorflow as tf

import reference_tf
from efficientdet_spec import LITE_MODELS, OFFICIAL_MODELS, get_config

GRAPHS = Path(__file__).parents[1] / "golden" / "graphs"


def official_operations(model):
    path = GRAPHS / f"{model.removeprefix('efficientdet-')}.json.gz"
    graph = json.loads(gzip.decompress(path.read_bytes()))
    assert graph["model"] == model
    # How variables are initialised is no part of inference.
    return {
        operation[0]: operation for operation in graph["ops"] if "Initializer" not in operation[0]
    }


def attributes(operation, names):
    values = {name: operation.get_attr(name) for name in names}
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in values.items()
    }


def our_operations(graph, like):
    types = {operation[1] for operation in like.values()}
    names = {operation[1]: sorted(operation[4]) for operation in like.values()}
    return {
        operation.name: [
            operation.name,
            operation.type,
            operation.outputs[0].shape.as_list(),
            [tensor.name for tensor in operation.inputs],
            attributes(operation, names[operation.type]),
        ]
        for operation in graph.get_operations()
        if operation.type in types and "Initializer" not in operation.name
    }


def differences(model, graph):
    official = official_operations(model)
    ours = our_operations(graph, official)
    found = [name for name in official if name not in ours]
    found += [name for name in ours if name not in official]
    found += [name for name in official if name in ours and ours[name] != official[name]]
    return found


QUICK = ("efficientdet-d0", "efficientdet-d4", "efficientdet-d7x", "efficientdet-lite0")
"""Between them both ways to fuse, a level P8, and both activations."""


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(m, marks=[] if m in QUICK else pytest.mark.heavy)
        for m in (*OFFICIAL_MODELS, *LITE_MODELS)
    ],
)
def test_every_operation_is_the_official_one(model):
    official = official_operations(model)
    height, width = official["images"][2][1:3]
    built = reference_tf.build(get_config(model), height, width)
    assert len(official) > 500
    assert differences(model, built.graph) == []


def test_a_wrong_stride_is_seen():
    built = reference_tf.build(get_config("d0"), 256, 256)
    definition = built.graph.as_graph_def()
    node = next(node for node in definition.node if node.name.endswith("stem/conv2d/Conv2D"))
    node.attr["padding"].s = b"VALID"
    with tf.Graph().as_default() as broken:
        for other in definition.node:
            other.attr.pop("_output_shapes", None)
        tf.import_graph_def(definition, name="")
    assert "efficientnet-b0/stem/conv2d/Conv2D" in differences("efficientdet-d0", broken)


def test_a_wrong_input_is_seen():
    built = reference_tf.build(get_config("d0"), 256, 256)
    definition = built.graph.as_graph_def()
    name = "fpn_cells/cell_0/fnode4/mul_1"
    node = next(node for node in definition.node if node.name == name)
    node.input[0] = "fpn_cells/cell_0/fnode4/resample_0_1_9/bn/FusedBatchNormV3"
    with tf.Graph().as_default() as broken:
        tf.import_graph_def(definition, name="")
    assert differences("efficientdet-d0", broken) == [name]


def test_two_operations_cannot_share_a_name():
    with tf.Graph().as_default():
        builder = reference_tf.ops.GraphBuilder(tf.float32)
        x = tf.zeros([1, 8, 8, 3])
        builder.max_pool(x, (4, 4), "pool", "a")
        with pytest.raises(ValueError, match="Duplicate node name|already exists"):
            builder.max_pool(x, (4, 4), "pool", "b")
