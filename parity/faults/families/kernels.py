"""What ports make of a kernel before they use it: a part, groups, fewer bits, fewer values."""

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
    with_these,
)
from parity.faults.basics.distance import roundings
from parity.faults.basics.fault import (
    CONVOLUTIONS,
    Fault,
    Variant,
    in_variants,
    kernel_of,
    with_numbers,
)
from parity.faults.basics.operations import Change, Convolution, convolution

_Kernels = Iterator[tuple[str, Change]]
"""The forms that a fault may take: in words, and what it makes of a kernel."""

_BITS = (8, 4, 7, 6, 5, 3, 2)
"""Bits of a weight, the likeliest first."""

_MOST_LEVELS = 4096
"""Levels beyond which weights lie on no grid that says anything."""

_TELLING = 4
"""Output channels by which a number is fitted."""

_LARGEST_SEARCH = 1 << 30
"""Products by which a limit for each output channel is looked for: some seconds' work."""

_LARGEST = 1 << 24
"""Elements of an array that is made to fit a number."""


def _dense(site: Site) -> bool:
    return kernel_of(site).shape[1] > 1


def _wide(site: Site) -> bool:
    return max(kernel_of(site).shape[2:]) > 1


def _fault(
    slug: str,
    title: str,
    forms: Callable[[Convolution], _Kernels],
    where: Callable[[Site], bool] = lambda site: True,
    put_in: int = 0,
    alike: tuple[str, ...] = (),
    made: Callable[[Convolution, Change], Evaluation] | None = None,
) -> Fault:
    """A convolution with something else made of its kernel."""
    changed = made or _with

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        own = convolution(operation)
        for words, change in forms(own):
            yield words, changed(own, change)

    return in_variants(slug, title, CONVOLUTIONS, variants, where=where, put_in=put_in, alike=alike)


def _with(own: Convolution, change: Change) -> Evaluation:
    # The kernel is made only where it is held against something.
    return lambda channels: replace(own, weight=change(own.weight))(channels)


