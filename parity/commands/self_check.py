"""``compare.py self-check``: does the comparison find faults in this very model?"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.progress import Progress
from parity.commands.asking.inputs import read_input
from parity.commands.asking.options import (
    add_input,
    check_numbers,
    check_results,
    convert_checkpoint,
    describe_checkpoint,
    resolve_checkpoint,
)
from parity.commands.nodes import alternatives
from parity.commands.references import open_reference
from parity.commands.trials import pair
from parity.process import environment
from parity.results.records.record import made
from parity.results.records.self_check import FaultResult, SelfCheckResult
from parity.results.records.shared import Images
from parity.sides.naming import base

if TYPE_CHECKING:
    from parity.faults.basics.fault import Fault

_SIZE = "256x256"
_DIAGNOSED = 3

USUAL = (
    "pool-zero-padding",
    "padding-symmetric",
    "epsilon",
    "left-out",
    "kernel-transposed",
    "momentum",
    "parameter-different",
)
"""Faults of published ports; the last two no inference shows, they are found in the candidate."""


def add_parser(commands: Any) -> None:
    """Make the command known."""
    check = commands.add_parser(
        "self-check",
        help="put faults into the model, one at a time, and see that each is found",
        description="A comparison that passes proves something only if it could have failed. "
        "Faults of published ports are put into the faithful model, each at the first layer "
        "that makes something else with it, and compared with the reference.",
    )
    check.set_defaults(run=run, result_file=lambda arguments: arguments.json)
    add_input(check)
    check.add_argument(
        "--all",
        action="store_true",
        help="put in every fault of the catalogue, which takes minutes",
    )
    check.add_argument(
        "--list", action=_ListFaults, nargs=0, help="list the catalogue of faults and exit"
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")


class _ListFaults(argparse.Action):
    """Prints the catalogue, for which no checkpoint is needed."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        """End the program with the table."""
        from parity.faults.table import table

        print(table())
        parser.exit()


def chosen(*, every: bool) -> list[Fault]:
    """The faults that are put in.

    Args:
        every: Whether they are all of the catalogue, or the first of each usual name.
    """
    from parity.faults import catalogue

    put_in = [fault for fault in catalogue.CATALOGUE if fault.without is None]
    if every:
        return put_in
    return [next(fault for fault in put_in if fault.slug == slug) for slug in USUAL]


def run(arguments: argparse.Namespace) -> int:
    """``compare.py self-check``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    check_numbers(arguments)
    arguments.size = arguments.size or _SIZE
    files = resolve_checkpoint(arguments)
    check_results(arguments, files.prefix)
    conversion = convert_checkpoint(arguments, files)
    environment.prepare()
    images, described = read_input(arguments, conversion)

    import torch

    from parity.diagnosis.places import places
    from parity.diagnosis.suspects import Known, diagnosed, findings, suspects
    from parity.lockstep.comparison import compare_isolated
    from parity.sides.pytorch import FaithfulReferee
    from torch_model.checkpoint import from_arrays

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = conversion.config
    faithful = from_arrays(config, conversion.arrays, source=str(files.prefix))
    faithful = faithful.to(getattr(torch, arguments.dtype))
    known = Known(faithful, alternatives(arguments, files))
    faults = chosen(every=arguments.all)
    with (
        open_reference(arguments, conversion, files.prefix, images.shape) as reference,
        Progress("breaking", unit="faults") as progress,
    ):
        referee = FaithfulReferee(faithful, reference.kinds, images.shape)
        sites = places(faults, referee, known, images)
        model = copy.deepcopy(faithful)
        pairing = pair(None, reference, model, faithful, images, referee)

        def judged(fault: Fault | None, place: str | None) -> FaultResult:
            nodes = compare_isolated(pairing)
            found = findings(pairing, known)
            guilty = diagnosed(pairing, suspects(pairing, nodes), nodes, known, found, _DIAGNOSED)
            failing = [node.name for node in nodes if not node.verdict.passes]
            return _outcome(fault, place, failing, found, guilty)

        outcomes = [judged(None, None)]
        for number, (fault, site) in enumerate(zip(faults, sites, strict=True)):
            progress(number, len(faults))
            if site is not None:
                place = base(site.name)
                with fault.inject(replace(site, module=model.get_submodule(place))):
                    outcomes.append(judged(fault, place))
        progress(len(faults), len(faults))
    passes = all(item.passes for item in outcomes)
    for item in outcomes:
        print(_line(item))
    hidden = [fault.title for fault, site in zip(faults, sites, strict=True) if site is None]
    if hidden:
        print(
            f"not put in, since nothing in this model shows them on this input: {', '.join(hidden)}"
        )
    print("SELF-CHECK PASSED" if passes else "SELF-CHECK FAILED")
    arguments.place.write(
        SelfCheckResult(
            passes=passes,
            model=config.name,
            checkpoint=describe_checkpoint(arguments, conversion),
            images=made(Images, described),
            environment=environment.describe(arguments.threads),
            faults=outcomes,
        )
    )
    return 0 if passes else 1


def _outcome(
    fault: Fault | None, place: str | None, failing: list[str], found: Any, guilty: Any
) -> FaultResult:
    alarm = bool(failing or found)
    if fault is None:
        return FaultResult(
            title="the faithful model",
            place=None,
            detected=alarm,
            located=not alarm,
            named=not alarm,
            nodes=failing,
            names=[],
            passes=not alarm,
        )
    here = [item for item in found if item.place == place or item.place.startswith(f"{place}.")]
    located = all(base(name) == place for name in failing) and bool(failing or here)
    names = [item.slug for item in [*guilty, *here] if item.slug]
    named = bool(fault.names & set(names))
    return FaultResult(
        title=fault.title,
        place=place,
        detected=alarm,
        located=located,
        named=named,
        nodes=failing,
        names=names,
        # A name is a help, finding it is the duty; but a wrong name is worse than none.
        passes=alarm and located and (named or not names),
    )


def _line(item: FaultResult) -> str:
    if item.is_control:
        return f"{item.title}: {'ALARM' if item.detected else 'no alarm'}"
    wrongly = " WRONGLY" if item.names and not item.named else ""
    states = [
        "detected" if item.detected else "NOT DETECTED",
        "located" if item.located else "NOT LOCATED",
        f"named{wrongly} {', '.join(dict.fromkeys(item.names)) or 'nothing'}",
    ]
    return f"{item.title}, at {item.place}: {', '.join(states)}"
