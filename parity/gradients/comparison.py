"""Whether two frameworks differentiate one model alike: measures, limits, verdicts, the result.

Both sides differentiate one scalar with respect to the images and every trainable parameter,
with batch norms in inference and in training mode. The scalar is the sum over all outputs y of
``mean(y * pattern + y * y / 2)``: the first part gives every output element a weight of its own,
none of them zero (:func:`output_patterns`), the second makes the gradient depend on the outputs.
Training mode also compares what one step makes of the moving statistics.

Each side runs in float32 and in float64.

*Structure.* The two float64 gradients of a parameter may differ by :data:`STRUCTURE_LIMIT` of
their norm. Rounding in float64 is 2**-53, so this leaves room for it to grow 10**8-fold.

*Rounding.* Each float32 gradient is judged against the same framework's float64 gradient. How much
float32 may change it is a property of the function and its point, found by experiment: in float64,
every parameter and what every operation computes, forward and backward, is moved at random, each
element by up to :data:`parity.judge.limits.SIDE_LIMIT` float32 roundings and each channel by as
many in common, since nearly equal values round alike. The root mean square norm of the gradient's
change over :data:`DRAWS` draws, divided by that number, and one rounding of the gradient itself
make the *unit*. It contains all that follows from rounding: cancellation, ill-conditioned batch
norms, near ties of a max-pool that tip over.

- What an operation computes in float32 is what exact arithmetic makes of operands that are moved by
  a few roundings (backward error analysis: Higham, Accuracy and Stability of Numerical Algorithms,
  section 1.5). PyTorch may differ by :data:`parity.judge.limits.SIDE_LIMIT` units: as much as the
  disturbance does by which the unit is found.
- TensorFlow's CPU kernels add the values at all positions of a feature map one after another. The
  error of adding n values so grows as ``sqrt(n)`` roundings (Higham and Mary, A New Approach to
  Probabilistic Rounding Error Analysis, 2019), so TensorFlow may differ by ``sqrt(n)`` times as
  much, where n is the number of positions of the largest feature map.

- Errors need not be independent: a batch norm in training divides by the deviation of the values at
  hand, at the coarsest level of a few positions only, and errors of a feature map's mean are common
  to all of it. Where the other framework is measured to be further from its own float64 than a
  unit, that is what correct float32 arithmetic does at this gradient: PyTorch may be
  :data:`parity.judge.limits.SIDE_LIMIT` times as far off as TensorFlow. What float64 shows of the
  structure stays as sharp as it is.

*Zeros.* A gradient may be zero by theory. What adds one value to all positions of a channel, such
as a bias in front of a convolution and a batch norm in training, is subtracted again with the
mean: its gradient is what rounding leaves of parts that cancel. The parts have the magnitude unit
/ rounding; a gradient below :data:`STRUCTURE_LIMIT` of them, in float64 and on both sides, is such
a zero and both are judged against the parts. Errors of a mean are alike at all n positions, and n
equal errors add up to ``sqrt(n)`` times as much as random ones, which is what either side may
differ by here. A fusion weight not above zero passes no gradient
through its relu, nor does what acts only through it; what becomes nonzero when all fusion
weights are above zero is zero for this reason. Any other gradient that is zero throughout is not
covered, since agreement on it says nothing.

*Ties.* A max-pool of equal values has no one gradient: a side may choose any of their positions.
Images with constant areas, such as padding, make such ties; :func:`dithered` avoids them. Where
float64's own rounding, tried like float32's, moves a gradient further than the structure limit, a
difference is no finding, and the gradient is not covered.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.judge.limits import SIDE_LIMIT
from parity.judge.measure import unit_roundoff
from parity.judge.verdict import Verdict
from parity.process.environment import peak_memory_bytes
from parity.results.gradients import (
    DitheredImages,
    Gradient,
    GradientLimits,
    GradientsResult,
    Mode,
)
from parity.results.record import made
from parity.results.shared import Checkpoint

Array = NDArray[Any]
Progress = Callable[[int, int], None]
_T = TypeVar("_T")

STRUCTURE_LIMIT = 1e-8
"""Largest difference of two float64 gradients, relative to their norm."""

DRAWS = 4
"""Random disturbances from which a unit is estimated.

