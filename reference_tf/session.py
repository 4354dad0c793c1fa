"""Sessions whose arithmetic is stated: CPU, threads, and no rewriting of the graph."""

from __future__ import annotations

import tensorflow as tf

v1 = tf.compat.v1


def open_session(graph: tf.Graph, threads: int | None = None) -> v1.Session:
    """A session that computes the graph's operations as they are, on the CPU.

    TensorFlow's graph optimiser folds batch norms and fuses operations, so that the tensors
    asked for are no longer computed in the way the graph says; it is off.

    Args:
        graph: What to run.
        threads: Threads within one operation; None leaves TensorFlow's default.
    """
    config = v1.ConfigProto(
        intra_op_parallelism_threads=threads or 0,
        # Few operations at a time, so that little is in memory; one thread may be waiting in a
        # Python callback.
        inter_op_parallelism_threads=2,
        # A GPU has other algorithms and reduced precisions of its own.
        device_count={"GPU": 0},
    )
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return v1.Session(graph=graph, config=config)