def _of_decomposed(own: Convolution, change: Change) -> Evaluation:
    """A kernel that a decomposition has made, which carries the whole kernel's roundings."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        kernel = change(own.weight)
        output, gauge = replace(own, weight=kernel)(channels)
        size = kernel.abs() + own.weight.abs() + own.weight.square().mean().sqrt()
        return output, gauge + replace(own, weight=size)(channels)[1]

    return evaluate


def _in_float32(change: Change) -> Change:
    """A kernel that a port makes in its own type, whose roundings decide which way values go."""
    return lambda weight: change(weight.float()).to(weight.dtype)


# A part of a kernel


def _cropped(own: Convolution) -> _Kernels:
    """Only the taps of a rectangle."""
    height, width = own.kernel
    rectangles = [
        (top, bottom, left, right)
        for top in range(height)
        for bottom in range(top + 1, height + 1)
        for left in range(width)
        for right in range(left + 1, width + 1)
        if (bottom - top, right - left) != (height, width)
    ]
    # The centre is likelier than a corner, and of each the larger.
    middle = (height / 2, width / 2)

    def order(part: tuple[int, int, int, int]) -> tuple[float, int]:
        top, bottom, left, right = part
        off = abs((top + bottom) / 2 - middle[0]) + abs((left + right) / 2 - middle[1])
        return off, -(bottom - top) * (right - left)

    for top, bottom, left, right in sorted(rectangles, key=order):
        yield (
            f"only {bottom - top}x{right - left} of its kernel's {height}x{width} values, from "
            f"row {top} and column {left} on",
            partial(_part, rows=slice(top, bottom), columns=slice(left, right)),
        )


def _part(weight: Tensor, rows: slice, columns: slice) -> Tensor:
    result = torch.zeros_like(weight)
    result[:, :, rows, columns] = weight[:, :, rows, columns]
    return result


def _hollow(own: Convolution) -> _Kernels:
    height, width = own.kernel
    yield "its kernel's centre zero", partial(_without_tap, y=height // 2, x=width // 2)
    yield "only the centre row and column of its kernel (a cross)", _cross


def _without_tap(weight: Tensor, y: int, x: int) -> Tensor:
    result = weight.clone()
    result[:, :, y, x] = 0
    return result


def _cross(weight: Tensor) -> Tensor:
    result = torch.zeros_like(weight)
    y, x = weight.shape[2] // 2, weight.shape[3] // 2
    result[:, :, y], result[..., x] = weight[:, :, y], weight[..., x]
    return result


def _separable(own: Convolution) -> _Kernels:
    """Each filter as a sum of products of a column and a row."""
    for rank in range(1, min(own.kernel)):
        yield (
            f"each filter approximated by {rank} separable filter{'s' * (rank > 1)} (a column "
            f"times a row)",
            partial(_of_rank, rank=rank, split=2),
        )


def _of_rank(weight: Tensor, rank: int, split: int) -> Tensor:
    """The nearest kernel of a lower rank, as a matrix of the axes before and after ``split``."""
    shape = weight.shape
    matrix = weight if split == 2 else weight.flatten(1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = left[..., :rank] * values[..., None, :rank] @ right[..., :rank, :]
    nearest: Tensor = kept.reshape(shape)
    return nearest


# Groups


def _grouped(own: Convolution) -> _Kernels:
    """A dense kernel used with groups."""
    outputs, inputs = own.weight.shape[:2]
    if own.groups != 1:
        return
    for groups in range(2, min(outputs, inputs) + 1):
        if outputs % groups == 0 and inputs % groups == 0:
            yield (
                f"in {groups} groups: each reads only its own inputs",
                partial(_block_diagonal, groups=groups, first=False),
            )
            yield (
                f"in {groups} groups, with the first {inputs // groups} inputs' weights of each "
                f"output",
                partial(_block_diagonal, groups=groups, first=True),
            )


def _block_diagonal(weight: Tensor, groups: int, first: bool) -> Tensor:
    result = torch.zeros_like(weight)
    rows, columns = weight.shape[0] // groups, weight.shape[1] // groups
    for group in range(groups):
        outputs = slice(group * rows, (group + 1) * rows)
        inputs = slice(group * columns, (group + 1) * columns)
        taken = slice(0, columns) if first else inputs
        result[outputs, inputs] = weight[outputs, taken]
    return result


# Fewer bits


def _quantised(own: Convolution) -> _Kernels:
    """Weights of a few bits, with the scales that quantisers choose."""
    for bits in _BITS:
        for each, axes in (
            ("a scale for each output channel", (1, 2, 3)),
            ("one scale", (0, 1, 2, 3)),
            ("a scale for each input channel", (0, 2, 3)),
        ):
            for levels, symmetric in (
                (2 ** (bits - 1) - 1, "symmetric"), (2 ** (bits - 1), "to a power of two levels"),
                (0, "affine"),
            ):  # fmt: skip
                yield (
                    f"its kernel quantised to {bits} bits, {symmetric}, {each}",
                    _in_float32(partial(_on_grid, bits=bits, axes=axes, levels=levels)),
                )
        yield (
            f"its kernel quantised to {bits} bits, with a power of two as one scale",
            _in_float32(partial(_on_power, bits=bits)),
        )


def _on_grid(weight: Tensor, bits: int, axes: tuple[int, ...], levels: int) -> Tensor:
    most = 2 ** (bits - 1)
    if levels:
        scale = (weight.abs().amax(axes, keepdim=True) / levels).clamp(min=1e-30)
        return (weight / scale).round().clamp(-most, most - 1) * scale
    # Zero is a number of an affine grid.
    low = weight.amin(axes, keepdim=True).clamp(max=0)
    high = weight.amax(axes, keepdim=True).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-30)
    zero = (-low / scale).round()
    number = ((weight / scale).round() + zero).clamp(0, 2**bits - 1)
    made: Tensor = (number - zero) * scale
    return made


def _on_power(weight: Tensor, bits: int) -> Tensor:
    most = 2 ** (bits - 1)
    scale = torch.exp2((weight.abs().amax() / (most - 1)).log2().ceil())
    return (weight / scale).round().clamp(-most, most - 1) * scale


def _ternary(own: Convolution) -> _Kernels:
    yield "only the signs of its kernel", torch.sign
    yield (
        "its kernel's signs times the mean magnitude of each output channel (binary weights)",
        lambda w: w.sign() * w.abs().mean((1, 2, 3), keepdim=True),
    )
    yield (
        "its kernel's signs times the mean magnitude (binary weights)",
        lambda w: w.sign() * w.abs().mean(),
    )
    yield (
        "its kernel's values rounded to powers of two",
        lambda w: torch.where(w == 0, w, w.sign() * torch.exp2(w.abs().log2().round())),
    )


# Normalised kernels


def _standardised(own: Convolution) -> _Kernels:
    """Weight standardisation and its kin, whose epsilons differ between libraries."""
    count = own.weight[0].numel()
    if count < 2:
        return
    for what, axes in (("each output channel's", (1, 2, 3)), ("the whole kernel's", (0, 1, 2, 3))):
        yield (
            f"{what} mean subtracted from its weights",
            partial(_standard, axes=axes, epsilon=None, correction=0, gain=1.0),
        )
        for epsilon in (0.0, 1e-5, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3):
            for correction in (0, 1):
                for gain, fan in ((1.0, ""), (count**-0.5, " and its fan-in's square root")):
                    unbiased = ", unbiased" if correction else ""
                    yield (
                        f"its weights standardised by {what} mean and deviation{unbiased}{fan} "
                        f"(epsilon {epsilon:g})",
                        partial(_standard, axes=axes, epsilon=epsilon, correction=correction,
                                gain=gain),
                    )  # fmt: skip


def _standard(
    weight: Tensor, axes: tuple[int, ...], epsilon: float | None, correction: int, gain: float
) -> Tensor:
    centred = weight - weight.mean(axes, keepdim=True)
    if epsilon is None:
        return centred
    variance = weight.var(axes, correction=correction, keepdim=True)
    return centred * gain / (variance + epsilon).sqrt()


def _normed(own: Convolution) -> _Kernels:
    yield (
        "each output channel's weights divided by their norm",
        lambda w: w / w.flatten(1).norm(dim=1).view(-1, 1, 1, 1),
    )
    yield (
        "each output channel's weights divided by the sum of their magnitudes",
        lambda w: w / w.abs().sum((1, 2, 3), keepdim=True),
    )
    yield (
        "each output channel's weights divided by their largest magnitude",
        lambda w: w / w.abs().amax((1, 2, 3), keepdim=True),
    )
    yield "its kernel divided by its norm", lambda w: w / w.norm()
    yield (
        "its kernel divided by its largest singular value (spectral norm)",
        lambda w: w / torch.linalg.matrix_norm(w.flatten(1), 2),
    )
    yield "its kernel's magnitudes", torch.abs
    yield "a softmax of each output channel's weights", _softmax
    yield "tanh of its weights", torch.tanh
    yield "its weights squared", torch.square


def _softmax(weight: Tensor) -> Tensor:
    return weight.flatten(1).softmax(1).reshape(weight.shape)


# Fewer values


def _sparse(own: Convolution) -> _Kernels:
    """The largest few of every some neighbours kept."""
    inputs = own.weight.shape[1]
    for kept, of in ((2, 4), (1, 4), (1, 2), (4, 8), (3, 4), (2, 8)):
        for name, axis in (("inputs", 1), ("outputs", 0)):
            if own.weight.shape[axis] % of == 0 and inputs > 1:
                yield (
                    f"of every {of} {name}' weights only the {kept} largest ({kept}:{of} sparse)",
                    partial(_largest_of, kept=kept, of=of, axis=axis),
                )


def _largest_of(weight: Tensor, kept: int, of: int, axis: int) -> Tensor:
    moved = weight.movedim(axis, -1)
    parts = moved.reshape(-1, of)
    mask = torch.zeros_like(parts).scatter(1, parts.abs().topk(kept, 1).indices, 1.0)
    return (parts * mask).reshape(moved.shape).movedim(-1, axis)


def _pruned(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Small weights zero: everywhere below one magnitude, or a share of each channel's."""
    own = convolution(case)
    counts = _zeroed(case, base, own)
    if counts is None:
        return
    count = own.weight[0].numel()
    lower = max(float(below) for _, below, _ in counts)
    upper = min(float(above) for _, _, above in counts)
    if lower < upper:
        # Any number between the two says the same; a round one is likelier.
        limit = _roundest(lower, upper)
        yield fitted(
            "kernel-pruned",
            f"weights below {limit:.5g} in magnitude zero "
            f"({float((own.weight.abs() < limit).double().mean()):.1%} of them)",
            case,
            base,
            lambda case, base: _with(convolution(case), partial(_above, limit=limit)),
            1,
        )
    numbers = {kept for kept, _, _ in counts}
    if len(numbers) == 1:
        dropped = numbers.pop()
        yield fitted(
            "kernel-pruned",
            f"the smallest {dropped} of each output channel's {count} weights zero",
            case,
            base,
            lambda case, base: _with(convolution(case), partial(_without_smallest, count=dropped)),
            1,
        )


