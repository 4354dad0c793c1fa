"""``self-check``: does the comparison find faults in this very model?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from converter.progress import Progress
from parity.commands.asking.inputs import read_input
from parity.commands.asking.options import check_results, resolve_checkpoint
from parity.commands.comparing.opened import Opened, computing
from parity.commands.comparing.trials import pair
from parity.process import environment
from parity.process.console import say
from parity.results.place import ResultPlace
from parity.results.records.record import made
from parity.results.records.self_check import FaultResult, SelfCheckResult
from parity.results.records.shared import Images
from parity.settings.self_check import SelfCheckSettings
from parity.sides.naming import base

if TYPE_CHECKING:
    from parity.faults.basics.fault import Fault

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


def listed() -> str:
    """The catalogue of faults as text."""
    from parity.faults.table import table

    return table()


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


def run(settings: SelfCheckSettings, place: ResultPlace) -> int:
    """Put faults in, print what is found, write.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Raises:
        InputError: Something about the input cannot be used.
    """
    files = resolve_checkpoint(settings)
    check_results([settings.json], [settings.checkpoint, settings.image], files.prefix, place)
    with Opened(settings, files) as opened:
        images, described = read_input(settings, opened.config)
        with computing(settings.threads):
            outcomes, hidden = _outcomes(opened, images, chosen(every=settings.all))
    passes = all(item.passes for item in outcomes)
    for item in outcomes:
        say(_line(item))
    if hidden:
        say(
            f"not put in, since nothing in this model shows them on this input: {', '.join(hidden)}"
        )
    say(f"hyperparameters {opened.described.told}")
    say("SELF-CHECK PASSED" if passes else "SELF-CHECK FAILED")
    place.write(
        SelfCheckResult(
            passes=passes,
            model=opened.config.name,
            checkpoint=opened.described,
            images=made(Images, described),
            environment=environment.describe(settings.threads),
            faults=outcomes,
        )
    )
    return 0 if passes else 1


def _outcomes(
    opened: Opened, images: Any, faults: Sequence[Fault]
) -> tuple[list[FaultResult], list[str]]:
    """What is found of each fault that can be put in, and the titles of those that cannot."""
    from parity.diagnosis.places import places
    from parity.diagnosis.suspects import Known, diagnosed, findings, suspects
    from parity.lockstep.comparison import compare_isolated

    known = Known(opened.faithful, opened.alternatives)
    reference, referee = opened.reference(images.shape), opened.referee(images.shape)
    with Progress("breaking", unit="faults") as progress:
        sites = places(faults, referee, known, images)
        model = copy.deepcopy(opened.faithful)
        pairing = pair(None, reference, model, opened.faithful, images, referee)

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
    return outcomes, [
        fault.title for fault, site in zip(faults, sites, strict=True) if site is None
    ]


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