That one is underestimated tenfold has, in the worst case of a gradient that moves along a single
line, a probability of 2e-4 (chi-squared with 4 degrees of freedom below 0.04)."""

ROUNDING = unit_roundoff(np.dtype(np.float32))
"""One float32 rounding, relative."""

PATTERN = (0.5, 1.5)
"""Magnitudes of :func:`output_patterns`: no output element counts for nothing, none for all."""

DITHER = 0.01
"""Deviation of the noise of :func:`dithered`; half a grey level of a normalised image."""

IMAGES = "images"
SCALAR = "scalar"


@dataclass(frozen=True)
class Gradients:
    """What one framework computed in one run.

    Attributes:
        scalar: The function that was differentiated.
        images: Gradient with respect to the images, [N, H, W, 3].
        parameters: Gradient with respect to each parameter, in PyTorch's layout.
        statistics: What one training step makes of each batch norm's statistics; empty in
            inference.
    """

    scalar: float
    images: Array
    parameters: Mapping[str, Array]
    statistics: Mapping[str, Array]

    def arrays(self) -> dict[str, Array]:
        """All values under one name each, the scalar first."""
        scalar: Array = np.asarray(self.scalar, np.float64)
        return {SCALAR: scalar, IMAGES: self.images, **self.parameters, **self.statistics}


@dataclass(frozen=True)
class Sensitivity:
    """What rounding does to the gradients, and where a relu closes them.

    Attributes:
        units: For each of :meth:`Gradients.arrays` the root mean square norm of its change
            for each float32 rounding that all numbers move by.
        double_units: The same for one float64 rounding.
        negative: Fusion weights not above zero: which of each vector.
        closed: Gradients that are zero because of them.
    """

    units: Mapping[str, float]
    double_units: Mapping[str, float]
    negative: Mapping[str, tuple[int, ...]]
    closed: frozenset[str]


class ReferenceGradients(Protocol):
    """Computes gradients in TensorFlow."""

    def __call__(
        self, images: Array, patterns: Sequence[Array], *, dtype: str, training: bool
    ) -> Gradients:
        """Gradients for [N, H, W, 3] images and one NHWC pattern for each output."""


class CandidateGradients(Protocol):
    """Computes gradients in PyTorch, and how rounding moves them."""

    def gradients(
        self, images: Array, patterns: Sequence[Array], *, dtype: str, training: bool
    ) -> Gradients:
        """Gradients for [N, H, W, 3] images and one NHWC pattern for each output."""

    def sensitivity(
        self,
        images: Array,
        patterns: Sequence[Array],
        exact: Gradients,
        *,
        training: bool,
        draws: int,
    ) -> Sensitivity:
        """How far ``exact``, the float64 gradients, move when all numbers are rounded."""


class Layout(Protocol):
    """How a parameter's values correspond to those of its variables."""

    def to_torch(self, arrays: Sequence[Array]) -> Array:
        """The parameter that all its variables make."""


class Pair(Protocol):
    """One parameter and the variables that it is made of."""

    @property
    def parameter(self) -> str:
        """Name of the parameter."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables."""

    @property
    def layout(self) -> Layout:
        """How their axes correspond."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""


def map_gradients(pairs: Iterable[Pair], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays by variable as arrays by parameter, in PyTorch's layout.

    Args:
        pairs: The mapping; pairs whose variables have no array are left out.
        arrays: An array for some of the variables.

    Raises:
        ValueError: An array belongs to no pair, or a pair lacks some of its variables.
    """
    mapped = {}
    left = set(arrays)
    for pair in pairs:
        found = [arrays[name] for name in pair.variables if name in arrays]
        if not found:
            continue
        if len(found) != len(pair.variables):
            raise ValueError(f"{pair.parameter} lacks some of {', '.join(pair.variables)}")
        array = pair.layout.to_torch(found)
        if array.shape != pair.shape:
            raise ValueError(f"{pair.parameter} is {list(array.shape)}, not {list(pair.shape)}")
        mapped[pair.parameter] = array
        left -= set(pair.variables)
    if left:
        raise ValueError(f"no parameter is made of {', '.join(sorted(left)[:3])}")
    return mapped


