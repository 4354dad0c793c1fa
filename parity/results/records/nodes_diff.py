"""``efficientdet-parity/nodes-diff``: what changed from one comparison of nodes to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Literal

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.records.gradients import Mode
from parity.results.records.nodes import Finding, Suspect
from parity.results.records.record import Count, Figure, Record, ResultFile, says


class DiffOutcome(str, Enum):
    """What a change did, as a whole."""

    NOT_WORSE = "not worse"
    """Nothing that had been shown is lost, and nothing more is wrong."""
    WORSE = "worse"
    """Something that agreed does not any more, or is not covered any more."""
    NOT_COMPARABLE = "not comparable"
    """The two results are not of the same thing, or one of them is none."""

    @property
    def exit_code(self) -> int:
        """0, 1 and 3: a script must not take two results that say nothing for a good change."""
        return {DiffOutcome.NOT_WORSE: 0, DiffOutcome.WORSE: 1, DiffOutcome.NOT_COMPARABLE: 3}[self]


class ChangeKind(str, Enum):
    """How the verdict on a node, or a gradient, changed."""

    FAILS = "agreed, differs now"
    """It passed."""
    FOUND = "was not covered, differs now"
    """Whether it had differed before, nothing had shown."""
    LOST = "agreed, is not covered now"
    """It passed, and nothing shows any more that it would."""
    UNDECIDED = "differed, is not covered now"
    """It is not mended, but nothing shows that it differs."""
    MENDED = "differed, agrees now"
    """It passes."""
    COVERED = "was not covered, agrees now"
    """Something shows now that it passes."""
    OTHER = "another verdict of the same weight"
    """It passes as before, or differs as before, in another way."""
    CAME = "came"
    """Only the new result has it."""
    LEFT = "left"
    """Only the old result has it."""


class ComparedResult(Record, kw_only=True, frozen=True):
    """One of the two results."""

    file: Annotated[str, says("where it was read")]
    outcome: Annotated[
        Outcome | None, says("what it says; null where its command had failed and left no result")
    ]
    sentence: Annotated[str, says("the same in one line, or why there is no result")]
    nodes: Annotated[Count, says("number of its nodes")] = 0


class Condition(Record, frozen=True):
    """Something that the two results do not have in common."""

    what: Annotated[str, says("what it is, such as `checkpoint fingerprint` or `packages.torch`")]
    before: Annotated[str, says("of the old result")]
    after: Annotated[str, says("of the new result")]


class NodeChange(Record, kw_only=True, frozen=True):
    """A node whose verdict changed, or that only one of the results has."""

    name: Annotated[str, says("the node")]
    change: Annotated[ChangeKind, says("how")]
    worse: Annotated[bool, says("whether that is a loss")]
    before: Annotated[Verdict | None, says("the old verdict; null where it came")]
    after: Annotated[Verdict | None, says("the new verdict; null where it left")]
    reason: Annotated[str, says("why the new verdict, or for one that left the old, is what it is")]


class GradientChange(Record, kw_only=True, frozen=True):
    """A gradient whose verdict changed, or that only one of the results has."""

    name: Annotated[str, says("the parameter; `images` and `scalar` are these")]
    mode: Annotated[Mode, says("whether batch norms are in inference or in training")]
    change: Annotated[ChangeKind, says("how")]
    worse: Annotated[bool, says("whether that is a loss")]
    before: Annotated[Verdict | None, says("the old verdict; null where it came")]
    after: Annotated[Verdict | None, says("the new verdict; null where it left")]


class ChangedFigures(Record, kw_only=True, frozen=True):
    """A node of both results whose own figures are not the same bit for bit."""

    name: Annotated[str, says("the node")]
    side: Annotated[
        Literal["candidate", "reference", "both", "neither"],
        says(
            "whose distance from the exact value is another one; `neither` where only the "
            "difference of the two sides is"
        ),
    ]
    own_before: Annotated[
        Figure | None,
        says("largest difference that the node itself makes, of its tensor's rms, in the old one"),
    ]
    own_after: Annotated[Figure | None, says("the same in the new result")]
    roundings_before: Annotated[
        Figure | None, says("the candidate from the exact value, in roundings, in the old result")
    ]
    roundings_after: Annotated[Figure | None, says("the same in the new result")]
    limit: Annotated[Figure | None, says("what the latter may be")]
    same_input: Annotated[
        bool,
        says("whether both are of one input; each result keeps the one on which a node is worst"),
    ]


class KeyFigure(Record, kw_only=True, frozen=True):
    """A figure of both results."""

    what: Annotated[str, says("what it is, such as a phase")]
    unit: Annotated[Literal["s", "bytes", "rms", "nodes"], says("its unit; `rms` is of a tensor's")]
    before: Annotated[Figure | None, says("in the old result; null where it has none")]
    after: Annotated[Figure | None, says("in the new result; null where it has none")]
    ratio: Annotated[Figure | None, says("the new by the old; null where that has no meaning")]


class NodesDiff(ResultFile, kw_only=True, frozen=True):
    """What changed from one comparison of nodes to another."""

    schema: Annotated[Literal["efficientdet-parity/nodes-diff"], says("what the file is")] = (
        "efficientdet-parity/nodes-diff"
    )
    version: Annotated[Literal[1], says("the version of this schema")] = 1
    outcome: Annotated[
        DiffOutcome,
        says(
            "`not worse`: nothing that had been shown is lost (exit code 0); `worse`: something "
            "that agreed does not, or is not covered any more, or more is found wrong (exit code "
            "1); `not comparable`: the results are not of the same model, checkpoint, inputs, type "
            "or kind of reference, or one is none (exit code 3)"
        ),
    ]
    sentence: Annotated[str, says("the outcome in one line, the first that is printed")]
    before: Annotated[ComparedResult, says("the old result")]
    after: Annotated[ComparedResult, says("the new result")]
    conditions: Annotated[
        Sequence[Condition],
        says("what both would have to have in common to be comparable, and do not"),
    ]
    settings: Annotated[
        Sequence[Condition],
        says(
            "what else differs of what they depend on: the candidate's and the reference's names, "
            "versions, threads, device. A change of figures may come from there"
        ),
    ]
    worse: Annotated[Sequence[str], says("what got worse, each in a few words")]
    better: Annotated[Sequence[str], says("what got better")]
    counts: Annotated[Mapping[ChangeKind, Count], says("number of `nodes` by kind of change")]
    nodes: Annotated[
        Sequence[NodeChange], says("whose verdict changed, in the order of computation")
    ]
    figures: Annotated[
        Sequence[ChangedFigures],
        says(
            "nodes of both results whose own figures changed at all, the largest change of "
            "`own` first. There is no threshold: the same code on the same machine gives the same "
            "bits"
        ),
    ]
    first_changed: Annotated[
        str | None, says("the first of them in the order of computation; null where there is none")
    ]
    accumulated_only: Annotated[
        Count,
        says("nodes whose own figures are the same, and what accumulates up to them is not"),
    ]
    unchanged: Annotated[Count, says("nodes that are the same in verdict and in all figures")]
    uncovered: Annotated[Count, says("nodes that are not covered in either result")]
    findings_came: Annotated[Sequence[Finding], says("found in the new result only")]
    findings_left: Annotated[Sequence[Finding], says("found in the old result only")]
    suspects_came: Annotated[Sequence[Suspect], says("suspected in the new result only")]
    suspects_left: Annotated[Sequence[Suspect], says("suspected in the old result only")]
    not_shown_came: Annotated[
        Sequence[str], says("what could be compared before and cannot any more, besides nodes")
    ]
    not_shown_left: Annotated[Sequence[str], says("what can be compared now, besides nodes")]
    gradients: Annotated[Sequence[GradientChange], says("gradients whose verdict changed")]
    key_figures: Annotated[
        Sequence[KeyFigure], says("what the results say as a whole, and by how much it changed")
    ]
    costs: Annotated[
        Sequence[KeyFigure],
        says("seconds by phase and memory; what else the machine did shows there too"),
    ]
