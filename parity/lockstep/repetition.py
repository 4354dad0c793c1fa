"""Whether a candidate repeats itself: unobserved runs and the observed one, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

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
    """
    middle = "a run with gradients on" if gradients else "its second run"
    runs = {"an unobserved run": first, middle: second, "the observed run": observed}
    labels = list(runs)
    pairs = [(0, 1), (0, 2), (1, 2)]
    unequal = [
        (labels[a], labels[b]) for a, b in pairs if not equal_runs(runs[labels[a]], runs[labels[b]])
    ]
    if not unequal:
        return _state_findings(other_image, names)
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
    if odd is not None:
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
