"""What comparing nodes costs, in forward passes: :mod:`benchmarks.passes` as rows of this suite."""

from __future__ import annotations

import multiprocessing
from typing import Any

from benchmarks.measurements.plan import Plan
from benchmarks.records import Measurement, rows
from benchmarks.workers import WayFailed
from efficientdet_spec import get_config

MODELS = ("d0",)
"""Larger ones take minutes: ``python -m benchmarks.passes d4``."""

FORWARD = "both forward passes"
REPEATS = 3


def measure(plan: Plan) -> list[Measurement]:
    """Each pass over the nodes of D0, in a process of its own.

    Raises:
        WayFailed: Nodes differ.
    """
    return [_of_model(plan, model) for model in MODELS]


def _of_model(plan: Plan, model: str) -> Measurement:
    repeats = min(plan.effort.repeats, REPEATS)
    context = multiprocessing.get_context("spawn")
    with plan.preparing():
        checkpoint = plan.material.checkpoint(model)
    with plan.timing(), context.Pool(1) as pool:
        found = pool.apply(_passes, (model, repeats, plan.threads, str(checkpoint)))
    if failing := found["failing_nodes"]:
        raise WayFailed(f"the comparison of {model} finds {len(failing)} nodes that differ")
    taken: dict[str, list[float]] = {
        name: row["all_seconds"] for name, row in found["rows"].items()
    }
    sides = [taken.pop(name) for name in found["forward_passes"]]
    taken = {FORWARD: [sum(turn) for turn in zip(*sides, strict=True)], **taken}
    return Measurement(
        what="nodes",
        subject=f"{get_config(model).name}, {found['size'][0]}x{found['size'][1]}, "
        f"{plan.threads} threads",
        settings={"model": get_config(model).name, "size": found["size"], "threads": plan.threads},
        unit="a pass over all nodes",
        reference=FORWARD,
        checked="no node differs, in any pass",
        rows=rows(taken, FORWARD),
    )


def _passes(model: str, repeats: int, threads: int, checkpoint: str) -> dict[str, Any]:
    from pathlib import Path

    from benchmarks import passes
    from parity.process import environment
    from parity.sides.tensorflow_import import import_tensorflow

    environment.prepare()
    import_tensorflow()
    return passes.measure(model, repeats, threads, Path(checkpoint))
