"""TensorFlow as a user of the official code has it: its graph optimiser is on by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.material import Case, Material
from benchmarks.runtimes.packages import missing_of
from benchmarks.workers import Opened

NAME = "TensorFlow"
SETTINGS = "the official graph, TensorFlow's default graph optimiser, session.make_callable"


def missing() -> str | None:
    return missing_of(["tensorflow"])


def files(material: Material, case: Case) -> dict[str, Path]:
    return {"prefix": material.prefix(case.model)}


def open(case: Case, images: Path, prefix: Path, *, optimiser: bool = True) -> Opened:
    import numpy as np

    from parity.sides.tensorflow_import import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    import reference_tf
    from efficientdet_spec import get_config

    v1 = tf.compat.v1
    given = np.load(images)
    built = reference_tf.build(get_config(case.model), *case.size, batch=case.batch)
    options = v1.ConfigProto(
        intra_op_parallelism_threads=case.threads, inter_op_parallelism_threads=case.threads
    )
    options.graph_options.rewrite_options.disable_meta_optimizer = not optimiser
    session = v1.Session(graph=built.graph, config=options)
    built.restore(session, prefix, ema=True)
    wanted = [*built.class_outputs, *built.box_outputs]
    # A compiled call with its feed and fetches resolved once, as a server would use it.
    fetch = session.make_callable(wanted, feed_list=[built.images])

    def outputs(result: Any) -> list[Any]:
        return [np.ascontiguousarray(item.transpose(0, 3, 1, 2)) for item in result]

    def profile() -> dict[str, float]:
        return profiled(session, wanted, {built.images: given})

    return Opened(lambda turn: fetch(given), outputs, profile=profile)


def profiled(session: Any, wanted: list[Any], feeds: dict[Any, Any]) -> dict[str, float]:
    """Milliseconds by kind of operation, in which some thread computed it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    traced = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
    found = v1.RunMetadata()
    session.run(wanted, feeds, options=traced)
    session.run(wanted, feeds, options=traced, run_metadata=found)
    taken: dict[str, float] = {}
    for device in found.step_stats.dev_stats:
        for node in device.node_stats:
            # Such as "name = _FusedConv2D(inputs)".
            kind = node.timeline_label.partition(" = ")[2].partition("(")[0] or node.node_name
            spent = (node.op_end_rel_micros - node.op_start_rel_micros) / 1000
            taken[kind] = taken.get(kind, 0.0) + spent
    return taken
