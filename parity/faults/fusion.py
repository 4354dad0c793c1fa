"""What ports get wrong where a BiFPN node fuses its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import FUSION_EPSILON, Fusion
from parity.faults import activations
from parity.faults.case import (
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    fitted,
)
from parity.faults.elementwise import least_squares
from parity.results.digits import told_apart

_EPSILONS = (0.0, 1e-3, 1e-5, 1e-2, 1e-6, 1e-8)


def _weighted(features: Sequence[Tensor], shares: Tensor) -> Evaluation:
    """``sum share_i x_i``."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        if len(features) != len(shares):
            raise ValueError("one share for each feature")
        chosen = [x[:, channels] for x in features]
        output = torch.zeros_like(chosen[0])
        gauge = torch.zeros_like(chosen[0])
        for x, share in zip(chosen, shares, strict=True):
            output = output + x * share
            gauge = gauge + (x * share).abs()
        return output, gauge

    return evaluate


def _fast(weights: Tensor, epsilon: float = FUSION_EPSILON) -> Tensor:
    kept = F.relu(weights)
    return kept / (kept.sum() + epsilon)


def faithful(case: Case) -> Evaluation:
    """The weighted sum as it should be."""
    features, weights = case.arguments
    return _weighted(features, _shares(case, weights))


def _shares(case: Case, weights: Tensor | None) -> Tensor:
    module: Any = case.module
    fusion = Fusion(module.fusion)
    if fusion is Fusion.SUM or weights is None:
        return torch.ones(len(case.arguments[0]), dtype=torch.float64)
    if fusion is Fusion.SOFTMAX_ATTENTION:
        return torch.softmax(weights.detach().double(), 0)
    return _fast(weights.detach().double())


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Faults of a fusion, the simplest and likeliest first."""
    features: list[Tensor] = list(case.arguments[0])
    weights = case.arguments[1]
    count = len(features)
    ones = torch.ones(count, dtype=torch.float64)
    shares = _shares(case, weights)
    if weights is not None:
        own = weights.detach().double()
        for slug, title, other in _weightings(Fusion(_fusion(case)), own):
            yield Hypothesis(slug, title, _weighted(features, other))
    yield Hypothesis("plain-sum", "a plain sum of the inputs", _weighted(features, ones))
    yield Hypothesis("plain-mean", "the mean of the inputs", _weighted(features, ones / count))
    yield Hypothesis(
        "fast-attention-of-ones",
        "fast attention with every weight 1 instead of a sum",
        _weighted(features, _fast(ones)),
    )
    for order in list(permutations(range(count)))[1:]:
        listed = ", ".join(str(i) for i in order)
        permuted = _weighted(features, shares[list(order)])
        if weights is not None:
            yield Hypothesis("weights-permuted", f"its weights in the order {listed}", permuted)
    for missing in range(count):
        kept = torch.where(torch.arange(count) == missing, 0.0, 1.0).double()
        title = f"input {missing} left out"
        yield Hypothesis("input-missing", title, _weighted(features, shares * kept))
        if weights is not None:
            rest = _fast(weights.detach().double() * kept)
            yield Hypothesis(
                "input-missing",
                f"{title}, the weights of the rest normalised",
                _weighted(features, rest),
            )
    for twice in range(count):
        for dropped in range(count):
            if twice != dropped:
                inputs = [features[twice if i == dropped else i] for i in range(count)]
                yield Hypothesis(
                    "input-repeated",
                    f"input {twice} taken for input {dropped} too",
                    _weighted(inputs, shares),
                )
    yield from _not_linear(features, shares)
    yield from activations.on_top(_weighted(features, shares))
    if all(x.shape == case.candidate.shape for x in features):
        factors = least_squares(features, case.candidate)
        if factors is not None:
            yield from _other_shares(case, shares, factors)


def _other_shares(case: Case, shares: Tensor, factors: list[float]) -> Iterator[Hypothesis]:
    pairs = [told_apart(a, float(b)) for a, b in zip(factors, shares, strict=True)]
    made, right = (", ".join(texts) for texts in zip(*pairs, strict=True))

    def again(case: Case, base: Evaluation) -> Evaluation:
        return _weighted(list(case.arguments[0]), torch.tensor(factors, dtype=torch.float64))

    yield fitted(
        "weights-other",
        f"the inputs weighted by {made} instead of {right}",
        case,
        faithful(case),
        again,
        len(factors),
    )


def _fusion(case: Case) -> str:
    module: Any = case.module
    return str(Fusion(module.fusion).value)


def _weightings(fusion: Fusion, own: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """Other ways from the weights to the shares."""
    count = len(own)
    total = own.sum()
    if fusion is not Fusion.FAST_ATTENTION:
        yield "fast-attention", "fast attention instead of softmax", _fast(own)
    for epsilon in _EPSILONS:
        yield (
            "fusion-epsilon",
            f"fusion with epsilon {epsilon:g} instead of {FUSION_EPSILON:g}",
            _fast(own, epsilon),
        )
    yield "no-relu", "without the relu of its weights", own / (total + FUSION_EPSILON)
    yield "no-relu", "without the relu of its weights and without epsilon", own / total
    if fusion is not Fusion.SOFTMAX_ATTENTION:
        yield "softmax", "softmax instead of fast attention", torch.softmax(own, 0)
    yield "not-normalised", "weights not divided by their sum", F.relu(own)
    yield "not-normalised", "weights without relu, not divided by their sum", own
    for title, function in (
        ("softplus", F.softplus),
        ("sigmoid", torch.sigmoid),
        ("the absolute value", torch.abs),
        ("swish", F.silu),
        ("relu6", F.relu6),
    ):
        positive = function(own)
        yield (
            "weights-function",
            f"{title} of its weights instead of relu",
            positive / (positive.sum() + FUSION_EPSILON),
        )
        yield "weights-function", f"{title} of its weights, not normalised", positive
    yield "weights-scaled", "its shares times the number of inputs", _fast(own) * count
    yield "epsilon-each", "epsilon added to each weight", _fast(F.relu(own) + FUSION_EPSILON, 0.0)


def _not_linear(features: list[Tensor], shares: Tensor) -> Iterator[Hypothesis]:
    def largest(channels: Channels) -> tuple[Tensor, Tensor]:
        chosen = torch.stack([x[:, channels] for x in features])
        output = chosen.amax(0)
        return output, output.abs()

    def product(channels: Channels) -> tuple[Tensor, Tensor]:
        output = torch.stack([x[:, channels] for x in features]).prod(0)
        return output, output.abs()

    yield Hypothesis("maximum", "the largest of the inputs", largest)
    yield Hypothesis("product", "the product of the inputs", product)
    for _, title, function in activations.ACTIVATIONS[:2]:
        changed = [function(x) for x in features]
        yield Hypothesis(
            "inputs-activated", f"{title} of the inputs before the sum", _weighted(changed, shares)
        )
