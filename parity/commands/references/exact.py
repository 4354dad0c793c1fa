"""The faithful model's exact values as the reference: it needs no TensorFlow."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from efficientdet_spec import iterate_nodes
from parity.commands.references import Wanted
from parity.gradients.sides import ReferenceGradients
from parity.results.proof import proof_of
from parity.settings.nodes import EXACT
from parity.sides.side import Reference

ANY_SIZE = True


def accepts(path: Path | None) -> bool:
    """Whether it is the word for the exact values; a file of this name is ``./exact``."""
    return path == EXACT


def opened(wanted: Wanted) -> AbstractContextManager[Reference]:
    """The exact values of each node, computed on the CPU as they are asked for."""
    from parity.sides.exact import exact_reference
    from parity.sides.pytorch import FaithfulReferee

    batch, height, width, _ = wanted.shape
    nodes = list(iterate_nodes(wanted.config, (height, width)))
    kinds = {node.name: node.kind for node in nodes}
    described = {
        "kind": "exact",
        "source": "values of each node in float64, rounded once",
        "notes": [f"TensorFlow was not run; {proof_of(wanted.config)}"],
    }
    referee = FaithfulReferee(wanted.faithful(), kinds, wanted.shape)
    outputs = [node.name for node in nodes if node.is_output]
    return nullcontext(exact_reference(referee, outputs, described))


def gradients(wanted: Wanted) -> ReferenceGradients:
    """The faithful model's, in both precisions."""
    from parity.gradients.pytorch import faithful_gradients

    return faithful_gradients(wanted.faithful())
