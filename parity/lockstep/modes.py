"""How a candidate is run where that should make no difference: unobserved, in several modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from parity.lockstep.pairing import Pairing
from parity.lockstep.repetition import equal_runs
from parity.sides.side import PLAIN, CandidateError, Mode, Value

GRADIENTS = Mode(gradients=True)
INFERENCE = Mode(inference=True)
CHANNELS_LAST = Mode(channels_last=True)

_BOTH = Mode(inference=True, channels_last=True)

_WHERE = {
    GRADIENTS: "with gradients recorded",
    INFERENCE: "in inference mode",
    CHANNELS_LAST: "on images that lie in memory with the channels last",
}


@dataclass
class Departures:
    """What a candidate makes in other modes than the plain one.

    Attributes:
        outputs: By mode what it returns there, where that is not what it returns in the plain one.
        unsteady: Two of its runs on the same images and in the same mode that differ.
        notes: What was not looked at, in sentences.
    """

    outputs: dict[Mode, Sequence[Value]] = field(default_factory=dict)
    unsteady: tuple[Sequence[Value], Sequence[Value]] | None = None
    notes: list[str] = field(default_factory=list)


def with_gradients(pairing: Pairing) -> tuple[list[Value] | None, list[str]]:
    """The candidate's outputs where gradients are recorded.

    Args:
        pairing: What is compared.

    Returns:
        The outputs, None where it fails; and what was not looked at.
    """
    return _tried(pairing, GRADIENTS)


def departures(pairing: Pairing, plain: Sequence[Value]) -> Departures:
    """Run a candidate once in several other modes together, and in each if that differs.

    Args:
        pairing: What is compared.
        plain: Its outputs in the plain mode.
    """
    found = Departures()
    together, _ = _tried(pairing, _BOTH)
    if together is not None and equal_runs(plain, together):
        return found
    again = pairing.run_unobserved(PLAIN)
    if not equal_runs(plain, again):
        found.unsteady = plain, again
        return found
    for mode in (INFERENCE, CHANNELS_LAST):
        outputs, notes = _tried(pairing, mode)
        found.notes += notes
        if outputs is None or equal_runs(plain, outputs):
            continue
        repeated, _ = _tried(pairing, mode)
        if repeated is None or not equal_runs(outputs, repeated):
            found.unsteady = outputs, repeated or plain
            return found
        found.outputs[mode] = outputs
    if together is not None and not found.outputs and not found.notes:
        # It was not the mode, but that call.
        found.unsteady = plain, together
    return found


def _tried(pairing: Pairing, mode: Mode) -> tuple[list[Value] | None, list[str]]:
    try:
        return pairing.run_unobserved(mode), []
    except CandidateError as error:
        # Many ports are only ever run in one mode, and use what does not work in another.
        where = _WHERE.get(mode, "")
        return None, [f"Not looked at: the candidate {where}. {error}"]


def where(mode: Mode) -> str:
    """A mode in words, to follow what happens there."""
    return _WHERE[mode]
