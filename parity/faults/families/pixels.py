"""Images of other values than the network should be given, with numbers that are fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations, product

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
    Site,
    fitted,
    with_these,
)
from parity.faults.basics.fault import Variant, in_variants, with_numbers
from parity.faults.basics.operations import Change, Convolution, convolution, reading
from parity.faults.families.images import normalisation

_KINDS = frozenset({NodeKind.CONV})

_ENOUGH = 100
"""Values by which as many as twelve numbers are fitted."""

_ORDERS = list(permutations(range(3)))
"""Orders of colours, the right one first."""

_STEPS = 40
"""Steps within which a fitted number settles."""


def _reads_images(site: Site) -> bool:
    return site.is_input


def _of_images(operation: Operation) -> Convolution | None:
    if not operation.is_input or operation.arguments[0].shape[1] != 3:
        return None
    return convolution(operation)


def _changed(operation: Operation, change: Change) -> Evaluation:
    """The convolution of images whose values are a function of pixels from 0 to 1."""
    own = convolution(operation)
    mean, deviation = normalisation(own.x)

    def evaluate(channels: slice | Tensor) -> tuple[Tensor, Tensor]:
        x = (change(own.x * deviation + mean) - mean) / deviation
        return replace(own, x=x)(channels)

    return evaluate


def _other_values(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Functions of pixels that decoders and transforms apply."""
    if _of_images(operation) is None:
        return
    for words, change in (
        ("linear instead of sRGB values", _linear_light),
        ("encoded for sRGB once more", _encoded),
        ("divided by 256 instead of 255", lambda p: p * 255 / 256),
        ("divided by 254 instead of 255", lambda p: p * 255 / 254),
        ("of whole grey levels, rounded", lambda p: (p * 255).round() / 255),
        ("of whole grey levels, cut off", lambda p: (p * 255 + 1e-4).floor() / 255),
        ("cut off at 0 and 1", lambda p: p.clamp(0, 1)),
        ("cut off at 0", lambda p: p.clamp(min=0)),
        ("cut off at 1", lambda p: p.clamp(max=1)),
        ("negative (1 - value)", lambda p: 1 - p),
        ("negative (255 - value, grey levels wrapped around)", lambda p: (255 - 255 * p) / 255),
        ("grey: the mean of the three colours", lambda p: p.mean(1, True).expand_as(p)),
        ("grey, by the weights 0.299, 0.587 and 0.114", partial(_grey, (0.299, 0.587, 0.114))),
        ("grey, by the weights 0.2126, 0.7152 and 0.0722",
         partial(_grey, (0.2126, 0.7152, 0.0722))),
        ("in YCbCr instead of RGB", _ycbcr),
        ("rounded to bfloat16", lambda p: p.bfloat16().to(p.dtype)),
        ("rounded to float16", lambda p: p.half().to(p.dtype)),
    ):  # fmt: skip
        yield f"images {words}", _changed(operation, change)
    for step in (2, 4, 8, 16, 32, 64):
        yield (
            f"images of every {step}th grey level, cut off",
            _changed(operation, partial(_in_steps, step=step, up=1e-4)),
        )
        yield (
            f"images of every {step}th grey level, rounded",
            _changed(operation, partial(_in_steps, step=step, up=0.5)),
        )
    own = convolution(operation)
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (-2.0, 2.0), (-2.5, 2.5), (-3.0, 3.0)):
        yield (
            f"normalised images cut off at {low:g} and {high:g}",
            replace(own, x=own.x.clamp(low, high)),
        )
    yield "normalised images without their negative values", replace(own, x=own.x.clamp(min=0))
    yield "normalised images rounded to whole numbers", replace(own, x=own.x.round())


def _in_steps(p: Tensor, step: int, up: float) -> Tensor:
    return (p * 255 / step + up).floor() * step / 255


def _linear_light(p: Tensor) -> Tensor:
    high = ((p.clamp(min=0) + 0.055) / 1.055) ** 2.4
    return torch.where(p <= 0.04045, p / 12.92, high)


def _encoded(p: Tensor) -> Tensor:
    high = 1.055 * p.clamp(min=1e-12) ** (1 / 2.4) - 0.055
    return torch.where(p <= 0.0031308, 12.92 * p, high)


def _grey(weights: tuple[float, ...], p: Tensor) -> Tensor:
    share = torch.tensor(weights, dtype=p.dtype).view(1, 3, 1, 1)
    return (p * share).sum(1, True).expand_as(p)


def _ycbcr(p: Tensor) -> Tensor:
    matrix = torch.tensor(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
        dtype=p.dtype,
    )
    offset = torch.tensor([0.0, 0.5, 0.5], dtype=p.dtype).view(1, 3, 1, 1)
    return torch.einsum("ij,njhw->nihw", matrix, p) + offset


