"""The kernel that a candidate's convolution must have had, where only some values are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.faults.basics.case import ALL, Case, Evaluation, Hypothesis, Operation, fitted
from parity.faults.basics.distance import roundings
from parity.faults.basics.fault import CONVOLUTIONS, with_numbers
from parity.faults.basics.operations import convolution
from parity.results.digits import told_apart

_LARGEST_FIT = 1 << 24
"""Elements of a matrix that is fitted: a second's work."""

_SAME = 1e-4
"""Part of the largest parameter by which a fitted one may be off and count as unchanged."""


def _fitted_kernel(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A convolution of the same geometry with the kernel and bias that fit the output best."""
    channels = (roundings(case, base, ALL) > case.limit).nonzero().flatten()
    if base(ALL)[0].shape != case.candidate.shape or not channels.numel():
        return
    own = convolution(case)
    groups = len(own.weight) if own.depthwise else 1
    taps = own.weight[0].numel()
    places = case.candidate[:, 0].numel()
    known = own.groups in (1, groups) and places >= 2 * (taps + 1)
    if not known or taps * places * (len(channels) if own.depthwise else 1) > _LARGEST_FIT:
        return
    weight = own.weight.clone()
    bias = torch.zeros(len(weight), dtype=weight.dtype) if own.bias is None else own.bias.clone()
    for group in torch.split(channels, 1 if own.depthwise else len(channels)):
        x = own.x[:, group] if own.depthwise else own.x
        kernel = (weight.shape[2], weight.shape[3])
        columns = F.unfold(F.pad(x, own.pads), kernel, stride=own.stride)
        matrix = columns.transpose(0, 1).flatten(1).T
        matrix = torch.cat([matrix, torch.ones_like(matrix[:, :1])], 1)
        made = case.candidate[:, group].double().transpose(0, 1).flatten(1).T
        if matrix.shape[0] != made.shape[0]:
            return
        if not bool(torch.isfinite(matrix).all() and torch.isfinite(made).all()):
            return
        found = torch.linalg.lstsq(matrix, made).solution
        weight[group] = found[:-1].T.reshape(weight[group].shape)
        bias[group] = found[-1]
    # What the fit leaves as it was differs by the roundings of the candidate only.
    limit = _SAME * float(own.weight.abs().max())
    wrong = (weight - own.weight).abs() > limit
    weight = torch.where(wrong, weight, own.weight)
    before = torch.zeros_like(bias) if own.bias is None else own.bias
    moved = (bias - before).abs() > _SAME * float(before.abs().max().clamp(min=limit))
    bias = torch.where(moved, bias, before)
    if not bool(wrong.any()):
        return

    def again(case: Case, base: Evaluation) -> Evaluation:
        return replace(convolution(case), weight=weight, bias=bias)

    yield fitted(
        "kernel-values",
        _wrong_values(own.weight, weight, wrong, int(moved.sum())),
        case,
        base,
        again,
        int(wrong.sum()) + int(moved.sum()),
    )


def _wrong_values(before: Tensor, after: Tensor, wrong: Tensor, biases: int) -> str:
    count = int(wrong.sum())
    text = f"{count} of {wrong.numel()} kernel values wrong"
    listed = []
    for index in wrong.nonzero()[:3]:
        made, right = told_apart(float(after[tuple(index)]), float(before[tuple(index)]))
        listed.append(f"{[int(i) for i in index]} is {made} instead of {right}")
    text += f" ([out, in, y, x] {'; '.join(listed)}{'; ...' if count > 3 else ''})"
    return text + (f" and {biases} of {len(before)} biases" if biases else "")


def _one_value(operation: Operation, base: Evaluation) -> Evaluation:
    own = convolution(operation)
    weight = own.weight.clone()
    weight[0, 0, 0, 0] += 0.5 * weight.abs().max()
    return replace(own, weight=weight)


FAULTS = (
    with_numbers(
        "kernel-values",
        "one value of a kernel",
        CONVOLUTIONS,
        _fitted_kernel,
        _one_value,
        # What a bias and a kernel's only value change is as simply said by channels.
        alike=("channels-affine", "channels-scaled"),
    ),
)
"""Wrong values of a kernel, whatever they are."""
