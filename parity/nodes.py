"""Runs two networks in lockstep and measures every node.

Two passes over the same stream of reference tensors:

* the *free* pass lets each network compute on its own, and measures the accumulated
  difference;
* the *isolated* pass puts the reference's tensor in place of each output after measuring it,
  so that every node is given identical inputs and shows only its own difference.

The verdict rests on the second: if each node, given identical inputs, differs by no more than
the roundings of its own arithmetic, then what accumulates is rounding, however large.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from efficientdet_spec import NodeKind
from parity import torch_side
from parity.measure import difference
from parity.result import Measurement, NodeResult, PassTiming, judge
from parity.stream import Array, Rendezvous

Stream = Callable[[], AbstractContextManager[Rendezvous]]
"""Makes the reference compute once; the body of the context takes its tensors."""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Pairing:
    """A reference and a candidate on one input.

    Attributes:
        stream: Makes the reference compute.
        model: The candidate, an ``nn.Module`` in evaluation mode.
        levels: Feature levels, lowest first.
        images: [N, H, W, 3], of the type in which both sides compute.
        outputs: Nodes whose tensors the candidate must return, in this order.
    """

    stream: Stream
    model: Any
    levels: range
    images: Array
    outputs: Sequence[str]

    def run(self, visit: torch_side.Visit) -> list[Any]:
        """Run the candidate, calling ``visit`` at each node; returns its output tensors."""
        with torch_side.visiting(self.model, self.levels, visit):
            return torch_side.flatten(torch_side.run(self.model, self.images))


def compare(
    kinds: Mapping[str, NodeKind], pairing: Pairing, progress: Progress | None = None
) -> tuple[list[NodeResult], list[PassTiming]]:
    """Measure every node of a candidate against a reference, free and isolated.

    Args:
        kinds: What each node of the reference computes, in the order of computation.
        pairing: What to compare.
        progress: Told how many of all measurements are done.

    Returns:
        One result for each node that either side has, in the reference's order, and the time
        of each pass.
    """
    walk = _Walk(kinds, pairing, progress)
    free, free_time = walk.run(isolated=False)
    isolated, isolated_time = walk.run(isolated=True)
    results = [
        judge(name, kinds.get(name), free.get(name), isolated.get(name))
        for name in [*kinds, *(name for name in free if name not in kinds)]
    ]
    return results, [free_time, isolated_time]


class _Walk:
    def __init__(
        self, kinds: Mapping[str, NodeKind], pairing: Pairing, progress: Progress | None
    ) -> None:
        self._kinds = kinds
        self._pairing = pairing
        self._order = {name: position for position, name in enumerate(kinds)}
        self._progress = progress

    def run(self, *, isolated: bool) -> tuple[dict[str, Measurement], PassTiming]:
        outputs = self._pairing.outputs
        measured: dict[str, Measurement] = {}
        kept: dict[str, Any] = {}
        started = time.perf_counter()
        with self._pairing.stream() as tensors:
            position, total = 0, len(self._kinds)

            def visit(name: str, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
                nonlocal position
                ours = torch_side.nhwc(output)
                kind = self._kinds.get(name)
                if kind is None:
                    measured[name] = Measurement(ours.shape, None, problem=_UNKNOWN)
                    return
                if self._order[name] < position:
                    measured[name] = Measurement(ours.shape, None, problem=_LATE)
                    return
                # Nodes that the candidate passes over have no partner; the result says so.
                while position < self._order[name]:
                    tensors.skip()
                    position += 1
                theirs = tensors.take(name)
                position += 1
                measured[name] = _measure(kind, module, inputs, output, ours, theirs, isolated)
                if isolated and ours.shape == theirs.shape:
                    torch_side.substitute(output, theirs)
                tensors.release()
                if name in outputs:
                    kept[name] = output
                if self._progress:
                    self._progress(isolated * total + position, 2 * total)

            returned = self._pairing.run(visit)
        # Right tensors in the wrong order would be wrong for whoever uses the model.
        for number, name in enumerate(outputs):
            if len(returned) != len(outputs):
                problem = f"the candidate returns {len(returned)} tensors, not {len(outputs)}"
            elif returned[number] is not kept.get(name):
                problem = f"the candidate does not return it as its output number {number}"
            else:
                continue
            if name in measured:
                measured[name] = replace(measured[name], problem=problem)
        seconds = time.perf_counter() - started
        return measured, PassTiming("isolated" if isolated else "free", seconds)


_UNKNOWN = "the reference has no such node"
_LATE = "the candidate computes it later than the reference does"


def _measure(
    kind: NodeKind,
    module: Any,
    inputs: tuple[Any, ...],
    output: Any,
    ours: Array,
    theirs: Array,
    isolated: bool,
) -> Measurement:
    if ours.shape != theirs.shape:
        problem = f"its shape is {list(ours.shape)}, the reference's {list(theirs.shape)}"
        return Measurement(ours.shape, None, problem=problem)
    if not isolated:
        return Measurement(ours.shape, difference(theirs, ours))
    scale = torch_side.nhwc(torch_side.gauge(kind, module, inputs, output))
    distance = difference(theirs, ours, scale)
    if kind is not NodeKind.MEAN:
        return Measurement(ours.shape, distance)
    # A mean's limit has to allow for TensorFlow's way of adding; the candidate's own does not.
    exact = torch_side.exact_mean(inputs[0])
    return Measurement(
        ours.shape,
        distance,
        torch_side.terms(inputs[0]),
        from_exact=difference(exact, ours, scale),
        reference_from_exact=difference(exact, theirs, scale),
    )
