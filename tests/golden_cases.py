"""The seeded model behind the golden figures: its weights, its input, both frameworks' tensors."""

import numpy as np
import tensorflow as tf

import reference_tf
from converter.mappings.official import iterate_pairs
from converter.seeded import seeded_variables
from parity.sides import pytorch
from parity.sides.naming import own_paths
from torch_model.checkpoint import from_arrays


def variables(config, statistics):
    values = dict(seeded_variables(config, "golden"))
    values |= {name: statistics[name].astype(np.float32) for name in statistics.files}
    return values


def image(height, width):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = [
        np.sin(x / 7 + k) + np.cos(y / 11 - k) + np.sin((x + 2 * y) / 23 + k * k) for k in range(3)
    ]
    return np.stack(channels, axis=-1).astype(np.float32)[None]


def tensorflow_tensors(config, values, images, dtype):
    """Every node's tensor by the node's name, and the official operation's name of each."""
    built = reference_tf.build(config, *images.shape[1:3], dtype=dtype)
    with reference_tf.open_session(built.graph, 2) as session:
        with built.graph.as_default():
            given = {name: tf.compat.v1.placeholder(dtype) for name in built.variables}
            filled = [variable.assign(given[name]) for name, variable in built.variables.items()]
        session.run(filled, {given[name]: values[name].astype(dtype) for name in given})
        tensors = session.run(dict(built.nodes), {built.images: images.astype(dtype)})
    return tensors, {name: tensor.op.name for name, tensor in built.nodes.items()}


def torch_arrays(config, values):
    return {
        pair.parameter: pair.layout.to_torch([values[name] for name in pair.variables])
        for pair in iterate_pairs(config)
    }


def torch_tensors(config, values, images, dtype, nodes, change=None):
    """The tensors of ``nodes`` by name; ``change`` may break the model first."""
    import torch

    model = from_arrays(config, torch_arrays(config, values), "golden")
    if change:
        change(model)
    model = model.to(getattr(torch, dtype))
    tensors = {}

    def keep(name, module, inputs, output):
        tensors[name] = pytorch.nhwc(output).copy()

    with pytorch.visiting(model, own_paths(nodes), keep):
        pytorch.run(model, images.astype(dtype))
    return tensors
