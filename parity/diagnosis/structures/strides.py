"""Strides of the backbone's convolutions."""

from __future__ import annotations

from collections.abc import Iterator

from parity.diagnosis.structures.seen import Seen, numbers
from parity.results.records.nodes import Statement


def strides(seen: Seen) -> Iterator[Statement]:
    """Convolutions of the backbone, known by the order of their weights, with another stride."""
    told, nodes, layers = [], [], []
    for number, node in seen.network.backbone.items():
        layer = seen.flow.layers[number]
        window, due = seen.flow.window(layer), seen.settings(node.name)["stride"]
        if window is None or window.stride == due or seen.is_right(layer):
            continue
        told.append(f"{node.name} has stride {numbers(window.stride)} instead of {numbers(due)}")
        nodes.append(node.name)
        layers.append(layer)
    if told:
        yield seen.statement("stride-other", "; ".join(told), layers, nodes)
