"""A checkpoint's own TensorFlow graph, its ``.meta`` file, as the reference."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from parity.commands.references import Wanted, no_gradients
from parity.commands.references.graph import filled
from parity.gradients.sides import ReferenceGradients
from parity.sides.side import Reference
from parity.sides.tensorflow_import import import_tensorflow

ANY_SIZE = False
"""A finished graph may be of one size only."""


def accepts(path: Path | None) -> bool:
    """Whether it is named like a graph of TensorFlow 1."""
    return path is not None and path.suffix == ".meta"


def opened(wanted: Wanted) -> AbstractContextManager[Reference]:
    """The graph, filled from the checkpoint.

    Raises:
        InputError: TensorFlow is missing, or the graph is of another model.
    """
    import_tensorflow()
    from reference_tf.metagraph import load_metagraph

    assert wanted.path is not None
    batch, height, width, _ = wanted.shape
    built = load_metagraph(
        wanted.path, wanted.config, (height, width), dtype=wanted.dtype, batch=batch
    )
    described = {"kind": "metagraph", "source": str(wanted.path), "notes": list(built.notes)}
    return filled(wanted, built, described)


def gradients(wanted: Wanted) -> ReferenceGradients:
    """None: a finished graph is not differentiated.

    Raises:
        InputError: Always.
    """
    raise no_gradients(wanted)
