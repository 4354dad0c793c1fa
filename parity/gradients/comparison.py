"""Whether two frameworks differentiate one model alike: measures, limits, verdicts, the result.

Both sides differentiate one scalar with respect to the images and every trainable parameter,
with batch norms in inference and in training mode. The scalar is the sum over all outputs y of
``mean(y * pattern + y * y / 2)``: the first part gives every output element a weight of its own,
none of them zero (:func:`output_patterns`), the second makes the gradient depend on the outputs.
Training mode also compares what one step makes of the moving statistics.

Each side runs in float32 and in float64; :mod:`parity.gradients.verdict` says what follows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from efficientdet_spec import EfficientDetConfig
from parity.gradients.inputs import DITHER, dithered, output_patterns, require_positions
from parity.gradients.sides import CandidateGradients, ReferenceGradients
from parity.gradients.verdict import STRUCTURE_LIMIT, GradientResult, judge_all
from parity.judge.limits import SIDE_LIMIT
from parity.judge.verdict import Verdict
from parity.process.arrays import Array
from parity.process.environment import peak_memory_bytes
from parity.results.records.gradients import (
    DitheredImages,
    Gradient,
    GradientLimits,
    GradientsResult,
    Mode,
)
from parity.results.records.record import made
from parity.results.records.shared import Checkpoint

Progress = Callable[[int, int], None]
_T = TypeVar("_T")

DRAWS = 4
"""Random disturbances from which a unit is estimated.

That one is underestimated tenfold has, in the worst case of a gradient that moves along a single
line, a probability of 2e-4 (chi-squared with 4 degrees of freedom below 0.04)."""


@dataclass(frozen=True)
class Subject:
    """What was compared.

    Attributes:
        model: Name of the model.
        checkpoint: What both sides were filled from: path, fingerprint, weights.
        candidate: Where the PyTorch side came from.
        images: The input before it was dithered: source, size, hash.
        environment: Versions and settings.
    """

    model: str
    checkpoint: Checkpoint
    candidate: str
    images: Mapping[str, Any]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class GradientsReport:
    """The result of comparing gradients.

    Attributes:
        subject: What was compared.
        results: One for the scalar, the images, each parameter and, in training mode, each
            statistic, in the order of the network, mode by mode.
        terms: Number of values that TensorFlow may add one after another.
        seconds: Wall time by phase.
        peak_memory: Largest resident memory of the process, in bytes.
    """

    subject: Subject
    results: Sequence[GradientResult]
    terms: int
    seconds: Mapping[str, float]
    peak_memory: int

    @property
    def passes(self) -> bool:
        """Whether every gradient of both sides is covered and within its limits."""
        return bool(self.results) and not self.failures()

    def failures(self) -> list[GradientResult]:
        """The gradients whose parity is not shown."""
        return [result for result in self.results if not result.verdict.passes]

    def of(self, mode: Mode) -> list[GradientResult]:
        """The results of one mode."""
        return [result for result in self.results if result.mode is mode]

    def modes(self) -> list[Mode]:
        """The modes that were compared."""
        return [mode for mode in Mode if self.of(mode)]

    def counts(self) -> dict[Mode, dict[Verdict, int]]:
        """Number of gradients by mode and verdict."""
        counts = {}
        for mode in self.modes():
            found = Counter(result.verdict for result in self.of(mode))
            counts[mode] = {verdict: found[verdict] for verdict in Verdict}
        return counts

    def largest_structure(self, mode: Mode) -> GradientResult | None:
        """The gradient whose two float64 values are furthest apart."""
        measured = [result for result in self.of(mode) if result.structure is not None]
        return max(measured, key=lambda result: result.structure or 0.0, default=None)

    def result(self) -> GradientsResult:
        """What is written of it."""
        subject = self.subject
        return GradientsResult(
            passes=self.passes,
            model=subject.model,
            checkpoint=subject.checkpoint,
            candidate=subject.candidate,
            images=made(DitheredImages, {**subject.images, "dither": DITHER}),
            environment=subject.environment,
            counts=self.counts(),
            limits=GradientLimits(STRUCTURE_LIMIT, SIDE_LIMIT, self.terms, DRAWS),
            seconds=self.seconds,
            peak_memory_bytes=self.peak_memory,
            gradients=[made(Gradient, result) for result in self.results],
        )


def compare_gradients(
    config: EfficientDetConfig,
    reference: ReferenceGradients,
    candidate: CandidateGradients,
    images: Array,
    subject: Subject,
    *,
    modes: Sequence[Mode] = tuple(Mode),
    constants_rounded: bool = False,
    progress: Progress | None = None,
) -> GradientsReport:
    """Differentiate both sides in both precisions and judge every gradient.

    Args:
        config: The model.
        reference: The side that is compared with.
        candidate: The side that is compared.
        images: [N, H, W, 3], normalised; they are dithered here.
        subject: What to say about the comparison.
        modes: What batch norms normalise by.
        constants_rounded: Whether the candidate may hold numbers that were rounded to float32
            before it is differentiated in float64, as a port of another make may.
        progress: Told the runs done and their number.

    Raises:
        InputError: The model cannot process this size, or not in training mode.
    """
    batch, height, width = images.shape[:3]
    patterns = output_patterns(config, batch, height, width)
    if Mode.TRAINING in modes:
        require_positions(config, batch, height, width)
    images = dithered(images)
    terms = batch * ((height + 1) // 2) * ((width + 1) // 2)
    runs = 5 * len(modes)
    results: list[GradientResult] = []
    seconds: dict[str, float] = {}
    done = 0

    def timed(phase: str, work: Callable[[], _T]) -> _T:
        nonlocal done
        started = time.perf_counter()
        value = work()
        seconds[phase] = round(seconds.get(phase, 0.0) + time.perf_counter() - started, 3)
        done += 1
        if progress:
            progress(done, runs)
        return value

    for mode in modes:
        training = mode is Mode.TRAINING
        found = {
            (side, dtype): timed(
                f"{side} {dtype}",
                partial(compute, images, patterns, dtype=dtype, training=training),
            )
            for side, compute in (("reference", reference), ("candidate", candidate.gradients))
            for dtype in ("float64", "float32")
        }
        exact = found["candidate", "float64"]
        sensitivity = timed(
            "sensitivity",
            partial(candidate.sensitivity, images, patterns, exact, training=training, draws=DRAWS),
        )
        arrays = {key: value.arrays() for key, value in found.items()}
        results += judge_all(mode, arrays, sensitivity, terms, constants_rounded=constants_rounded)
    return GradientsReport(subject, results, terms, seconds, peak_memory_bytes())
