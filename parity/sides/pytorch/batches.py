"""Candidates that take the images of a batch one after another, in a loop of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from parity.process.arrays import Array
from parity.sides.pytorch.dispatch import Step, Watching
from parity.sides.pytorch.hooks import same
from parity.sides.pytorch.nested import plain
from parity.sides.side import CandidateError, OneAtATimeError

_ROUNDED = 1e-4
"""Difference that other orders of summation may make in an output, relative to its spread."""

Run = Callable[[Array], Sequence[Tensor]]
"""Runs a candidate on images [N, H, W, 3]; its outputs."""


class Convolutions(Watching):  # type: ignore[no-untyped-call]
    """Sees of how many images a run's convolutions are.

    Attributes:
        counts: Images in what each of them makes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def behind(self, step: Step) -> None:
        """Keep of how many images a convolution's result is."""
        if "conv" in step.name:
            shape = plain(step.made[0]).shape
            # Without an axis for it, it is of a single image.
            self.counts.append(shape[0] if len(shape) == 4 else 1)


def check_batch(images: Array, watched: Callable[[Any], object], run: Run) -> None:
    """Raise where a candidate takes the images of a batch one after another.

    Args:
        images: [N, H, W, 3].
        watched: Runs the candidate on them within a mode.
        run: Runs it as its user does.

    Raises:
        OneAtATimeError: It does. If it does not make of each image what it makes of it alone, that
            is said too.
    """
    count = len(images)
    if count == 1:
        return
    convolutions = Convolutions()
    try:
        watched(convolutions)
    except CandidateError:
        # Whoever cannot be watched may be run all the same.
        return
    if set(convolutions.counts) != {1}:
        return
    together = run(images)
    alone = [run(images[number : number + 1]) for number in range(count)]
    if any([len(item) for item in outputs] != [1] * len(together) for outputs in alone) or any(
        len(item) != count for item in together
    ):
        # It leaves images out, or joins what it makes of them in some other way.
        return
    joined = [torch.cat(outputs) for outputs in zip(*alone, strict=True)]
    unlike = [
        (_apart(one, other), place)
        for place, (one, other) in enumerate(zip(together, joined, strict=True))
        if not same(one, other)
    ]
    otherwise = ""
    if unlike:
        furthest, place = max(unlike)
        if furthest < _ROUNDED:
            # It has some way of its own to hold them together.
            return
        otherwise = (
            f"of {count} images together it makes something else than of each alone (output "
            f"number {place}), although it takes them one after another"
        )
    raise OneAtATimeError(
        f"The candidate takes {count} images together one after another, so that its layers never "
        f"have them all; give single images.",
        otherwise,
    )


def _apart(one: Tensor, other: Tensor) -> float:
    """Largest difference of two tensors, relative to the spread of the second."""
    if one.shape != other.shape:
        return math.inf
    spread = float(other.double().std())
    largest = float((one.double() - other.double()).abs().max())
    return largest / spread if spread else math.inf
