"""What ports get wrong in the global mean of squeeze-excite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parity.faults.case import Case, Channels, Evaluation, Hypothesis
from parity.faults.resampling import changed


def faithful(case: Case) -> Evaluation:
    """The mean over height and width, as it should be."""
    return changed(case, _mean, _mean)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Faults of a global mean, the simplest and likeliest first."""
    x = case.arguments[0]
    height, width = int(x.shape[2]), int(x.shape[3])
    for slug, title, function in (
        ("max-pool", "the largest value instead of the mean", lambda v: v.amax((2, 3), True)),
        ("min-pool", "the smallest value instead of the mean", lambda v: v.amin((2, 3), True)),
        ("sum", "the sum instead of the mean", lambda v: v.sum((2, 3), True)),
        (
            "median",
            "the lower median instead of the mean",
            lambda v: _flat(v).median(2)[0][..., None, None],
        ),
        (
            "median",
            "the median instead of the mean",
            lambda v: torch.quantile(_flat(v), 0.5, 2)[..., None, None],
        ),
        (
            "centre",
            "the centre pixel instead of the mean",
            lambda v: v[:, :, height // 2, width // 2, None, None],
        ),
        ("corner", "the first pixel instead of the mean", lambda v: v[:, :, :1, :1]),
        ("corner", "the last pixel instead of the mean", lambda v: v[:, :, -1:, -1:]),
        (
            "max-and-mean",
            "the average of mean and largest value",
            lambda v: (_mean(v) + v.amax((2, 3), True)) / 2,
        ),
        (
            "max-and-mean",
            "the sum of mean and largest value",
            lambda v: _mean(v) + v.amax((2, 3), True),
        ),
        ("mean-of-magnitudes", "the mean of the magnitudes", lambda v: _mean(v.abs())),
        ("mean-of-squares", "the mean of the squares", lambda v: _mean(v.square())),
        (
            "root-mean-square",
            "the root of the mean of the squares",
            lambda v: _mean(v.square()).sqrt(),
        ),
        (
            "deviation",
            "the standard deviation instead of the mean",
            lambda v: v.std((2, 3), correction=0, keepdim=True),
        ),
        (
            "deviation",
            "the variance instead of the mean",
            lambda v: v.var((2, 3), correction=0, keepdim=True),
        ),
        (
            "mean-of-nonzero",
            "the mean of the values that are not zero",
            lambda v: v.sum((2, 3), True) / (v != 0).sum((2, 3), True),
        ),
        ("mean-activated", "the mean of ReLU of the values", lambda v: _mean(F.relu(v))),
        ("mean-activated", "the mean of swish of the values", lambda v: _mean(F.silu(v))),
    ):
        yield Hypothesis(slug, title, changed(case, function, partial(_with_mean, function)))
    regions = (
        ("the first row", x[:, :, :1]),
        ("the first column", x[..., :1]),
        ("the upper half", x[:, :, : height // 2]),
        ("the lower half", x[:, :, height // 2 :]),
        ("the left half", x[..., : width // 2]),
        ("the right half", x[..., width // 2 :]),
        ("all but the last row and column", x[:, :, :-1, :-1]),
        ("all but the border", x[:, :, 1:-1, 1:-1]),
        ("every second pixel", x[:, :, ::2, ::2]),
        ("the last 7x7 pixels", x[:, :, -7:, -7:]),
        ("the first 7x7 pixels", x[:, :, :7, :7]),
    )
    for title, region in regions:
        if region.numel():
            yield Hypothesis("mean-of-part", f"the mean of {title} only", _region(region))
    divisors = (
        (height, "height"), (width, "width"), (height * width - 1, "the pixels less one"),
        ((height + 1) * (width + 1), "a padded map"),
    )  # fmt: skip
    for divisor, title in divisors:
        if divisor:
            factor = height * width / divisor
            yield Hypothesis(
                "divisor",
                f"the sum divided by {title}",
                changed(case, partial(_scaled_mean, factor), partial(_scaled_mean, factor)),
            )
    for axis, title in ((2, "height"), (3, "width"), (1, "channels")):
        yield Hypothesis("mean-over-other-axes", f"averaged over {title} only", _over(x, (axis,)))
    yield Hypothesis("mean-over-other-axes", "averaged over the images too", _over(x, (0, 2, 3)))
    yield Hypothesis(
        "mean-over-other-axes",
        "its NHWC input read as NCHW",
        lambda channels: (
            _mean(x.permute(0, 2, 3, 1).reshape(x.shape)[:, channels]),
            _mean(x.abs().permute(0, 2, 3, 1).reshape(x.shape)[:, channels]),
        ),
    )
    yield Hypothesis(
        "summed-in-order", "its values added one after another in single precision", _in_order(x)
    )


def _with_mean(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x).abs() + _mean(x)


def _scaled_mean(factor: float, x: Tensor) -> Tensor:
    return factor * _mean(x)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(2)


def _region(region: Tensor) -> Evaluation:
    return lambda channels: (_mean(region[:, channels]), _mean(region[:, channels].abs()))


def _over(x: Tensor, axes: tuple[int, ...]) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = x.mean(axes, keepdim=True), x.abs().mean(axes, keepdim=True)
        if 0 in axes:
            output, gauge = (v.expand(x.shape[0], -1, -1, -1) for v in (output, gauge))
        return (output, gauge) if 1 in axes else (output[:, channels], gauge[:, channels])

    return evaluate


def _in_order(x: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        flat = _flat(x[:, channels]).cpu().numpy().astype(np.float32)
        # NumPy's cumulative sum keeps the order and the type, unlike its sum.
        total = np.cumsum(flat, axis=2, dtype=np.float32)[..., -1]
        output = torch.from_numpy(total).double().to(x.device) / flat.shape[2]
        return output[..., None, None], _mean(x[:, channels].abs())

    return evaluate
