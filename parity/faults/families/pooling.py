"""Max-pools with other windows, and what stands in their place: averages, blurs, mixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    ALL,
    Case,
    Evaluation,
    Hypothesis,
    Operation,
    fitted,
    with_these,
)
from parity.faults.basics.fault import Fault, Variant, in_variants, with_numbers
from parity.faults.basics.operations import (
    Change,
    Sides,
    extended,
    of_plane,
    same_max_pool,
    same_pads,
    strides,
    target,
)
from parity.results.digits import told

_KINDS = frozenset({NodeKind.POOL})

_LARGEST_KERNEL = 7
"""Side of the largest window that is looked for."""

_VALUES = 3
"""Values at the border that must show what a max-pool was padded with."""

_REACH = 5
"""Side of the windows of which weighted sums are fitted."""


def _window(
    x: Tensor,
    size: Sides,
    stride: Sides,
    kernel: Sides,
    first: Sides,
    fill: float | str,
    dilation: Sides = (1, 1),
) -> Tensor:
    """Features extended so that windows begin ``first`` pixels before the map."""
    for axis, place in ((2, 0), (3, 1)):
        reach = (kernel[place] - 1) * dilation[place] + 1
        after = (size[place] - 1) * stride[place] + reach - first[place] - x.shape[axis]
        if isinstance(fill, str):
            x = extended(x, axis, first[place], after, fill)
        else:
            pads = (first[place], after) if axis == 3 else (0, 0, first[place], after)
            x = F.pad(x, pads, value=fill)
    return x


def _largest(
    own: Operation, kernel: Sides, first: Sides, fill: float, dilation: Sides, x: Tensor
) -> Tensor:
    stride = strides(own)
    seen = _window(x, target(own), stride, kernel, first, fill, dilation)
    return F.max_pool2d(seen, kernel, stride, dilation=dilation)


def _other_windows(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Max-pools with windows of another size, at another place or with gaps."""
    stride = strides(operation)
    square = [
        ((side, side), (first, first), (gap, gap))
        for gap in (1, 2, 3)
        for side in range(1, _LARGEST_KERNEL + 1)
        for first in range(-stride[0], (side - 1) * gap + 1)
        if gap == 1 or side > 1
    ]
    others = [
        ((rows, columns), (up, along), (1, 1))
        for rows, columns in product(range(1, 5), repeat=2)
        for up, along in product(range(-1, 3), repeat=2)
    ]
    for kernel, first, gap in dict.fromkeys(square + others):
        for fill, what in ((-np.inf, "-inf"), (0.0, "zeros")):
            gaps = f" with {gap[0] - 1} pixels between those they look at" if gap[0] > 1 else ""
            words = (
                f"windows of {kernel[0]}x{kernel[1]} pixels{gaps} that begin at row {-first[0]} "
                f"and column {-first[1]}, padded with {what}"
            )
            change = partial(_largest, operation, kernel, first, fill, gap)
            yield words, of_plane(operation, change)


