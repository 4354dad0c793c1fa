"""Up-samplings by other coordinates, other kernels or other pixels than the nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    ALL,
    Case,
    Evaluation,
    Hypothesis,
    Operation,
    fitted,
    with_these,
)
from parity.faults.basics.fault import Fault, Variant, in_variants, with_numbers
from parity.faults.basics.operations import extended, of_plane, target

_UPSAMPLE = frozenset({NodeKind.UPSAMPLE})
_BOTH = _UPSAMPLE | {NodeKind.POOL}

_CHANNELS = 8
"""Channels by which lines of pixels are told apart."""

_FEW = 32
"""Lines of a small map."""

_FURTHEST = 4
"""Pixels from the nearest within which the one that was copied is looked for."""

_Coordinates = Callable[[Tensor, int, int], Tensor]
"""Where in the input a pixel of the output lies, from its number and both sizes."""

_COORDINATES: tuple[tuple[str, _Coordinates], ...] = (
    ("by pixel centres", lambda i, before, after: (i + 0.5) * before / after - 0.5),
    (
        "by pixel corners (i * in / out, TensorFlow 1's default)",
        lambda i, before, after: i * before / after,
    ),
    (
        "with aligned corners",
        lambda i, before, after: i * (before - 1) / max(after - 1, 1),
    ),
    (
        "by pixel centres without the half taken off again",
        lambda i, before, after: (i + 0.5) * before / after,
    ),
)


def _linear(t: Tensor) -> Tensor:
    return (1 - t.abs()).clamp(min=0)


def _cubic(a: float, t: Tensor) -> Tensor:
    t = t.abs()
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))


def _lanczos(lobes: int, t: Tensor) -> Tensor:
    return torch.where(t.abs() < lobes, torch.sinc(t) * torch.sinc(t / lobes), 0.0)


def _gaussian(t: Tensor) -> Tensor:
    return torch.where(t.abs() < 1.5, torch.exp(-2 * t * t), 0.0)


def _mitchell(t: Tensor) -> Tensor:
    t = t.abs()
    near = (7 * t**3 - 12 * t**2 + 16 / 3) / 6
    far = (-7 / 3 * t**3 + 12 * t**2 - 20 * t + 32 / 3) / 6
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))


_KERNELS: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
    ("bilinear", "bilinear", _linear),
    ("bicubic", "bicubic (a = -0.5)", partial(_cubic, -0.5)),
    ("bicubic", "bicubic (a = -0.75)", partial(_cubic, -0.75)),
    ("bicubic", "bicubic (a = -1)", partial(_cubic, -1.0)),
    ("interpolated-other", "Lanczos of 3 lobes", partial(_lanczos, 3)),
    ("interpolated-other", "Lanczos of 5 lobes", partial(_lanczos, 5)),
    ("interpolated-other", "Gaussian", _gaussian),
    ("interpolated-other", "Mitchell-Netravali", _mitchell),
)
"""(slug, title, the weight of a pixel at a distance)."""


def _weights(
    before: int, after: int, coordinates: _Coordinates, kernel: Callable[[Tensor], Tensor],
    edge: str,
) -> Tensor:  # fmt: skip
    """What each pixel of a line of the input counts in each of the output, [after, before]."""
    place = coordinates(torch.arange(after, dtype=torch.float64), before, after)
    reach = 6
    first = place.floor().long() - reach
    pixels = first[:, None] + torch.arange(2 * reach + 1)
    shares = kernel(place[:, None] - pixels)
    if edge == "normalised":
        # Pixels outside take no part.
        shares = torch.where((pixels >= 0) & (pixels < before), shares, 0.0)
        shares = shares / shares.sum(1, keepdim=True)
    matrix = torch.zeros(after, before, dtype=torch.float64)
    return matrix.scatter_add(1, pixels.clamp(0, before - 1), shares)


def _interpolations(slug: str) -> Callable[[Operation, Evaluation], Iterator[Variant]]:
    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        before, after = operation.arguments[0].shape[2:], target(operation)
        for name, title, kernel in _KERNELS:
            if name != slug:
                continue
            for how, coordinates in _COORDINATES:
                for edge in ("repeated", "normalised"):
                    rows, columns = (
                        _weights(int(a), int(b), coordinates, kernel, edge)
                        for a, b in zip(before, after, strict=True)
                    )
                    yield (
                        f"{title} {how}, {_of_edge(edge)}, instead of nearest neighbours",
                        _of_matrices(operation, rows, columns),
                    )

    return variants


def _of_edge(edge: str) -> str:
    return "the border repeated" if edge == "repeated" else "nothing beyond the border"


def _of_matrices(operation: Operation, rows: Tensor, columns: Tensor) -> Evaluation:
    def change(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
        return a.to(x) @ x @ b.to(x).T

    return of_plane(
        operation, partial(change, rows, columns), partial(change, rows.abs(), columns.abs())
    )


_ROUNDINGS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("rounded down", torch.floor),
    ("rounded up", torch.ceil),
    ("rounded half up", lambda x: (x + 0.5).floor()),
    ("rounded half down", lambda x: (x - 0.5).ceil()),
    ("rounded half to even", torch.round),
)


def _nearest(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Pixels taken by other coordinates and roundings."""
    before, after = operation.arguments[0].shape[2:], target(operation)
    for how, coordinates in _COORDINATES:
        for words, rounding in _ROUNDINGS:
            rows, columns = (
                rounding(coordinates(torch.arange(b, dtype=torch.float64), int(a), b))
                .long()
                .clamp(0, int(a) - 1)
                for a, b in zip(before, after, strict=True)
            )
            yield f"nearest neighbours {how}, {words}", _taken(operation, rows, columns)


