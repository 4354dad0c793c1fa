"""Each node on the reference's tensors: what is met there before they take the output's place."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from efficientdet_spec import NodeKind
from parity.judge.referee import Ruling
from parity.judge.verdict import Measurement, Problem
from parity.lockstep.own_inputs import OnOwnInputs, OwnInputs
from parity.lockstep.pairing import Pairing, Progress
from parity.lockstep.walk import Walk, problem_of
from parity.process.arrays import Array
from parity.sides.side import Made


@dataclass(frozen=True)
class Meeting:
    """A node of both sides on the reference's tensors.

    Attributes:
        name: The node.
        kind: What it computes.
        ruling: What it should make of its inputs; computed as it is asked for.
        reference: The reference's tensor; None where it is not recorded.
        candidate: What the candidate has there; None where it has nothing.
        problem: Why the two cannot be compared; None where they can.
        wrong_inputs: What the candidate reads, where that is known and is not what it should be.
        overwritten: The nodes that it reads whose tensors something has written to since.
        own: What it should make of what the candidate itself may read there.
    """

    name: str
    kind: NodeKind
    ruling: Ruling
    reference: Array | None
    candidate: Made | None = None
    problem: Problem | None = None
    wrong_inputs: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()
    own: OnOwnInputs = field(default_factory=OnOwnInputs)

    @property
    def output(self) -> Array | None:
        """The candidate's tensor, NHWC; None where there is none that can be compared."""
        if self.candidate is None or self.problem or self.own.astray:
            return None
        return self.candidate.value.array()


Reader = Callable[[Meeting], "Measurement | None"]
"""Looks at a node; what it has measured there is kept under the node's name."""


class IsolatedWalk(Walk):
    """Gives each node the reference's tensors, once what is there has been read.

    Args:
        pairing: What to compare.
        reader: Looks at every node.
        visited: The nodes that the candidate is known to make, in whatever order.
        progress: Told how many nodes are done.
    """

    name = "isolated"

    def __init__(
        self,
        pairing: Pairing,
        reader: Reader,
        visited: Collection[str],
        progress: Progress | None = None,
    ) -> None:
        super().__init__(pairing, progress, visited)
        self._reader = reader
        self._sitting = pairing.referee.sitting(pairing.images, pairing.elements)
        self._own_inputs = OwnInputs(
            pairing.referee,
            self._sitting,
            visited,
            may_leave_out=pairing.candidate.seen_through,
        )

    def meet(self, name: str, reference: Array | None, made: Made | None) -> Array | None:
        """See :class:`Walk`; the reference's tensor takes the output's place."""
        ruling = self._sitting.rule(name)
        met = Meeting(name, self._kinds[name], ruling, reference)
        # Of a tensor that the stream lacks, the exact value takes the place.
        goes_on = ruling.rounded() if reference is None else reference
        comes_later = made is None and self.comes_later(name)
        if comes_later:
            self._waiting[name] = goes_on, met
            instead = None
        else:
            if made is None:
                self._own_inputs.without_partner(name, ruling)
            instead = self._read(met, goes_on, made)
        self._sitting.follow(
            name,
            goes_on,
            ruling,
            substituted=comes_later or instead is not None,
            recorded=reference is not None,
        )
        return instead

    def meet_late(self, name: str, made: Made) -> Array | None:
        """See :class:`Walk`; it is given what was kept for the node."""
        waiting = self._waiting.pop(name, None)
        if waiting is None:
            again = Problem(f"{name} is computed again")
            self.measured[f"{name} again"] = Measurement(made.value.shape, problem=again)
            return None
        goes_on, met = waiting
        return self._read(met, goes_on, made)

    def _read(self, met: Meeting, goes_on: Array, made: Made | None) -> Array | None:
        """Let the reader look; what takes the place of the candidate's output."""
        problem = None
        if made is not None:
            problem = problem_of(made.value, goes_on, goes_on.dtype)
            met = replace(
                met,
                candidate=made,
                problem=problem or _outdated(made),
                wrong_inputs=self._wrong_inputs(met.name, made),
                overwritten=made.overwritten(),
                own=self._own_inputs.of(met.name, met.ruling, made.read()),
            )
        measured = self._reader(met)
        if measured is not None:
            self.measured[met.name] = measured
        if made is None:
            return None
        if problem:
            self._own_inputs.keep(met.name, made.value, goes_on.shape)
        self._own_inputs.done(met.name)
        return None if problem else goes_on

    def _wrong_inputs(self, name: str, made: Made) -> tuple[str, ...]:
        """What the candidate reads here, where all of it is known and is not what it should be."""
        due = [source for source in self.pairing.referee.sources(name) if source in self._order]
        known = [node for node in made.read() if node is not None and node in self._order]
        if self._kinds[name] in (NodeKind.ADD, NodeKind.SCALE):
            # Sums and products of two are the same in either order.
            due, known = sorted(due), sorted(known)
        return tuple(known) if due and len(known) >= len(due) and known != due else ()


def _outdated(made: Made) -> Problem | None:
    """Why a layer cannot be judged on the reference's tensors, which it does not read."""
    nodes = made.outdated()
    if not nodes:
        return None
    return Problem(
        f"it reads a copy of {nodes[0]} that was made before the reference's tensor took its "
        f"place, as a hook of the candidate's own may make, and cannot be judged on that tensor; "
        f"let it read what the layer returns"
    )
