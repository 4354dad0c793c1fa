"""Sessions whose arithmetic is stated: device, threads, and whether the graph is rewritten."""

from __future__ import annotations

import tensorflow as tf

v1 = tf.compat.v1


def open_session(
    graph: tf.Graph,
    threads: int | None = None,
    *,
    device: str = "cpu",
    tf32: bool = False,
    optimised: bool = False,
) -> v1.Session:
    """A session that computes the graph's operations as they are.

    TensorFlow's graph optimiser folds batch norms and fuses operations, so that the tensors
    asked for are no longer computed in the way the graph says; it is off unless it is asked for.

    Args:
        graph: What to run.
        threads: Threads within one operation; None leaves TensorFlow's default.
        device: ``cpu``, or ``cuda`` to compute on a GPU where this TensorFlow has support for one
            and finds it, else on the CPU.
        tf32: Whether a GPU may round inputs to TF32's 10 bits.
        optimised: Let TensorFlow rewrite the graph, as it does by default. Tensors then differ in
            their last bits.
    """
    gpus = tf.config.list_physical_devices("GPU") if device == "cuda" else []
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    config = v1.ConfigProto(
        intra_op_parallelism_threads=threads or 0,
        # Few operations at a time, so that little is in memory; one thread may be waiting in a
        # Python callback.
        inter_op_parallelism_threads=2,
        device_count={"GPU": len(gpus)},
    )
    # The other framework needs memory too.
    config.gpu_options.allow_growth = True
    config.graph_options.rewrite_options.disable_meta_optimizer = not optimised
    return v1.Session(graph=graph, config=config)
