"""Finds a candidate's nodes: on its own run first, then on the reference's tensors until it holds.

In the first run what is wrong at one node has spread to all behind it. In each further one the
nodes found so far are given the reference's tensors, so that only what is wrong is unlike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from efficientdet_spec import IMAGES
from parity.judge.referee import Referee
from parity.process.arrays import Array
from parity.sides.naming import Naming
from parity.sides.observed.copies import copies
from parity.sides.observed.named import NOTHING_NAMED, Named, apply_names
from parity.sides.observed.pairs import How, Partner, Partners, Sought
from parity.sides.observed.partners import partners
from parity.sides.observed.record import Content, Record
from parity.sides.observed.samples import positions, sample
from parity.sides.pytorch.hooks import state
from parity.sides.pytorch.nested import flatten
from parity.sides.pytorch.observation.arranging import put
from parity.sides.pytorch.observation.recording import Substitute, content
from parity.sides.pytorch.referee import FaithfulReferee
from parity.sides.side import Reference
from parity.sides.stream import Tensors

_ROUNDS = 12
"""Runs on the reference's tensors at most. One is enough where the first has found all; further
ones are needed where one wrong node hides what is wrong behind it."""


@dataclass(frozen=True)
class Found:
    """Which of a candidate's values are which nodes.

    Attributes:
        record: What it did in the last run.
        partners: What was found there.
        sought: The nodes.
        outputs: Nodes that are the network's outputs.
        named: What became of names, where any were given.
        copies: By node the values that are computed once more and are the same.
    """

    record: Record
    partners: Partners
    sought: Sought
    outputs: tuple[str, ...]
    named: Named = NOTHING_NAMED
    copies: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


Recorder = Callable[[Sequence[tuple[int, int, int, int]], "Substitute | None"], Record]
"""Runs a candidate and records what it does. It is given the NHWC shapes of the nodes that are
sought, and what puts something in the place of what is made."""


def find(
    record_run: Recorder,
    reference: Reference,
    referee: Referee,
    images: Array,
    naming: Naming | None = None,
) -> Found:
    """Find the nodes of a candidate.

    Args:
        record_run: Runs the candidate on the images.
        reference: What it is compared with.
        referee: The faithful model.
        images: [N, H, W, 3].
        naming: Submodules that a user names, which override what is found; None for no names.
    """
    assert isinstance(referee, FaithfulReferee)
    sought = _sought(reference, referee, images)
    outputs = tuple(reference.outputs)
    free, record, found = _search(record_run, reference, sought, images, {})
    if naming is None:
        same = copies(free, found.found)
        return Found(record, found, sought, outputs, copies=same)
    named = apply_names(record, sought, found, naming)
    if named.overrides:
        free, record, found = _search(record_run, reference, sought, images, named.pins)
    # What is named and found alike is sure.
    found = replace(found, found={**found.found, **named.pins})
    return Found(record, found, sought, outputs, named, copies(free, found.found))


def _search(
    record_run: Recorder,
    reference: Reference,
    sought: Sought,
    images: Array,
    named: Mapping[str, Partner],
) -> tuple[Record, Record, Partners]:
    """What the candidate does by itself and on the reference's tensors, and the partners there."""
    shapes = list(sought.shapes.values())
    free = record = record_run(shapes, None)
    found = partners(record, sought, named=named)
    settled: dict[str, Partner] = {}
    for _ in range(_ROUNDS):
        taken = _settled(found, settled)
        if _places(taken) == _places(settled):
            break
        settled = taken
        with reference.compute(images) as tensors:
            instead = _FromReference(tensors, reference, settled, record)
            record = record_run(shapes, instead)
            instead.finish()
        pinned = {
            node: partner for node, partner in settled.items() if partner.how is not How.VALUES
        }
        found = partners(record, sought, pinned, named)
    return free, record, found


def _settled(found: Partners, before: Mapping[str, Partner]) -> dict[str, Partner]:
    """The partners that can be relied on: the sure ones, and the first of the others.

    What is wrong at one node makes all behind it unlike. Only what is made from tensors that were
    right in this run can be told by where it lies.

    Args:
        found: All partners.
        before: Those that the reference's tensors took the place of in this run.
    """
    right = {node for node, partner in found.found.items() if node in before or partner.right}
    return {
        node: partner
        for node, partner in found.found.items()
        if node in right
        or partner.sure
        or all(due == IMAGES or due in right for due in found.due[node])
    }


def _places(partners: Mapping[str, Partner]) -> dict[str, int]:
    return {node: partner.value for node, partner in partners.items()}


def _sought(reference: Reference, referee: FaithfulReferee, images: Array) -> Sought:
    """The reference's nodes, with elements of what it computes on some images."""
    shapes = {node: _four(referee.shapes[node]) for node in referee.kinds}
    samples = {}
    with reference.compute(images) as tensors:
        for node in reference.kinds:
            if reference.has(node):
                samples[node] = sample(tensors.take(node))
                tensors.release()
            else:
                samples[node] = np.full(len(positions(shapes[node])), np.nan)
    contents: dict[str, frozenset[Content]] = {}
    known: dict[int, Content | None] = {}
    for node, call in referee.calls.items():
        held = [value for _, value in state(call.module)] + flatten(call.arguments)
        for value in held:
            if id(value) not in known:
                known[id(value)] = content(value)
        marks = (known[id(value)] for value in held)
        contents[node] = frozenset(mark for mark in marks if mark is not None)
    sources = {node: referee.sources(node) for node in referee.kinds}
    return Sought(referee.kinds, sources, shapes, samples, contents)


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    batch, height, width, channels = shape
    return batch, height, width, channels


class _FromReference:
    """Puts the reference's tensors in the place of the nodes found so far."""

    def __init__(
        self,
        tensors: Tensors,
        reference: Reference,
        found: Mapping[str, Partner],
        record: Record,
    ) -> None:
        self._tensors = tensors
        self._due = list(reference.names)
        self._partners = found
        self._waiting: dict[str, Array] = {}
        self._in_flight = False
        self._places: dict[tuple[int, int], list[str]] = {}
        for node, partner in found.items():
            made = record.values[partner.value]
            if made.operation is not None and partner.layout is not None:
                place = made.operation.number, made.output
                self._places.setdefault(place, []).append(node)

    def __call__(self, operation: int, output: int, tensor: Tensor) -> None:
        """Write to a tensor that is a node's; see :data:`Substitute`."""
        for node in self._places.get((operation, output), ()):
            layout = self._partners[node].layout
            array = self._take(node)
            if layout is None or array is None or array.size != tensor.numel():
                continue
            if array.shape == layout.node:
                put(tensor, array, layout)

    def _take(self, node: str) -> Array | None:
        """A node's tensor, which is there until the next is taken."""
        while node not in self._waiting and self._due:
            self._release()
            name = self._due.pop(0)
            array = self._tensors.take(name)
            self._in_flight = True
            if name == node:
                return array
            if name in self._partners:
                # It is asked for later.
                self._waiting[name] = np.array(array)
        return self._waiting.pop(node, None)

    def _release(self) -> None:
        if self._in_flight:
            self._in_flight = False
            self._tensors.release()

    def finish(self) -> None:
        """Let the rest of the stream pass."""
        self._release()
        while self._due:
            self._due.pop(0)
            self._tensors.skip()
