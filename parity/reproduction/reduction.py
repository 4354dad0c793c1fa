"""The smallest part of a node's tensors that still shows what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from parity.reproduction.computation import (
    CHANNELS,
    COLUMNS,
    IMAGES,
    INPUTS,
    OUTPUTS,
    ROWS,
    Along,
    Computation,
)

_MARGINS = (0, 1, 2, 3, 4, 8, 16)
"""Positions around a window that are kept, as few as do: a candidate's may lie elsewhere."""

_SAME = 1e-12
"""Of two values in float64 that are sums of the same terms; their roundings are 1e-16 each."""


def reduced(whole: Computation) -> Computation:
    """The same element out of the fewest images, output channels, rows and columns.

    A part is taken only where the element that each function gives is the same as of the whole.

    Args:
        whole: On all of the node's tensors.
    """
    watched = [name for name in ("right", "magnitude", "wrong") if name in whole.functions]
    due = {name: whole.value(name) for name in watched}
    now = whole
    for axis in (IMAGES, OUTPUTS, CHANNELS, ROWS, COLUMNS):
        for smaller in _parts(now, axis):
            if all(_same(_value(smaller, name), due[name]) for name in watched):
                now = smaller
                break
    return now


def _value(computation: Computation, name: str) -> float:
    try:
        return computation.value(name)
    # Such as a part that is smaller than what is padded by reflection, or has no such element.
    except (RuntimeError, IndexError, ValueError):
        return math.inf


def _same(one: float, other: float) -> bool:
    if math.isnan(other):
        return math.isnan(one)
    return one == other or abs(one - other) <= _SAME * max(abs(one), abs(other))


def _parts(now: Computation, axis: str) -> Iterator[Computation]:
    """Smaller ones along an axis, the smallest first."""
    image, channel, row, column = now.at
    if axis == IMAGES:
        yield _cut(now, axis, slice(image, image + 1), (0, channel, row, column))
    elif axis in (OUTPUTS, CHANNELS):
        if any(axis in tensor.axes for tensor in now.tensors.values()):
            yield _cut(now, axis, slice(channel, channel + 1), (image, 0, row, column))
    else:
        number = (ROWS, COLUMNS).index(axis)
        along = now.along[number]
        sizes = [
            tensor.values.shape[tensor.axes.index(axis)]
            for tensor in now.tensors.values()
            if axis in tensor.axes
        ]
        for part, place in _windows(along, (row, column)[number], sizes[0]):
            at = (image, channel, place, column) if axis == ROWS else (image, channel, row, place)
            yield _cut(now, axis, part, at)


def _windows(along: Along | None, place: int, size: int) -> Iterator[tuple[slice, int]]:
    if along is None:
        return
    for margin in _MARGINS:
        part, moved = along.part(place, size, margin)
        if part.start > 0 or part.stop < size:
            yield part, moved


def _cut(now: Computation, axis: str, kept: slice, at: tuple[int, int, int, int]) -> Computation:
    tensors = {name: tensor.cut(axis, kept) for name, tensor in now.tensors.items()}
    return replace(now, tensors=tensors, at=at, _defined={})


def with_fewer_inputs(now: Computation, unit: float, limit: float) -> Computation:
    """The same operation on fewer input channels, as long as the difference is beyond the limit.

    That changes what is right and what is wrong, so that both have to be computed.

    Args:
        now: Whose element is reproduced.
        unit: Unit roundoff.
        limit: Roundings that a right implementation may carry.
    """
    count = max(
        (t.values.shape[t.axes.index(INPUTS)] for t in now.tensors.values() if INPUTS in t.axes),
        default=1,
    )
    kept = np.arange(count)
    while len(kept) > 1 and "wrong" in now.functions:
        halves = [_with_inputs(now, half) for half in np.array_split(np.arange(len(kept)), 2)]
        apart = [roundings(half, unit) for half in halves]
        best = int(apart[1] > apart[0])
        if not limit < apart[best] < math.inf:
            break
        now = halves[best]
        kept = np.array_split(kept, 2)[best]
    return now


def _with_inputs(now: Computation, kept: np.ndarray) -> Computation:
    tensors = {name: tensor.cut(INPUTS, kept) for name, tensor in now.tensors.items()}
    return replace(now, tensors=tensors, _defined={})


def roundings(computation: Computation, unit: float) -> float:
    """How far what is wrong is from what is right.

    Args:
        computation: Of both.
        unit: Unit roundoff.
    """
    return counted(
        computation.value("wrong"), computation.value("right"), computation.value("magnitude"), unit
    )


def counted(one: float, right: float, magnitude: float, unit: float) -> float:
    """The distance of two values in roundings; infinite where one is no number.

    Args:
        one: A value.
        right: The one that it should be.
        magnitude: On which roundings act.
        unit: Unit roundoff.
    """
    apart = abs(one - right)
    if apart == 0:
        return 0.0
    if math.isnan(apart) or not magnitude:
        return math.inf
    return apart / (unit * magnitude)
