"""A closer look at some nodes: where in a tensor the two sides differ, and by how much."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from parity.judge.measure import unit_roundoff
from parity.judge.verdict import NodeResult
from parity.lockstep.isolated import IsolatedWalk, Meeting
from parity.lockstep.pairing import Pairing, Progress
from parity.lockstep.walk import visited
from parity.process.arrays import Array
from parity.results import ranking
from parity.results.records.closeups import CloseupResult, Histogram, PlaneMap, Scatter, Zero
from parity.results.records.nodes import Suspect

CELLS = 32
"""Rows and columns of a map at most; a finer one says no more on a page."""

LARGEST = 100
"""Pairs of values that differ most."""

SAMPLE = 400
"""Further pairs of values, spread evenly over the tensor."""

EDGES = np.logspace(-2, 8, 41)
"""Between the bars of a histogram, in roundings: four to a decade."""


@dataclass(frozen=True)
class Closeup:
    """One node's tensor on both sides, each given the reference's tensors.

    Attributes:
        node: The node.
        height: Of the tensor in positions.
        width: Of the tensor in positions.
        cells: [R, C], the largest difference in each part of the plane over all channels, in
            units of the reference's rms.
        channels: [channels], rms of the difference in each, in the same units.
        pairs: [2, P], values of the reference and the candidate: those that differ most, then a
            sample.
        counts: Number of elements between each two of :data:`EDGES`, by side, in roundings from
            the exact value; what lies beyond is counted at the end.
        zero: Number of elements nearer to the exact value than the first edge, by side.
    """

    node: str
    height: int
    width: int
    cells: Array
    channels: Array
    pairs: Array
    counts: dict[str, Array]
    zero: dict[str, int]

    def result(self) -> CloseupResult:
        """What is kept of it, in few digits."""
        rows, columns = self.cells.shape
        return CloseupResult(
            node=self.node,
            plane=PlaneMap(
                height=self.height,
                width=self.width,
                rows=rows,
                columns=columns,
                values=[[_short(value) for value in row] for row in self.cells],
            ),
            channels=[_short(value) for value in self.channels],
            scatter=Scatter(
                reference=[_short(value, 9) for value in self.pairs[0]],
                candidate=[_short(value, 9) for value in self.pairs[1]],
            ),
            histogram=Histogram(
                edges=[_short(value) for value in EDGES],
                candidate=self.counts["candidate"].tolist(),
                reference=self.counts["reference"].tolist(),
                zero=Zero(candidate=self.zero["candidate"], reference=self.zero["reference"]),
            ),
        )


def _short(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def chosen(nodes: Sequence[NodeResult], suspects: Sequence[Suspect], count: int) -> list[str]:
    """The nodes most worth a closer look.

    Args:
        nodes: The results of a comparison.
        suspects: Where what fails begins.
        count: How many at most: suspects first, then those that make the largest difference of
            their own, in turns with those nearest to their limit.
    """
    comparable = {node.name for node in nodes if node.own is not None}
    first = [name for suspect in suspects for name in suspect.nodes]
    own = sorted(nodes, key=ranking.own, reverse=True)
    near = sorted(nodes, key=ranking.roundings, reverse=True)
    turns = [node.name for pair in zip(own, near, strict=True) for node in pair]
    names = dict.fromkeys(name for name in [*first, *turns] if name in comparable)
    return list(names)[:count]


def closeups(
    pairing: Pairing, names: Collection[str], progress: Progress | None = None
) -> list[Closeup]:
    """Look closer at some nodes; both networks are run once more.

    Args:
        pairing: What was compared.
        names: Nodes that both sides have, with tensors of one shape.
        progress: Told how far the run is.
    """
    if not names:
        return []
    wanted = frozenset(names)
    found: dict[str, Closeup] = {}

    def look(met: Meeting) -> None:
        output = met.output
        if met.name in wanted and output is not None and met.reference is not None:
            gauges = {
                "candidate": met.ruling.gauge,
                "reference": met.ruling.reference_gauge,
            }
            found[met.name] = closeup(met.name, met.reference, output, met.ruling.truth, gauges)

    IsolatedWalk(pairing, look, visited(pairing), progress).run()
    return [found[name] for name in names if name in found]


def closeup(
    node: str, reference: Array, candidate: Array, exact: Array, gauges: dict[str, Array]
) -> Closeup:
    """Condense two tensors to what a page can show.

    Args:
        node: Name of the node.
        reference: [N, H, W, C], the reference's.
        candidate: The same shape, the candidate's.
        exact: The same shape, float64.
        gauges: By side, the magnitude on which the roundings of each element act.
    """
    theirs, ours = reference.astype(np.float64), candidate.astype(np.float64)
    apart = np.abs(ours - theirs)
    rms = float(np.sqrt(np.mean(np.square(theirs)))) or 1.0
    height, width = reference.shape[1:3]
    unit = unit_roundoff(candidate.dtype)
    counts, zero = {}, {}
    for side, values in (("candidate", ours), ("reference", theirs)):
        counts[side], zero[side] = _histogram(np.abs(values - exact), unit * gauges[side])
    return Closeup(
        node=node,
        height=height,
        width=width,
        cells=_cells(apart.max(axis=(0, 3))) / rms,
        channels=np.sqrt(np.mean(np.square(apart), axis=(0, 1, 2))) / rms,
        pairs=_pairs(theirs.reshape(-1), ours.reshape(-1), apart.reshape(-1)),
        counts=counts,
        zero=zero,
    )


def _cells(plane: Array) -> Array:
    """[H, W] to at most [CELLS, CELLS], the largest of each part."""
    for axis in (0, 1):
        size = plane.shape[axis]
        starts = np.unique(np.arange(min(size, CELLS)) * size // min(size, CELLS))
        plane = np.maximum.reduceat(plane, starts, axis=axis)
    return plane


def _pairs(theirs: Array, ours: Array, apart: Array) -> Array:
    # A NaN is the largest difference there is.
    order = np.where(np.isnan(apart), np.inf, apart)
    count = min(LARGEST, order.size)
    largest = np.argpartition(order, -count)[-count:]
    largest = largest[np.argsort(-order[largest], kind="stable")]
    even = np.unique(np.linspace(0, order.size - 1, SAMPLE).astype(np.int64))
    places = np.concatenate([largest, even[~np.isin(even, largest)]])
    return np.stack([theirs[places], ours[places]])


def _histogram(distance: Array, unit: Array) -> tuple[Array, int]:
    with np.errstate(divide="ignore", invalid="ignore"):
        roundings = distance / unit
    roundings[distance == 0] = 0.0
    roundings[np.isnan(roundings)] = np.inf
    near = int((roundings < EDGES[0]).sum())
    beyond = np.clip(roundings[roundings >= EDGES[0]], None, EDGES[-1])
    return np.histogram(beyond, EDGES)[0], near
