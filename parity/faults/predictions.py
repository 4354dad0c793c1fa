"""What ports get wrong in the order of the predictions' channels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from parity.faults.case import Case, Channels, Evaluation, Hypothesis

_BOX_ORDERS = (
    ((1, 0, 3, 2), "x before y: [tx, ty, tw, th] instead of [ty, tx, th, tw]"),
    ((1, 0, 2, 3), "tx and ty exchanged"),
    ((0, 1, 3, 2), "th and tw exchanged"),
    ((2, 3, 0, 1), "sizes before centres"),
    ((3, 2, 1, 0), "[tw, th, tx, ty]"),
    ((0, 2, 1, 3), "[ty, th, tx, tw]"),
)


def reordered(base: Evaluation, order: Tensor) -> Evaluation:
    """An operation whose output channel i is the faithful channel ``order[i]``."""
    return lambda channels: base(order[channels])


def hypotheses(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The right predictions in the wrong channels, or with a function on top."""
    outputs, anchors = case.outputs_per_anchor, case.num_anchors
    if not outputs or not anchors or outputs * anchors != case.candidate.shape[1]:
        return
    # Anchor-major: channel a * outputs + k.
    index = torch.arange(anchors * outputs).view(anchors, outputs)
    yield Hypothesis(
        "prediction-order",
        "values before anchors instead of anchors before values",
        reordered(base, index.T.reshape(-1)),
    )
    if outputs == 4:
        for order, title in _BOX_ORDERS:
            yield Hypothesis("box-order", title, reordered(base, index[:, list(order)].reshape(-1)))
    side = round(anchors**0.5)
    if side * side == anchors:
        swapped = index.view(side, side, outputs).transpose(0, 1).reshape(-1)
        yield Hypothesis(
            "anchor-order", "scales and aspects of the anchors exchanged", reordered(base, swapped)
        )
        blocks = index.view(side, side, outputs)
        for axis, what in ((0, "scales"), (1, "aspects")):
            yield Hypothesis(
                "anchor-order",
                f"{what} of the anchors in reverse order",
                reordered(base, blocks.flip(axis).reshape(-1)),
            )
        yield Hypothesis(
            "anchor-order",
            "second and third aspect of the anchors exchanged",
            reordered(base, blocks[:, [0, 2, 1][:side]].reshape(-1)) if side == 3 else base,
        )
    yield Hypothesis(
        "anchor-order", "anchors in reverse order", reordered(base, index.flip(0).reshape(-1))
    )
    yield Hypothesis(
        "class-order",
        "values of each anchor in reverse order",
        reordered(base, index.flip(1).reshape(-1)),
    )
    for step in (1, -1):
        yield Hypothesis(
            "class-order",
            f"values of each anchor moved by {step:+d}",
            reordered(base, index.roll(step, 1).reshape(-1)),
        )
    yield Hypothesis("softmax", "softmax over the values of each anchor", _softmax(base, outputs))


def _softmax(base: Evaluation, outputs: int) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(slice(None))
        shape = (output.shape[0], -1, outputs, *output.shape[2:])
        result = torch.softmax(output.view(shape), 2).view(output.shape)
        # A softmax changes by no more than its result times twice the largest change.
        reach = (
            gauge.view(shape)
            .amax(2, keepdim=True)
            .expand(*shape[:1], output.shape[1] // outputs, *shape[2:])
        )
        return result[:, channels], (result * (1 + 2 * reach.reshape(output.shape)))[:, channels]

    return evaluate
