"""What ports get wrong in a convolution's padding: what it is made of, how much of it, where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    Site,
    fitted,
    number,
    with_these,
)
from parity.faults.basics.fault import (
    CONVOLUTIONS,
    Fault,
    Variant,
    in_variants,
    kernel_of,
    with_numbers,
)
from parity.faults.basics.operations import (
    Convolution,
    Pads,
    convolution,
    interpolated,
    padded_by,
    same_pads,
)
from parity.results.digits import told

_WORDS = {
    "reflect": "reflection",
    "replicate": "the border's pixels",
    "circular": "the opposite side's pixels",
    "symmetric": "reflection with the border twice",
    "zeros": "zeros",
}

_FURTHEST = 2
"""Pixels beyond the kernel's half by which a window's beginning is looked for."""

_POSITIONS = 64
"""Positions at the border by which a value for each input channel is fitted."""


def _wide(site: Site) -> bool:
    """Whether a kernel reaches beyond the border at all."""
    return max(kernel_of(site).shape[2:]) > 1


def _before(own: Convolution) -> Pads:
    """The odd pixel before instead of after."""
    left, right, top, bottom = own.pads
    return right, left, bottom, top


def _places(own: Convolution) -> Iterator[tuple[Pads, str]]:
    """Where padding may be, and how that is said where it is not the faithful place."""
    yield own.pads, ""
    if own.symmetric != own.pads:
        yield own.symmetric, ", as much on every side"
    if _before(own) not in (own.pads, own.symmetric):
        yield _before(own), ", the odd pixel before"


def _of_mode(mode: str) -> Fault:
    """Padding by something else than zeros, along both axes or along one."""
    name = f"{_WORDS[mode]} ({mode})"

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        own = convolution(operation)
        if not any(own.symmetric):
            return
        for modes, along in (
            ((mode, mode), ""),
            (("zeros", mode), " along its width"),
            ((mode, "zeros"), " along its height"),
        ):
            for pads, where in _places(own):
                yield (
                    f"padding by {name}{along} instead of zeros{where}",
                    padded_by(own, pads, modes),
                )

    title = f"padding by {mode} instead of zeros"
    # Of a kernel of three the border twice is the border repeated.
    alike = ("padding-replicate",) if mode == "symmetric" else ()
    return in_variants(f"padding-{mode}", title, CONVOLUTIONS, variants, alike=alike)


def _mixed(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    if not any(own.symmetric):
        return
    kinds = [mode for mode in _WORDS if mode != "zeros"]
    for rows, columns in product(kinds, kinds):
        if rows != columns:
            for pads, where in _places(own):
                yield (
                    f"padding by {_WORDS[rows]} above and below and by {_WORDS[columns]} left "
                    f"and right instead of zeros{where}",
                    padded_by(own, pads, (rows, columns)),
                )


def _in_one_axis(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """No padding along one axis, or along both, and the size made up for afterwards."""
    own = convolution(operation)
    left, right, top, bottom = own.symmetric
    if not left + top:
        return
    for pads, what in (
        ((0, 0, 0, 0), "no padding"),
        ((left, right, 0, 0), "no padding above and below"),
        ((0, 0, top, bottom), "no padding left and right"),
    ):
        short = replace(own, pads=pads)
        yield f"{what}, the missing rows and columns zeros at the end", _filled(short, False, 0.0)
        yield f"{what}, the missing rows and columns zeros around", _filled(short, True, 0.0)
        yield f"{what}, its output's border repeated around", _filled(short, True, None)
        for mode in ("nearest", "bilinear"):
            resized = partial(interpolated, size=own.size, mode=mode, dtype=operation.dtype)
            yield f"{what}, its output brought to size ({mode})", _then(resized, short)


def _filled(short: Convolution, around: bool, value: float | None) -> Evaluation:
    def fill(x: Tensor) -> Tensor:
        rows, columns = (goal - side for goal, side in zip(short.size, x.shape[2:], strict=True))
        pads = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        pads = pads if around else (0, columns, 0, rows)
        return F.pad(x, pads, mode="replicate") if value is None else F.pad(x, pads, value=value)

    return lambda channels: _both(fill, short(channels))


def _then(change: Callable[[Tensor], Tensor], whole: Evaluation) -> Evaluation:
    return lambda channels: _both(change, whole(channels))


def _both(change: Callable[[Tensor], Tensor], made: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return change(made[0]), change(made[1])


def _elsewhere(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Windows that begin at another pixel: padding of another size, kernel, stride or side."""
    own = convolution(operation)
    if max(own.kernel) == 1:
        return
    left, _, top, _ = own.pads
    rows, columns = (range(-_FURTHEST, side // 2 + _FURTHEST + 1) for side in own.kernel)
    pairs = [(up, along) for up, along in product(rows, columns) if (up, along) != (top, left)]
    # Little away from what it should be is likelier.
    for up, along in sorted(pairs, key=lambda pair: abs(pair[0] - top) + abs(pair[1] - left)):
        down, right = (
            (goal - 1) * step + side - size - first
            for goal, step, side, size, first in zip(
                own.size, own.stride, own.kernel, own.x.shape[2:], (up, along), strict=True
            )
        )
        yield (
            f"its windows begin at row {-up} and column {-along} instead of {-top} and {-left} "
            f"(padding of {up} above and {along} left)",
            replace(own, pads=(along, right, up, down)),
        )


def _odd_before(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    if _before(own) not in (own.pads, own.symmetric):
        yield "the odd pixel of padding before instead of after", replace(own, pads=_before(own))


def _constant(operation: Operation, value: float, pads: Pads) -> Evaluation:
    own = convolution(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        part = own.only(channels)
        return replace(part, x=F.pad(part.x, pads, value=value), pads=(0, 0, 0, 0))(ALL)

    return evaluate


def _fitted_constant(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """One value all around."""
    own = convolution(case)
    for pads, where in _places(own):
        response = _response(own, pads)
        output = replace(own, pads=pads)(ALL)[0]
        if output.shape != case.candidate.shape or response is None:
            continue
        error = case.candidate.double() - output
        power = float(response.square().sum()) * len(error)
        value = float((error * response).sum()) / power if power else 0.0
        text = told(value, 0.0)
        if text is not None and value:
            for said in dict.fromkeys((float(f"{value:.3g}"), value)):
                yield fitted(
                    "padding-constant",
                    f"padding by {said:.5g} instead of zeros{where}",
                    case,
                    base,
                    with_these(_constant, said, pads),
                    1,
                )


def _response(own: Convolution, pads: Pads) -> Tensor | None:
    """What padding by one adds to each output channel, [1, O, H, W]."""
    if not any(pads):
        return None
    # Zero inside and one around is one less than one everywhere.
    inside = torch.zeros_like(own.x[:1])
    around = replace(own, x=F.pad(inside, pads, value=1.0), pads=(0, 0, 0, 0), bias=None)
    return around._apply(around.x, around.weight, None, around.groups)


def _fitted_of_channel(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A value for each channel, such as a norm's offset where it comes after the padding."""
    own = convolution(case)
    for pads, where in _places(own):
        output = replace(own, pads=pads)(ALL)[0]
        if output.shape != case.candidate.shape or not any(pads):
            continue
        error = case.candidate.double() - output
        values = _of_depthwise(own, pads, error) if own.depthwise else _of_dense(own, pads, error)
        if values is None or not bool(torch.isfinite(values).all()):
            continue
        low, high = float(values.min()), float(values.max())
        yield fitted(
            "padding-of-channel",
            f"each channel padded with a value of its own instead of zero, {number(low)} to "
            f"{number(high)}{where}, as where padding comes before a batch norm",
            case,
            base,
            with_these(_by_channel, values, pads),
            len(values),
        )


def _of_depthwise(own: Convolution, pads: Pads, error: Tensor) -> Tensor | None:
    response = _response(own, pads)
    if response is None:
        return None
    axes = (0, 2, 3)
    power = response.square().sum(axes) * len(error)
    values = (error * response).sum(axes) / power
    # A filter of zeros shows nothing.
    return torch.where(power > 1e-12 * power.max(), values, 0.0)


def _of_dense(own: Convolution, pads: Pads, error: Tensor) -> Tensor | None:
    inputs = own.weight.shape[1]
    if own.groups != 1 or error.shape[1] * _POSITIONS < 2 * inputs:
        return None
    inside = F.pad(torch.zeros_like(own.x[:1, :1]), pads, value=1.0)
    ones = torch.ones_like(own.weight[:1, :1])
    count = F.conv2d(inside, ones, None, own.stride, 0, own.dilation)[0, 0]
    places = (count > 0).nonzero()
    chosen = places[torch.linspace(0, len(places) - 1, min(len(places), _POSITIONS)).long()]
    if not len(chosen):
        return None
    rows, columns = own.kernel
    taps = torch.stack([
        inside[0, 0, y * own.stride[0] : y * own.stride[0] + rows,
               x * own.stride[1] : x * own.stride[1] + columns]
        for y, x in chosen.tolist()
    ])  # fmt: skip
    matrix = torch.einsum("pyx,oiyx->poi", taps, own.weight).flatten(0, 1)
    target = error[0, :, chosen[:, 0], chosen[:, 1]].T.reshape(-1, 1)
    found: Tensor = torch.linalg.lstsq(matrix, target).solution[:, 0]
    return found


def _by_channel(operation: Operation, values: Tensor, pads: Pads) -> Evaluation:
    own = convolution(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        part = own.only(channels)
        chosen = values[channels] if own.depthwise else values
        around = F.pad(torch.zeros_like(part.x[:1, :1]), pads, value=1.0)
        x = F.pad(part.x, pads) + around * chosen.to(part.x.dtype).view(1, -1, 1, 1)
        return replace(part, x=x, pads=(0, 0, 0, 0))(ALL)

    return evaluate


def _pooled(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Every pixel computed, then the size brought down by something else than a stride."""
    own = convolution(operation)
    if max(own.stride) == 1:
        return
    step = max(own.stride)
    one = replace(own, stride=(1, 1))
    for pads in dict.fromkeys((one.symmetric, same_pads(own.x, own.kernel, (1, 1)))):
        for words, change in (
            ("averaged", partial(F.avg_pool2d, kernel_size=step, stride=step, ceil_mode=True)),
            (
                "averaged over overlapping windows",
                partial(F.avg_pool2d, kernel_size=step + 1, stride=step, padding=1),
            ),
            ("their largest", partial(F.max_pool2d, kernel_size=step, stride=step, ceil_mode=True)),
            (
                "the largest of overlapping windows",
                partial(F.max_pool2d, kernel_size=step + 1, stride=step, padding=1),
            ),
            (
                "interpolated",
                partial(interpolated, size=own.size, mode="bilinear", dtype=operation.dtype),
            ),
        ):
            said = words if words == "interpolated" else f"{words} taken of each {step}x{step}"
            whole = replace(one, pads=pads)
            yield (
                f"computed at every pixel, then {said}, instead of with stride {step}",
                _then(change, whole),
            )


def _partial(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Where the border lacks values, the others count for more."""
    own = convolution(operation)
    for pads, where in _places(own):
        if any(pads):
            yield (
                f"a partial convolution: what the border lacks is made up for by its other "
                f"values{where}",
                _renormalised(own, pads),
            )


def _renormalised(own: Convolution, pads: Pads) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        part = replace(own.only(channels), pads=pads)
        ones = F.pad(torch.ones_like(part.x[:1, :1]), pads)
        kernel = torch.ones_like(part.weight[:1, :1])
        there = F.conv2d(ones, kernel, None, own.stride, 0, own.dilation)
        factor = kernel.numel() / there.clamp(min=1)
        output, gauge = replace(part, bias=None)(ALL)
        bias = 0.0 if part.bias is None else part.bias.view(1, -1, 1, 1)
        offset = bias.abs() if isinstance(bias, Tensor) else 0.0
        return output * factor + bias, gauge * factor + offset

    return evaluate


MODES = tuple(_of_mode(mode) for mode in ("reflect", "replicate", "circular", "symmetric"))
"""Padding by something else than zeros."""

FAULTS = (
    in_variants("padding-before", "the odd pixel of padding before", CONVOLUTIONS, _odd_before,
                where=_wide, alike=("padding-symmetric",)),
    in_variants("padding-partial", "a partial convolution", CONVOLUTIONS, _partial, where=_wide),
    in_variants("stride-pooled", "an average for a stride", CONVOLUTIONS, _pooled),
    in_variants("padding-none", "no padding, its size made up for", CONVOLUTIONS, _in_one_axis,
                where=_wide),
    in_variants("padding-other", "windows that begin elsewhere", CONVOLUTIONS, _elsewhere,
                where=_wide, alike=("stride-moved",)),
    in_variants("padding-mixed", "one padding for rows, another for columns", CONVOLUTIONS, _mixed,
                where=_wide),
    with_numbers(
        "padding-constant",
        "padding by another value than zero",
        CONVOLUTIONS,
        _fitted_constant,
        lambda operation, base: _constant(operation, 0.5, convolution(operation).pads),
        where=_wide,
    ),
    with_numbers(
        "padding-of-channel",
        "padding with a value for each channel",
        CONVOLUTIONS,
        _fitted_of_channel,
        lambda operation, base: _by_channel(
            operation,
            torch.linspace(-1, 1, operation.arguments[0].shape[1]),
            convolution(operation).pads,
        ),
        where=_wide,
    ),
)  # fmt: skip
"""Other paddings of a convolution, the simplest first."""
