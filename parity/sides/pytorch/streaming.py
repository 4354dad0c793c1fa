"""A PyTorch model as a reference: its nodes' tensors are handed over as they are computed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from efficientdet_spec import NodeKind
from parity.sides.pytorch.candidate import TorchCandidate
from parity.sides.side import Made, Reference
from parity.sides.stream import Array, Rendezvous


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


@contextlib.contextmanager
def _computing(
    candidate: TorchCandidate, nodes: Mapping[str, NodeKind], images: Array
) -> Iterator[Rendezvous]:
    """Run the model once in a thread of its own while the body takes its tensors."""
    stream = Rendezvous()

    def visit(name: str, made: Made) -> None:
        if name in nodes:
            stream.offer(name, made.value.array())

    def run() -> None:
        try:
            candidate.run(images, visit, {}, {})
        except Exception as error:
            stream.close(error)
        else:
            stream.close()

    thread = threading.Thread(target=run, name="pytorch", daemon=True)
    thread.start()
    try:
        yield stream
    finally:
        stream.close()
        thread.join()
