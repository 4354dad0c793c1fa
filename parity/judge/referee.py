"""What each node should make of the reference's tensors, as far as arrays alone tell.

A referee runs nothing by itself. It knows which tensors each node reads, keeps the reference's
for as long as a node still needs them, and says for any node what its exact output and the
magnitude of its roundings are. That does not depend on what the candidate is, nor on the
framework that the faithful model's parameters come from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from efficientdet_spec import IMAGES, NodeKind
from parity.judge.limits import Limit, chance_factor, limit_of
from parity.judge.measure import unit_roundoff
from parity.judge.operations import Operation, by_lines
from parity.process.arrays import Array

_quietly = np.errstate(over="ignore", invalid="ignore")
"""What is beyond all bounds becomes infinite, and what follows from it is not a number."""


@dataclass(frozen=True)
class Ruling:
    """What a node should make of the reference's tensors; computed as it is asked for.

    Attributes:
        operation: What the node computes.
        inputs: The reference's tensors that it reads, NHWC.
        errors: For each of the inputs by how much what the candidate reads there may differ from
            it, and the same for the reference; None where they are the same.
        dtype: Type in which both sides compute.
        limit: What either side may be off, in roundings of its gauge.
    """

    operation: Operation
    inputs: tuple[Array, ...]
    errors: tuple[tuple[Array, ...] | None, tuple[Array, ...] | None]
    dtype: np.dtype[Any]
    limit: Limit

    @property
    def certain(self) -> bool:
        """Whether the candidate was given the very same inputs.

        Otherwise its gauge includes how much the roundings of the nodes before it can change it.
        """
        return self.errors[0] is None

    @property
    def reference_certain(self) -> bool:
        """The same of the reference, what it was given being recorded."""
        return self.errors[1] is None

    @property
    def shape(self) -> tuple[int, ...]:
        """NHWC."""
        return self.operation.shape(self.inputs)

    def parts(self) -> Iterator[slice]:
        """All lines, in parts to be computed together."""
        # All parts need it, and each core would compute it anew.
        _ = self._spreads
        return self.operation.parts(self.inputs)

    @_quietly
    def figures(self, lines: slice) -> tuple[Array, Array, Array]:
        """[lines, W, C] exact values, the candidate's gauge and the reference's."""
        truth, plain = self.operation.figures(self.inputs, lines)
        gauges = [
            plain if spread is None else plain + by_lines(spread)[lines] for spread in self._spreads
        ]
        return truth, gauges[0], gauges[1]

    @cached_property
    @_quietly
    def _spreads(self) -> list[Array | None]:
        """What errors of the inputs add to each side's gauge."""
        unit = unit_roundoff(self.dtype)
        sides = zip(self.errors, (self.limit.candidate, self.limit.reference), strict=True)
        return [
            None
            if errors is None
            else self.operation.spread(self.inputs, errors) / self.dtype.type(roundings * unit)
            for errors, roundings in sides
        ]

    @cached_property
    @_quietly
    def _whole(self) -> tuple[Array, Array, Array]:
        truth, plain = self.operation.whole(self.inputs)
        gauges = [plain if spread is None else plain + spread for spread in self._spreads]
        return truth, gauges[0], gauges[1]

    @property
    def truth(self) -> Array:
        """The exact output, NHWC."""
        return self._whole[0]

    @property
    def gauge(self) -> Array:
        """The magnitude on which the roundings of each element of the candidate act, NHWC."""
        return self._whole[1]

    @property
    def reference_gauge(self) -> Array:
        """The same for the reference."""
        return self._whole[2]

    @property
    @_quietly
    def bound(self) -> Array:
        """How far a right candidate may be from each element of the exact output, NHWC."""
        roundings = self.dtype.type(self.limit.candidate * unit_roundoff(self.dtype))
        bound: Array = self.gauge * roundings
        return bound

    def rounded(self) -> Array:
        """The exact output in the type in which both sides compute, NHWC."""
        rounded: Array = self.truth.astype(self.dtype)
        return rounded


