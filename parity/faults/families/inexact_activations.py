"""The official activation computed less exactly: by a table, in few bits, by a poor formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    Site,
    fitted,
)
from parity.faults.basics.fault import Fault, Variant, in_variants, with_numbers
from parity.faults.basics.operations import Change, official
from parity.faults.families.fitted_activations import KINDS, Sample, rounded, sample
from parity.faults.families.precision import PRECISIONS, Precision

_NUDGE = 4.0
"""Roundings by which what is looked up may be off."""


def stepwise(operation: Operation, function: Change, smooth: Change, reach: float) -> Evaluation:
    """A function with steps: where roundings of its input cross one, either value is right.

    Args:
        operation: The node.
        function: The function, of each value alone.
        smooth: What it stands for, by whose slope a rounding of the point looked up counts.
        reach: The magnitude, beside the input's own, on which roundings of the input act.
    """

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = operation.arguments[0][:, channels]
        nudge = _NUDGE * operation.unit * (x.abs() + reach)
        output = function(x)
        steps = (function(x + nudge) - function(x - nudge)).abs() / operation.unit
        slope = (smooth(x + nudge) - smooth(x - nudge)).abs() / operation.unit / _NUDGE
        return output, output.abs() + steps + slope + operation.underflow * x.abs()

    return evaluate


def _stepwise_again(
    function: Change, smooth: Change, reach: float, operation: Operation, base: Evaluation
) -> Evaluation:
    return stepwise(operation, function, smooth, reach)


# Half precision


def _few_bits(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A sigmoid in a type of lower precision, its product in full or rounded as well."""
    if case.kind is not NodeKind.ACTIVATION or official(case) is not F.silu:
        return
    for precision in PRECISIONS:
        if precision.dtype is None:
            continue
        for both, how in ((True, "computed in"), (False, "rounded to")):
            evaluate = _swish_in(case, precision, both)
            yield Hypothesis(_BITS, f"its sigmoid {how} {precision.title}", evaluate)
        stored = case.candidate.to(precision.dtype).to(case.candidate.dtype)
        if torch.equal(stored, case.candidate):
            title = f"its sigmoid and its product computed in {precision.title}"
            evaluate = _of_rounded(case, precision)
            yield Hypothesis(_BITS, title, evaluate, stored=precision)


_BITS = "reduced-precision"


def _swish_in(operation: Operation, precision: Precision, both: bool) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = operation.arguments[0][:, channels]
        share = torch.sigmoid(precision.rounded(x) if both else x)
        output = x * precision.rounded(share)
        # Near the middle of two neighbours a rounding decides which of them is taken.
        nudge = _NUDGE * operation.unit
        step = precision.rounded(share * (1 + nudge)) - precision.rounded(share * (1 - nudge))
        gauge = output.abs() + (x * step).abs() / operation.unit
        if both:
            moved = [precision.rounded(x * (1 + sign * nudge)) for sign in (1, -1)]
            slope = (torch.sigmoid(moved[0]) - torch.sigmoid(moved[1])).abs()
            gauge = gauge + (x * slope).abs() / operation.unit
        return output, gauge

    return evaluate


def _of_rounded(operation: Operation, precision: Precision) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = precision.rounded(operation.arguments[0][:, channels])
        output = x * precision.rounded(torch.sigmoid(x))
        return output, output.abs()

    return evaluate


def _half_sigmoid(operation: Operation, base: Evaluation) -> Evaluation | None:
    if official(operation) is not F.silu:
        return None
    return _swish_in(operation, PRECISIONS[-1], True)


# Poor formulas

_FORMULAS: tuple[tuple[Change, str, Change], ...] = (
    (F.silu, "x/2 (1 + tanh(x/2))", lambda x: 0.5 * x * (1 + torch.tanh(0.5 * x))),
    (F.silu, "x (tanh(x/2) + 1)/2", lambda x: x * ((torch.tanh(x / 2) + 1) / 2)),
    (F.silu, "x/2 + x/2 tanh(x/2)", lambda x: 0.5 * x + 0.5 * x * torch.tanh(0.5 * x)),
    (F.silu, "x - x/(1 + exp(x))", lambda x: x - x / (1 + x.exp())),
    (F.silu, "x (1 - 1/(1 + exp(x)))", lambda x: x * (1 - 1 / (1 + x.exp()))),
    (F.silu, "x (1 - sigmoid(-x))", lambda x: x * (1 - torch.sigmoid(-x))),
    (F.silu, "x exp(log sigmoid(x))", lambda x: x * F.logsigmoid(x).exp()),
    (F.mish, "x tanh(log(1 + exp(x)))", lambda x: x * torch.tanh(torch.log(1 + x.exp()))),
    (torch.sigmoid, "(1 + tanh(x/2))/2", lambda x: 0.5 * (1 + torch.tanh(0.5 * x))),
    (torch.sigmoid, "tanh(x/2)/2 + 1/2", lambda x: 0.5 * torch.tanh(0.5 * x) + 0.5),
    (torch.sigmoid, "1 - 1/(1 + exp(x))", lambda x: 1 - 1 / (1 + x.exp())),
    (torch.sigmoid, "1 - sigmoid(-x)", lambda x: 1 - torch.sigmoid(-x)),
)
"""Forms of the official functions that cancel: (the function, words, the form)."""


