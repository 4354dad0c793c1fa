"""What ports get wrong where a BiFPN node fuses its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import FUSION_EPSILON, NodeKind
from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    Site,
    by_resemblance,
    fitted,
)
from parity.faults.basics.fault import Fault, Variant, in_variants, with_numbers
from parity.faults.basics.operations import (
    Change,
    fast_attention,
    fusion_of,
    shares,
    shares_of,
    weighted,
)
from parity.faults.families import activations
from parity.faults.families.elementwise import least_squares
from parity.results.digits import told, told_apart

_KINDS = frozenset({NodeKind.FUSE})

_EPSILONS = (0.0, 1e-3, 1e-5, 1e-2, 1e-6, 1e-8)

_FACTOR = 1.25
"""By which an input is multiplied that is put into models."""

_EXAMPLE = (0.1, 0.2, 0.3)
"""Shares that no weights give."""


def _weighs(site: Site) -> bool:
    """A fusion with weights."""
    return fusion_of(site).is_weighted


def _is_fast(site: Site) -> bool:
    """Fast attention, whose weights go through a relu and are divided by their sum."""
    return _weighs(site) and not fusion_of(site).is_softmax


def _is_softmax(site: Site) -> bool:
    """Softmax attention."""
    return fusion_of(site).is_softmax


def _is_per_channel(site: Site) -> bool:
    """A fusion with weights of its own for each channel."""
    return fusion_of(site).is_per_channel


def _shared(
    slug: str,
    title: str,
    ways: Callable[[Tensor], Iterable[tuple[str, Tensor]]],
    where: Callable[[Site], bool] = _is_fast,
) -> Fault:
    """Another way from the weights to the shares."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        features, weights = operation.arguments
        if weights is not None and where(operation):
            for words, other in ways(weights.detach().to(features[0].dtype)):
                yield words, weighted(features, other)

    return in_variants(slug, title, _KINDS, variants, where=where)


