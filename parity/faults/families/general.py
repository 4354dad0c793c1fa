"""Faults that any node may have: its output left out, or its values in other places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    fitted,
)
from parity.faults.basics.fault import (
    EVERY,
    Fault,
    Variant,
    in_variants,
    with_numbers,
)
from parity.faults.basics.operations import Change
from parity.faults.families.predictions import reordered

_SAMPLES = 64
"""Positions by which channels are told apart."""
_ONE_INPUT = EVERY - {NodeKind.SCALE, NodeKind.ADD, NodeKind.FUSE}
"""Of two inputs it depends on the operation what is missing."""


def _left_out(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    yield "left out: its output is its input", _same(operation.arguments[0])


def _left_out_or_relu(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    first = operation.arguments[0]
    if bool((first >= 0).all()):
        words = "left out, or a ReLU: its output is its input, of which no value is negative"
        yield words, _same(first)


def _same(x: Tensor) -> Evaluation:
    return lambda channels: (x[:, channels], x[:, channels].abs())


def _fault(slug: str, title: str, *forms: tuple[str, Change]) -> Fault:
    """A selection of an operation's values, or a multiple of them, channel by channel."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        for words, function in forms:
            yield words, _after(base, function)

    return in_variants(slug, title, EVERY, variants)


def _after(base: Evaluation, function: Change) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        return function(output), function(gauge).abs()

    return evaluate


def _shifts() -> Iterator[tuple[str, Change]]:
    for rows, columns in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        title = f"its output moved by {rows:+d} rows and {columns:+d} columns"
        cyclic: Change = partial(torch.roll, shifts=(rows, columns), dims=(2, 3))
        yield f"{title}, cyclically", cyclic
        yield f"{title}, zeros taking its place", partial(_shift, rows=rows, columns=columns)


def _shift(x: Tensor, rows: int, columns: int) -> Tensor:
    result = torch.zeros_like(x)
    height, width = x.shape[2:]
    result[
        :,
        :,
        max(rows, 0) : height + min(rows, 0),
        max(columns, 0) : width + min(columns, 0),
    ] = x[
        :,
        :,
        max(-rows, 0) : height - max(rows, 0),
        max(-columns, 0) : width - max(columns, 0),
    ]
    return result