def _formulas(case: Operation, base: Evaluation) -> Iterator[Variant]:
    """The very roundings of a form that is right in exact arithmetic, and only there."""
    for function, words, form in _FORMULAS:
        if function is official(case):
            title = f"computed as {words}: the right function, in arithmetic that loses its digits"
            yield title, _in_own_type(case, form)


def _in_own_type(operation: Operation, form: Change) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = operation.arguments[0][:, channels]
        # Roundings are what it is about: they are those of the type that is computed in.
        output = form(x.to(operation.dtype)).to(x.dtype)
        return output, output.abs() + x.abs().clamp(min=1e-3)

    return evaluate


# Tables


def _inverse_swish(y: Tensor, falling: bool) -> Tensor:
    """The x with ``x sigmoid(x) = y``: above 0, or below -1.2785 where swish falls."""
    low, high = (-40.0, -1.2785) if falling else (0.0, 60.0)
    below, above = (torch.full_like(y, value) for value in (low, high))
    for _ in range(60):
        middle = (below + above) / 2
        more = (F.silu(middle) < y) != falling
        below, above = torch.where(more, middle, below), torch.where(more, above, middle)
    return (below + above) / 2


def _points(chosen: Sample, share: bool) -> Sample:
    """Inputs, and the points at which the official function has the values made of them.

    Args:
        chosen: Inputs of a sigmoid and what was made of them, or of a swish.
        share: Whether it is a sigmoid.
    """
    if share:
        kept = chosen.where((chosen.y > 1e-3) & (chosen.y < 1 - 1e-3))
        return Sample(kept.x, torch.logit(kept.y))
    rising = chosen.where((chosen.x > 0.5) & (chosen.y > 0.2))
    falling = chosen.where((chosen.x < -1.8) & (chosen.y < 0) & (chosen.y > -0.2784))
    falling = falling.where(falling.y < -1e-5)
    return Sample(
        torch.cat([rising.x, falling.x]),
        torch.cat([_inverse_swish(rising.y, False), _inverse_swish(falling.y, True)]),
    )


def _grid(points: Tensor, about: float) -> tuple[float, float] | None:
    """The step and one point of an even grid on which points lie, from a guess of the step."""
    centres = points.sort()[0]
    fresh = torch.ones_like(centres, dtype=torch.bool)
    fresh[1:] = centres[1:] - centres[:-1] > about / 4
    starts = fresh.nonzero().flatten()
    if not 3 <= len(starts) <= points.numel() / 2:
        return None
    values = torch.stack([part.mean() for part in centres.tensor_split(starts[1:])])
    gaps = values[1:] - values[:-1]
    step = float(gaps.min())
    # Neighbours of an even grid lie a whole number of steps apart.
    step = float((gaps / (gaps / step).round()).median())
    for _ in range(3):
        number = ((values - values[0]) / step).round()
        centred = number - number.mean()
        step = float((centred * values).sum() / centred.square().sum())
    start = float(values.mean() - step * number.mean())
    return step, start


def _point(value: float, share: bool, falling: bool) -> float:
    """The input at which the official function has a value."""
    if share:
        return math.log(value / (1 - value)) if 0 < value < 1 else math.nan
    made = torch.tensor([value], dtype=torch.float64)
    return float(_inverse_swish(made, falling)[0])


def _ends(chosen: Sample, share: bool, step: float) -> tuple[list[float], list[float]]:
    """Where a table ends below and above, as far as values beyond show it."""
    found = []
    for place, falling in ((int(chosen.x.argmin()), True), (int(chosen.x.argmax()), False)):
        x = float(chosen.x[place])
        end = _point(float(chosen.y[place]), share, falling)
        beyond = math.isfinite(end) and abs(end) < abs(x) - 1.5 * step
        found.append(rounded(end) if beyond else [])
    return found[0], found[1]


