"""How far the values of a run are from the nodes of their size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parity.process.arrays import Array
from parity.sides.observed.layouts import Layout
from parity.sides.observed.pairs import Shape, Sought
from parity.sides.observed.record import Made

_NEAR = 0.06
"""Relative difference of rms below which it is computed exactly: twice what counts as alike."""

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
    held: dict[Shape, list[tuple[int, Layout, Array]]] = {}
    for value in values:
        for layout, taken in value.samples.items():
            held.setdefault(layout.node, []).append((value.number, layout, taken))
    found: dict[int, dict[str, tuple[float, Layout]]] = {}
    for shape, items in held.items():
        wanted = np.stack([sought.samples[node] for node in nodes[shape]])
        apart = _apart(np.stack([taken for _, _, taken in items]), wanted)
        for (number, layout, _), row in zip(items, apart.tolist(), strict=True):
            here = found.setdefault(number, {})
            for node, distance in zip(nodes[shape], row, strict=True):
                if node not in here or distance < here[node][0]:
                    here[node] = distance, layout
    return dict(sorted(found.items()))


def _apart(taken: Array, wanted: Array) -> Array:
    """Relative differences of rms of all rows of one array from all rows of another.

    Args:
        taken: [values, count].
        wanted: [nodes, count].

    Returns:
        [values, nodes]; infinite where something is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.maximum(np.sqrt((wanted**2).mean(axis=1)), np.finfo(np.float64).tiny)
        # A product of matrices is quick, and tells what is far apart.
        squares = (taken**2).mean(axis=1)[:, None] + (wanted**2).mean(axis=1)
        squares = np.maximum(squares - 2 * (taken @ wanted.T) / taken.shape[1], 0)
        apart: Array = np.sqrt(squares) / size
        # What is near is computed from the differences, in which nothing cancels.
        for value, node in np.argwhere(apart < _NEAR).tolist():
            difference = taken[value] - wanted[node]
            apart[value, node] = np.sqrt((difference**2).mean()) / size[node]
    apart[~np.isfinite(apart)] = np.inf
    return apart
