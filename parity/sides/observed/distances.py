"""How far the values of a run are from the nodes of their size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parity.sides.observed.layouts import Layout
from parity.sides.observed.pairs import Shape, Sought
from parity.sides.observed.record import Made

Distances = Mapping[int, Mapping[str, tuple[float, Layout]]]
"""By value and node: relative difference of rms, and the layout in which it is least."""


def distances(values: Sequence[Made], sought: Sought) -> Distances:
    """By value and node of the same size, how far apart they are, in the layout in which least.

    Args:
        values: What a candidate made.
        sought: The nodes.
    """
    nodes: dict[Shape, list[str]] = {}
    for node, shape in sought.shapes.items():
        nodes.setdefault(shape, []).append(node)
    wanted = {
        shape: np.stack([sought.samples[node] for node in names]) for shape, names in nodes.items()
    }
    sizes = {
        shape: np.maximum(np.sqrt((rows**2).mean(axis=1)), np.finfo(np.float64).tiny)
        for shape, rows in wanted.items()
    }
    found: dict[int, dict[str, tuple[float, Layout]]] = {}
    for value in values:
        for layout, taken in value.samples.items():
            rows = wanted[layout.node]
            with np.errstate(over="ignore", invalid="ignore"):
                apart = np.sqrt(((rows - taken) ** 2).mean(axis=1)) / sizes[layout.node]
            here = found.setdefault(value.number, {})
            for node, distance in zip(nodes[layout.node], apart.tolist(), strict=True):
                distance = distance if np.isfinite(distance) else np.inf
                if node not in here or distance < here[node][0]:
                    here[node] = distance, layout
    return found