_FAMILIES = (
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "mean 0.5 and deviation 0.5"),
    ((0.485, 0.456, 0.406), (0.225, 0.224, 0.229), "a deviation in BGR order"),
    ((0.406, 0.456, 0.485), (0.229, 0.224, 0.225), "a mean in BGR order"),
    ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229), "a mean and a deviation in BGR order"),
    ((0.229, 0.224, 0.225), (0.485, 0.456, 0.406), "mean and deviation exchanged"),
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "CLIP's values"),
    ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "CIFAR-10's values"),
    ((0.485, 0.456, 0.406), (1 / 255, 1 / 255, 1 / 255), "the mean alone, in grey levels"),
    ((0.408, 0.447, 0.470), (0.289, 0.274, 0.278), "COCO's values (CenterNet)"),
    ((0.40789, 0.45796, 0.48502), (1 / 255, 1 / 255, 1 / 255), "Caffe's BGR mean, in grey levels"),
    ((0.48502, 0.45796, 0.40789), (1 / 255, 1 / 255, 1 / 255), "Caffe's RGB mean, in grey levels"),
    ((0.0, 0.0, 0.0), (0.229, 0.224, 0.225), "no mean"),
)  # fmt: skip
"""Mean and deviation that other families of models are given images by."""


def _other_families(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = _of_images(operation)
    if own is None:
        return
    mean, deviation = normalisation(own.x)
    for values, deviations, words in _FAMILIES:
        other, spread = (
            torch.tensor(v, dtype=own.x.dtype).view(1, 3, 1, 1) for v in (values, deviations)
        )
        for order, how in ((slice(None), ""), ([2, 1, 0], ", in BGR order")):
            pixels = (own.x * deviation + mean)[:, order]
            yield (
                f"images normalised by {words}{how}",
                replace(own, x=(pixels - other) / spread),
            )


def _gamma(operation: Operation, exponent: float) -> Evaluation:
    return _changed(operation, lambda p: p.clamp(min=0) ** exponent)


def _fitted_gamma(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Pixels to some power."""
    if _of_images(case) is None or base(ALL)[0].shape != case.candidate.shape:
        return
    theirs = case.candidate.double()

    def miss(exponent: float) -> float:
        return float((_gamma(case, exponent)(ALL)[0] - theirs).square().sum())

    first = min((0.3, 0.45, 0.6, 0.8, 1.25, 1.6, 2.0, 2.4, 3.0), key=miss)
    exponent = _settled(lambda e: _gamma(case, e)(ALL)[0], theirs, first)
    for value in dict.fromkeys((float(f"{exponent:.3g}"), exponent)):
        yield fitted(
            "input-gamma",
            f"images to the power of {value:.5g} (gamma)",
            case,
            base,
            with_these(_gamma, value),
            1,
        )
    for value in (1 / 2.2, 2.2, 1 / 2.4, 2.4, 1 / 1.8, 1.8):
        if abs(exponent - value) < 1e-3:
            yield fitted(
                "input-gamma",
                f"images to the power of {'1 / ' if value < 1 else ''}"
                f"{1 / value if value < 1 else value:.2g} (gamma)",
                case,
                base,
                with_these(_gamma, value),
                1,
            )


def _settled(make: Callable[[float], Tensor], theirs: Tensor, value: float) -> float:
    """The number by which something comes nearest to an output, by Gauss and Newton."""
    for _ in range(_STEPS):
        step = 1e-6 * max(abs(value), 1e-3)
        here = make(value)
        slope = (make(value + step) - here) / step
        power = float(slope.square().sum())
        if not power:
            break
        change = float((slope * (theirs - here)).sum()) / power
        value += change
        if abs(change) < 1e-10 * abs(value):
            break
    return value


def _fitted_affine(case: Case, base: Evaluation, mixed: bool) -> Iterator[Hypothesis]:
    """Each colour times a number plus a number, or a mixture of all three plus a number.

    Args:
        case: The failing node.
        base: Its faithful operation.
        mixed: Whether colours may be mixtures; if not, they may be in another order.
    """
    own = _of_images(case)
    if own is None or base(ALL)[0].shape != case.candidate.shape:
        return
    bias = 0.0 if own.bias is None else own.bias[None, :, None, None]
    theirs = (case.candidate.double() - bias).flatten()
    if len(theirs) < _ENOUGH:
        return
    bare = replace(own, bias=None)
    blocks = {}
    for source, goal in product(range(3), range(3)):
        moved = torch.zeros_like(own.x)
        moved[:, goal] = own.x[:, source]
        blocks[source, goal] = replace(bare, x=moved)(ALL)[0].flatten()
    ones = []
    for goal in range(3):
        moved = torch.zeros_like(own.x)
        moved[:, goal] = 1
        ones.append(replace(bare, x=moved)(ALL)[0].flatten())
    choices = [list(blocks)] if mixed else [list(zip(o, range(3), strict=True)) for o in _ORDERS]
    for used in choices:
        found = _solved(torch.stack([*(blocks[pair] for pair in used), *ones], 1), theirs)
        if found is None:
            continue
        factors = torch.zeros(3, 3, dtype=torch.float64)
        for (source, goal), value in zip(used, found[:-3].tolist(), strict=True):
            factors[goal, source] = value
        size = float(factors.abs().max())
        factors = torch.where(factors.abs() < 1e-6 * size, 0.0, factors)
        offsets = torch.where(found[-3:].abs() < 1e-6, 0.0, found[-3:])
        yield fitted(
            "input-colours-mixed" if mixed else "input-scaled",
            _in_words(factors, offsets, [source for source, _ in used], mixed, own.x),
            case,
            base,
            with_these(_affine, factors, offsets),
            len(used) + 3,
        )


def _solved(matrix: Tensor, theirs: Tensor) -> Tensor | None:
    """Least squares by normal equations, refined: few unknowns, many values."""
    if not bool(torch.isfinite(theirs).all()):
        return None
    normal = matrix.T @ matrix
    found = torch.linalg.lstsq(normal, (matrix.T @ theirs)[:, None]).solution[:, 0]
    left = theirs - matrix @ found
    closer: Tensor = torch.linalg.lstsq(normal, (matrix.T @ left)[:, None]).solution[:, 0]
    refined: Tensor = found + closer
    return refined


def _affine(operation: Operation, factors: Tensor, offsets: Tensor) -> Evaluation:
    own = convolution(operation)
    x = torch.einsum("ij,njhw->nihw", factors.to(own.x), own.x)
    return replace(own, x=x + offsets.to(own.x).view(1, 3, 1, 1))


def _in_words(factors: Tensor, offsets: Tensor, order: list[int], mixed: bool, x: Tensor) -> str:
    if mixed:
        rows = "; ".join(", ".join(f"{float(v):.3g}" for v in row) for row in factors)
        added = ", ".join(f"{float(v):.3g}" for v in offsets)
        return f"normalised images with mixed colours: [{rows}] times them plus [{added}]"
    scale = factors[range(3), order]
    mean, deviation = (v.flatten().double()[order] for v in normalisation(x))
    # (p - m') / s' = a (p - m) / s + b
    spread = deviation / scale
    centre = mean - offsets * spread
    means, deviations = (
        ", ".join(f"{float(v):.4g}" for v in values) for values in (centre, spread)
    )
    letters = "".join("RGB"[i] for i in order)
    how = "" if letters == "RGB" else f" in {letters} order"
    return f"images{how} normalised by mean {means} and deviation {deviations}"


def _moved(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """The input moved by whole pixels, or turned."""
    own = convolution(operation)
    if operation.arguments[0].shape[2] == 1:
        return
    for turns in (1, 2, 3):
        if turns == 2 or own.x.shape[2] == own.x.shape[3]:
            yield (
                f"its input rotated by {90 * turns} degrees",
                reading(own, partial(torch.rot90, k=turns, dims=(2, 3))),
            )
    steps = [
        (down, along) for down in range(-2, 3) for along in range(-2, 3) if (down, along) != (0, 0)
    ]
    for down, along in sorted(steps, key=lambda step: abs(step[0]) + abs(step[1])):
        words = f"its input moved by {down:+d} rows and {along:+d} columns"
        yield (
            f"{words}, cyclically",
            reading(own, partial(torch.roll, shifts=(down, along), dims=(2, 3))),
        )
        for mode, filled in (("constant", "zeros"), ("replicate", "the border's pixels")):
            yield (
                f"{words}, {filled} taking its place",
                reading(own, partial(_shifted, down=down, along=along, mode=mode)),
            )


def _shifted(x: Tensor, down: int, along: int, mode: str) -> Tensor:
    height, width = x.shape[2:]
    padded = F.pad(x, (2, 2, 2, 2), mode=mode)
    return padded[:, :, 2 - down : 2 - down + height, 2 - along : 2 - along + width]


FAULTS = (
    in_variants("input-values", "images of linear light", _KINDS, _other_values,
                where=_reads_images),
    in_variants("input-scaled", "another family's mean and deviation", _KINDS, _other_families,
                where=_reads_images),
    in_variants("input-moved", "a convolution of moved features", _KINDS | {NodeKind.DEPTHWISE},
                _moved, put_in=3, alike=("moved", "padding-other", "rotated")),
    with_numbers("input-gamma", "images to a power", _KINDS, _fitted_gamma,
                 lambda operation, base: _gamma(operation, 1.7), where=_reads_images),
    with_numbers(
        "input-scaled", "each colour scaled and offset", _KINDS,
        partial(_fitted_affine, mixed=False),
        lambda operation, base: _affine(
            operation, torch.diag(torch.tensor([0.9, 1.1, 1.3])), torch.tensor([0.1, -0.2, 0.3])
        ),
        where=_reads_images,
    ),
    with_numbers(
        "input-colours-mixed", "colours mixed", _KINDS, partial(_fitted_affine, mixed=True),
        lambda operation, base: _affine(
            operation, torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.2, 0.5]]),
            torch.zeros(3),
        ),
        where=_reads_images,
    ),
)  # fmt: skip
"""Images of other values, the simplest first."""