def _ordered(
    slug: str,
    title: str,
    orders: Callable[[int], Iterator[tuple[str, Tensor]]],
    alike: Iterable[str] = (),
) -> Fault:
    """The right channels in another order, each as a function of their number."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        for words, order in orders(base(ALL)[0].shape[1]):
            yield words, reordered(base, order)

    return in_variants(slug, title, EVERY, variants, alike=alike)


def _reversed(count: int) -> Iterator[tuple[str, Tensor]]:
    yield "its channels in reverse order", torch.arange(count).flip(0)


def _rolled(count: int) -> Iterator[tuple[str, Tensor]]:
    for step in (1, -1):
        yield f"its channels moved by {step:+d}", torch.arange(count).roll(step)


def shuffles(count: int) -> Iterator[tuple[str, Tensor]]:
    """Every shuffle of channels in groups of one size, in words and as the order they come in.

    Args:
        count: Number of channels.
    """
    for groups in range(2, count // 2 + 1):
        if count % groups == 0:
            order = torch.arange(count).view(groups, -1).T.reshape(-1)
            yield f"shuffled in {groups} groups", order


def _shuffled(count: int) -> Iterator[tuple[str, Tensor]]:
    for words, order in shuffles(count):
        yield f"its channels {words}", order


def _reshaped(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = (v.permute(0, 2, 3, 1).reshape(v.shape) for v in base(ALL))
        return output[:, channels], gauge[:, channels]

    yield "its NHWC values reshaped to NCHW instead of transposed", evaluate


def _fitted_order(case: Case, base: Evaluation, slug: str, proper: bool) -> Iterator[Hypothesis]:
    """The order in which the faithful channels come, where each of the candidate's is one.

    Args:
        case: The failing node.
        base: Its faithful operation.
        slug: The fault.
        proper: Whether each channel is to come once, or some more than once.
    """
    output, _ = base(ALL)
    if output.shape != case.candidate.shape or output.shape[1] < 2:
        return
    places = output[:, 0].numel()
    sample = torch.linspace(0, places - 1, min(places, _SAMPLES)).long()
    ours = output.transpose(0, 1).flatten(1)[:, sample]
    theirs = case.candidate.double().transpose(0, 1).flatten(1)[:, sample]
    order = torch.cdist(theirs, ours, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    changed = [i for i, source in enumerate(order.tolist()) if source != i]
    if not changed or (len(set(order.tolist())) == len(order)) is not proper:
        return
    listed = ", ".join(f"{i} holds {int(order[i])}" for i in changed[:4])
    yield fitted(
        slug,
        f"{len(changed)} of {len(order)} channels in another's place: {listed}"
        + (", ..." if len(changed) > 4 else ""),
        case,
        base,
        lambda case, base: reordered(base, order),
        len(changed),
    )


def _two_exchanged(operation: Operation, base: Evaluation) -> Evaluation:
    order = torch.arange(base(ALL)[0].shape[1])
    order[[0, -1]] = order[[-1, 0]]
    return reordered(base, order)


def _one_repeated(operation: Operation, base: Evaluation) -> Evaluation:
    order = torch.arange(base(ALL)[0].shape[1])
    order[0] = order[-1]
    return reordered(base, order)


WHOLE = (
    in_variants(
        "left-out-or-relu",
        "an activation left out, or a ReLU",
        frozenset({NodeKind.ACTIVATION}),
        _left_out_or_relu,
        without="where no input is negative two faults are one, and each of them is put in",
    ),
    in_variants(
        "left-out",
        "an activation left out",
        frozenset({NodeKind.ACTIVATION}),
        _left_out,
        alike=("left-out-or-relu",),
    ),
    in_variants("left-out", "a layer left out", _ONE_INPUT - {NodeKind.ACTIVATION}, _left_out),
    _fault("zero", "a layer's output all zero", ("all values zero", torch.zeros_like)),
    _fault("negated", "a layer's output negated", ("all values with the other sign", torch.neg)),
)
"""Faults looked for before any other."""

MOVED = (
    _fault(
        "transposed",
        "an output transposed",
        ("height and width of its output exchanged", lambda v: v.mT),
    ),
    _fault(
        "flipped",
        "an output mirrored",
        ("its output's rows in reverse order", lambda v: v.flip(2)),
        ("its output's columns in reverse order", lambda v: v.flip(3)),
        ("its output rotated by 180 degrees", lambda v: v.flip(2, 3)),
    ),
    _fault(
        "rotated",
        "an output rotated",
        ("its output rotated by 90 degrees", lambda v: v.rot90(1, (2, 3))),
        ("its output rotated by 270 degrees", lambda v: v.rot90(3, (2, 3))),
    ),
    _fault("moved", "an output moved by a pixel", *_shifts()),
    _fault(
        "images-reordered",
        "the images of a batch in reverse order",
        ("the images in reverse order", lambda v: v.flip(0)),
    ),
    _fault(
        "images-repeated",
        "the first image for every image of a batch",
        ("the first image's values for every image", lambda v: v[:1].expand_as(v)),
    ),
    # Of a convolution without a bias both are one.
    _ordered(
        "channels-reversed", "channels in reverse order", _reversed, alike=("kernel-reversed",)
    ),
    _ordered("channels-moved", "channels moved by one", _rolled),
    _ordered("channels-shuffled", "channels shuffled in groups", _shuffled),
    in_variants("reshaped", "an NHWC output read as NCHW", EVERY, _reshaped),
    with_numbers(
        "channels-permuted",
        "two channels exchanged",
        EVERY,
        partial(_fitted_order, slug="channels-permuted", proper=True),
        _two_exchanged,
    ),
    with_numbers(
        "channels-repeated",
        "one channel for another",
        EVERY,
        partial(_fitted_order, slug="channels-repeated", proper=False),
        _one_repeated,
    ),
)
"""The right values in other places."""
