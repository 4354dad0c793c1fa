"""A whole ``compare.py coco``: both frameworks detect, and both are evaluated."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from benchmarks.measurements.boxes import MODEL
from benchmarks.measurements.plan import Plan
from benchmarks.measurements.processes import peak
from benchmarks.records import LeftOut, Measurement, rows
from benchmarks.turns import Effort, take_turns
from benchmarks.workers import WayFailed
from converter.progress import Progress
from parity.process.json_text import read_json

PROFILES = ("official",)
EAGER, OPTIMISED, BEFORE = "coco", "coco --form optimized", "coco, before"
MAX_AP_APART = 1e-4
"""By which a metric may differ between two ways: the forms differ in roundings, which hardly move a
box; the fourth digit is the last one that COCO's figures are given with."""


def measure(plan: Plan) -> list[Measurement]:
    """Every profile.

    Raises:
        WayFailed: There are no images with annotations.
    """
    if plan.images is None or plan.annotations is None:
        raise WayFailed("coco needs --images DIR and --annotations FILE")
    return [_of_profile(plan, profile) for profile in PROFILES]


def _of_profile(plan: Plan, profile: str) -> Measurement:
    checkouts = {EAGER: ROOT, OPTIMISED: ROOT}
    if plan.before is not None:
        checkouts = {BEFORE: plan.before.resolve(), **checkouts}
    results: dict[str, Any] = {}
    peaks: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def way(which: str) -> float:
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            taken, most = peak(_command(plan, profile, out, which), checkouts[which])
            peaks[which] = max(peaks.get(which, 0), most)
            results[which] = read_json(out / "coco.json", 1 << 29)
            return taken

        with plan.preparing():
            plan.material.checkpoint(MODEL)
        progress = Progress(f"coco, profile {profile}", unit="rounds")
        effort = Effort(min(plan.effort.repeats, 3), plan.effort.seconds, 2)
        calls = {which: (lambda turn, which=which: way(which)) for which in checkouts}
        with plan.timing(), progress:
            progress(0, effort.repeats)
            # After it the page cache holds what all of them read.
            way(next(iter(checkouts)))
            taken = take_turns(calls, effort, progress)
        _check(results)
    more = {
        which: {
            "peak_memory_bytes": peaks[which],
            "stages": _stages(results[which]),
            "apart": _apart(results[which], results[EAGER]),
        }
        for which in taken
    }
    reference = BEFORE if BEFORE in taken else EAGER
    images = results[EAGER]["images"]["torch"]["all"]
    return Measurement(
        what="coco",
        subject=f"{MODEL}, profile {profile}, {plan.threads} threads",
        settings={"model": MODEL, "profile": profile, "threads": plan.threads, "images": images},
        unit="a run",
        reference=reference,
        checked=f"every metric of either framework within {MAX_AP_APART:g} of that of {EAGER}",
        rows=rows(taken, reference, more=more),
        left_out=[] if plan.before else [LeftOut(BEFORE, "no --before CHECKOUT was given")],
    )


def _command(plan: Plan, profile: str, out: Path, which: str) -> list[str]:
    assert plan.images is not None and plan.annotations is not None
    command = [sys.executable, "compare.py", "coco", str(plan.material.checkpoint(MODEL))]
    command += ["--model", MODEL, "--images", str(plan.images.resolve())]
    command += ["--annotations", str(plan.annotations.resolve()), "--out", str(out)]
    command += ["--profile", profile, "--threads", str(plan.threads)]
    return command + (["--form", "optimized"] if which == OPTIMISED else [])


def _metrics(result: Any) -> dict[str, float]:
    """AP and the like of either framework."""
    return {
        f"{side}.{name}": float(value)
        for side, metrics in sorted(result["metrics"].items())
        for name, value in metrics.items()
    }


def _apart(one: Any, other: Any) -> float:
    found, expected = _metrics(one), _metrics(other)
    if found.keys() != expected.keys():
        return float("inf")
    return round(max(abs(found[name] - expected[name]) for name in found), 6)


def _check(results: dict[str, Any]) -> None:
    for which, result in results.items():
        apart = _apart(result, results[EAGER])
        if not apart <= MAX_AP_APART:
            raise WayFailed(f"{which} has other metrics than {EAGER}: one is {apart:g} off")


def _stages(result: Any) -> dict[str, float]:
    """Seconds of an image by side and stage, which overlap."""
    return {
        f"{side} {stage}": round(value, 6)
        for side, stages in result["seconds_per_image"].items()
        for stage, value in stages.items()
        if value is not None
    }
