"""Functions with numbers of their own in place of an activation or a gate: the numbers are fitted.

Each is a function of each value alone, known but for one or two numbers that many more values
determine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import Case, Channels, Evaluation, Hypothesis, Operation, fitted
from parity.faults.basics.fault import Fault, Kinds, with_numbers
from parity.faults.basics.operations import Change, of_each, official
from parity.faults.families.activations import instead

KINDS: Kinds = frozenset({NodeKind.ACTIVATION, NodeKind.GATE})

_SAMPLES = 1 << 14
"""Values to which numbers are fitted."""

_ENOUGH = 8
"""Values that must show a number."""

_STEPS = 90
"""Halvings of an interval, after which a float64 is as good as it gets."""


@dataclass(frozen=True)
class Sample:
    """Some inputs of an activation and what the candidate made of each, in float64."""

    x: Tensor
    y: Tensor

    def where(self, mask: Tensor) -> Sample:
        """Those of them that a mask selects."""
        return Sample(self.x[mask], self.y[mask])

    def __len__(self) -> int:
        return int(self.x.numel())


def sample(case: Case) -> Sample | None:
    """Evenly chosen values; None where the candidate's output has another shape or no numbers."""
    x = case.arguments[0]
    if x.shape != case.candidate.shape:
        return None
    step = max(1, x.numel() // _SAMPLES)
    # A step that has no factor in common with the sizes passes through every channel and column.
    step += step > 1 and step % 2 == 0
    chosen = x.reshape(-1)[::step], case.candidate.double().reshape(-1)[::step]
    if not all(bool(torch.isfinite(value).all()) for value in chosen):
        return None
    return Sample(*chosen)


def rounded(value: float, digits: tuple[int, ...] = (2, 3)) -> list[float]:
    """A number as somebody may have written it, and as it was fitted."""
    if not math.isfinite(value):
        return []
    return list(dict.fromkeys([*(float(f"{value:.{count}g}") for count in digits), value]))


def solved(
    function: Callable[[Tensor, Tensor], Tensor], chosen: Sample, low: float, high: float
) -> float | None:
    """The number ``p`` with which ``function(p, x)`` is ``y``: the median over some values.

    Args:
        function: Rises or falls with its first argument.
        chosen: The values.
        low: Smaller than the number.
        high: Larger.
    """
    if len(chosen) < _ENOUGH:
        return None
    below, above = (torch.full_like(chosen.x, value) for value in (low, high))
    rising = function(above, chosen.x) > function(below, chosen.x)
    for _ in range(_STEPS):
        middle = (below + above) / 2
        more = (function(middle, chosen.x) < chosen.y) == rising
        below, above = torch.where(more, middle, below), torch.where(more, above, middle)
    inside = (below > low) & (above < high)
    if int(inside.sum()) < _ENOUGH:
        return None
    return float(((below + above) / 2)[inside].median())


def _leaky(slope: float, x: Tensor) -> Tensor:
    return F.leaky_relu(x, slope)


def _elu(alpha: float, x: Tensor) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def _celu(alpha: float | Tensor, x: Tensor) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha))


def _softplus(beta: float | Tensor, x: Tensor) -> Tensor:
    return F.softplus(beta * x) / beta


def _capped(low: float, high: float, x: Tensor) -> Tensor:
    return x.clamp(low, high)


def _hard_sigmoid(slope: float, offset: float, x: Tensor) -> Tensor:
    return (slope * x + offset).clamp(0, 1)


def _hard_swish(slope: float, offset: float, x: Tensor) -> Tensor:
    return x * _hard_sigmoid(slope, offset, x)


def _swish(slope: float, offset: float, x: Tensor) -> Tensor:
    return x * torch.sigmoid(slope * x + offset)


def _sigmoid(slope: float, offset: float, x: Tensor) -> Tensor:
    return torch.sigmoid(slope * x + offset)


def _of_clamped(own: Change, low: float, high: float, x: Tensor) -> Tensor:
    return own(x.clamp(low, high))


Found = tuple[str, Change, int]
"""The function in words, the function, and how many numbers were fitted."""


def _leaky_slopes(chosen: Sample) -> Iterator[Found]:
    negative = chosen.where(chosen.x < -1e-3)
    if len(negative) >= _ENOUGH:
        for slope in rounded(float((negative.y / negative.x).median())):
            if slope not in (0.0, 1.0):
                yield f"leaky ReLU (slope {slope:.6g})", partial(_leaky, slope), 1


