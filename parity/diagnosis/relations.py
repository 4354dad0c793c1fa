"""How a candidate's parameter relates to the checkpoint's, by comparing their very bits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.results.digits import told, told_apart

Array = NDArray[Any]

_LISTED = 6
"""Channels that a sentence lists."""

_NEARLY_ALL = 0.9
"""Share of values that a factor must have changed."""


@dataclass(frozen=True)
class Relation:
    """How one array came from another.

    Attributes:
        slug: Short name that stays the same between versions.
        title: The relation as part of a sentence that begins with "the candidate's value is".
    """

    slug: str
    title: str


class Pool:
    """A checkpoint's parameters, found by content.

    Args:
        arrays: The parameters by name, in PyTorch's layout.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._names: dict[bytes, list[str]] = {}
        for name, array in arrays.items():
            self._names.setdefault(_digest(array), []).append(name)

    def find(self, array: Array) -> list[str]:
        """Names of the parameters that hold these values in this order, whatever their shape."""
        return self._names.get(_digest(array), [])


def relate(
    name: str,
    ours: Array,
    theirs: Array,
    pool: Pool,
    alternatives: Mapping[str, Array],
) -> Relation | None:
    """The simplest explanation of a candidate's parameter that is not the checkpoint's.

    Args:
        name: The parameter.
        ours: The checkpoint's value, in PyTorch's layout.
        theirs: The candidate's value.
        pool: All parameters of the checkpoint.
        alternatives: Other values of this parameter by what they are, for example ``raw`` for
            the one that is no moving average.

    Returns:
        The relation; None where the values are equal bit for bit, zeros of either sign included.
    """
    # What is not finite, on either side, is no reason to warn while looking at it.
    with np.errstate(all="ignore"):
        return _relate(name, ours, theirs, pool, alternatives)


def _relate(
    name: str, ours: Array, theirs: Array, pool: Pool, alternatives: Mapping[str, Array]
) -> Relation | None:
    if ours.shape == theirs.shape and np.array_equal(ours, theirs):
        return None
    converted = theirs.astype(ours.dtype)
    if np.array_equal(converted, theirs):
        # Content is found by its bytes, so that equal values must have one type.
        theirs = converted
    unfinished = int(theirs.size - np.isfinite(theirs).sum())
    if unfinished:
        return Relation("not-finite", f"not finite in {unfinished} of {theirs.size} values")
    if not theirs.size:
        return Relation("shape", f"empty, of shape {list(theirs.shape)}")
    if theirs.size > 1 and theirs.min() == theirs.max():
        value = float(theirs.flat[0])
        slug = {0.0: "zeros", 1.0: "ones"}.get(value, "constant")
        return Relation(slug, f"{value:g} throughout")
    for label, other in alternatives.items():
        if _same(other, theirs):
            return Relation(label, f"the {label} value")
    found = _elsewhere(name, theirs, pool)
    if found is not None:
        return found
    for slug, title, changed in _rearranged(ours):
        if _same(changed(), theirs):
            return Relation(slug, title)
    if ours.shape != theirs.shape:
        return Relation("shape", f"of shape {list(theirs.shape)}, not {list(ours.shape)}")
    return _computed(ours, theirs) or _differing(ours, theirs)


def _digest(array: Array) -> bytes:
    # Parameters are few and large, so a slow hash that never collides costs nothing that matters.
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def _same(ours: Array, theirs: Array) -> bool:
    return ours.shape == theirs.shape and bool(np.array_equal(ours, theirs))


def _elsewhere(name: str, theirs: Array, pool: Pool) -> Relation | None:
    """Another parameter that holds these values, as they are or transposed."""
    transposed = theirs.swapaxes(0, 1) if theirs.ndim > 1 else theirs
    for array, how in ((theirs, ""), (transposed, ", transposed")):
        others = [other for other in pool.find(array) if other != name]
        if others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            return Relation("other-parameter", f"that of {others[0]}{more}{how}")
    return None


def _rearranged(ours: Array) -> Iterator[tuple[str, str, Callable[[], Array]]]:
    """The same values in another order."""
    if ours.ndim == 4:
        yield "transposed", "transposed in height and width", lambda: ours.swapaxes(2, 3)
        yield "in-out", "with input and output channels exchanged", lambda: ours.swapaxes(0, 1)
        yield (
            "in-out",
            "with all axes exchanged: input and output channels, height and width",
            lambda: ours.transpose(1, 0, 3, 2),
        )
        yield "flipped", "flipped in height and width", lambda: ours[:, :, ::-1, ::-1]
        yield "flipped", "with the rows of its kernels reversed", lambda: ours[:, :, ::-1]
        yield "flipped", "with the columns of its kernels reversed", lambda: ours[..., ::-1]
        for turns in (1, 3):
            yield (
                "rotated",
                f"rotated by {90 * turns} degrees in height and width",
                partial(np.rot90, ours, turns, (2, 3)),
            )
        yield "reversed-input", "with its input channels reversed", lambda: ours[:, ::-1]
        for axes, layout in (
            ((2, 3, 1, 0), "HWIO"),
            ((2, 3, 0, 1), "HWOI"),
            ((0, 2, 3, 1), "OHWI"),
        ):
            # The memory of one layout read as that of another.
            yield (
                "reshaped",
                f"the {layout} kernel reshaped instead of transposed",
                partial(_read_as, ours, axes),
            )
            yield (
                "layout",
                f"in {layout} layout instead of OIHW",
                partial(np.transpose, ours, axes),
            )
    if ours.ndim >= 1 and len(ours) > 1:
        yield "reversed", "with its output channels reversed", lambda: ours[::-1]
        for step in (1, -1):
            yield (
                "moved",
                f"with its output channels moved by {step:+d}",
                partial(np.roll, ours, step, 0),
            )