def _softmax(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "softmax instead of fast attention", torch.softmax(own, 0)


def _fast(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "fast attention instead of softmax", fast_attention(own)
    for epsilon in _EPSILONS:
        yield (
            f"fast attention with epsilon {epsilon:g} instead of softmax",
            fast_attention(own, epsilon),
        )


def _other_than_softmax(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What a port may do with the weights where the model takes their softmax."""
    functions: tuple[tuple[str, Change], ...] = (
        ("relu", F.relu),
        ("sigmoid", torch.sigmoid),
        ("softplus", F.softplus),
        ("the exponential", torch.exp),
    )
    instead = "instead of their softmax"
    yield f"its weights as they are {instead}", own
    yield f"its weights divided by their sum {instead}", own / own.sum(0)
    for title, function in functions:
        values = function(own)
        total = values.sum(0) + FUSION_EPSILON
        yield f"{title} of its weights, divided by the sum of all, {instead}", values / total
        yield f"{title} of its weights, not normalised, {instead}", values
    shares = torch.softmax(own, 0)
    yield "softmax of relu of its weights", torch.softmax(F.relu(own), 0)
    yield "softmax of its weights twice", torch.softmax(shares, 0)
    yield "softmax of minus its weights", torch.softmax(-own, 0)
    yield "the logarithm of their softmax", torch.log_softmax(own, 0)
    yield "its shares times the number of inputs", shares * len(own)


def _for_all_channels(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """One weight of each input for all of its channels."""
    features, weights = operation.arguments
    if weights is None or weights.dim() < 2:
        return
    own = weights.detach().to(features[0].dtype)
    of = partial(shares_of, fusion_of(operation))
    for words, each in (
        ("the mean of its channels' weights for all channels", own.mean(1)),
        ("the first channel's weights for all channels", own[:, 0]),
        ("the last channel's weights for all channels", own[:, -1]),
        ("the largest of its channels' weights for all channels", own.amax(1)),
        ("the sum of its channels' weights for all channels", own.sum(1)),
    ):
        yield words, weighted(features, of(each))
    softmax = fusion_of(operation).is_softmax
    other = fast_attention(own.mean(1)) if softmax else torch.softmax(own.mean(1), 0)
    yield (
        f"{'fast attention' if softmax else 'softmax'} of the mean of its channels' weights for "
        f"all channels",
        weighted(features, other),
    )
    yield (
        "the mean of its channels' shares for all channels",
        weighted(features, of(own).mean(1)),
    )


def _over_channels(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Weights of each channel that are normalised along another axis than the inputs."""
    features, weights = operation.arguments
    if weights is None or weights.dim() < 2:
        return
    own = weights.detach().to(features[0].dtype)
    if fusion_of(operation).is_softmax:
        whole = torch.softmax(own.reshape(-1), 0).view_as(own)
        along = torch.softmax(own, 1)
    else:
        kept = F.relu(own)
        whole = kept / (kept.sum() + FUSION_EPSILON)
        along = kept / (kept.sum(1, keepdim=True) + FUSION_EPSILON)
    yield (
        "its weights normalised over the channels instead of the inputs",
        weighted(features, along),
    )
    yield "its weights normalised over inputs and channels together", weighted(features, whole)
    if len(own) == own.shape[1]:
        yield (
            "its weights with inputs and channels exchanged",
            weighted(features, shares_of(fusion_of(operation), own.T)),
        )


def _of_other_channels(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Weights of each channel for other channels."""
    right = shares(operation)
    if right.dim() < 2:
        return
    for words, other in (
        ("the weights of its channels in reverse order", right.flip(1)),
        ("the weights of its channels moved by one", right.roll(1, 1)),
        ("the weights of its channels moved back by one", right.roll(-1, 1)),
    ):
        yield words, weighted(operation.arguments[0], other)


def _other_epsilons(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    for epsilon in _EPSILONS:
        yield (
            f"fusion with epsilon {epsilon:g} instead of {FUSION_EPSILON:g}",
            fast_attention(own, epsilon),
        )


def _without_relu(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    total = own.sum(0)
    yield "without the relu of its weights", own / (total + FUSION_EPSILON)
    yield "without the relu of its weights and without epsilon", own / total


def _not_normalised(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "weights not divided by their sum", F.relu(own)
    yield "weights without relu, not divided by their sum", own


def _other_functions(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    functions: tuple[tuple[str, Change], ...] = (
        ("softplus", F.softplus),
        ("sigmoid", torch.sigmoid),
        ("the absolute value", torch.abs),
        ("swish", F.silu),
        ("relu6", F.relu6),
        ("the square", torch.square),
        ("the exponential", torch.exp),
        ("tanh", torch.tanh),
        ("ELU plus one", lambda own: F.elu(own) + 1),
        ("GELU", F.gelu),
        ("leaky ReLU", F.leaky_relu),
        ("hard sigmoid", F.hardsigmoid),
        ("1 plus relu", lambda own: 1 + F.relu(own)),
        ("the root of relu", lambda own: F.relu(own).sqrt()),
    )
    for title, function in functions:
        positive = function(own)
        yield (
            f"{title} of its weights instead of relu",
            positive / (positive.sum(0) + FUSION_EPSILON),
        )
        yield f"{title} of its weights instead of relu, no epsilon", positive / positive.sum(0)
        yield f"{title} of its weights, not normalised", positive


def _other_norms(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    kept = F.relu(own)
    for weights, words in ((kept, ""), (own, ", without relu")):
        yield f"its weights divided by their largest{words}", weights / weights.amax(0)
        yield f"its weights divided by their length{words}", weights / weights.norm(dim=0)
        yield f"its weights divided by their number{words}", weights / len(own)
    magnitudes = own.abs().sum(0) + FUSION_EPSILON
    yield "its weights divided by the sum of their magnitudes", own / magnitudes
    yield "relu of its weights, divided by the sum of all magnitudes", kept / magnitudes
    yield "softmax of relu of its weights", torch.softmax(kept, 0)
    yield "softmax of the shares", torch.softmax(fast_attention(own), 0)


def _twice_normalised(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    shares = fast_attention(own)
    yield "its weights normalised twice", fast_attention(shares)
    yield "softmax of its weights, then normalised", fast_attention(torch.softmax(own, 0))


def _late_relu(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    total = own.sum(0)
    shares = own / (total + FUSION_EPSILON)
    yield "relu after its weights were divided by their sum", F.relu(shares)
    yield (
        "relu of each weight, divided by the sum without relu",
        F.relu(own) / (total + FUSION_EPSILON),
    )
    yield (
        "its weights without relu, divided by the sum of their relu",
        own / (F.relu(own).sum(0) + FUSION_EPSILON),
    )


def _scaled(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "its shares times the number of inputs", fast_attention(own) * len(own)


def _epsilon_each(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "epsilon added to each weight", fast_attention(F.relu(own) + FUSION_EPSILON, 0.0)


def _ones(operation: Operation) -> Tensor:
    features = operation.arguments[0]
    return torch.ones(len(features), dtype=features[0].dtype)


def _plain_sum(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    yield "a plain sum of the inputs", weighted(operation.arguments[0], _ones(operation))


def _plain_mean(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    ones = _ones(operation)
    words = "the mean of the inputs"
    if not _weighs(operation):
        words += ", as softmax attention makes it with weights that are all alike"
    yield words, weighted(operation.arguments[0], ones / len(ones))


def _fast_of_ones(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    instead = "its own weights" if _weighs(operation) else "a sum"
    yield (
        f"fast attention with every weight 1 instead of {instead}",
        weighted(operation.arguments[0], fast_attention(_ones(operation))),
    )


def _permuted(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    features, weights = operation.arguments
    if weights is None:
        return
    right = shares(operation)
    for order in list(permutations(range(len(features))))[1:]:
        listed = ", ".join(str(i) for i in order)
        yield f"its weights in the order {listed}", weighted(features, right[list(order)])


def _missing(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    features, weights = operation.arguments
    right = shares(operation)
    for missing in range(len(features)):
        kept = torch.where(torch.arange(len(features)) == missing, 0.0, 1.0).to(right)
        kept = kept.view(-1, *[1] * (right.dim() - 1))
        title = f"input {missing} left out"
        yield title, weighted(features, right * kept)
        if weights is not None:
            others = [number for number in range(len(features)) if number != missing]
            rest = torch.zeros_like(right)
            rest[others] = shares_of(fusion_of(operation), weights.detach().to(right)[others])
            yield f"{title}, the weights of the rest normalised", weighted(features, rest)


def _repeated(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    features, count = operation.arguments[0], len(operation.arguments[0])
    for twice in range(count):
        for dropped in range(count):
            if twice != dropped:
                inputs = [features[twice if i == dropped else i] for i in range(count)]
                yield (
                    f"input {twice} taken for input {dropped} too",
                    weighted(inputs, shares(operation)),
                )


def _largest(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output = torch.stack([x[:, channels] for x in operation.arguments[0]]).amax(0)
        return output, output.abs()

    yield "the largest of the inputs", evaluate


def _product(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output = torch.stack([x[:, channels] for x in operation.arguments[0]]).prod(0)
        return output, output.abs()

    yield "the product of the inputs", evaluate


def _activated(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    features = operation.arguments[0]
    for title, function in activations.LIKELY:
        changed = [function(x) for x in features]
        yield f"{title} of the inputs before the sum", weighted(changed, shares(operation))
        for number in range(len(features)):
            one = [changed[i] if i == number else x for i, x in enumerate(features)]
            yield f"{title} of input {number} before the sum", weighted(one, shares(operation))


def _smallest(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    features = operation.arguments[0]
    if len(features) > 1:
        yield "the smallest of the inputs", _of_stack(features, lambda v: v.amin(0))
        yield (
            "the largest of the weighted inputs",
            _of_stack(
                _parts(operation),
                lambda v: v.amax(0),
            ),
        )
        yield "the median of the inputs", _of_stack(features, lambda v: v.median(0)[0])


def _parts(operation: Operation) -> list[Tensor]:
    """The inputs of a fusion, each times its share."""
    return [
        x * (share.view(1, -1, 1, 1) if share.dim() else share)
        for x, share in zip(operation.arguments[0], shares(operation), strict=True)
    ]


def _of_stack(features: Iterable[Tensor], function: Change) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output = function(torch.stack([x[:, channels] for x in features]))
        return output, output.abs()

    return evaluate


def _of_other_node(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """The weights of another fusion of as many inputs, alike first."""
    features, weights = operation.arguments
    for name in by_resemblance(operation.name, operation.fusion_weights):
        other = operation.fusion_weights[name].to(features[0].dtype)
        if weights is not None and other.shape == weights.shape:
            own = shares_of(fusion_of(operation), other)
            yield f"with the weights of {name}", weighted(features, own)


def _fitted_epsilon(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The epsilon by which all shares are smaller than they would be without one."""
    features, weights = case.arguments
    if weights is None or not _is_fast(case) or features[0].shape != case.candidate.shape:
        return
    own = weights.detach().to(features[0].dtype)
    totals = F.relu(own).sum(0)
    if not bool((totals > 0).any()):
        return
    # With another epsilon all shares are others by one factor, of each channel where it has its own
    # weights.
    axes = (0, 2, 3) if totals.dim() else (0, 1, 2, 3)
    output, candidate = base(ALL)[0], case.candidate.double()
    factors = (output * candidate).sum(axes) / output.square().sum(axes)
    shown = ((totals + FUSION_EPSILON) / factors - totals)[totals > 0]
    epsilon = float(shown.nanmedian())
    # Any factor is that of some epsilon; somebody writes down a round one.
    for value in (float(f"{epsilon:.1g}"), float(f"{epsilon:.2g}")):
        if 0 < value < _LARGEST_EPSILON and value != FUSION_EPSILON:
            again = partial(_with_epsilon, epsilon=value)
            title = f"fusion with epsilon {value:g} instead of {FUSION_EPSILON:g}"
            yield fitted("fusion-epsilon", title, case, base, again, 1)


_LARGEST_EPSILON = 2.0
"""Nobody adds more to a sum of a few weights near one."""


def _with_epsilon(operation: Operation, base: Evaluation, epsilon: float) -> Evaluation:
    features, weights = operation.arguments
    return weighted(features, fast_attention(weights.detach().to(features[0].dtype), epsilon))


def _epsilon_example(operation: Operation, base: Evaluation) -> Evaluation | None:
    if operation.arguments[1] is None or not _is_fast(operation):
        return None
    return _with_epsilon(operation, base, 0.023)


def _fitted_input(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """One input of which a multiple enters the sum, whatever multiplies it."""
    features: list[Tensor] = list(case.arguments[0])
    if not all(x.shape == case.candidate.shape for x in features):
        return
    own = _parts(case)
    beyond = case.candidate.double() - sum(own[1:], own[0])
    for number, part in enumerate(own):
        energy = float(part.square().sum())
        shown = 1 + float((beyond * part).sum()) / energy if energy else 1.0
        for factor in dict.fromkeys((float(f"{shown:.3g}"), shown)):
            text = told(factor, 1.0, 3)
            if text is not None:
                again = partial(_with_input_times, number=number, factor=factor)
                title = f"its input {number} multiplied by {text}"
                yield fitted("input-multiplied", title, case, base, again, 1)


def _with_input_times(
    operation: Operation, base: Evaluation, *, number: int, factor: float
) -> Evaluation:
    changed = shares(operation).clone()
    changed[number] *= factor
    return weighted(list(operation.arguments[0]), changed)


def _fitted_shares(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    features: list[Tensor] = list(case.arguments[0])
    if not all(x.shape == case.candidate.shape for x in features):
        return
    factors = least_squares(features, case.candidate)
    if factors is None:
        return
    right = shares(case)
    if right.dim() > 1:
        # What it should be says each channel for itself.
        made, due = ", ".join(f"{factor:.4g}" for factor in factors), "shares of each channel"
    else:
        pairs = [told_apart(a, float(b)) for a, b in zip(factors, right, strict=True)]
        made, due = (", ".join(texts) for texts in zip(*pairs, strict=True))

    def again(case: Case, base: Evaluation) -> Evaluation:
        return _with_shares(case, factors)

    title = f"the inputs weighted by {made} instead of {due}"
    yield fitted("weights-other", title, case, base, again, len(factors))


def _fitted_channel_shares(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Shares of each channel that are others than the model's."""
    features: list[Tensor] = list(case.arguments[0])
    if not _is_per_channel(case) or not all(x.shape == case.candidate.shape for x in features):
        return
    rows = []
    for channel in range(case.candidate.shape[1]):
        part = [x[:, channel] for x in features]
        factors = least_squares(part, case.candidate[:, channel])
        if factors is None:
            return
        rows.append(factors)
    found = torch.tensor(rows, dtype=features[0].dtype).T
    moved = int(((found - shares(case)).abs() > _OTHER).any(0).sum())
    if not moved:
        return
    title = (
        f"in {moved} of {found.shape[1]} channels the inputs weighted by others than the model's "
        f"shares, {float(found.min()):.4g} to {float(found.max()):.4g}"
    )
    again = partial(_with_channel_shares, found)
    yield fitted("weights-other", title, case, base, again, found.numel())


_OTHER = 1e-5
"""Difference of two shares beyond what roundings of the inputs explain."""


def _with_channel_shares(found: Tensor, operation: Operation, base: Evaluation) -> Evaluation:
    features = list(operation.arguments[0])
    return weighted(features, found.to(features[0].dtype))


def _channels_example(operation: Operation, base: Evaluation) -> Evaluation | None:
    right = shares(operation)
    if right.dim() < 2:
        return None
    return _with_channel_shares(right * torch.linspace(0.5, 1.5, right.shape[1]), operation, base)


def _fitted_temperature(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Softmax of the weights times a number, which the ratios of the shares show."""
    features, weights = case.arguments
    if weights is None or not all(x.shape == case.candidate.shape for x in features):
        return
    if weights.dim() > 1:
        # Of each channel there are too few shares to show it.
        return
    factors = least_squares(features, case.candidate)
    if factors is None or min(factors) <= 0:
        return
    own = weights.detach().to(features[0].dtype)
    logs = torch.tensor(factors, dtype=own.dtype).log()
    apart, shown = own - own.mean(), logs - logs.mean()
    power = float(apart.square().sum())
    temperature = float((apart * shown).sum()) / power if power else 0.0
    for value in dict.fromkeys((float(f"{temperature:.3g}"), temperature)):
        if value not in (0.0, 1.0):
            title = f"softmax of {value:.5g} times its weights"
            again = partial(_with_temperature, temperature=value)
            yield fitted("softmax-temperature", title, case, base, again, 1)


def _with_temperature(operation: Operation, base: Evaluation, temperature: float) -> Evaluation:
    features, weights = operation.arguments
    own = weights.detach().to(features[0].dtype)
    return weighted(features, torch.softmax(temperature * own, 0))


def _temperature_example(operation: Operation, base: Evaluation) -> Evaluation | None:
    features, weights = operation.arguments
    if weights is None or weights.dim() > 1 or len(features) < 3:
        return None
    return _with_temperature(operation, base, 2.5)


def _with_shares(operation: Operation, factors: Iterable[float]) -> Evaluation:
    features = list(operation.arguments[0])
    return weighted(features, torch.tensor(list(factors), dtype=features[0].dtype))


def _example(operation: Operation, base: Evaluation) -> Evaluation:
    return _with_shares(operation, _EXAMPLE[: len(operation.arguments[0])])


FAULTS = (
    _shared("fast-attention", "fast attention for softmax", _fast, _is_softmax),
    _shared("fusion-epsilon", "another epsilon of fusion", _other_epsilons),
    _shared("no-relu", "fusion without relu of its weights", _without_relu),
    _shared("softmax", "softmax for fast attention", _softmax),
    _shared(
        "weights-function", "another function than the softmax", _other_than_softmax, _is_softmax
    ),
    in_variants(
        "weights-of-one-channel",
        "one weight of an input for all its channels",
        _KINDS,
        _for_all_channels,
        where=_is_per_channel,
    ),
    in_variants(
        "normalised-over-channels",
        "weights of channels normalised over these",
        _KINDS,
        _over_channels,
        where=_is_per_channel,
    ),
    in_variants(
        "weights-of-other-channels",
        "the weights of other channels",
        _KINDS,
        _of_other_channels,
        where=_is_per_channel,
    ),
    _shared("not-normalised", "fusion not divided by the sum of its weights", _not_normalised),
    _shared("weights-function", "another function of fusion's weights", _other_functions),
    _shared("weights-scaled", "fusion's shares times the number of inputs", _scaled),
    _shared("weights-normalised-otherwise", "fusion's weights normalised otherwise", _other_norms),
    _shared("normalised-twice", "fusion's weights normalised twice", _twice_normalised),
    _shared("late-relu", "relu of one side of fusion's division", _late_relu),
    _shared("epsilon-each", "fusion's epsilon added to each weight", _epsilon_each),
    in_variants("plain-sum", "a plain sum for fusion", _KINDS, _plain_sum),
    in_variants("plain-mean", "a plain mean for fusion", _KINDS, _plain_mean),
    in_variants(
        "fast-attention-of-ones", "fusion with initial weights of one", _KINDS, _fast_of_ones
    ),
    in_variants("weights-permuted", "fusion's weights in another order", _KINDS, _permuted),
    # Where the input counts alone, nothing is left.
    in_variants("input-missing", "an input of fusion left out", _KINDS, _missing, alike=("zero",)),
    in_variants("input-repeated", "an input of fusion taken twice", _KINDS, _repeated),
    in_variants("maximum", "the largest input for fusion", _KINDS, _largest),
    in_variants(
        "weights-of-other-node",
        "another fusion's weights",
        _KINDS,
        _of_other_node,
        # A node whose weights are much like another's.
        alike=("weights-permuted",),
    ),
    in_variants("product", "the product of the inputs for fusion", _KINDS, _product),
    in_variants("inputs-activated", "an activation before fusion", _KINDS, _activated),
    # Where one input counts alone, to activate it and to activate the sum are one.
    activations.on_top(_KINDS, alike=("inputs-activated",)),
    in_variants("minimum", "the smallest input for fusion", _KINDS, _smallest),
    with_numbers(
        "fusion-epsilon",
        "an epsilon of fusion that nobody uses",
        _KINDS,
        _fitted_epsilon,
        _epsilon_example,
    ),
    with_numbers(
        "input-multiplied",
        "an input of fusion multiplied",
        _KINDS,
        _fitted_input,
        partial(_with_input_times, number=0, factor=_FACTOR),
    ),
    with_numbers(
        "softmax-temperature",
        "softmax of a multiple of fusion's weights",
        _KINDS,
        _fitted_temperature,
        _temperature_example,
    ),
    with_numbers("weights-other", "other shares of fusion", _KINDS, _fitted_shares, _example),
    with_numbers(
        "weights-other",
        "other shares of each channel",
        _KINDS,
        _fitted_channel_shares,
        _channels_example,
        where=_is_per_channel,
    ),
)
"""Faults of a fusion, the simplest and likeliest first."""
