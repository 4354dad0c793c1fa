"""The network alone: an array goes in, outputs by level come out."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.agreement import MAX_APART, network_apart
from benchmarks.material import Case
from benchmarks.measurements.plan import Plan, Way, Work, measured
from benchmarks.records import Measurement
from benchmarks.runtimes import OURS, RIVALS, eager, optimised, runtime, tensorflow

PROFILED = (eager.NAME, optimised.NAME, tensorflow.NAME)


def measure(plan: Plan) -> Iterator[Measurement]:
    """Every model that was asked for, at its native size."""
    for model in plan.models:
        yield of_case(plan, Case.native(model, plan.threads), plan.ways)


def of_case(plan: Plan, case: Case, modules: tuple[str, ...]) -> Measurement:
    """One network by some runtimes; what this run has measured already is not measured again.

    Args:
        plan: What was asked for.
        case: The work.
        modules: Of the runtimes.
    """
    named = [runtime(name).NAME for name in modules]
    if known := plan.known("network", case.subject, named):
        return known
    left_out, ways = {}, {}
    for name in modules:
        module = runtime(name)
        reason = module.missing()
        if reason is None:
            ways[module.NAME] = _way(plan, case, name)
        else:
            left_out[module.NAME] = reason
    reference = tensorflow.NAME if tensorflow.NAME in ways else eager.NAME
    work = Work(
        what="network",
        subject=case.subject,
        settings=case.settings,
        unit="a forward pass",
        per=1,
        expected=eager.NAME,
        apart=network_apart,
        bound=MAX_APART,
        checked=f"each output is within {MAX_APART:g} of its rms of that of {eager.NAME}",
        reference=reference,
        # Of one rival alone it would say what the ratio says.
        ours=OURS if len(set(RIVALS) & set(ways)) > 1 else (),
        others=RIVALS,
        profiled=PROFILED,
    )
    return measured(plan, work, ways, left_out)


def _way(plan: Plan, case: Case, name: str) -> Way:
    return Way(
        f"benchmarks.runtimes.{name}:open",
        lambda: {
            "case": case,
            "images": plan.material.images(case),
            **runtime(name).files(plan.material, case),
        },
    )
