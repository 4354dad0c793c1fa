"""How a network's cost grows with the model, the images' size, their number and the threads."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.material import Case
from benchmarks.measurements.network import of_case
from benchmarks.measurements.plan import Plan
from benchmarks.records import Measurement
from efficientdet_spec import OFFICIAL_MODELS

WAYS = ("eager", "optimised", "tensorflow")
"""Runtimes of the curves."""

SIZES = (256, 512, 768, 1024)
BATCHES = (1, 2, 4, 8)
THREADS = (1, 2)

SHORT = tuple(f"efficientdet-d{number}" for number in range(4))
"""Models of which a pass takes less than a second."""

CURVES = ("model", "size", "batch", "threads")
"""By what the cost grows."""


def cases(curve: str, threads: int) -> list[Case]:
    """The points of a curve, of which one is D0 at its own size, one image at a time.

    Args:
        curve: One of :data:`CURVES`.
        threads: Of the other curves' points.
    """
    one = Case.native("d0", threads)
    if curve == "model":
        return [Case.native(model, threads) for model in OFFICIAL_MODELS]
    if curve == "size":
        return [Case(one.model, (size, size), 1, threads) for size in SIZES]
    if curve == "batch":
        return [Case(one.model, one.size, batch, threads) for batch in BATCHES]
    return [Case(one.model, one.size, 1, number) for number in THREADS]


def measure(plan: Plan) -> Iterator[Measurement]:
    """Every point once; those that the run has measured as networks are among these."""
    everything = dict.fromkeys(case for curve in CURVES for case in cases(curve, plan.threads))
    short = [case for case in everything if case.model in SHORT]
    # They are over sooner than others on this machine could be asked to wait for each.
    with plan.timing():
        for case in short:
            yield of_case(plan, case, WAYS)
    for case in everything:
        if case not in short:
            yield of_case(plan, case, WAYS)
