"""A PyTorch model as a reference: its nodes' tensors are handed over as they are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from efficientdet_spec import NodeKind
from parity.process.arrays import Array
from parity.sides.pytorch.candidate import TorchCandidate
from parity.sides.side import Made, Reference
from parity.sides.stream import Rendezvous, producing


def streaming(
    candidate: TorchCandidate,
    kinds: Mapping[str, NodeKind],
    outputs: Sequence[str],
    described: dict[str, Any],
) -> Reference:
    """A model to compare with, whose layers compute in the order of the nodes.

    Args:
        candidate: The model, as it would be compared.
        kinds: What each node computes, in the order of computation.
        outputs: Nodes that are the network's outputs.
        described: Where it comes from.
    """
    return Reference(
        kinds=kinds,
        outputs=outputs,
        compute=partial(_computing, candidate, kinds),
        described=described,
        framework=candidate.framework,
        tensors=candidate.naming.path_of(),
    )


def _computing(
    candidate: TorchCandidate, nodes: Mapping[str, NodeKind], images: Array
) -> AbstractContextManager[Rendezvous]:
    """Run the model once in a thread of its own while the body takes its tensors."""

    def compute(stream: Rendezvous) -> None:
        def visit(name: str, made: Made) -> None:
            if name in nodes:
                stream.offer(name, made.value.array())

        candidate.run(images, visit, {}, {})

    return producing(compute, "pytorch")