def _read_as(ours: Array, axes: tuple[int, ...]) -> Array:
    return ours.transpose(axes).reshape(ours.shape)


def _computed(ours: Array, theirs: Array) -> Relation | None:
    """One function of all values."""
    if np.array_equal(-ours, theirs):
        return Relation("negated", "with the other sign")
    if np.array_equal(np.abs(ours), theirs):
        return Relation("absolute", "without its sign")
    half = ours.astype(np.float16).astype(theirs.dtype)
    if np.array_equal(half, theirs):
        return Relation("rounded", "rounded to float16")
    if np.array_equal(_bfloat16(ours), theirs):
        return Relation("rounded", "rounded to bfloat16")
    return _permuted(ours, theirs) or _scaled(ours, theirs) or _of_statistics(ours, theirs)


def _bfloat16(array: Array) -> Array:
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    # To nearest, ties to even, as the sum carries into the kept half.
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32)


def _permuted(ours: Array, theirs: Array) -> Relation | None:
    """The same output channels in another order, or some of them more than once."""
    if ours.ndim < 1 or len(ours) < 2:
        return None
    # Equal channels (such as those of a constant array) stay where they are.
    places: dict[bytes, list[int]] = {}
    for index, channel in enumerate(ours):
        places.setdefault(_digest(channel), []).append(index)
    order = []
    for index, channel in enumerate(theirs):
        found = places.get(_digest(channel))
        if found is None:
            return None
        order.append(index if index in found else found[0])
    changed = [index for index, source in enumerate(order) if source != index]
    listed = ", ".join(f"{index} holds {order[index]}" for index in changed[:_LISTED])
    more = ", ..." if len(changed) > _LISTED else ""
    return Relation(
        "permuted", f"with {len(changed)} of {len(order)} output channels replaced: {listed}{more}"
    )


def _scaled(ours: Array, theirs: Array) -> Relation | None:
    """One factor or one offset for all values.

    Values that differ in their last bits are within rounding of any factor near 1, so a number
    must leave less than half of the change, and a factor must have changed nearly all values.
    """
    x, y = (array.astype(np.float64) for array in (ours, theirs))
    if x.size <= 2 or not np.isfinite(x).all():
        return None
    unit = float(np.finfo(theirs.dtype).eps) if theirs.dtype.kind == "f" else 0.0
    change = float(np.linalg.norm(y - x))
    power = float(np.vdot(x, x))
    if power:
        factor = float(np.vdot(x, y)) / power
        left = y - factor * x
        touched = float((y != x)[x != 0].mean())
        text = told(factor, 1.0, 6)
        if (
            np.all(np.abs(left) <= 2 * unit * np.abs(y))
            and touched > _NEARLY_ALL
            and float(np.linalg.norm(left)) < change / 2
            and text is not None
        ):
            return Relation("scaled", f"times {text}")
    offset = float((y - x).mean())
    left = y - x - offset
    if (
        np.all(np.abs(left) <= 2 * unit * (np.abs(x) + np.abs(y)))
        and float(np.linalg.norm(left)) < change / 2
    ):
        return Relation("offset", f"plus {offset:.6g}")
    return None


def _of_statistics(ours: Array, theirs: Array) -> Relation | None:
    """What a batch norm's variance is taken for."""
    if ours.ndim != 1 or float(ours.min()) < 0:
        return None
    variants = (
        ("root", "its square root", np.sqrt(ours)),
        ("square", "its square", np.square(ours)),
        ("inverse", "one divided by it", 1 / ours),
    )
    # Of a variance near 1 all of these are nearly itself.
    if np.allclose(ours, theirs, rtol=1e-4, atol=0):
        return None
    for slug, title, values in variants:
        if np.allclose(values, theirs, rtol=1e-6, atol=0):
            return Relation(slug, title)
    return None


def _differing(ours: Array, theirs: Array) -> Relation:
    """How many values differ, by how much and where."""
    wrong = ours != theirs
    count = int(wrong.sum())
    x, y = (array[wrong].astype(np.float64) for array in (ours, theirs))
    largest = float((np.abs(y - x) / np.abs(x)).max())
    change = f"{largest:.2g} of its value" if math.isfinite(largest) else "a zero made another"
    if not np.isfinite(x).all():
        change = "where the checkpoint's is not finite"
    text = f"different in {count} of {theirs.size} values (largest change {change})"
    if count == 1:
        index = [int(i) for i in np.argwhere(wrong)[0]]
        value, right = told_apart(float(y[0]), float(x[0]), 6)
        text = f"different in one value: {value} at {index}, not {right}"
    elif ours.ndim:
        channels = np.flatnonzero(wrong.reshape(len(ours), -1).any(1))
        if len(channels) < len(ours):
            listed = ", ".join(str(int(i)) for i in channels[:_LISTED])
            more = f" and {len(channels) - _LISTED} more" if len(channels) > _LISTED else ""
            text += f", in output channels {listed}{more}"
    if count > 2:
        first, second = (array.astype(np.float64).reshape(-1) for array in (ours, theirs))
        spread = np.std(first) * np.std(second)
        if spread > 0 and math.isfinite(spread):
            together = float(np.mean((first - first.mean()) * (second - second.mean())) / spread)
            text += f", correlation {together:.4f}"
    return Relation("different", text)