def _zeroed(
    case: Case, base: Evaluation, own: Convolution
) -> list[tuple[int, Tensor, Tensor]] | None:
    """How many of the smallest weights each channel does without.

    With each count the largest magnitude among these, and the smallest among the others.
    """
    output = base(ALL)[0]
    taps = own.weight[0].numel()
    places = case.candidate.shape[2] * case.candidate.shape[3]
    known = own.groups == 1 or own.depthwise
    if output.shape != case.candidate.shape or not known or taps < 4:
        return None
    if taps * places * output.shape[1] > _LARGEST_SEARCH:
        return None
    found: list[tuple[int, Tensor, Tensor]] = []
    for channel in telling(case, base, output.shape[1]):
        one = own.only(slice(channel, channel + 1))
        order = one.weight.flatten().abs().argsort()
        columns = F.unfold(F.pad(one.x[:1], one.pads), own.kernel, own.dilation, 0, own.stride)[0]
        terms = (columns * one.weight.reshape(-1, 1))[order].cumsum(0)
        error = output[0, channel].flatten() - case.candidate[0, channel].double().flatten()
        sums = F.pad(terms, (0, 0, 1, 0))
        count = int((sums - error).square().sum(1).argmin())
        sizes = F.pad(one.weight.flatten().abs()[order], (1, 1), value=torch.inf)
        sizes[0] = 0.0
        found.append((count, sizes[count], sizes[count + 1]))
        one_limit = max(item[1] for item in found) < min(item[2] for item in found)
        # What agrees with neither is not worth looking at further.
        if not one_limit and len({item[0] for item in found}) > 1:
            return None
    return found