def _even(
    low: float | None, high: float | None, step: float, start: float
) -> tuple[int, float] | None:
    """Entries and exact step of a table between two ends, if it is the grid that was found."""
    if low is None or high is None or low >= high:
        return None
    count = round((high - low) / step) + 1
    if count < 3 or abs((high - low) / (count - 1) / step - 1) > 1e-3 / count + 1e-6:
        return None
    away = (start - low) / step
    return (count, (high - low) / (count - 1)) if abs(away - round(away)) < 0.05 else None


def _steps(case: Case, chosen: Sample, share: bool) -> Iterator[tuple[str, Change, float]]:
    """The official function of the nearest, or the next lower, point of a grid."""
    points = _points(chosen, share)
    near = points.where(points.y.abs() < 4)
    if len(near) < _FEWEST:
        return
    # Those beyond a table's ends are further away than any step.
    apart = near.y - near.x
    spread = float(apart.quantile(0.95) - apart.quantile(0.05))
    if not 1e-4 < spread < 4:
        return
    own: Change = torch.sigmoid if share else F.silu
    found = _grid(near.y, spread)
    if found is None:
        yield from _usual(chosen, own, spread)
        return
    step, start = found
    lows, highs = _ends(chosen, share, step)
    # An end that no value shows is likely to be as far away as the one that is shown.
    guesses = [
        (low, high)
        for low in lows or [*(-v for v in highs[:1]), *(-v for v in _ENDS), 0.0]
        for high in highs or [*(-v for v in lows[:1]), *_ENDS]
        if _even(low, high, step, start)
    ]
    for low, high in guesses[:_GUESSES]:
        count, even = _even(low, high, step, start) or (0, step)
        words = f"a table of {count} entries from {low:.5g} to {high:.5g}"
        if not (lows and highs):
            words = f"a table with steps of {even:.5g}, such as one of {words[11:]}"
        for how, shift in _ROUNDINGS:
            function = partial(_looked_up, own, low, even, shift, low, high)
            yield f"{words}, the {how} taken", function, abs(low) + even
    if not guesses:
        for how, shift in _ROUNDINGS:
            ends = lows[-1] if lows else None, highs[-1] if highs else None
            function = partial(_looked_up, own, start, step, shift, *ends)
            words = f"a table with steps of {step:.5g}, the {how} taken"
            yield words, function, abs(start) + step