def dithered(images: Array, seed: int = 0) -> NDArray[np.float32]:
    """Images with a little seeded noise, so that no area is constant.

    Args:
        images: [N, H, W, 3], normalised.
        seed: Of the noise.
    """
    noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
    return images.astype(np.float32) + np.float32(DITHER) * noise


def output_patterns(config: EfficientDetConfig, batch: int, height: int, width: int) -> list[Array]:
    """For each output an array of its shape (NHWC): class then box, finest level first.

    Magnitudes are between 0.5 and 1.5 with either sign, drawn with seed 0, in float32.

    Raises:
        InputError: The model cannot process this size.
    """
    rng = np.random.default_rng(0)
    sizes = config.feature_sizes(height, width)
    shapes = [
        (batch, *size, config.num_anchors * outputs)
        for outputs in (config.num_classes, 4)
        for size in sizes.values()
    ]
    return [
        (rng.uniform(*PATTERN, shape) * rng.choice((-1.0, 1.0), shape)).astype(np.float32)
        for shape in shapes
    ]


@dataclass(frozen=True)
class Observation:
    """The four computations of one gradient.

    Attributes:
        truth: The reference in float64.
        reference: The reference in float32.
        exact: The candidate in float64.
        candidate: The candidate in float32.
    """

    truth: Array | None
    reference: Array | None
    exact: Array | None
    candidate: Array | None


@dataclass(frozen=True)
class Circumstances:
    """What the verdict on a gradient depends on besides its values.

    Attributes:
        unit: Norm of its change by float32 rounding; see :class:`Sensitivity`.
        double_unit: The same by float64 rounding.
        terms: Number of values that TensorFlow may add one after another.
        negative: Elements that are fusion weights not above zero.
        closed: Whether it is zero because of such weights.
    """

    unit: float
    double_unit: float
    terms: int
    negative: tuple[int, ...] = ()
    closed: bool = False


@dataclass(frozen=True)
class GradientResult:
    """What a comparison found about one gradient, statistic or the scalar itself.

    Attributes:
        name: The parameter; ``images`` and ``scalar`` are these.
        mode: What batch norms normalised by.
        shape: In PyTorch's layout; None where the reference has none.
        norm: Euclidean norm of the reference's float64 gradient.
        structure: Distance of the two float64 gradients relative to the larger norm, or to the
            magnitude of what cancels.
        unit: Norm of its change by one rounding of everything.
        torch_units: Distance of PyTorch's float32 from its float64 gradient, in units.
        tensorflow_units: The same of TensorFlow.
        torch_limit: Units that PyTorch may differ by.
        tensorflow_limit: Units that TensorFlow may differ by.
        verdict: The verdict on it.
        reason: Why.
        zero: Whether it is zero by theory, and was judged as such.
    """

    name: str
    mode: Mode
    shape: tuple[int, ...] | None
    norm: float | None
    structure: float | None
    unit: float | None
    torch_units: float | None
    tensorflow_units: float | None
    torch_limit: float
    tensorflow_limit: float
    verdict: Verdict
    reason: str
    zero: bool = False


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64).reshape(-1)))


def _ratio(numerator: float, denominator: float) -> float:
    if numerator == 0:
        return 0.0
    return numerator / denominator if denominator else math.inf


