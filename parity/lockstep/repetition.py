"""Whether a candidate repeats itself: unobserved runs and the observed one, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from parity.results.records.nodes import NOT_REPEATABLE, Finding
from parity.sides.side import Value


def repetition_findings(
    first: Sequence[Value],
    second: Sequence[Value],
    observed: Sequence[Value],
    names: Sequence[str],
    *,
    gradients: bool = True,
    other_image: tuple[Sequence[Value], Sequence[Value]] | None = None,
    successive: Sequence[Sequence[Value]] = (),
    of_first_call: Sequence[Value] = (),
) -> list[Finding]:
    """What is wrong where runs of one candidate on one input do not agree bit for bit.

    A comparison holds for the run that it saw. These are accidents (dropout left on, state kept
    between calls, code that branches on gradients), not adversaries: a module that wants to know
    whether it is watched can find out.

    Args:
        first: Outputs of an unobserved call, without gradients.
        second: Outputs of another.
        observed: Outputs of a later call under observation, without gradients.
        names: The nodes that the outputs should be of.
        gradients: Whether what gradients need was recorded in the second call.
        other_image: Outputs for another image of the same shape: of its very first call, and of
            a later one.
        successive: Outputs of three unobserved calls on the same input, one right after another,
            where the others do not agree.
        of_first_call: Outputs of the very first call, which was given another image.
    """
    middle = "a run with gradients on" if gradients else "its second run"
    runs = {"an unobserved run": first, middle: second, "the observed run": observed}
    labels = list(runs)
    pairs = [(0, 1), (0, 2), (1, 2)]
    unequal = [
        (labels[a], labels[b]) for a, b in pairs if not equal_runs(runs[labels[a]], runs[labels[b]])
    ]
    if not unequal:
        return _state_findings(other_image, names) or _first_call_findings(first, of_first_call)
    one, other = unequal[0]
    odd = (
        next((label for label in labels if all(label in pair for pair in unequal)), None)
        if len(unequal) == 2
        else None
    )
    told = outputs_apart(runs[one], runs[other], names)
    causes = {
        "an unobserved run": "it keeps state between calls",
        middle: (
            "it computes otherwise where gradients are recorded"
            if gradients
            else "it keeps state between calls"
        ),
        "the observed run": "observing its layers changes it, as it changes compiled code",
    }
    history = depends_on_earlier(successive)
    if history:
        text = f"runs on the same input give other outputs each time ({told}): {history}"
    elif odd is not None:
        text = (
            f"{odd} gives other outputs than the other two runs on the same input ({told}): "
            f"{causes[odd]}"
        )
    else:
        text = (
            f"no two runs on the same input give the same outputs ({told}): something random or "
            f"kept between calls is at work, such as dropout left on"
        )
    return [Finding(NOT_REPEATABLE, "the candidate", text)]


def _state_findings(
    other_image: tuple[Sequence[Value], Sequence[Value]] | None, names: Sequence[str]
) -> list[Finding]:
    if other_image is None or equal_runs(*other_image):
        return []
    text = (
        f"its first run gives other outputs than a later run on the same input "
        f"({outputs_apart(*other_image, names)}): it keeps state that its first call changes"
    )
    return [Finding(NOT_REPEATABLE, "the candidate", text)]


_TELLING = 16
"""Values unlike each other that an output must have before its being equal for two images says
anything: no boxes at all, or zeros behind a dead layer, are equal for any two."""


def _tell(outputs: Sequence[Value]) -> bool:
    """Whether outputs can be told from those for another image."""
    readable = [value for value in outputs if value.shape is not None and not value.unreadable]
    return any(len(np.unique(value.array())) >= _TELLING for value in readable)


def _first_call_findings(now: Sequence[Value], of_first: Sequence[Value]) -> list[Finding]:
    """Where another image has the very same outputs."""
    if not of_first or not equal_runs(now, of_first) or not _tell(now):
        return []
    text = (
        "its outputs for these images are, bit for bit, those of its first call, which was given "
        "another image: it returns the result of its first call for ever, or reads no image"
    )
    return [Finding(NOT_REPEATABLE, "the candidate", text)]


_SMOOTH = 1e-3
"""How far two numbers of one rule may be apart, where float32 rounds what they are read off."""

_LEFT = 1e-2
"""Part of a step from one run to the next that a rule may leave over, likewise."""


def depends_on_earlier(runs: Sequence[Sequence[Value]]) -> str:
    """How the outputs of a call follow from those of the call before, in words.

    Args:
        runs: Outputs of three calls on the same input, one right after another.

    Returns:
        Nothing where no rule holds for all outputs, as where something random is at work.
    """
    if len(runs) != 3 or len({len(run) for run in runs}) != 1:
        return ""
    shares, factors = [], []
    for values in zip(*runs, strict=True):
        if len({value.dims for value in values}) != 1 or values[0].shape is None:
            return ""
        one, two, three = (np.asarray(value.array(), np.float64).ravel() for value in values)
        if not all(np.isfinite(item).all() for item in (one, two, three)):
            return ""
        if np.array_equal(one, two) and np.array_equal(two, three):
            continue
        shares.append(_multiple(two - one, three - two))
        factors.append((_multiple(one, two), _multiple(two, three)))
    if not shares:
        return ""
    known = [share for share in shares if share is not None]
    if len(known) < len(shares) or not _one_number(known):
        return ""
    share = known[0]
    if abs(share - 1) < _SMOOTH:
        return "each call adds the same to them once more: something counts or sums up the calls"
    # Of a series of powers the steps grow as the values do.
    if all(a is not None and abs(a / share - 1) < _SMOOTH for pair in factors for a in pair):
        return f"each call multiplies its outputs by {share:.4g} once more"
    return (
        f"each call's outputs depend on earlier calls: from one call to the next they change "
        f"{share:.3g} times as much as before, as by a running mean of outputs or of statistics"
    )


def _multiple(one: Any, other: Any) -> float | None:
    """The number that makes one array of another; None where none does."""
    power = float(one @ one)
    if not power:
        return None
    factor = float(one @ other) / power
    left = float(np.linalg.norm(other - factor * one))
    return factor if left <= _LEFT * float(np.linalg.norm(other)) else None


def _one_number(values: Sequence[float]) -> bool:
    return bool(values) and max(values) - min(values) < _LEFT * max(map(abs, values))


def equal_runs(one: Sequence[Value], other: Sequence[Value]) -> bool:
    """Whether two runs gave the same outputs, bit for bit."""
    return len(one) == len(other) and all(a.identical(b) for a, b in zip(one, other, strict=True))


def outputs_apart(one: Sequence[Value], other: Sequence[Value], names: Sequence[str]) -> str:
    """The first output that is not the same, and by how much.

    Args:
        one: Outputs of a run.
        other: Those of another.
        names: The nodes that the outputs should be of.
    """
    if len(one) != len(other):
        return f"{len(one)} tensors and {len(other)}"
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        if a.identical(b):
            continue
        name = names[number] if len(names) == len(one) else f"output number {number}"
        if a.dims != b.dims or a.dtype != b.dtype:
            return f"{name} has another shape or type"
        return f"{name} by up to {a.apart(b):.3g}"
    return "in no output"