def _taken(operation: Operation, rows: Tensor, columns: Tensor) -> Evaluation:
    """Output row i is input row ``rows[i]``, and zero where that is negative; so are columns."""

    def change(x: Tensor) -> Tensor:
        for axis, index in ((2, rows), (3, columns)):
            shape = [1] * x.dim()
            shape[axis] = -1
            x = x.index_select(axis, index.clamp(min=0))
            x = x.masked_fill((index < 0).view(shape), 0.0)
        return x

    return of_plane(operation, change)


def _fitted_pixels(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Each row and column a copy of one of the input's, whichever those are."""
    x, made = case.arguments[0], case.candidate.double()
    if base(ALL)[0].shape != made.shape or made.shape[2:] == (1, 1):
        return
    found = []
    for axis in (2, 3):
        # The values of a row are known whatever the order of its columns.
        ours, theirs = (
            v[0, :_CHANNELS].transpose(1, axis - 1).transpose(0, 1).flatten(1).float()
            for v in (x, made)
        )
        index = []
        for number, line in enumerate(theirs):
            nearest = number * len(ours) // len(theirs)
            near = range(max(nearest - _FURTHEST, 0), min(nearest + _FURTHEST + 1, len(ours)))
            # Of a small map all lines are looked at: it may have been turned or rolled.
            near = range(len(ours)) if len(ours) <= _FEW else near
            # Each value of an output line is one of the input line's: the line that has most.
            held = {i: float(torch.isin(line, ours[i]).float().mean()) for i in near}
            zeros = bool((line == 0).all())
            index.append(-1 if zeros else max(held, key=lambda i: held[i]))
        found.append(torch.tensor(index))
    rows, columns = found
    yield fitted(
        "nearest-other",
        f"copies of other pixels: row {_listed(rows)} and column {_listed(columns)} of its input "
        f"instead of the nearest",
        case,
        base,
        with_these(_taken, rows, columns),
        3,
        of_sizes=True,
    )


def _listed(index: Tensor) -> str:
    shown = ", ".join(str(int(i)) if i >= 0 else "none" for i in index[:6])
    return f"{shown}{', ...' if len(index) > 6 else ''}"


def _fitted_phases(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Each pixel a weighted sum of the input's pixels around, the same at every other place."""
    x, made = case.arguments[0], case.candidate.double()
    sizes = list(zip(x.shape[2:], target(case), strict=True))
    if base(ALL)[0].shape != made.shape or any(b % a for a, b in sizes):
        return
    steps = [b // a for a, b in sizes]
    if max(steps) == 1 or x.numel() < 40:
        return
    for edge in ("zeros", "replicate", "reflect"):
        columns = _around(x, edge)
        kernels = []
        for row in range(steps[0]):
            for column in range(steps[1]):
                goal = made[:, :, row :: steps[0], column :: steps[1]].reshape(-1, 1)
                kernels.append(torch.linalg.lstsq(columns, goal).solution[:, 0])
        weights = torch.stack(kernels)
        weights = torch.where(weights.abs() < 1e-5, 0.0, weights)
        if not bool(torch.isfinite(weights).all()):
            return
        shown = ", ".join(f"{float(v):.3g}" for v in weights[0][weights[0] != 0][:4])
        yield fitted(
            "interpolated-other",
            f"each pixel a weighted sum of its input's 3x3 around (the first of each "
            f"{steps[0]}x{steps[1]} by {shown}), instead of nearest neighbours",
            case,
            base,
            with_these(_phased, weights, edge),
            int((weights != 0).sum()),
            of_sizes=True,
        )


def _around(x: Tensor, edge: str) -> Tensor:
    """The 3x3 pixels around each one, [pixels, 9]."""
    flat = extended(extended(x, 2, 1, 1, edge), 3, 1, 1, edge).flatten(0, 1)[:, None]
    return F.unfold(flat, 3).transpose(1, 2).flatten(0, 1)


def _phased(operation: Operation, weights: Tensor, edge: str) -> Evaluation:
    rows, columns = target(operation)

    def change(factors: Tensor, x: Tensor) -> Tensor:
        down, along = rows // x.shape[2], columns // x.shape[3]
        made = _around(x, edge) @ factors.to(x).T
        made = made.view(*x.shape, down, along).permute(0, 1, 2, 4, 3, 5)
        return made.reshape(*x.shape[:2], rows, columns)

    return of_plane(operation, partial(change, weights), partial(change, weights.abs()))


def _of(slug: str, title: str, variants: Callable[..., Iterator[Variant]], put_in: int = 0,
        alike: tuple[str, ...] = ()) -> Fault:  # fmt: skip
    return in_variants(slug, title, _UPSAMPLE, variants, put_in=put_in, alike=alike)


def _backwards(operation: Operation, base: Evaluation) -> Evaluation:
    sizes = list(zip(operation.arguments[0].shape[2:], target(operation), strict=True))
    rows, columns = ((torch.arange(b) * a // b + 1).clamp(max=int(a) - 1) for a, b in sizes)
    return _taken(operation, rows, columns)


def _weighted(operation: Operation, base: Evaluation) -> Evaluation | None:
    sizes = list(zip(operation.arguments[0].shape[2:], target(operation), strict=True))
    if any(b != 2 * a for a, b in sizes) or operation.arguments[0].numel() < 200:
        return None
    weights = torch.linspace(0.0, 0.35, 36).view(4, 9)
    return _phased(operation, weights, "zeros")


FAULTS = (
    _of("nearest-exact", "nearest neighbours by other coordinates", _nearest, 5 + 1,
        alike=("nearest-other", "upsample-moved")),
    # Between a pixel's corner and its centre both interpolate.
    _of("bilinear", "bilinear up-sampling by corners", _interpolations("bilinear"), 2,
        alike=("area",)),
    _of("bicubic", "bicubic up-sampling with a = -0.5", _interpolations("bicubic")),
    _of("interpolated-other", "Lanczos up-sampling", _interpolations("interpolated-other")),
    with_numbers("nearest-other", "other pixels copied", _BOTH, _fitted_pixels, _backwards,
                 alike=("upsample-moved", "nearest-exact", "pool-window-other", "subsampled",
                        "interpolated")),
    with_numbers("interpolated-other", "a weighted sum of the pixels around", _UPSAMPLE,
                 _fitted_phases, _weighted),
)  # fmt: skip
"""Other up-samplings, the simplest first."""