class Referee(ABC):
    """The faithful model, ready to judge.

    Args:
        kinds: What each node computes, in the order of computation.
        sources: The nodes that each node reads; :data:`IMAGES` for the network's input.
        shapes: NHWC shape of each node, and of :data:`IMAGES`.

    Attributes:
        kinds: As given.
        elements: Number of output elements of all nodes together.
        inputs_of: NHWC shape of the first tensor that each node reads.
    """

    def __init__(
        self,
        kinds: Mapping[str, NodeKind],
        sources: Mapping[str, tuple[str, ...]],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.kinds = kinds
        self._sources = sources
        self.elements = sum(math.prod(shapes[node]) for node in kinds)
        self.inputs_of = {node: shapes[read[0]] for node, read in sources.items() if read}
        self._last_use = {source: node for node, read in sources.items() for source in read}

    @abstractmethod
    def operation(self, node: str) -> Operation:
        """What a node computes, with the checkpoint's parameters."""

    def sitting(self, images: Array, elements: int | None = None) -> Sitting:
        """A new run through the network.

        Args:
            images: [N, H, W, 3].
            elements: Number of output elements that the whole comparison judges, both sides and
                all inputs together; None where this run of both sides is all.
        """
        factor = chance_factor(2 * self.elements if elements is None else elements)
        return Sitting(self, images, self._last_use, factor)

    def sources(self, node: str) -> tuple[str, ...]:
        """The nodes that a node reads; :data:`IMAGES` for the network's input."""
        return self._sources[node]

    @property
    def wiring(self) -> Mapping[str, tuple[str, ...]]:
        """:meth:`sources` of every node."""
        return self._sources

    def downstream(self, nodes: set[str]) -> set[str]:
        """All nodes that depend on any of the given ones."""
        reached: set[str] = set()
        for node, read in self._sources.items():
            if any(source in nodes or source in reached for source in read):
                reached.add(node)
        return reached


class Sitting:
    """One run through the network, node by node in the order of computation."""

    def __init__(
        self, referee: Referee, images: Array, last_use: Mapping[str, str], factor: float
    ) -> None:
        self._referee = referee
        self._last_use = last_use
        self._factor = factor
        self._features: dict[str, Array] = {IMAGES: images}
        self._dtype = images.dtype
        self._unit = unit_roundoff(images.dtype)
        # How far the tensors that each side goes on with may be from those kept here.
        self._errors: dict[str, Array] = {}
        self._reference_errors: dict[str, Array] = {}

    def rule(self, node: str) -> Ruling:
        """What a node should make of its inputs; all earlier nodes have been followed by it."""
        sources = self._referee.sources(node)
        inputs = tuple(self._features[source] for source in sources)
        errors = (
            self._bounds(self._errors, sources),
            self._bounds(self._reference_errors, sources),
        )
        return self.rule_on(node, self._referee.operation(node), inputs, errors)

    def rule_on(
        self,
        node: str,
        operation: Operation,
        inputs: tuple[Array, ...],
        errors: tuple[tuple[Array, ...] | None, tuple[Array, ...] | None] = (None, None),
    ) -> Ruling:
        """What a node should make of some tensors, whatever comes before it.

        Args:
            node: The node.
            operation: What it computes.
            inputs: NHWC.
            errors: See :class:`Ruling`.
        """
        limit = limit_of(
            self._referee.kinds[node],
            operation.terms(inputs),
            factor=self._factor,
            truth_is_wider=self._dtype != np.float64,
            certain=(errors[0] is None, errors[1] is None),
        )
        return Ruling(operation, inputs, errors, self._dtype, limit)

    def _bounds(
        self, errors: Mapping[str, Array], sources: Sequence[str]
    ) -> tuple[Array, ...] | None:
        """The errors of some tensors; None where none of them has any."""
        if errors.keys().isdisjoint(sources):
            return None
        return tuple(
            errors[source] if source in errors else np.zeros_like(self._features[source])
            for source in sources
        )

    @_quietly
    def follow(
        self, node: str, array: Array, ruling: Ruling, *, substituted: bool, recorded: bool
    ) -> None:
        """Go on behind a node with the reference's tensor.

        Args:
            node: The node.
            array: The reference's tensor, which must stay as it is.
            ruling: What :meth:`rule` said.
            substituted: Whether the candidate goes on with this tensor too. Otherwise it goes
                on with its own, which may differ from the exact value by its roundings, as this
                tensor does by what it is found to.
            recorded: Whether this is the reference's own tensor. Otherwise it is the exact
                value, from which the reference's may differ by its roundings.
        """
        if node in self._last_use:
            self._features[node] = array
            if not substituted:
                own = np.abs(np.subtract(array, ruling.truth, dtype=np.float64))
                self._errors[node] = ruling.bound + own.astype(self._dtype)
            if not recorded:
                # Nobody can see in which order the reference has added up a mean.
                worst = max(ruling.limit.reference, ruling.limit.by_order or 0.0)
                roundings = self._dtype.type(worst * self._unit)
                self._reference_errors[node] = ruling.reference_gauge * roundings
        for source in dict.fromkeys(self._referee.sources(node)):
            if self._last_use[source] == node:
                for held in (self._features, self._errors, self._reference_errors):
                    held.pop(source, None)
