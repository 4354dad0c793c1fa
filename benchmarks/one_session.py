"""The official way from a file's bytes to boxes: one graph, optimised as TensorFlow does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.sides.tensorflow_import import import_tensorflow


def opened(checkpoint: str, model: str, profile: str, threads: int) -> Callable[[Path], Any]:
    """Build the graph and fill it.

    Args:
        checkpoint: Folder of a TensorFlow 1 checkpoint.
        model: Of which model it is.
        profile: Name of the stages' variants.
        threads: Threads within one operation.

    Returns:
        For a file its boxes, scores and classes.
    """
    import_tensorflow()
    import tensorflow as tf

    import reference_tf
    from converter.fetch.sources import default_cache, resolve
    from efficientdet_spec import get_config
    from reference_tf import detection
    from torch_model.profiles import get_profile

    v1 = tf.compat.v1
    config, stages = get_config(model), get_profile(profile).stages()
    size = config.image_size
    built = reference_tf.build(config, *size)
    with built.graph.as_default():
        data = v1.placeholder(tf.string, [])
        pixels, scale = detection.preprocess(detection.decode(data, stages), config, size, stages)
        for operation in built.images.consumers():
            # The public API feeds the network only from outside the graph.
            for place, tensor in enumerate(operation.inputs):
                if tensor is built.images:
                    operation._update_input(place, pixels)
        found = detection.postprocess(
            built.class_outputs, built.box_outputs, config, size, scale, stages
        )
    options = v1.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
    )
    session = v1.Session(graph=built.graph, config=options)
    files = resolve(checkpoint, default_cache(), lambda done, total: None)
    built.restore(session, files.prefix, ema=True)
    fetch = session.make_callable([found.boxes, found.scores, found.classes], feed_list=[data])
    return lambda path: fetch(path.read_bytes())
