"""With which settings a node is made: what the operations of its span were called with.

They are told in the words of one vocabulary, whatever the operations are called and however the
work is shared out among them: the pixels that a pad adds before a convolution are its padding.
Where a span has several operations that could make the node, or none that is known here, nothing is
told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from efficientdet_spec import NodeKind
from parity.sides.observed.layouts import Layout
from parity.sides.observed.pairs import Partners
from parity.sides.observed.record import Made, Operation, Plain, Record

Settings = Mapping[str, Plain]
"""By name: of a convolution ``kernel``, ``stride``, ``dilation`` (rows, columns), ``groups``,
``transposed``, ``padding`` (left, right, above, below) and ``padded with``; of a max-pool likewise;
of a batch norm ``eps`` and ``training``; of an up-sampling ``mode``; of a mean ``axes``."""

AXES = ("images", "height", "width", "channels")

_PADS = {"constant_pad_nd": "pad", "reflection_pad2d": "padding", "replication_pad2d": "padding"}
"""Operations that pad, and which of their arguments has the pixels, the last axis first."""


def span_of(record: Record, partners: Partners, node: str) -> list[Made]:
    """The values that are made on the way to a node, behind the nodes before it, in order.

    Args:
        record: What the candidate did.
        partners: Which of its values are which nodes.
        node: A node with a partner.
    """
    others = {item.value for name, item in partners.found.items() if name != node}
    waiting = [partners.found[node].value]
    seen = set(waiting)
    while waiting:
        value = record.values[waiting.pop()]
        new = [parent for parent in value.parents if parent not in seen and parent not in others]
        seen.update(new)
        waiting += new
    return [record.values[number] for number in sorted(seen) if record.values[number].operation]


def settings_of(kind: NodeKind, span: Sequence[Made], given: Layout | None) -> Settings:
    """With which settings a span makes a node; empty where that is not known.

    Args:
        kind: What the node computes.
        span: What is made on the way to it.
        given: How what it reads is held; None where that is not known.
    """
    by_number = {value.number: value for value in span}
    readers: Mapping[NodeKind, tuple[str, Callable[[Operation], Settings]]] = {
        NodeKind.CONV: ("convolution", _convolution),
        NodeKind.DEPTHWISE: ("convolution", _convolution),
        NodeKind.BATCH_NORM: ("batch_norm", _batch_norm),
        NodeKind.POOL: ("max_pool", _pool),
        NodeKind.UPSAMPLE: ("upsample", _upsampling),
        NodeKind.MEAN: ("mean", lambda operation: _mean(operation, given)),
    }
    if kind not in readers:
        return {}
    word, read = readers[kind]
    # An operation that makes several tensors stands for each of them.
    made = {
        value.operation.number: value
        for value in reversed(span)
        if value.operation is not None and word in value.operation.name
    }
    if len(made) != 1:
        return {}
    (value,) = made.values()
    assert value.operation is not None
    found = dict(read(value.operation))
    return _padded(found, value, by_number) if "padding" in found else found


def _padded(found: dict[str, Plain], value: Made, span: Mapping[int, Made]) -> Settings:
    """The settings with what is padded before, where that is known."""
    assert value.operation is not None
    shape = value.operation.shapes.get("input") or value.operation.shapes.get("self")
    own = found["padding"]
    while True:
        pads = [
            span[parent]
            for parent in value.parents
            if parent in span and _is_pad(span[parent]) and span[parent].shape == shape
        ]
        if not pads:
            return found
        value = pads[0]
        operation = value.operation
        assert operation is not None
        shape = operation.shapes.get("self") or operation.shapes.get("input")
        added = operation.settings.get(_PADS[operation.name])
        if not isinstance(added, tuple) or len(added) not in (2, 4) or not isinstance(own, tuple):
            return {}
        sides = [float(number) for number in (*added, 0, 0, 0, 0)[:4]]
        together = [float(one) + other for one, other in zip(own, sides, strict=True)]
        fill = operation.settings.get("value", operation.name.partition("_")[0])
        if any(own) and any(sides) and fill != found["padded with"]:
            return {}
        if any(sides):
            found["padded with"] = fill
        own = tuple(int(number) for number in together)
        found["padding"] = own


def _is_pad(value: Made) -> bool:
    return value.operation is not None and value.operation.name in _PADS


def _convolution(operation: Operation) -> Settings:
    told = operation.settings
    kernel = operation.shapes.get("weight", ())[2:]
    pairs = [_pair(told.get(name)) for name in ("stride", "dilation", "padding")]
    if len(kernel) != 2 or not all(pairs) or "groups" not in told:
        return {}
    stride, dilation, (rows, columns) = pairs
    return {
        "kernel": tuple(kernel),
        "stride": stride,
        "dilation": dilation,
        "groups": told["groups"],
        "transposed": told.get("transposed", False),
        "padding": (columns, columns, rows, rows),
        "padded with": 0.0,
    }


def _pool(operation: Operation) -> Settings:
    told = operation.settings
    kernel = _pair(told.get("kernel_size"))
    stride = _pair(told.get("stride")) or kernel
    padding, dilation = _pair(told.get("padding")), _pair(told.get("dilation"))
    if not kernel or not padding or not dilation:
        return {}
    sides = [(side, side) for side in padding]
    if told.get("ceil_mode"):
        lengths = [step * (side - 1) + 1 for side, step in zip(kernel, dilation, strict=True)]
        size = operation.shapes["self"][-2:]
        sides = [_rounded_up(*found) for found in zip(size, lengths, stride, padding, strict=True)]
    (top, bottom), (left, right) = sides
    return {
        "kernel": kernel,
        "stride": stride,
        "dilation": dilation,
        "padding": (left, right, top, bottom),
        "padded with": -math.inf,
    }


def _rounded_up(size: int, length: int, step: int, padding: int) -> tuple[int, int]:
    """What lies before and behind a map that a pool's windows cover where it rounds up.

    Its last window may reach over the padding, as if there were more of it, but not begin there.

    Args:
        size: Of the map along one axis.
        length: Of a window.
        step: From one window to the next.
        padding: On either side.
    """
    count = -(-(size + 2 * padding - length) // step) + 1
    if (count - 1) * step >= size + padding:
        count -= 1
    return padding, max(padding, (count - 1) * step + length - size - padding)


def _batch_norm(operation: Operation) -> Settings:
    told = operation.settings
    return {name: told[name] for name in ("eps", "training") if name in told}


def _upsampling(operation: Operation) -> Settings:
    mode = operation.name.lstrip("_").removeprefix("upsample_").removesuffix("2d")
    aligned = operation.settings.get("align_corners")
    return {"mode": f"{mode} with aligned corners" if aligned is True else mode}


def _mean(operation: Operation, given: Layout | None) -> Settings:
    shape = operation.shapes.get("self", ())
    axes = operation.settings.get("dim")
    if given is None or given.shape != shape or given.apart != shape or not isinstance(axes, tuple):
        return {}
    found = {given.order[int(axis) % len(shape)] for axis in axes} if axes else set(range(4))
    return {"axes": tuple(AXES[axis] for axis in sorted(found))}


def _pair(value: Plain | None) -> tuple[int, ...]:
    """Rows and columns, where one number may stand for both; empty where there is none."""
    if not isinstance(value, tuple):
        return () if value is None else (int(value),) * 2
    numbers = tuple(int(number) for number in value)
    return numbers * 2 if len(numbers) == 1 else numbers
