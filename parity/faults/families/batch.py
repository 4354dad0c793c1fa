"""Faults that any node may have in a batch: images in others' places, or mixed with one another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    fitted,
    number,
)
from parity.faults.basics.fault import EVERY, Variant, in_variants, with_numbers
from parity.faults.families.fitted_activations import rounded

_SAMPLES = 4096
"""Values by which images are told apart and factors fitted."""

_NOTHING = 1e-5
"""A share of another image that roundings may feign."""

_MANY = 64
"""Values for each number that is fitted."""


def _sampled(case: Case, base: Evaluation) -> tuple[Tensor, Tensor] | None:
    """[images, values] of the faithful and of the candidate's output; None where not comparable."""
    output, _ = base(ALL)
    candidate = case.candidate.double()
    count = output.shape[0]
    if output.shape != candidate.shape or count < 2 or output[0].numel() < _MANY * count:
        return None
    step = max(1, output[0].numel() // _SAMPLES)
    step += step > 1 and step % 2 == 0
    both = output.flatten(1)[:, ::step], candidate.flatten(1)[:, ::step]
    return both if all(bool(torch.isfinite(v).all()) for v in both) else None


def _of_images(base: Evaluation, order: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        return output[order], gauge[order]

    return evaluate


def _rolled(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    count = base(ALL)[0].shape[0]
    for step in range(1, count):
        words = f"each image's values those of the image {step} before it, cyclically"
        yield words, _of_images(base, torch.arange(count).roll(step))


def _fitted_order(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The image whose values each image has."""
    both = _sampled(case, base)
    if both is None:
        return
    ours, theirs = both
    order = torch.cdist(theirs, ours, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    moved = (order != torch.arange(len(order))).nonzero().flatten().tolist()
    if moved:
        listed = ", ".join(f"image {i} has those of image {int(order[i])}" for i in moved[:4])
        title = f"another image's values: {listed}" + (", ..." if len(moved) > 4 else "")
        again = partial(_again_in_order, order)
        yield fitted("images-permuted", title, case, base, again, 1, of_sizes=True)


def _again_in_order(order: Tensor, operation: Operation, base: Evaluation) -> Evaluation:
    return _of_images(base, order)


def _fitted_mixture(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Each image a sum of shares of all."""
    both = _sampled(case, base)
    if both is None:
        return
    ours, theirs = both
    gram = ours @ ours.T
    if bool(torch.linalg.cond(gram) > 1e9):
        return
    shares = torch.linalg.solve(gram, ours @ theirs.T).T
    count = len(shares)
    own = torch.eye(count, dtype=shares.dtype)
    beyond = shares - own
    if not bool((beyond[own == 0].abs() > _NOTHING).any()):
        return
    for title, mixture in _even(beyond, own):
        yield fitted("images-mixed", title, case, base, partial(_again_mixed_alike, mixture), 1)
    changed = (beyond.abs() > _NOTHING).nonzero().tolist()
    kept = torch.where(beyond.abs() > _NOTHING, shares, own)
    parts = [
        f"image {i} plus {number(float(beyond[i, j]))} times image {j}"
        if i != j
        else f"image {i} times {number(float(shares[i, i]))}"
        for i, j in changed[:4]
    ]
    title = "images mixed: " + "; ".join(parts) + ("; ..." if len(changed) > 4 else "")
    constants = min(len(changed), 1 + count)
    again = partial(_again_mixed, kept)
    yield fitted("images-mixed", title, case, base, again, constants, of_sizes=True)


def _even(beyond: Tensor, own: Tensor) -> Iterator[tuple[str, Mixture]]:
    """Mixtures that do the same to each image.

    Args:
        beyond: [images, images], what each image has of each besides itself.
        own: [images, images], what each has of each where nothing is mixed.

    Yields:
        What is done in words, and that for a batch of any number of images.
    """
    count = len(beyond)
    for value in rounded(float(beyond[own == 0].median()) * count):
        left = float(beyond.diagonal().median()) - value / count
        if value == -1:
            yield "the mean over the batch subtracted", partial(_with_mean, 1, -1)
        elif math.isclose(left, -value, rel_tol=1e-3, abs_tol=1e-5):
            title = f"mixed with the mean of the batch, of which it is {number(value)}"
            yield title, partial(_with_mean, 1 - value, value)
        else:
            title = f"{number(value)} times the mean of the batch added"
            yield title, partial(_with_mean, 1, value)
    for step in range(1, count):
        near = float(beyond[own.roll(step, 1) > 0].median())
        for factor in rounded(near):
            words = f"{number(factor)} times the image {step} further on"
            yield f"{words} added to each", partial(_with_next, step, 1, factor)
            yield f"mixed with {words}", partial(_with_next, step, 1 - factor, factor)


Mixture = Callable[[int], Tensor]
"""For a number of images [images, images], what each image has of each."""


def _with_mean(kept: float, share: float, count: int) -> Tensor:
    own = torch.eye(count, dtype=torch.float64)
    return kept * own + share * torch.full_like(own, 1 / count)


def _with_next(step: int, kept: float, share: float, count: int) -> Tensor:
    own = torch.eye(count, dtype=torch.float64)
    return kept * own + share * own.roll(step, 1)


def _again_mixed_alike(mixture: Mixture, operation: Operation, base: Evaluation) -> Evaluation:
    return _again_mixed(mixture(len(base(ALL)[0])), operation, base)


def _again_mixed(shares: Tensor, operation: Operation, base: Evaluation) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        return (
            torch.einsum("ij,jchw->ichw", shares.to(output), output),
            torch.einsum("ij,jchw->ichw", shares.abs().to(output), gauge),
        )

    return evaluate


def _leak(operation: Operation, base: Evaluation) -> Evaluation | None:
    count = len(base(ALL)[0])
    return None if count < 2 else _again_mixed(_with_mean(0.9, 0.1, count), operation, base)


def _extremes(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """One value for all images of a batch."""
    if base(ALL)[0].shape[0] < 2:
        return

    def of(function: str) -> Evaluation:
        def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
            output, gauge = base(channels)
            made = getattr(output, function)(0, keepdim=True).expand_as(output)
            return made, gauge.amax(0, keepdim=True).expand_as(output)

        return evaluate

    yield "the mean over the batch for every image", of("mean")
    yield "the largest value of the batch for every image", of("amax")
    yield "the smallest value of the batch for every image", of("amin")
    yield "the sum over the batch for every image", of("sum")


def _last_repeated(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    count = base(ALL)[0].shape[0]
    if count > 1:
        last = torch.full((count,), count - 1)
        yield "the last image's values for every image", _of_images(base, last)


def _two_of_one(operation: Operation, base: Evaluation) -> Evaluation | None:
    count = base(ALL)[0].shape[0]
    if count < 2:
        return None
    order = torch.arange(count)
    order[0] = count - 1
    return _of_images(base, order)


# Of two images all of these may be the same exchange.
_ALIKE = (
    "images-reordered",
    "images-repeated",
    "images-moved",
    "images-permuted",
    "gate-of-other-image",
    "batch-reduced",
)

FAULTS = (
    in_variants("images-moved", "images of a batch moved on", EVERY, _rolled, alike=_ALIKE),
    in_variants("images-repeated", "the last image for all", EVERY, _last_repeated, alike=_ALIKE),
    in_variants("batch-reduced", "one value for all images", EVERY, _extremes,
                alike=("mean-over-other-axes", *_ALIKE)),
    with_numbers("images-permuted", "images of a batch in others' places", EVERY, _fitted_order,
                 _two_of_one, alike=(*_ALIKE, "part-of-images")),
    with_numbers("images-mixed", "images of a batch mixed", EVERY, _fitted_mixture, _leak),
)  # fmt: skip
"""What only a batch of two images or more can show."""