def _usual(chosen: Sample, own: Change, spread: float) -> Iterator[tuple[str, Change, float]]:
    """Tables that are likely, where there are fewer values than entries."""
    few = chosen.where(torch.arange(len(chosen)) % max(1, len(chosen) // _FEW) == 0)
    for end in _ENDS:
        for count in _COUNTS:
            step = 2 * end / (count - 1)
            if not 0.5 < step / spread < 2.5:
                continue
            for how, shift in _ROUNDINGS:
                function = partial(_looked_up, own, -end, step, shift, -end, end)
                if float((function(few.x) - few.y).abs().quantile(0.9)) < 1e-6:
                    words = f"a table of {count} entries from {-end:.5g} to {end:.5g}"
                    yield f"{words}, the {how} taken", function, end + step


_FEWEST = 24
"""Values that must show the points of a table."""

_COUNTS = sorted(
    {2**n + more for n in range(4, 15) for more in (0, 1)}
    | {digit * 10**n + more for n in range(1, 4) for digit in (1, 2, 5) for more in (0, 1)}
)
"""Numbers of entries that tables are likely to have."""

_GUESSES = 6
"""Ranges of a table that are tried."""

_ROUNDINGS = (("nearest", 0.5), ("next lower", 0.0), ("next higher", 1.0 - 1e-12))
"""Which point of a grid stands for what lies between: (name, what is added before a floor)."""


def _looked_up(
    own: Change,
    first: float,
    step: float,
    shift: float,
    low: float | None,
    high: float | None,
    x: Tensor,
) -> Tensor:
    if low is not None or high is not None:
        x = x.clamp(low, high)
    return own(first + step * ((x - first) / step + shift).floor())


def _interpolated(own: Change, low: float, step: float, count: int, x: Tensor) -> Tensor:
    place = ((x - low) / step).clamp(0, count - 1)
    below = place.floor().clamp(max=count - 2)
    a, b = own(low + step * below), own(low + step * (below + 1))
    return a + (b - a) * (place - below)


_ENDS = (8.0, 6.0, 10.0, 5.0, 4.0, 12.0, 16.0, 20.0, 3.0, 7.0, 9.0, 15.0, 30.0, 32.0)
"""Where tables are likely to end."""

_BLUR = 1e-6
"""How far roundings alone put a value off its chord, in units of the curvature."""

_FEW = 256
"""Values on which tables are tried."""


def _lines(case: Case, chosen: Sample, share: bool) -> Iterator[tuple[str, Change, float]]:
    """The official function interpolated between the points of a grid."""
    own: Change = torch.sigmoid if share else F.silu
    with torch.enable_grad():
        x = chosen.x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(own(x).sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), x)
    inside = (bend.abs() > 0.1) & (chosen.x.abs() < 2)
    if share:
        inside = (bend.abs() > 0.02) & (chosen.x.abs() < 3)
    if int(inside.sum()) < _FEWEST:
        return
    # Between two points a chord lies t (h - t) / 2 of the curvature off.
    off = ((chosen.y - own(chosen.x)) / bend)[inside]
    largest = float(off.quantile(0.99))
    if largest < 3e-6 or float(off.quantile(0.01)) < -0.02 * largest - _BLUR:
        return
    about = math.sqrt(8 * largest)
    # The largest is that of a chord's middle but for roundings.
    near = 1.01 + _BLUR / largest
    few = chosen.where(torch.arange(len(chosen)) % max(1, len(chosen) // _FEW) == 0)
    x = case.arguments[0]
    ends = []
    for sign, end in ((-1.0, float(chosen.y[chosen.x.argmin()])), (1.0, float(chosen.y.max()))):
        shown: list[float] = []
        if share and 1e-4 < end < 1 - 1e-5:
            shown = rounded(math.log(end / (1 - end)))
        ends.append([*shown, *(sign * v for v in _ENDS)])
    best: tuple[float, float, float, int] | None = None
    pairs = {(low, high) for low in ends[0][:3] for high in ends[1][:3]}
    pairs |= {(-v, v) for v in _ENDS} | {(0.0, v) for v in _ENDS}
    for low, high in sorted(pairs, key=lambda pair: pair[1] - pair[0]):
        if low >= high:
            continue
        guess = (high - low) / about + 1
        for count in range(max(3, int(guess / near)), int(guess * near) + 2):
            step = (high - low) / (count - 1)
            error = float((_interpolated(own, low, step, count, few.x) - few.y).abs().max())
            # Of those that are as near the narrowest is as good.
            if best is None or error < 0.8 * best[0]:
                best = error, low, high, count
    if best is None or best[0] > 1e-3 * largest + 1e-5:
        return
    _, low, high, count = best
    step = (high - low) / (count - 1)
    words = f"a table of {count} entries from {low:.5g} to {high:.5g}, interpolated"
    if float(x.min()) > low or float(x.max()) < high:
        words = f"a table with steps of {step:.5g}, such as one of {words[11:]}"
    yield words, partial(_interpolated, own, low, step, count), abs(low) + step


def _times_x(function: Change, x: Tensor) -> Tensor:
    return x * function(x)


_Tables = Callable[[Case, Sample, bool], Iterator[tuple[str, Change, float]]]


def _tables(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    chosen = sample(case)
    if chosen is None or not _has_tables(case):
        return
    forms: list[tuple[str, Sample, bool, bool]] = []
    if case.kind is NodeKind.GATE:
        forms.append(("looked up in", chosen, True, False))
    else:
        away = chosen.where(chosen.x.abs() > 0.05)
        forms.append(("its sigmoid looked up in", Sample(away.x, away.y / away.x), True, True))
        forms.append(("looked up in", chosen, False, False))
    for words, made, share, times in forms:
        for find in (_steps, _lines):
            for text, function, reach in find(case, made, share):
                whole = partial(_times_x, function) if times else function
                own = F.silu if case.kind is NodeKind.ACTIVATION else torch.sigmoid
                again = partial(_stepwise_again, whole, own, reach)
                yield fitted("table", f"{words} {text}", case, base, again, 3)


def _has_tables(site: Site) -> bool:
    """Whether it is a function of which the points of a table can be told: swish, or a sigmoid."""
    return official(site) in (F.silu, torch.sigmoid)


def _example(operation: Operation, base: Evaluation) -> Evaluation | None:
    if not _has_tables(operation):
        return None
    own: Change = torch.sigmoid if operation.kind is NodeKind.GATE else F.silu
    function = partial(_looked_up, own, -6.0, 12 / 255, 0.5, -6.0, 6.0)
    return stepwise(operation, function, own, 6.0)


FAULTS: tuple[Fault, ...] = (
    with_numbers(
        _BITS,
        "a sigmoid in half precision",
        frozenset({NodeKind.ACTIVATION}),
        _few_bits,
        _half_sigmoid,
    ),
    in_variants(
        "poor-formula",
        "the right function by a formula that loses digits",
        KINDS,
        _formulas,
        without="its output is right but for roundings, so that no output shows that it is put in",
    ),
    with_numbers("table", "an activation looked up in a table", KINDS, _tables, _example),
)
"""The right function in other arithmetic."""
