"""This project's own TensorFlow graph as the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from converter.filling import fill, require_unchanged
from parity.commands.references import Wanted
from parity.gradients.sides import ReferenceGradients
from parity.process.arrays import Array
from parity.settings.nodes import GRAPH
from parity.sides.side import Reference
from parity.sides.tensorflow_import import import_tensorflow

ANY_SIZE = True


def accepts(path: Path | None) -> bool:
    """Whether nothing else is named, or it by its word."""
    return path is None or path == GRAPH


def opened(wanted: Wanted) -> AbstractContextManager[Reference]:
    """The graph, filled from the checkpoint.

    Raises:
        InputError: TensorFlow is missing, or the checkpoint is of another model.
    """
    import_tensorflow()
    import reference_tf

    batch, height, width, _ = wanted.shape
    built = reference_tf.build(wanted.config, height, width, batch=batch, dtype=wanted.dtype)
    return filled(wanted, built, {"kind": "graph", "source": "built in"})


def gradients(wanted: Wanted) -> ReferenceGradients:
    """TensorFlow's.

    Raises:
        InputError: TensorFlow is missing.
    """
    import_tensorflow()
    from converter.mappings.official import iterate_pairs
    from parity.gradients.sides import Gradients, map_gradients
    from reference_tf.gradients import gradients as of_variables

    pairs = list(iterate_pairs(wanted.config))

    def compute(
        images: Array, patterns: Sequence[Array], *, dtype: str, training: bool
    ) -> Gradients:
        require_unchanged(wanted.conversion)
        found = of_variables(
            wanted.config,
            lambda built, session: fill(built, session, wanted.conversion),
            images,
            patterns,
            dtype=dtype,
            training=training,
            threads=wanted.threads,
        )
        return Gradients(
            found.scalar,
            found.images,
            map_gradients(pairs, found.variables),
            map_gradients(pairs, found.statistics),
        )

    return compute


@contextmanager
def filled(wanted: Wanted, built: Any, described: dict[str, Any]) -> Iterator[Reference]:
    """A TensorFlow graph in a session of its own, filled from the checkpoint.

    Args:
        wanted: What it is opened for.
        built: The graph with its nodes.
        described: Where it comes from.

    Raises:
        InputError: The checkpoint is of another model, or no longer the one that was converted.
    """
    import reference_tf
    from parity.sides.tensorflow_graph import TensorflowReference

    taps = TensorflowReference(built)
    with reference_tf.open_session(built.graph, wanted.threads, device=wanted.device) as session:
        fill(built, session, wanted.conversion)
        yield taps.reference(session, described)