def _averaged(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Averages over windows of any size and place."""
    for side in range(1, _LARGEST_KERNEL + 1):
        for first in range(-1, side):
            for counted in (True, False):
                change = partial(_mean, operation, side, first, counted)
                padding = "padding counted" if counted else "padding left out"
                yield (
                    f"averaged over windows of {side}x{side} pixels that begin at row and column "
                    f"{-first}, {padding}",
                    of_plane(operation, change, change),
                )


def _mean(own: Operation, side: int, first: int, counted: bool, x: Tensor) -> Tensor:
    stride, kernel = strides(own), (side, side)
    place = (first, first)
    total = F.avg_pool2d(_window(x, target(own), stride, kernel, place, 0.0), kernel, stride)
    if counted:
        return total
    ones = _window(torch.ones_like(x[:1, :1]), target(own), stride, kernel, place, 0.0)
    return total / F.avg_pool2d(ones, kernel, stride)


_BLURS = ((1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 3.0, 3.0, 1.0), (1.0, 4.0, 6.0, 4.0, 1.0))


def _blurred(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Blur-pools: a maximum at every pixel, then a blur that takes every second one."""
    for taps, side, fill in product(_BLURS, (2, 3, 1), ("reflect", "zeros", "replicate")):
        for first in {(len(taps) - 1) // 2, len(taps) // 2}:
            for before in dict.fromkeys(((side - 1) // 2, 0, side // 2)):
                change = partial(_blur, operation, taps, side, first, before, fill)
                what = f"a maximum over {side}x{side} pixels, then " if side > 1 else ""
                yield (
                    f"{what}a blur of {len(taps)}x{len(taps)} pixels at stride "
                    f"{strides(operation)[0]} (blur-pool, padded by {fill})",
                    of_plane(operation, change, change),
                )


def _blur(
    own: Operation,
    taps: tuple[float, ...],
    side: int,
    first: int,
    before: int,
    fill: str,
    x: Tensor,
) -> Tensor:
    stride = strides(own)
    if side > 1:
        pads = (before, side - 1 - before) * 2
        x = F.max_pool2d(F.pad(x, pads, value=-np.inf), side, 1)
    line = torch.tensor(taps, dtype=x.dtype)
    line = line / line.sum()
    kernel = (line[:, None] * line).expand(x.shape[1], 1, -1, -1)
    seen = _window(x, target(own), stride, (len(taps),) * 2, (first, first), fill)
    return F.conv2d(seen, kernel, None, stride, groups=x.shape[1])


def _other_statistics(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Something else of the values of each window."""
    for words, function in (
        ("the second largest value of each window instead of the largest", _second),
        ("the median of each window instead of its largest value", _median),
        ("the root of the windows' mean square", lambda w: w.square().mean(2).sqrt()),
        ("the root of the windows' sum of squares", lambda w: w.square().sum(2).sqrt()),
        ("the largest magnitude of each window", lambda w: w.abs().amax(2)),
        ("the value of the largest magnitude of each window", _strongest),
        ("a soft maximum (softmax-weighted mean) of each window",
         lambda w: (w * w.softmax(2)).sum(2)),
        ("the logarithm of the windows' sum of exponentials", lambda w: w.logsumexp(2)),
        ("the sum of each window", lambda w: w.sum(2)),
        ("the middle between the largest and the smallest value of each window",
         lambda w: (w.amax(2) + w.amin(2)) / 2),
    ):  # fmt: skip
        for side in dict.fromkeys((strides(operation)[0] + 1, strides(operation)[0])):
            change = partial(_of_windows, operation, side, function)
            reach = partial(_of_windows, operation, side, lambda w: w.abs().sum(2))
            yield f"{words}, {side}x{side} pixels", of_plane(operation, change, reach)


def _of_windows(own: Operation, side: int, function: Change, x: Tensor) -> Tensor:
    stride, size = strides(own), target(own)
    left, _, top, _ = same_pads(x, (side, side), stride)
    seen = _window(x, size, stride, (side, side), (top, left), 0.0)
    columns = F.unfold(seen, side, stride=stride).view(len(x), x.shape[1], side * side, *size)
    return function(columns)


def _second(windows: Tensor) -> Tensor:
    return windows.topk(2, 2).values[:, :, 1]


def _median(windows: Tensor) -> Tensor:
    return windows.median(2).values


def _strongest(windows: Tensor) -> Tensor:
    return windows.gather(2, windows.abs().argmax(2, keepdim=True))[:, :, 0]


def _fitted_padding(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A max-pool padded with some value, which wins where the map's border is below it."""
    candidate = case.candidate.double()
    for first in (None, 1):
        output = _padded_with(case, -np.inf, first, case.arguments[0])
        if output.shape != candidate.shape:
            continue
        wrong = candidate > output + case.bound * case.unit * output.abs()
        if int(wrong.sum()) < _VALUES:
            continue
        value = float(candidate[wrong].median())
        yield fitted(
            "pool-padding-value",
            f"padded with {value:.5g} instead of -inf" + (", on every side" if first else ""),
            case,
            base,
            with_these(_with_padding, value, first),
            1,
        )


def _with_padding(operation: Operation, value: float, first: int | None) -> Evaluation:
    return of_plane(operation, partial(_padded_with, operation, value, first))


def _padded_with(own: Operation, value: float, first: int | None, x: Tensor) -> Tensor:
    stride = strides(own)
    kernel = (stride[0] + 1, stride[1] + 1)
    if first is None:
        return same_max_pool(x, kernel, stride, value)
    place = (first, first)
    return F.max_pool2d(_window(x, target(own), stride, kernel, place, value), kernel, stride)


def _fitted_mixture(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Maximum and average of each window, each times a number."""
    largest = base(ALL)[0]
    if largest.shape != case.candidate.shape:
        return
    for side, counted in product((strides(case)[0] + 1, strides(case)[0]), (False, True)):
        average = _averages(case, side, counted, case.arguments[0])
        matrix = torch.stack([largest.flatten(), average.flatten()], 1)
        if len(matrix) < 16:
            return
        found = torch.linalg.lstsq(matrix, case.candidate.double().reshape(-1, 1)).solution
        a, b = (float(v) for v in found[:, 0])
        a, b = (float(f"{v:.5g}") for v in (a, b))
        if told(b, 0.0) is None or not b:
            continue
        yield fitted(
            "pool-mixed",
            f"{a:g} times the largest value and {b:g} times the average of each window",
            case,
            base,
            with_these(_mixed, a, b, side, counted),
            2,
        )


def _averages(own: Operation, side: int, counted: bool, x: Tensor) -> Tensor:
    first = same_pads(x, (side, side), strides(own))[2]
    return _mean(own, side, first, counted, x)


def _mixed(operation: Operation, a: float, b: float, side: int, counted: bool) -> Evaluation:
    stride = strides(operation)
    kernel = (stride[0] + 1, stride[1] + 1)

    def change(of_largest: float, of_average: float, x: Tensor) -> Tensor:
        average = _averages(operation, side, counted, x)
        return of_largest * same_max_pool(x, kernel, stride, -np.inf) + of_average * average

    magnitude = partial(change, abs(a), abs(b))
    return of_plane(operation, partial(change, a, b), magnitude)


def _fitted_sum(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A weighted sum of each window with the same weights everywhere, whatever they are."""
    x = case.arguments[0]
    candidate = case.candidate.double()
    if base(ALL)[0].shape != candidate.shape or candidate.numel() < 4 * _REACH**2:
        return
    for fill in ("zeros", "replicate", "reflect"):
        seen = _reaching(case, x, fill)
        columns = F.unfold(
            seen.flatten(0, 1)[:, None], _REACH, stride=strides(case)
        )  # fmt: skip
        matrix = columns.transpose(1, 2).flatten(0, 1)
        found = torch.linalg.lstsq(matrix, candidate.reshape(-1, 1)).solution[:, 0]
        found = torch.where(found.abs() < 1e-5, 0.0, found)
        used = int((found != 0).sum())
        if not 0 < used < _REACH**2 or not bool(torch.isfinite(found).all()):
            continue
        kernel = found.view(1, 1, _REACH, _REACH)
        yield fitted(
            "pool-linear",
            f"a weighted sum of {used} pixels of each window instead of the largest, weights "
            f"{float(found[found != 0].min()):.4g} to {float(found.max()):.4g}",
            case,
            base,
            with_these(_summed, kernel, fill),
            used,
        )


def _reaching(case: Operation, x: Tensor, fill: str) -> Tensor:
    first = (_REACH // 2, _REACH // 2)
    return _window(x, target(case), strides(case), (_REACH, _REACH), first, fill)


def _summed(operation: Operation, kernel: Tensor, fill: str) -> Evaluation:
    def change(weights: Tensor, x: Tensor) -> Tensor:
        seen = _reaching(operation, x, fill).flatten(0, 1)[:, None]
        made = F.conv2d(seen, weights.to(x.dtype), None, strides(operation))
        return made.view(*x.shape[:2], *made.shape[2:])

    return of_plane(operation, partial(change, kernel), partial(change, kernel.abs()))


def _of(slug: str, title: str, variants: Callable[..., Iterator[Variant]], put_in: int = 0,
        alike: tuple[str, ...] = ()) -> Fault:  # fmt: skip
    return in_variants(slug, title, _KINDS, variants, put_in=put_in, alike=alike)


FAULTS = (
    # Beside a 2x2 window that begins with the map there are windows of simpler names.
    _of(
        "pool-window-other",
        "max-pool with other windows",
        _other_windows,
        3 * 2,
        alike=("pool-kernel-is-stride", "subsampled", "pool-moved"),
    ),
    _of("average-pool", "average over other windows", _averaged, 8),
    _of("blur-pool", "a blur-pool for a max-pool", _blurred),
    _of("pool-statistic", "the second largest value for the largest", _other_statistics),
    with_numbers(
        "pool-padding-value",
        "max-pool padded with another value",
        _KINDS,
        _fitted_padding,
        lambda operation, base: of_plane(operation, partial(_padded_with, operation, 0.5, None)),
    ),
    with_numbers(
        "pool-mixed",
        "a mixture of maximum and average",
        _KINDS,
        _fitted_mixture,
        lambda operation, base: _mixed(operation, 0.5, 0.5, 3, False),
    ),
    with_numbers(
        "pool-linear",
        "a weighted sum for a maximum",
        _KINDS,
        _fitted_sum,
        lambda operation, base: _summed(
            operation, F.pad(torch.arange(1.0, 10.0).view(1, 1, 3, 3) / 45, (1, 1, 1, 1)), "zeros"
        ),
    ),
)
"""Faults of a max-pool's windows, the simplest first."""
