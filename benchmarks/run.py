"""Everything that a user would pick, in one run, taking turns.

Each runtime computes in a process of its own and is first seen to compute the same as the others.
A ratio is the median of the rounds' ratios, with the quartiles of these beside it in the JSON.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import charting, records, showing
from benchmarks.material import Material
from benchmarks.measurements.plan import Plan
from benchmarks.previous import changes
from benchmarks.records import Measurement, SuiteResult
from benchmarks.runtimes import RUNTIMES, runtime
from benchmarks.turns import Effort
from benchmarks.workers import WayFailed
from efficientdet_spec import InputError, get_config, installed_version
from parity.process import environment
from parity.process.console import guarded
from parity.process.files import write_text

MEASUREMENTS = ("network", "boxes", "coco", "conversion", "nodes", "growth")
PACKAGES = ("onnxruntime", "onnx", "onnxscript", "openvino", "effdet", "timm")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    add = result.add_argument
    add(
        "--what",
        type=_list(MEASUREMENTS),
        default=MEASUREMENTS,
        metavar="LIST",
        help=f"default: {','.join(MEASUREMENTS)}",
    )
    add(
        "--models",
        type=_models,
        default=_models("d0,d4,d7"),
        metavar="LIST",
        help="whose networks are measured; default: d0,d4,d7",
    )
    add(
        "--ways",
        type=_list(RUNTIMES),
        default=RUNTIMES,
        metavar="LIST",
        help=f"runtimes of the network; default: {','.join(RUNTIMES)}",
    )
    add("--repeats", type=_number(2), default=10, metavar="N", help="rounds at most; default: 10")
    add(
        "--seconds",
        type=_number(1),
        default=60,
        metavar="N",
        help="after which no further round of a measurement begins; default: 60",
    )
    add("--threads", type=_number(1), default=2, metavar="N", help="of every runtime; default: 2")
    add(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="a TensorFlow checkpoint of D0 in the place of a seeded one, which finds no objects",
    )
    add("--images", type=Path, metavar="DIR", help="photographs; default: six that are made")
    add("--annotations", type=Path, metavar="FILE", help="COCO's, of them, for coco")
    add("--before", type=Path, metavar="CHECKOUT", help="an earlier version, measured by coco too")
    add(
        "--folder",
        type=Path,
        metavar="DIR",
        help="keeps checkpoints and exports for the next run; default: a temporary one",
    )
    add(
        "--packages",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of further packages, looked in after all others; may be given again",
    )
    add(
        "--lock",
        type=Path,
        metavar="FILE",
        help="locked while something is measured, for machines that several people measure on",
    )
    add("--json", type=Path, metavar="FILE", help="write the result")
    add("--resume", action="store_true", help="go on with the run whose result --json holds")
    add("--previous", type=Path, metavar="FILE", help="compare with the JSON of an earlier run")
    add("--markdown", type=Path, metavar="FILE", help="write the tables")
    add("--chart", type=Path, metavar="FILE.svg", help="draw the networks' times")
    return result


def _list(known: Sequence[str]) -> Any:
    def chosen(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(text.split(",")))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r:.80} is none of {', '.join(known)}")
        return names

    return chosen


def _models(text: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(get_config(name).name for name in text.split(",")))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _number(least: int) -> Any:
    def chosen(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r:.40} is no whole number from {least} on")
        return int(text)

    return chosen


def measured(plan: Plan, what: Sequence[str], done: Any) -> list[Measurement]:
    """Measure one kind after another; one that cannot be is said and left out.

    Args:
        plan: What was asked for.
        what: The kinds.
        done: Is called with what is there so far after each.
    """
    for name in what:
        module = importlib.import_module(f"benchmarks.measurements.{name}")
        try:
            for measurement in module.measure(plan):
                if measurement not in plan.made:
                    # A run that is gone on with may have it already, or with fewer ways.
                    about = (measurement.what, measurement.subject)
                    others = [item for item in plan.made if (item.what, item.subject) != about]
                    plan.made[:] = [*others, measurement]
                    done(plan.made)
        except WayFailed as error:
            print(f"{name} was left out: {error}", file=sys.stderr)
    return plan.made


def result_of(plan: Plan, found: Sequence[Measurement]) -> SuiteResult:
    """What was found, with the machine, versions and settings."""
    described = environment.describe(plan.threads)
    # Each way has its own, which `ways` says.
    for name in ("tensorflow_graph_optimizer", "OMP_WAIT_POLICY", "THP_MEM_ALLOC_ENABLE"):
        described.pop(name, None)
    described["packages"] |= {name: installed_version(name) for name in PACKAGES}
    modules = [runtime(name) for name in plan.ways]
    return SuiteResult(
        environment=described,
        ways={module.NAME: module.SETTINGS for module in modules},
        repeats=plan.effort.repeats,
        seconds_at_most=plan.effort.seconds,
        measurements=list(found),
    )


def _gone_on_with(path: Path, plan: Plan) -> list[Measurement]:
    """What a run has measured that was made on this machine, in the same way.

    Raises:
        InputError: It was made elsewhere, or otherwise.
    """
    before, now = records.read(path), result_of(plan, [])
    if before.environment != now.environment or before.ways.keys() != now.ways.keys():
        raise InputError(
            f"{path} was made with other versions, threads or ways, or on another machine; begin "
            f"again without --resume."
        )
    return list(before.measurements)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = parser().parse_args(arguments)
    return guarded("benchmarks.run", lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    sys.path += [str(path.resolve()) for path in given.packages]
    before = records.read(given.previous) if given.previous else None
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = {"efficientdet-d0": given.checkpoint} if given.checkpoint else {}
        plan = Plan(
            material=Material(folder.resolve(), checkpoints),
            effort=Effort(given.repeats, float(given.seconds)),
            threads=given.threads,
            models=given.models,
            ways=given.ways,
            images=given.images,
            annotations=given.annotations,
            before=given.before,
            lock=given.lock,
        )

        if given.resume and given.json and given.json.exists():
            plan.made += _gone_on_with(given.json, plan)

        def keep(found: Sequence[Measurement]) -> None:
            if given.json and found:
                records.write(given.json, result_of(plan, found))

        found = measured(plan, given.what, keep)
    if not found:
        raise InputError("Nothing could be measured; the lines above say why.")
    result = result_of(plan, found)
    print(showing.text(result))
    if before is not None:
        print(f"\n{showing.changed(changes(before, result))}")
    if given.markdown:
        write_text(given.markdown, showing.markdown(result))
    if given.chart:
        write_text(given.chart, charting.chart(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