def telling(case: Case, base: Evaluation, count: int = _TELLING) -> list[int]:
    """The output channels that the faithful operation misses most."""
    order: list[int] = roundings(case, base, ALL).argsort(descending=True)[:count].tolist()
    return order


def _roundest(low: float, high: float) -> float:
    """The shortest decimal number above one and up to another."""
    for digits in range(1, 9):
        for value in (low, (low + high) / 2, high):
            short = float(f"{value:.{digits}g}")
            if low < short <= high:
                return short
    return (low + high) / 2


def _above(weight: Tensor, limit: float) -> Tensor:
    return torch.where(weight.abs() < limit, 0.0, weight)


def _without_smallest(weight: Tensor, count: int) -> Tensor:
    flat = weight.flatten(1)
    index = flat.abs().argsort(1)[:, :count]
    return flat.scatter(1, index, 0.0).reshape(weight.shape)


def _fitted_taps(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Each place of a kernel times a number of its own, the same in all filters."""
    own = convolution(case)
    output = base(ALL)[0]
    rows, columns = own.kernel
    if rows * columns == 1 or output.shape != case.candidate.shape:
        return
    channels = torch.tensor(telling(case, base))
    part = replace(own.only(channels), bias=None)
    made = []
    for y, x in product(range(rows), range(columns)):
        place = (slice(y, y + 1), slice(x, x + 1))
        made.append(replace(part, weight=_part(part.weight, *place))(ALL)[0].flatten())
    bias = 0.0 if own.bias is None else own.bias[channels].view(1, -1, 1, 1)
    target = (case.candidate[:, channels].double() - bias).flatten()
    matrix = torch.stack(made, 1)
    if len(target) < 4 * len(made) or not bool(torch.isfinite(target).all()):
        return
    factors = torch.linalg.lstsq(matrix, target[:, None]).solution[:, 0].view(rows, columns)
    for value in (0.0, 1.0):
        factors = torch.where((factors - value).abs() < 1e-4, value, factors)
    changed = (factors != 1).nonzero().tolist()
    if not changed:
        return
    where = ", ".join(f"[{y}, {x}]" for y, x in changed[:6]) + ("..." if len(changed) > 6 else "")
    zero = all(float(factors[y, x]) == 0 for y, x in changed)
    reach = "zero" if zero else f"times {float(factors.min()):.4g} to {float(factors.max()):.4g}"
    yield fitted(
        "kernel-hollow" if zero else "kernel-taps-scaled",
        f"{len(changed)} of its kernels' {rows}x{columns} values {reach} in every filter: {where}",
        case,
        base,
        lambda case, base: _with(convolution(case), lambda w: w * factors.to(w)),
        len(changed),
    )


def _fitted_levels(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Weights that are whole multiples of one number, which the output shows."""
    own = convolution(case)
    kernel = shown(case, own, base)
    if kernel is None:
        return
    step = _step_of(kernel)
    if step is None:
        return
    numbers = (kernel / step).round()
    low, high = float(numbers.min()), float(numbers.max())
    # An end counts where a weight would lie beyond it.
    whole = own.weight / step
    low = low if bool((whole < low - 0.75).any()) else -torch.inf
    high = high if bool((whole > high + 0.75).any()) else torch.inf
    for said in dict.fromkeys((float(f"{step:.4g}"), step)):
        yield fitted(
            "kernel-quantised",
            f"its kernel brought to whole multiples of {said:.6g} "
            f"({int(numbers.max() - numbers.min()) + 1} levels)",
            case,
            base,
            with_these(_of_multiples, said, low, high),
            3,
        )


def _step_of(kernel: Tensor) -> float | None:
    """The distance of the levels on which a kernel's values lie, known to some roundings."""
    values = kernel.flatten().sort().values
    noise = 1e-4 * float(values.abs().max())
    gaps = values.diff()
    real = gaps[gaps > 4 * noise]
    if len(real) < 2 or len(real) > _MOST_LEVELS:
        return None
    step = float(real.min())
    for _ in range(4):
        counts = (values / step).round()
        step = float((values * counts).sum() / counts.square().sum().clamp(min=1))
        if not step:
            return None
    off = (values - counts * step).abs().max()
    return step if float(off) < noise else None


def _of_multiples(operation: Operation, step: float, low: float, high: float) -> Evaluation:
    change = partial(_multiples, step=step, low=low, high=high)
    return _with(convolution(operation), _in_float32(change))


def _multiples(weight: Tensor, step: float, low: float, high: float) -> Tensor:
    return (weight / step).round().clamp(low, high) * step


def shown(case: Case, own: Convolution, base: Evaluation) -> Tensor | None:
    """The kernel that an output shows; None where it shows too little."""
    if base(ALL)[0].shape != case.candidate.shape or own.dilation != (1, 1):
        return None
    if own.depthwise:
        return _shown_by_filter(case, own)
    if own.groups != 1:
        return None
    taps = own.weight[0].numel()
    columns = F.unfold(F.pad(own.x, own.pads), own.kernel, 1, 0, own.stride)
    return _solved(columns.transpose(0, 1).flatten(1).T, case, own, slice(None), taps)


def _shown_by_filter(case: Case, own: Convolution) -> Tensor | None:
    padded = F.pad(own.x, own.pads)
    if padded.numel() * own.weight[0].numel() > _LARGEST:
        return None
    filters = []
    for channel in range(len(own.weight)):
        place = slice(channel, channel + 1)
        columns = F.unfold(padded[:, place], own.kernel, 1, 0, own.stride)
        matrix = columns.transpose(0, 1).flatten(1).T
        found = _solved(matrix, case, own, place, own.weight[0].numel())
        if found is None:
            return None
        filters.append(found)
    return torch.cat(filters)


def _solved(
    matrix: Tensor, case: Case, own: Convolution, channels: slice, taps: int
) -> Tensor | None:
    """Filters by least squares; None where there are too few values, or too many."""
    if len(matrix) < 1.2 * taps or matrix.numel() > _LARGEST:
        return None
    bias = 0.0 if own.bias is None else own.bias[None, channels, None, None]
    made = (case.candidate[:, channels].double() - bias).transpose(0, 1).flatten(1).T
    if not bool(torch.isfinite(matrix).all() and torch.isfinite(made).all()):
        return None
    found: Tensor = torch.linalg.lstsq(matrix, made).solution
    return found.T.reshape(-1, *own.weight.shape[1:])


def _low_rank(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A dense kernel of lower rank, as truncated by singular values."""
    own = convolution(case)
    output = base(ALL)[0]
    size = min(own.weight.shape[0], own.weight[0].numel())
    if own.groups != 1 or size < 3 or output.shape != case.candidate.shape:
        return
    left, values, right = torch.linalg.svd(own.weight.flatten(1), full_matrices=False)
    turned = replace(
        own, weight=right.reshape(-1, *own.weight.shape[1:]), bias=None
    )(ALL)[0]  # fmt: skip
    if size * turned[0, 0].numel() > _LARGEST:
        return
    channels = telling(case, base)
    features = turned[0].flatten(1)
    bias = torch.zeros(len(own.weight)).double() if own.bias is None else own.bias
    target = case.candidate[0, channels].double().flatten(1) - bias[channels, None]
    made = torch.zeros_like(target)
    misses = []
    for rank in range(size):
        made = made + (left[channels, rank] * values[rank])[:, None] * features[rank]
        misses.append(float((made - target).square().sum()))
    rank = 1 + min(range(size - 1), key=misses.__getitem__)
    yield fitted(
        "kernel-low-rank",
        f"its kernel approximated by one of rank {rank} of {size} (singular values)",
        case,
        base,
        lambda case, base: _of_decomposed(convolution(case), partial(_of_rank, rank=rank, split=1)),
        1,
    )


def _example(change: Change) -> Callable[[Operation, Evaluation], Evaluation]:
    return lambda operation, base: _with(convolution(operation), change)


FAULTS = (
    _fault("kernel-cropped", "a part of a kernel", _cropped, _wide),
    _fault("kernel-hollow", "a kernel without its centre", _hollow, _wide),
    _fault("kernel-grouped", "a dense kernel in groups", _grouped, _dense),
    _fault("kernel-quantised", "a kernel of eight bits", _quantised),
    _fault("kernel-binary", "the signs of a kernel", _ternary),
    _fault("kernel-standardised", "standardised weights", _standardised, put_in=2),
    _fault("kernel-normed", "weights divided by their norm", _normed),
    _fault("kernel-sparse", "two of every four weights", _sparse, _dense),
    _fault("kernel-separable", "separable filters", _separable, _wide, made=_of_decomposed),
    with_numbers(
        "kernel-pruned",
        "small weights zero",
        CONVOLUTIONS,
        _pruned,
        _example(partial(_above, limit=0.05)),
        where=_dense,
    ),
    with_numbers(
        "kernel-taps-scaled",
        "places of a kernel scaled",
        CONVOLUTIONS,
        _fitted_taps,
        lambda operation, base: _with(
            convolution(operation),
            lambda w: w * torch.linspace(0.5, 1.5, w[0, 0].numel()).view(w.shape[2:]).to(w),
        ),
        where=_wide,
    ),
    with_numbers(
        "kernel-quantised",
        "a kernel of multiples of a number",
        CONVOLUTIONS,
        _fitted_levels,
        _example(partial(_multiples, step=0.07, low=-torch.inf, high=torch.inf)),
    ),
    with_numbers(
        "kernel-low-rank",
        "a kernel of lower rank",
        CONVOLUTIONS,
        _low_rank,
        _example(partial(_of_rank, rank=2, split=1)),
        where=_dense,
    ),
)
"""What is made of a kernel, the simplest first."""
