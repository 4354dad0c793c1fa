"""Nodes that are sought in a run, and the values that are found for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from efficientdet_spec import NodeKind
from parity.process.arrays import Array
from parity.sides.observed.layouts import Layout
from parity.sides.observed.record import Content

Shape = tuple[int, int, int, int]
"""NHWC."""

SAME = 1e-3
"""Relative difference of rms below which two tensors are taken for one and the same."""

KERNELS = (NodeKind.CONV, NodeKind.DEPTHWISE)
"""Kinds of nodes that are convolutions."""

WITH_PARAMETERS = (*KERNELS, NodeKind.BATCH_NORM)
"""Kinds of nodes that are made with parameters of a layer."""


class How(str, Enum):
    """What a partner was found by."""

    VALUES = "values"
    PARAMETERS = "parameters"
    DATAFLOW = "what it is made from"
    READERS = "what reads it"
    ORDER = "its place in the order of convolutions"
    NAMES = "name"
    CHANGED = "what is done to its values behind it"


@dataclass(frozen=True)
class Sought:
    """The nodes of the reference, as far as they are needed to know them again.

    Attributes:
        kinds: What each node computes, in the order of computation.
        sources: The nodes that each node reads.
        shapes: NHWC.
        samples: Elements of each node's tensor at its positions.
        contents: Of each node's parameters.
    """

    kinds: Mapping[str, NodeKind]
    sources: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, Shape]
    samples: Mapping[str, Array]
    contents: Mapping[str, frozenset[Content]]


@dataclass(frozen=True)
class Partner:
    """What makes a node in the candidate.

    Attributes:
        value: Number of the value.
        layout: How that holds the node's elements, or those of a map of another height and width
            in the node's place; None where that is not known.
        how: What it was found by.
        distance: Relative difference of rms from the reference's tensor, of the elements looked
            at; infinite where the shape is another.
        sure: Whether there is no other value that it could be.
    """

    value: int
    layout: Layout | None
    how: How
    distance: float
    sure: bool = True

    @property
    def right(self) -> bool:
        """Whether it holds the node's values."""
        return self.how in (How.VALUES, How.NAMES) and self.distance < SAME


@dataclass(frozen=True)
class Partners:
    """All partners.

    Attributes:
        found: By node.
        reads: By node the nodes with a partner, and :data:`IMAGES`, that its partner is made from.
        due: By node those that it should be made from, nodes without a partner passed over.
        absent: Nodes that the candidate does not compute: nothing lies at their places.
    """

    found: Mapping[str, Partner]
    reads: Mapping[str, frozenset[str]]
    due: Mapping[str, frozenset[str]]
    absent: frozenset[str]
