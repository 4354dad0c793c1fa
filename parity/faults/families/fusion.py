"""What ports get wrong where a BiFPN node fuses its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import FUSION_EPSILON, Fusion, NodeKind
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
from parity.faults.basics.operations import Change, fast_attention, shares, weighted
from parity.faults.families import activations
from parity.faults.families.elementwise import least_squares
from parity.results.digits import told, told_apart

_KINDS = frozenset({NodeKind.FUSE})

_EPSILONS = (0.0, 1e-3, 1e-5, 1e-2, 1e-6, 1e-8)

_FACTOR = 1.25
"""By which an input is multiplied that is put into models."""

_EXAMPLE = (0.1, 0.2, 0.3)
"""Shares that no weights give."""


def _anywhere(site: Site) -> bool:
    return True


def _not(fusion: Fusion) -> Callable[[Site], bool]:
    """Fusions that compute their shares in another way."""

    def where(site: Site) -> bool:
        module: Any = site.module
        return Fusion(module.fusion) is not fusion

    return where


def _shared(
    slug: str,
    title: str,
    ways: Callable[[Tensor], Iterable[tuple[str, Tensor]]],
    where: Callable[[Site], bool] = _anywhere,
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


def _other_epsilons(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    for epsilon in _EPSILONS:
        yield (
            f"fusion with epsilon {epsilon:g} instead of {FUSION_EPSILON:g}",
            fast_attention(own, epsilon),
        )


def _without_relu(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    total = own.sum()
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
            positive / (positive.sum() + FUSION_EPSILON),
        )
        yield f"{title} of its weights instead of relu, no epsilon", positive / positive.sum()
        yield f"{title} of its weights, not normalised", positive


def _other_norms(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    kept = F.relu(own)
    for weights, words in ((kept, ""), (own, ", without relu")):
        yield f"its weights divided by their largest{words}", weights / weights.max()
        yield f"its weights divided by their length{words}", weights / weights.norm()
        yield f"its weights divided by their number{words}", weights / len(own)
    magnitudes = own.abs().sum() + FUSION_EPSILON
    yield "its weights divided by the sum of their magnitudes", own / magnitudes
    yield "relu of its weights, divided by the sum of all magnitudes", kept / magnitudes
    yield "softmax of relu of its weights", torch.softmax(kept, 0)
    yield "softmax of the shares", torch.softmax(fast_attention(own), 0)


def _twice_normalised(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    shares = fast_attention(own)
    yield "its weights normalised twice", fast_attention(shares)
    yield "softmax of its weights, then normalised", fast_attention(torch.softmax(own, 0))


def _late_relu(own: Tensor) -> Iterator[tuple[str, Tensor]]:
    total = own.sum()
    shares = own / (total + FUSION_EPSILON)
    yield "relu after its weights were divided by their sum", F.relu(shares)
    yield (
        "relu of each weight, divided by the sum without relu",
        F.relu(own) / (total + FUSION_EPSILON),
    )
    yield (
        "its weights without relu, divided by the sum of their relu",
        own / (F.relu(own).sum() + FUSION_EPSILON),
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
    yield "the mean of the inputs", weighted(operation.arguments[0], ones / len(ones))


def _fast_of_ones(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    yield (
        "fast attention with every weight 1 instead of a sum",
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
        title = f"input {missing} left out"
        yield title, weighted(features, right * kept)
        if weights is not None:
            rest = fast_attention(weights.detach().to(right) * kept)
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
    for _, title, function in activations.ACTIVATIONS[:2]:
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
                [x * share for x, share in zip(features, shares(operation), strict=True)],
                lambda v: v.amax(0),
            ),
        )
        yield "the median of the inputs", _of_stack(features, lambda v: v.median(0)[0])


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
            yield f"with the weights of {name}", weighted(features, fast_attention(other))


def _fitted_epsilon(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The epsilon by which all shares are smaller than they would be without one."""
    features, weights = case.arguments
    module: Any = case.module
    if weights is None or Fusion(module.fusion) is not Fusion.FAST_ATTENTION:
        return
    if features[0].shape != case.candidate.shape:
        return
    own = weights.detach().to(features[0].dtype)
    total = float(F.relu(own).sum())
    if not total:
        return
    # With another epsilon all shares are others by one factor.
    output, candidate = base(ALL)[0], case.candidate.double()
    factor = float((output * candidate).sum() / output.square().sum())
    epsilon = (total + FUSION_EPSILON) / factor - total
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
    module: Any = operation.module
    if operation.arguments[1] is None or Fusion(module.fusion) is not Fusion.FAST_ATTENTION:
        return None
    return _with_epsilon(operation, base, 0.023)


def _fitted_input(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """One input of which a multiple enters the sum, whatever multiplies it."""
    features: list[Tensor] = list(case.arguments[0])
    if not all(x.shape == case.candidate.shape for x in features):
        return
    own = [share * x for share, x in zip(shares(case), features, strict=True)]
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
    pairs = [told_apart(a, float(b)) for a, b in zip(factors, shares(case), strict=True)]
    made, right = (", ".join(texts) for texts in zip(*pairs, strict=True))

    def again(case: Case, base: Evaluation) -> Evaluation:
        return _with_shares(case, factors)

    title = f"the inputs weighted by {made} instead of {right}"
    yield fitted("weights-other", title, case, base, again, len(factors))


def _fitted_temperature(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Softmax of the weights times a number, which the ratios of the shares show."""
    features, weights = case.arguments
    if weights is None or not all(x.shape == case.candidate.shape for x in features):
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
    if operation.arguments[1] is None or len(operation.arguments[0]) < 3:
        return None
    return _with_temperature(operation, base, 2.5)


def _with_shares(operation: Operation, factors: Iterable[float]) -> Evaluation:
    features = list(operation.arguments[0])
    return weighted(features, torch.tensor(list(factors), dtype=features[0].dtype))


def _example(operation: Operation, base: Evaluation) -> Evaluation:
    return _with_shares(operation, _EXAMPLE[: len(operation.arguments[0])])


FAULTS = (
    _shared("fast-attention", "fast attention for softmax", _fast, _not(Fusion.FAST_ATTENTION)),
    _shared("fusion-epsilon", "another epsilon of fusion", _other_epsilons),
    _shared("no-relu", "fusion without relu of its weights", _without_relu),
    _shared("softmax", "softmax for fast attention", _softmax, _not(Fusion.SOFTMAX_ATTENTION)),
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
)
"""Faults of a fusion, the simplest and likeliest first."""