def judge(
    name: str, mode: Mode, observed: Observation, circumstances: Circumstances
) -> GradientResult:
    """The verdict on one gradient, with its reason.

    Args:
        name: The parameter.
        mode: What batch norms normalised by.
        observed: Its values.
        circumstances: What they are judged by.
    """
    tensorflow_limit = SIDE_LIMIT * math.sqrt(circumstances.terms)
    torch_limit = float(SIDE_LIMIT)
    shape = None if observed.truth is None else tuple(observed.truth.shape)

    def result(
        verdict: Verdict,
        reason: str,
        measured: Mapping[str, float] | None = None,
        *,
        zero: bool = False,
    ) -> GradientResult:
        values: dict[str, float | None] = {
            "norm": None,
            "structure": None,
            "unit": None,
            "torch_units": None,
            "tensorflow_units": None,
            **(measured or {}),
        }
        return GradientResult(
            name=name,
            mode=mode,
            shape=shape,
            torch_limit=torch_limit,
            tensorflow_limit=tensorflow_limit,
            verdict=verdict,
            reason=reason,
            zero=zero,
            **values,
        )

    arrays = (observed.truth, observed.reference, observed.exact, observed.candidate)
    truth, reference, exact, candidate = arrays
    if exact is None or candidate is None:
        return result(Verdict.NOT_COVERED, "the candidate has no such parameter")
    if truth is None or reference is None:
        return result(Verdict.NOT_COVERED, "the reference has no such parameter")
    if exact.shape != truth.shape:
        return result(
            Verdict.FUNCTION_DIFFERS,
            f"its shape is {list(exact.shape)}, the reference's {list(truth.shape)}",
        )
    if not (np.isfinite(truth).all() and np.isfinite(reference).all()):
        return result(Verdict.NOT_COVERED, "a value of the reference is NaN or infinite")
    if not np.isfinite(exact).all():
        return result(Verdict.FUNCTION_DIFFERS, "a value of the candidate is NaN or infinite")
    if not np.isfinite(candidate).all():
        return result(
            Verdict.CANDIDATE_DIFFERS,
            "a value of the candidate is NaN or infinite in float32, not in float64",
        )
    norm = max(_norm(truth), _norm(exact))
    unit = math.hypot(circumstances.unit, ROUNDING * norm)
    parts = unit / ROUNDING
    # Both are the same where nothing cancels.
    cancelled = mode is Mode.TRAINING and 0 < norm <= STRUCTURE_LIMIT * parts
    if cancelled:
        torch_limit = tensorflow_limit
    structure = _ratio(_norm(truth - exact), parts if cancelled else norm)
    torch_units = _ratio(_norm(candidate - exact), unit)
    tensorflow_units = _ratio(_norm(reference - truth), unit)
    if not cancelled:
        torch_limit *= max(1.0, tensorflow_units)
    measured = {
        "norm": _norm(truth),
        "structure": structure,
        "unit": unit,
        "torch_units": torch_units,
        "tensorflow_units": tensorflow_units,
    }
    if norm == 0 and not circumstances.closed:
        return result(
            Verdict.NOT_COVERED,
            "the gradient is zero on both sides, so that agreement says nothing",
            measured,
        )
    if structure > STRUCTURE_LIMIT:
        own = _ratio(circumstances.double_unit, norm)
        if own > STRUCTURE_LIMIT:
            return result(
                Verdict.NOT_COVERED,
                f"the float64 gradients differ by {structure:.1e} of their norm, but float64's "
                f"own rounding moves them by {own:.1e}: where max-pool windows hold equal values "
                f"either side may choose; take an image without constant areas",
                measured,
            )
        return result(
            Verdict.FUNCTION_DIFFERS,
            f"the float64 gradients differ by {structure:.1e} of their norm, above "
            f"{STRUCTURE_LIMIT:g}",
            measured,
        )
    if cancelled:
        rest = (
            f"the gradient is zero by theory: cancelled by the batch norm behind it, to "
            f"{norm / parts:.1e} of the parts; a unit is one rounding of these"
        )
    elif circumstances.closed:
        rest = "the gradient is zero by theory: it acts only through weights that a relu closes"
    else:
        rest = f"a unit, the effect of rounding everything once, is {unit / norm:.1e} of its norm"
    zero = cancelled or circumstances.closed
    if circumstances.negative:
        which = ", ".join(map(str, circumstances.negative))
        rest += f"; not above zero and so without gradient: element {which}"
    if torch_units > torch_limit:
        return result(
            Verdict.CANDIDATE_DIFFERS,
            f"PyTorch's float32 is {torch_units:.3g} units from its float64 gradient, above "
            f"{torch_limit:g}; {rest}",
            measured,
            zero=zero,
        )
    if tensorflow_units > tensorflow_limit:
        return result(
            Verdict.REFERENCE_DIFFERS,
            f"TensorFlow's float32 is {tensorflow_units:.3g} units from its float64 gradient, "
            f"above {tensorflow_limit:g} ({SIDE_LIMIT} times the root of {circumstances.terms} "
            f"values that it adds one after another); {rest}",
            measured,
            zero=zero,
        )
    if np.array_equal(reference, candidate):
        return result(Verdict.EXACT, f"equal bit for bit; {rest}", measured, zero=zero)
    return result(
        Verdict.ROUNDING,
        f"float64 gradients agree to {structure:.1e}; in float32 PyTorch is {torch_units:.2g} of "
        f"at most {torch_limit:g} units off, TensorFlow {tensorflow_units:.2g} of at most "
        f"{tensorflow_limit:g}; {rest}",
        measured,
        zero=zero,
    )


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
    progress: Progress | None = None,
) -> GradientsReport:
    """Differentiate both sides in both precisions and judge every gradient.

    Args:
        config: The model.
        reference: TensorFlow's side.
        candidate: PyTorch's side.
        images: [N, H, W, 3], normalised; they are dithered here.
        subject: What to say about the comparison.
        modes: What batch norms normalise by.
        progress: Told the runs done and their number.

    Raises:
        InputError: The model cannot process this size, or not in training mode.
    """
    batch, height, width = images.shape[:3]
    patterns = output_patterns(config, batch, height, width)
    if Mode.TRAINING in modes:
        _require_positions(config, batch, height, width)
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
            for side, compute in (("TensorFlow", reference), ("PyTorch", candidate.gradients))
            for dtype in ("float64", "float32")
        }
        exact = found["PyTorch", "float64"]
        sensitivity = timed(
            "sensitivity",
            partial(candidate.sensitivity, images, patterns, exact, training=training, draws=DRAWS),
        )
        arrays = {key: value.arrays() for key, value in found.items()}
        results += judge_all(mode, arrays, sensitivity, terms)
    return GradientsReport(subject, results, terms, seconds, peak_memory_bytes())


