"""``compare.py self-check``: does the comparison find faults in this very model?"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

from converter.progress import Progress
from parity.commands.nodes import alternatives
from parity.commands.options import (
    add_input,
    check_numbers,
    check_results,
    convert_checkpoint,
    describe_checkpoint,
    resolve_checkpoint,
)
from parity.commands.reference import open_reference, read_input
from parity.commands.trials import pair
from parity.process import environment
from parity.results.record import made
from parity.results.self_check import FaultResult, SelfCheckResult
from parity.results.shared import Images
from parity.sides.naming import base

_SIZE = "256x256"
_DIAGNOSED = 3


def add_parser(commands: Any) -> None:
    """Make the command known."""
    check = commands.add_parser(
        "self-check",
        help="put faults into the model, one at a time, and see that each is found",
        description="A comparison that passes proves something only if it could have failed. "
        "Faults of published ports are put into the faithful model, each at the first module "
        "that can have it, and compared with the reference.",
    )
    check.set_defaults(run=run, result_file=lambda arguments: arguments.json)
    add_input(check)
    check.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")


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

    from parity.commands.faults import FAULTS
    from parity.diagnosis.suspects import Known, diagnosed, findings, suspects
    from parity.lockstep.comparison import compare_isolated
    from torch_model.checkpoint import from_arrays

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = conversion.config
    faithful = from_arrays(config, conversion.arrays, source=str(files.prefix))
    faithful = faithful.to(getattr(torch, arguments.dtype))
    known = Known(faithful, alternatives(arguments, files), config.num_anchors, config.num_classes)
    outcomes: list[FaultResult] = []
    with (
        open_reference(arguments, config, files.prefix, images.shape, None) as reference,
        Progress("breaking", unit="faults") as progress,
    ):
        for number, fault in enumerate((None, *FAULTS)):
            progress(number, len(FAULTS) + 1)
            model = copy.deepcopy(faithful)
            place = fault.place(model) if fault else None
            if fault:
                if place is None:
                    continue
                fault.break_(model.get_submodule(place))
            pairing = pair(None, reference, model, faithful, images)
            nodes = compare_isolated(pairing)
            found = findings(pairing, known)
            guilty = diagnosed(pairing, suspects(pairing, nodes), nodes, known, found, _DIAGNOSED)
            failing = [node.name for node in nodes if not node.verdict.passes]
            outcomes.append(_outcome(fault, place, failing, found, guilty))
        progress(len(FAULTS) + 1, len(FAULTS) + 1)
    passes = all(item.passes for item in outcomes)
    for item in outcomes:
        print(_line(item))
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
    fault: Any, place: str | None, failing: list[str], found: Any, guilty: Any
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
    return FaultResult(
        title=fault.title,
        place=place,
        detected=alarm,
        located=located,
        named=bool(fault.slugs & set(names)),
        nodes=failing,
        names=names,
        # A name is a help, finding it is the duty.
        passes=alarm and located,
    )


def _line(item: FaultResult) -> str:
    if item.is_control:
        return f"{item.title}: {'ALARM' if item.detected else 'no alarm'}"
    states = [
        "detected" if item.detected else "NOT DETECTED",
        "located" if item.located else "NOT LOCATED",
        f"named {', '.join(dict.fromkeys(item.names)) or 'nothing'}",
    ]
    return f"{item.title}, at {item.place}: {', '.join(states)}"
