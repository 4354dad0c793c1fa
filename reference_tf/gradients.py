"""Gradients of the graph, for images and every trainable variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientdet_spec import EfficientDetConfig
from reference_tf.graph import ReferenceGraph, build
from reference_tf.session import open_session

Array = np.ndarray

_STATISTICS = ("/moving_mean", "/moving_variance")
"""Last parts of the names of the variables that training does not descend on."""


@dataclass(frozen=True)
class VariableGradients:
    """What one run computed.

    Attributes:
        scalar: The function of the outputs that was differentiated.
        images: Its gradient with respect to the images, [N, H, W, 3].
        variables: Its gradient with respect to each trainable variable, by the variable's name;
            zeros where TensorFlow finds no path to it.
        statistics: What one training step makes of each moving statistic, by the variable's
            name; empty in inference.
    """

    scalar: float
    images: Array
    variables: dict[str, Array]
    statistics: dict[str, Array]


def gradients(
    config: EfficientDetConfig,
    fill: Callable[[ReferenceGraph, tf.compat.v1.Session], None],
    images: Array,
    patterns: Sequence[Array],
    *,
    dtype: str,
    training: bool,
    threads: int | None = None,
) -> VariableGradients:
    """Gradients of the sum over all outputs y of ``mean(y * pattern + y * y / 2)``.

    Args:
        config: The model.
        fill: Gives the variables of a graph their values, in a session.
        images: [N, H, W, 3], normalised.
        patterns: For each output, class then box, finest first, an array of its shape (NHWC).
        dtype: ``float32`` or ``float64``, in which everything is computed.
        training: Whether batch norms use the statistics of the batch.
        threads: Threads within one operation; None leaves TensorFlow's default.

    Raises:
        InputError: The model cannot process this size, or the values cannot be had.
    """
    batch, height, width = images.shape[:3]
    built = build(config, height, width, batch=batch, dtype=dtype, training=training)
    trained = {
        name: variable.handle
        for name, variable in built.variables.items()
        if not name.endswith(_STATISTICS)
    }
    with built.graph.as_default():
        scalar = tf.add_n(
            [
                tf.reduce_mean(output * tf.constant(pattern, output.dtype) + output * output / 2)
                for output, pattern in zip(
                    [*built.class_outputs, *built.box_outputs], patterns, strict=True
                )
            ]
        )
        found = tf.gradients(
            scalar, [built.images, *trained.values()], unconnected_gradients="zero"
        )
    with open_session(built.graph, threads) as session:
        fill(built, session)
        values = session.run(
            {
                "scalar": scalar,
                "images": found[0],
                "variables": dict(zip(trained, found[1:], strict=True)),
                "statistics": dict(built.statistics),
            },
            {built.images: images.astype(dtype)},
        )
    return VariableGradients(
        float(values["scalar"]), values["images"], values["variables"], values["statistics"]
    )