def judge_all(
    mode: Mode,
    arrays: Mapping[tuple[str, str], Mapping[str, Array]],
    sensitivity: Sensitivity,
    terms: int,
) -> list[GradientResult]:
    """The verdicts on all gradients of one mode.

    Args:
        mode: What batch norms normalised by.
        arrays: For each side (``TensorFlow``, ``PyTorch``) and type (``float64``, ``float32``)
            the arrays by name.
        sensitivity: What they are judged by.
        terms: Number of values that TensorFlow may add one after another.
    """
    names = list(
        dict.fromkeys(
            [*arrays["TensorFlow", "float64"], *arrays["PyTorch", "float64"]],
        )
    )
    return [
        judge(
            name,
            mode,
            Observation(
                truth=arrays["TensorFlow", "float64"].get(name),
                reference=arrays["TensorFlow", "float32"].get(name),
                exact=arrays["PyTorch", "float64"].get(name),
                candidate=arrays["PyTorch", "float32"].get(name),
            ),
            Circumstances(
                unit=sensitivity.units.get(name, 0.0),
                double_unit=sensitivity.double_units.get(name, 0.0),
                terms=terms,
                negative=sensitivity.negative.get(name, ()),
                closed=name in sensitivity.closed,
            ),
        )
        for name in names
    ]


def _require_positions(config: EfficientDetConfig, batch: int, height: int, width: int) -> None:
    """Batch norm in training needs more than one value for each channel at every level."""
    level, (rows, columns) = list(config.feature_sizes(height, width).items())[-1]
    if batch * rows * columns < 2:
        raise InputError(
            f"{config.name} has a single position at P{level} for one image of {height}x{width} "
            f"pixels, of which batch norm in training takes no variance; give a size above "
            f"{2**level} pixels.",
            Cause.OPTION,
        )