def _elus(chosen: Sample) -> Iterator[Found]:
    negative = chosen.where(chosen.x < -0.05)
    if len(negative) >= _ENOUGH:
        for alpha in rounded(float((negative.y / torch.expm1(negative.x)).median())):
            if alpha > 0:
                yield f"ELU (alpha {alpha:.6g})", partial(_elu, alpha), 1


def _celus(chosen: Sample) -> Iterator[Found]:
    alpha = solved(_celu, chosen.where(chosen.x < -0.2), 1e-2, 1e2)
    for value in rounded(alpha) if alpha else ():
        yield f"CELU (alpha {value:.6g})", partial(_celu, value), 1


def _softpluses(chosen: Sample) -> Iterator[Found]:
    beta = solved(_softplus, chosen.where(chosen.x.abs() < 1), 1e-2, 1e2)
    for value in rounded(beta) if beta else ():
        yield f"softplus (beta {value:.6g})", partial(_softplus, value), 1


def _caps(chosen: Sample) -> Iterator[Found]:
    low, high = float(chosen.y.min()), float(chosen.y.max())
    below, above = int((chosen.x < low).sum()), int((chosen.x > high).sum())
    if high - low < 1e-6:
        return
    for bottom in rounded(low) if below >= 4 else [-math.inf]:
        for top in rounded(high) if above >= 4 else [math.inf]:
            if bottom >= top:
                continue
            if bottom == 0 and math.isfinite(top):
                yield f"ReLU cut off at {top:.6g}", partial(_capped, bottom, top), 1
            elif math.isfinite(bottom) or math.isfinite(top):
                words = " and ".join(
                    [f"at least {bottom:.6g}"] * math.isfinite(bottom)
                    + [f"at most {top:.6g}"] * math.isfinite(top)
                )
                count = math.isfinite(bottom) + math.isfinite(top)
                yield f"the input itself, {words}", partial(_capped, bottom, top), count


def _line(x: Tensor, y: Tensor) -> tuple[float, float] | None:
    """Slope and offset of the line through some points."""
    if x.numel() < _ENOUGH:
        return None
    centred = x - x.mean()
    spread = float(centred.square().sum())
    if not spread:
        return None
    slope = float((centred * y).sum()) / spread
    return slope, float(y.mean()) - slope * float(x.mean())


def _lines(x: Tensor, share: Tensor) -> Iterator[tuple[float, float]]:
    """The line on which values between 0 and 1 lie, as it may have been written and as fitted."""
    inside = (share > 0.02) & (share < 0.98)
    found = _line(x[inside], share[inside])
    if found is not None:
        yield from zip(*(rounded(v, (1, 2, 3)) for v in found), strict=False)
        third = 1 / 6 if abs(found[0] - 1 / 6) < 1e-4 else found[0]
        yield third, float(f"{found[1]:.4g}")


def _hard_sigmoids(chosen: Sample) -> Iterator[Found]:
    for slope, offset in dict.fromkeys(_lines(chosen.x, chosen.y)):
        words = f"hard sigmoid, clip({slope:.6g} x + {offset:.6g}, 0, 1)"
        yield words, partial(_hard_sigmoid, slope, offset), 2


def _hard_swishes(chosen: Sample) -> Iterator[Found]:
    away = chosen.where(chosen.x.abs() > 0.1)
    for slope, offset in dict.fromkeys(_lines(away.x, away.y / away.x)):
        words = f"hard swish, x clip({slope:.6g} x + {offset:.6g}, 0, 1)"
        yield words, partial(_hard_swish, slope, offset), 2


def _shifted(chosen: Sample, share: Tensor) -> Iterator[tuple[float, float]]:
    inside = (share > 1e-2) & (share < 1 - 1e-2)
    found = _line(chosen.x[inside], torch.logit(share[inside]))
    if found is not None and abs(found[1]) > 1e-6:
        for slope in dict.fromkeys((1.0, *rounded(found[0]))):
            for offset in rounded(found[1]):
                yield slope, offset


