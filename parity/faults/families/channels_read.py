"""Which channels a convolution reads, and with which of its filters, where that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

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
    counted,
    fitted,
)
from parity.faults.basics.fault import CONVOLUTIONS, Variant, in_variants, kernel_of, with_numbers
from parity.faults.basics.operations import Convolution, convolution
from parity.faults.families.general import shuffles
from parity.faults.families.kernels import shown, telling

_MOST_COMPARED = 2048
"""Input channels of which every two are compared."""

_SAMPLES = 48
"""Positions by which channels are told apart."""

_ALIKE = 1e-9
"""Part of a channel's square by which two that are as near differ."""

_ANY = -1
"""Instead of a channel: any."""

_LARGEST = 1 << 30
"""Products that a search for an order may take: some seconds' work."""


def _reads_features(site: Site) -> bool:
    """For the network's images the same faults have names of their own."""
    return not site.is_input and max(kernel_of(site).shape[:2]) > 3


def _dense(site: Site) -> bool:
    return _reads_features(site) and kernel_of(site).shape[1] > 3


def _reading(operation: Operation, order: Tensor) -> Evaluation:
    """A convolution whose input channel i is the input's channel ``order[i]``."""
    own = convolution(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        if own.depthwise:
            weight = own.weight[channels]
            bias = None if own.bias is None else own.bias[channels]
            x = own.x[:, order[channels]]
            return replace(own, x=x, weight=weight, bias=bias, groups=len(weight))(ALL)
        return replace(own, x=own.x[:, order])(channels)

    return evaluate


def _filtering(operation: Operation, order: Tensor) -> Evaluation:
    """A depthwise convolution whose channel i is given the filter ``order[i]``."""
    own = convolution(operation)
    return lambda channels: replace(own.only(channels), weight=own.weight[order[channels]])(ALL)


def _shuffled(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    for words, order in shuffles(own.x.shape[1]):
        yield f"its input's channels {words}", _reading(operation, order)


def _columns(own: Convolution, places: Tensor) -> Tensor:
    """What a filter sees at some positions of the first image, [channels, taps, positions]."""
    padded = F.pad(own.x[:1], own.pads)
    rows, columns = own.kernel
    width = (padded.shape[3] - columns) // own.stride[1] + 1
    tops = places // width * own.stride[0]
    lefts = places % width * own.stride[1]
    y = tops[:, None, None] + torch.arange(rows)[:, None]
    x = lefts[:, None, None] + torch.arange(columns)
    return padded[0][:, y, x].flatten(2).transpose(1, 2)


def _sampled(case: Case) -> Tensor:
    count = case.candidate.shape[2] * case.candidate.shape[3]
    return torch.linspace(0, count - 1, min(count, _SAMPLES)).long()


def _of_depthwise(case: Case, own: Convolution, *, filters: bool) -> Tensor | None:
    """Which channel each one reads, or with which filter, by what comes nearest."""
    places = _sampled(case)
    count, taps = own.weight.shape[0], own.weight[0].numel()
    if count * count * taps * len(places) > _LARGEST or not own.depthwise:
        return None
    columns = _columns(own, places)
    kernels = own.weight.flatten(1)
    made = case.candidate[0].double().flatten(1)[:, places]
    if own.bias is not None:
        made = made - own.bias[:, None]
    found = []
    for channel in range(count):
        if filters:
            tried = kernels @ columns[channel]
        else:
            tried = torch.einsum("k,jks->js", kernels[channel], columns)
        misses = (tried - made[channel]).square().sum(1)
        nearest = int(misses.argmin())
        # Dead channels, and filters of zeros, come from anywhere.
        alike = misses <= misses[nearest] + _ALIKE * float(made[channel].square().sum())
        found.append(nearest if int(alike.sum()) == 1 else _ANY)
    return torch.tensor(found)


def _of_dense(case: Case, own: Convolution, base: Evaluation) -> Tensor | None:
    """Which channel each input is, where the output is one of its inputs in another order.

    The kernel that the output shows is compared with the faithful one column by column.
    """
    kernel = shown(case, own, base)
    if kernel is None:
        return None
    rows = len(own.weight)
    ours = own.weight.transpose(0, 1).reshape(own.weight.shape[1], rows * own.weight[0, 0].numel())
    theirs = kernel.transpose(0, 1).reshape(ours.shape)
    # Filter j of the shown kernel acts on channel j, and is that of input i in the faithful one.
    nearest = torch.cdist(theirs, ours, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    if len(set(nearest.tolist())) < len(nearest):
        return None
    order = torch.empty_like(nearest)
    order[nearest] = torch.arange(len(nearest))
    return order


def _rolled(case: Case, own: Convolution, base: Evaluation) -> Tensor | None:
    """The input's channels moved cyclically by what comes nearest, for outputs that say little."""
    count, taps = own.weight.shape[1], own.kernel[0] * own.kernel[1]
    places = _sampled(case)
    if own.groups != 1 or count * count * taps * len(places) > _LARGEST:
        return None
    columns = _columns(own, places).flatten(0, 1)
    steps = (torch.arange(count)[None] + torch.arange(count)[:, None]) % count
    misses = torch.zeros(count, dtype=torch.float64)
    for channel in telling(case, base):
        # Row k holds the filters as they meet the channels moved by k.
        kernels = own.weight[channel].flatten(1)[steps].flatten(1)
        made = case.candidate[0, channel].double().flatten()[places]
        if own.bias is not None:
            made = made - own.bias[channel]
        misses += (kernels @ columns - made).square().sum(1)
    step = int(misses.argmin())
    return torch.arange(count).roll(step)


def _fitted_order(case: Case, base: Evaluation, proper: bool) -> Iterator[Hypothesis]:
    """The input's channels in another order, whatever it is; or some of them more than once."""
    for hypothesis in _orders(case, base):
        if (hypothesis.slug != "input-channels-repeated") is proper:
            yield hypothesis


def _orders(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    own = convolution(case)
    if base(ALL)[0].shape != case.candidate.shape or own.x.shape[1] < 2:
        return
    if own.depthwise:
        order = _of_depthwise(case, own, filters=False)
    else:
        order = _of_dense(case, own, base)
        if order is None:
            others = _rolled(case, own, base), _exchanged(case, own, base)
            for found in others:
                if found is not None:
                    yield from _said("", "its input's channels", found, _reading, case, base)
            return
    if order is not None:
        yield from _said("", "its input's channels", order, _reading, case, base)


def _fitted_filters(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Each channel of a depthwise convolution with another's filter."""
    own = convolution(case)
    if base(ALL)[0].shape != case.candidate.shape or not own.depthwise:
        return
    order = _of_depthwise(case, own, filters=True)
    if order is not None:
        yield from _said("kernel-permuted", "its filters", order, _filtering, case, base)


def _said(
    slug: str,
    what: str,
    order: Tensor,
    reading: Callable[[Operation, Tensor], Evaluation],
    case: Case,
    base: Evaluation,
) -> Iterator[Hypothesis]:
    """An order that was found, by its simplest name."""
    count = len(order)
    known = order != _ANY
    changed = [i for i, source in enumerate(order.tolist()) if source not in (i, _ANY)]
    if not changed:
        return

    def hypothesis(name: str, words: str, order: Tensor, constants: int) -> Hypothesis:
        return fitted(
            slug or f"input-channels-{name}",
            f"{what} {words}",
            case,
            base,
            lambda case, base: reading(case, order),
            constants,
        )

    step = (changed[0] - int(order[changed[0]])) % count
    signed = step if step <= count // 2 else step - count
    whole = torch.arange(count)
    for name, words, likely in (
        ("moved", f"moved by {signed:+d}", whole.roll(step)),
        *(("shuffled", words, shuffle) for words, shuffle in shuffles(count)),
        ("reversed", "in reverse order", whole.flip(0)),
    ):
        if torch.equal(order[known], likely[known]):
            yield hypothesis(name, words, likely, 1)
            return
    complete = _completed(order)
    proper = len(set(complete.tolist())) == count
    listed = ", ".join(f"{i} is {int(complete[i])}" for i in changed[:4])
    more = ", ..." if len(changed) > 4 else ""
    words = f"in another order ({len(changed)} of {count} moved: {listed}{more})"
    if not proper:
        words = f"repeated ({len(changed)} of {count} are another: {listed}{more})"
    yield hypothesis("permuted" if proper else "repeated", words, complete, len(changed))


def _completed(order: Tensor) -> Tensor:
    """An order in which channels that may come from anywhere come from what is left over."""
    given = order.tolist()
    left = [i for i in range(len(given)) if i not in set(given)]
    # Those that may stay do.
    for place, source in enumerate(given):
        if source == _ANY and place in left:
            given[place] = place
            left.remove(place)
    return torch.tensor([left.pop(0) if source == _ANY else source for source in given])


def _exchanged(case: Case, own: Convolution, base: Evaluation) -> Tensor | None:
    """Pairs of input channels that are exchanged, where an output shows too little for more.

    What is wrong then is a sum of (w_i - w_j) (x_j - x_i): within its space the filters of the two
    channels of a pair differ, and out of it they are one.
    """
    if own.groups != 1 or own.kernel != (1, 1) or own.weight.shape[1] > _MOST_COMPARED:
        return None
    error = (case.candidate.double() - base(ALL)[0]).transpose(0, 1).flatten(1)
    left, values, _ = torch.linalg.svd(error, full_matrices=False)
    space = left[:, values > 1e-4 * values[0]]
    if space.shape[1] > min(error.shape) // 2:
        return None
    filters = own.weight[:, :, 0, 0]
    outside = filters - space @ (space.T @ filters)
    distances = torch.cdist(outside.T, outside.T, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    nearest = distances.argmin(1)
    apart = distances[torch.arange(len(nearest)), nearest]
    order = torch.arange(len(nearest))
    for i, j in enumerate(nearest.tolist()):
        if int(nearest[j]) == i and float(apart[i]) < 1e-3 * float(filters[:, i].norm()):
            order[i] = j
    return order


def _terms(own: Convolution, channel: int, places: Tensor) -> Tensor:
    """What each input channel adds to an output channel, [channels, positions]."""
    return torch.einsum("ck,cks->cs", own.weight[channel].flatten(1), _columns(own, places))


def _fitted_part(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A run of input channels left out, or nothing but a run of them read."""
    own = convolution(case)
    output = base(ALL)[0]
    if own.groups != 1 or own.weight.shape[1] < 3 or output.shape != case.candidate.shape:
        return
    places = _sampled(case)
    count = own.weight.shape[1]
    grams = torch.zeros(count + 1, count + 1, dtype=torch.float64)
    inner = torch.zeros(count + 1, dtype=torch.float64)
    left: list[Tensor] = []
    for channel in telling(case, base):
        sums = F.pad(_terms(own, channel, places).cumsum(0), (0, 0, 1, 0))
        error = (output[0, channel] - case.candidate[0, channel].double()).flatten()[places]
        # What is left out is the difference of two partial sums.
        grams = grams + sums @ sums.T
        inner = inner + sums @ error
        left.append(error.square().sum())
    squares = torch.diagonal(grams)
    total = torch.stack(left).sum()
    # Of the run from a to b: |P_b - P_a - e|^2.
    misses = squares[None] + squares[:, None] - 2 * grams - 2 * (inner[None] - inner[:, None])
    misses = torch.where(torch.triu(torch.ones_like(misses), 1) > 0, misses + total, torch.inf)
    first, last = divmod(int(misses.argmin()), misses.shape[1])
    # And of nothing but such a run: what is left out is all but it.
    yield _without_run(case, base, first, last, count, kept=False)
    kept = _kept_run(grams, inner, total, count)
    yield _without_run(case, base, *kept, count, kept=True)


def _kept_run(grams: Tensor, inner: Tensor, total: Tensor, count: int) -> tuple[int, int]:
    """The run that is read where nothing else is: |P_n - P_b + P_a - e|^2 is least."""
    squares = torch.diagonal(grams)
    whole, error = grams[-1], inner[-1]
    constant = squares[-1] + total - 2 * error
    misses = (
        constant
        + squares[None] + squares[:, None] - 2 * grams
        - 2 * (whole - inner)[None] + 2 * (whole - inner)[:, None]
    )  # fmt: skip
    misses = torch.where(torch.triu(torch.ones_like(misses), 1) > 0, misses, torch.inf)
    first, last = divmod(int(misses.argmin()), misses.shape[1])
    return first, last


def _without_run(
    case: Case, base: Evaluation, first: int, last: int, count: int, *, kept: bool
) -> Hypothesis:
    which = f"channel {first}" if last == first + 1 else f"channels {first} to {last - 1}"
    words = f"reads only {which}" if kept else f"does not read {which}"
    mask = torch.zeros(count).double()
    mask[first:last] = 1.0
    mask = mask if kept else 1 - mask
    return fitted(
        "input-channels-left-out",
        f"{words} of its {count} input channels",
        case,
        base,
        lambda case, base: _masked(case, mask),
        2,
    )


def _masked(operation: Operation, mask: Tensor) -> Evaluation:
    own = convolution(operation)
    return replace(own, weight=own.weight * mask.to(own.weight).view(1, -1, 1, 1))


def _every_second(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    count = own.weight.shape[1]
    if own.groups != 1 or count < 2:
        return
    for step in (2, 3, 4):
        for first in range(step):
            mask = torch.zeros(count)
            mask[first::step] = 1
            yield (
                f"reads only every {step}th of its {count} input channels, from {first} on",
                _masked(operation, mask),
            )


def _fitted_columns(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Each input channel times a factor of its own."""
    own = convolution(case)
    kernel = None if own.depthwise else shown(case, own, base)
    if kernel is None or own.weight.shape[0] * own.weight[0, 0].numel() < 4:
        return
    axes = (0, 2, 3)
    power = own.weight.square().sum(axes)
    factors = torch.where(power > 0, (kernel * own.weight).sum(axes) / power, 1.0)
    changed = ((factors - 1).abs() > 1e-4).nonzero().flatten().tolist()
    if not changed:
        return
    factors = torch.where((factors - 1).abs() > 1e-4, factors, 1.0)
    factors = torch.where(factors.abs() < 1e-4, 0.0, factors)
    chosen = factors[changed]
    where = counted(changed)
    if bool((chosen == 0).all()):
        yield fitted(
            "input-channels-left-out",
            f"does not read {len(changed)} of its {len(factors)} input channels: {where}",
            case, base, lambda case, base: _masked(case, factors), len(changed),
        )  # fmt: skip
        return
    low, high = f"{float(chosen.min()):.4g}", f"{float(chosen.max()):.4g}"
    reach = low if low == high else f"{low} to {high}"
    yield fitted(
        "input-channels-scaled",
        f"{len(changed)} of its {len(factors)} input channels times {reach}: {where}",
        case, base, lambda case, base: _masked(case, factors), len(changed),
    )  # fmt: skip


def _half(operation: Operation, base: Evaluation) -> Evaluation:
    count = operation.arguments[0].shape[1]
    return _masked(operation, (torch.arange(count) < count // 2).float())


def _two_exchanged(operation: Operation, base: Evaluation) -> Evaluation:
    order = torch.arange(operation.arguments[0].shape[1])
    order[[0, -1]] = order[[-1, 0]]
    return _reading(operation, order)


def _one_repeated(operation: Operation, base: Evaluation) -> Evaluation | None:
    own = convolution(operation)
    if not own.depthwise:
        return None
    order = torch.arange(own.x.shape[1])
    order[0] = order[-1]
    return _reading(operation, order)


def _filters_moved(operation: Operation, base: Evaluation) -> Evaluation | None:
    own = convolution(operation)
    if not own.depthwise:
        return None
    return _filtering(operation, torch.arange(len(own.weight)).roll(3))


def _ramp(operation: Operation, base: Evaluation) -> Evaluation | None:
    x = operation.arguments[0]
    count = x.shape[1]
    # Fewer values than unknowns show no kernel.
    if x[:, 0].numel() < 2 * kernel_of(operation)[0].numel():
        return None
    return _masked(operation, torch.linspace(0.5, 2, count))


FAULTS = (
    in_variants(
        "input-channels-shuffled",
        "a convolution of shuffled channels",
        CONVOLUTIONS,
        _shuffled,
        where=_reads_features,
    ),
    in_variants(
        "input-channels-left-out",
        "every second input channel read",
        CONVOLUTIONS,
        _every_second,
        where=_dense,
    ),
    with_numbers(
        "input-channels-left-out",
        "half of the input channels read",
        CONVOLUTIONS,
        _fitted_part,
        _half,
        where=_dense,
    ),
    with_numbers(
        "input-channels-permuted",
        "two input channels exchanged",
        CONVOLUTIONS,
        partial(_fitted_order, proper=True),
        _two_exchanged,
        where=_reads_features,
    ),
    with_numbers(
        "input-channels-repeated",
        "one input channel for another",
        CONVOLUTIONS,
        partial(_fitted_order, proper=False),
        _one_repeated,
        where=lambda site: _reads_features(site) and not _dense(site),
    ),
    with_numbers(
        "kernel-permuted",
        "filters of other channels",
        CONVOLUTIONS,
        _fitted_filters,
        _filters_moved,
        where=lambda site: kernel_of(site).shape[1] == 1,
    ),
    with_numbers(
        "input-channels-scaled",
        "input channels scaled",
        CONVOLUTIONS,
        _fitted_columns,
        _ramp,
        where=_dense,
    ),
)
"""Other channels read, or read with other filters, the simplest first."""
