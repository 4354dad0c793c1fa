"""``efficientdet-parity/faults``: what the harness finds of every fault, and of none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from parity.results.records.record import Count, Figure, Record, ResultFile, Seconds, Whole, says
from parity.results.records.shared import Environment


class InjectedFault(Record, kw_only=True, frozen=True):
    """What the harness made of one fault."""

    model: Annotated[str, says("name of the model")]
    family: Annotated[str, says("family of the fault")]
    fault: Annotated[str, says("its key")]
    title: Annotated[str, says("what is wrong")]
    visible: Annotated[bool, says("whether inference shows it")]
    moves: Annotated[
        bool,
        says(
            "whether it moves an output by more than rounding explains, found without the harness"
        ),
    ]
    detected: Annotated[bool, says("whether there was an alarm")]
    located: Annotated[bool, says("whether the failing nodes are those that are wrong")]
    named: Annotated[bool, says("whether a right name was given")]
    misnamed: Annotated[bool, says("whether names were given and none of them is right")]
    names: Annotated[Sequence[str], says("the names given")]
    failing: Annotated[Count, says("number of failing nodes")]
    seconds: Annotated[Seconds, says("time of comparison and diagnosis")]


class FaithfulRun(Record, kw_only=True, frozen=True):
    """A comparison of a faithful model, which must raise no alarm."""

    what: Annotated[str, says("model, weights and input in words")]
    inputs: Annotated[Count, says("number of inputs")]
    nodes: Annotated[Count, says("number of nodes judged, over all inputs")]
    exit_code: Annotated[Whole, says("0 where there was no alarm")]
    candidate: Annotated[
        Figure, says("the largest part of its limit that the candidate took up at any node")
    ]
    reference: Annotated[Figure, says("the same of the reference")]


class SharpnessRow(Record, kw_only=True, frozen=True):
    """What the largest error that passes does."""

    input: Annotated[str, says("model and image in words")]
    errors: Annotated[str, says("roundings of every element of every node, in words")]
    aim: Annotated[str, says("what the errors' signs are chosen to move")]
    pixels: Annotated[Figure, says("largest move of an edge of the best boxes, in pixels")]
    score: Annotated[Figure, says("largest change of their scores")]
    relative: Annotated[Figure, says("largest move of an edge relative to its box's longer side")]


class FaultsResult(ResultFile, kw_only=True, frozen=True):
    """What `make faults` found."""

    step = "make faults"

    schema: Annotated[Literal["efficientdet-parity/faults"], says("what the file is")] = (
        "efficientdet-parity/faults"
    )
    version: Annotated[Literal[2], says("the version of this schema")] = 2
    size: Annotated[str, says("of the inputs, HEIGHTxWIDTH")]
    environment: Environment
    outcomes: Annotated[Sequence[InjectedFault], says("one for each fault and model")]
    alarms: Annotated[Sequence[FaithfulRun], says("each comparison of a faithful model")]
    sharpness: Annotated[Sequence[SharpnessRow], says("what the largest errors that pass do")]