def _swishes(chosen: Sample) -> Iterator[Found]:
    away = chosen.where(chosen.x.abs() > 0.1)
    for slope, offset in _shifted(away, away.y / away.x):
        words = f"x sigmoid({slope:.6g} x + {offset:.6g})"
        yield words, partial(_swish, slope, offset), 1 + (slope != 1)


def _sigmoids(chosen: Sample) -> Iterator[Found]:
    for slope, offset in _shifted(chosen, chosen.y):
        words = f"sigmoid({slope:.6g} x + {offset:.6g})"
        yield words, partial(_sigmoid, slope, offset), 1 + (slope != 1)


def _fault(
    slug: str, title: str, find: Callable[[Sample], Iterator[Found]], example: Change
) -> Fault:
    """A function that is known but for numbers."""

    def fit(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
        chosen = sample(case)
        if chosen is None or len(chosen) < 2 * _ENOUGH:
            return
        for words, function, count in find(chosen):
            again = partial(_of_each_again, function)
            yield fitted(slug, f"{words} {instead(case)}", case, base, again, count)

    return with_numbers(
        slug, title, KINDS, fit, lambda operation, base: of_each(operation, example, 1.0)
    )


def _of_each_again(function: Change, operation: Operation, base: Evaluation) -> Evaluation:
    return of_each(operation, function, 1.0)


def _clamped_inputs(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A function that falls and rises, of an input that is cut off below, and perhaps above too.

    Cut off above alone it is an output that is cut off, which has a name of its own.
    """
    x = case.arguments[0]
    if x.shape != case.candidate.shape or official(case) not in _LOWEST:
        return
    own, made = official(case), case.candidate.double()
    least = _LOWEST[own]
    if float(x.min()) > least - 0.01:
        # Where the function only rises, the output may as well be cut off.
        return
    lowest = float(own(x.min()))
    bottoms = [
        bottom
        for bottom in _cut_off(own, x, made, -1.0, ((-50.0, least), (least, 0.0)))
        # Else no value falls below what is made there, and the output may as well be cut off.
        if bottom < least or lowest > float(own(torch.tensor(bottom).to(x))) + 1e-6
    ]
    tops = [math.inf, *_cut_off(own, x, made, 1.0, ((0.0, 50.0),))]
    for bottom in bottoms:
        for top in tops:
            at_most = f" and at most {top:.6g}" if math.isfinite(top) else ""
            title = f"applied to its input cut off to at least {bottom:.6g}{at_most}"
            again = partial(_clamped_again, bottom, top)
            constants = 1 + math.isfinite(top)
            yield fitted("input-clamped", title, case, base, again, constants)


_LOWEST: Mapping[Change, float] = MappingProxyType(
    {F.silu: -1.2784645427610738, F.hardswish: -1.5, F.mish: -1.1924312145155}
)
"""Where these functions are smallest: they fall up to there, and rise from there."""


def _cut_off(
    own: Change, x: Tensor, made: Tensor, sign: float, ranges: tuple[tuple[float, float], ...]
) -> Iterator[float]:
    """The inputs at which the outermost value of the candidate is the official function's."""
    most = float((x * sign).max())
    end = made[x * sign > 0.999 * most].median()
    chosen = Sample(torch.ones(_ENOUGH).to(x), end.expand(_ENOUGH))
    for low, high in ranges:
        found = solved(lambda bound, _: own(bound), chosen, low, high)
        if found is not None and most > abs(found) * 1.001:
            yield from rounded(found)


def _clamped_again(low: float, high: float, operation: Operation, base: Evaluation) -> Evaluation:
    return of_each(operation, partial(_of_clamped, official(operation), low, high))


def _slopes_by_channel(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A slope below zero for each channel (PReLU)."""
    x, y = case.arguments[0], case.candidate.double()
    if x.shape != y.shape or x[:, 0].numel() < 4 * _ENOUGH:
        return
    negative = torch.where(x < 0, x, 0.0)
    power = negative.square().sum((0, 2, 3))
    slopes = (negative * y).sum((0, 2, 3)) / power
    known = slopes[power > 0]
    if not known.numel() or not bool(torch.isfinite(known).all()):
        return
    low, high = float(known.min()), float(known.max())
    title = (
        f"leaky ReLU with a slope for each channel (PReLU), {low:.4g} to {high:.4g}, "
        f"{instead(case)}"
    )
    yield fitted("prelu", title, case, base, partial(_prelu, slopes), len(slopes))


def _prelu(slopes: Tensor, operation: Operation, base: Evaluation) -> Evaluation:
    # A channel without negative values at one node may have some at another.
    if isinstance(operation, Case) and bool(slopes.isnan().any()):
        negative = operation.arguments[0].clamp(max=0)
        here = (negative * operation.candidate.double()).sum((0, 2, 3)) / negative.square().sum(
            (0, 2, 3)
        )
        slopes = torch.where(slopes.isnan(), here, slopes).nan_to_num()

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = operation.arguments[0][:, channels]
        each = slopes.to(x)[channels].view(1, -1, 1, 1)
        return torch.where(x > 0, x, each * x), x.abs()

    return evaluate


def _prelu_example(operation: Operation, base: Evaluation) -> Evaluation:
    count = operation.arguments[0].shape[1]
    return _prelu(torch.linspace(0.05, 0.4, count), operation, base)


_DEGREES = (2, 3, 4, 5, 6, 7)
"""Degrees of polynomials that are tried."""


def _polynomials(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A polynomial of each value, of the smallest degree that fits."""
    chosen = sample(case)
    if chosen is None or len(chosen) < 256:
        return
    reach = float(chosen.x.abs().max())
    if not reach:
        return
    for degree in _DEGREES:
        powers = torch.stack([(chosen.x / reach) ** i for i in range(degree + 1)], 1)
        found = torch.linalg.lstsq(powers, chosen.y[:, None]).solution[:, 0]
        left = (powers @ found - chosen.y).abs()
        scale = (powers.abs() @ found.abs()).clamp(min=1e-30)
        if float((left / scale).max()) > 8 * case.bound * case.unit:
            continue
        factors = [float(c) / reach**i for i, c in enumerate(found)]
        kept = [
            f"{c:+.4g}" + (f" x^{i}" if i > 1 else " x" if i else "")
            for i, c in enumerate(factors)
            if abs(c) * reach**i > 1e-6 * float(scale.max())
        ]
        title = f"a polynomial of degree {degree}, {' '.join(kept)}, {instead(case)}"
        again = partial(_polynomial, tuple(factors))
        yield fitted("polynomial", title, case, base, again, degree + 1)


def _polynomial(factors: tuple[float, ...], operation: Operation, base: Evaluation) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = operation.arguments[0][:, channels]
        parts = [c * x**i for i, c in enumerate(factors)]
        # With cancelling terms each is rounded on its own.
        return sum(parts, torch.zeros_like(x)), sum((v.abs() for v in parts), x.abs())

    return evaluate


FAULTS = (
    _fault("leaky-relu", "leaky ReLU of any slope", _leaky_slopes, partial(_leaky, 0.37)),
    _fault("elu", "ELU of any alpha", _elus, partial(_elu, 0.63)),
    _fault("celu", "CELU of any alpha", _celus, partial(_celu, 0.45)),
    _fault("softplus", "softplus of any beta", _softpluses, partial(_softplus, 1.7)),
    _fault("clipped", "the input cut off, whatever the limits", _caps, partial(_capped, -0.3, 1.1)),
    _fault(
        "hard-sigmoid",
        "hard sigmoid of any slope",
        _hard_sigmoids,
        partial(_hard_sigmoid, 0.3, 0.45),
    ),
    _fault("hard-swish", "hard swish of any slope", _hard_swishes, partial(_hard_swish, 0.3, 0.45)),
    _fault("other-slope", "swish of a shifted input", _swishes, partial(_swish, 1.0, 0.25)),
    _fault("other-slope", "sigmoid of a shifted input", _sigmoids, partial(_sigmoid, 1.0, 0.25)),
    with_numbers(
        "input-clamped",
        "an activation of its input cut off anywhere",
        frozenset({NodeKind.ACTIVATION}),
        _clamped_inputs,
        lambda operation, base: _clamped_again(-1.5, math.inf, operation, base),
    ),
    with_numbers(
        "prelu", "leaky ReLU with a slope for each channel", KINDS, _slopes_by_channel,
        _prelu_example,
    ),
    with_numbers(
        "polynomial", "a polynomial in place of an activation", KINDS, _polynomials,
        partial(_polynomial, (0.1, 0.5, 0.2, -0.01)),
    ),
)  # fmt: skip
"""Functions of which numbers are fitted, those with fewer first."""
