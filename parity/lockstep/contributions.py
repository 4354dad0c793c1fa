"""Which nodes the difference of the outputs comes from, by experiment.

The difference that a node makes on identical inputs is put into an otherwise undisturbed run
of the candidate, at that node alone. What then changes at the outputs is this node's doing. Its
share is the part of the outputs' whole difference that the change reproduces: the projection of
the one on the other, each output in units of its rms. Shares of independent small differences
add up to one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from parity.lockstep.isolated import IsolatedWalk, Meeting
from parity.lockstep.pairing import Pairing, Progress
from parity.lockstep.walk import visited
from parity.results.nodes import Contribution
from parity.sides.side import Made
from parity.sides.stream import Array


@dataclass(frozen=True)
class Observed:
    """What a comparison has shown of a candidate, so that it need not run for it again.

    Attributes:
        visited: The nodes that it makes.
        outputs: What it returns on its own, NHWC.
    """

    visited: Collection[str]
    outputs: Sequence[Array]


def contributions(
    pairing: Pairing,
    nodes: Sequence[str],
    progress: Progress | None = None,
    known: Observed | None = None,
) -> list[Contribution]:
    """What each of ``nodes`` contributes to the outputs' difference, and all of them together.

    Every node of the candidate must have its partner, as after a comparison that passed.

    Args:
        pairing: What was compared.
        nodes: The nodes to try.
        progress: Told the runs done and their number.
        known: What is known of the candidate; None to run it for that.

    Returns:
        One contribution for each node, largest share first, then that of all together. Empty
        where the outputs do not differ.
    """
    runs = len(nodes) + 3
    seen = known.visited if known else visited(pairing)

    def done(number: int) -> None:
        if progress:
            progress(number, runs)

    own, reference = _collect(pairing, nodes, seen)
    done(1)

    def with_own(names: Sequence[str]) -> list[Array]:
        def visit(name: str, made: Made) -> Array | None:
            return made.value.array() + own[name] if name in names else None

        return [value.array() for value in pairing.run(visit)]

    undisturbed = known.outputs if known else with_own([])
    done(2)
    scales = [float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) or 1.0 for x in reference]

    def effect(arrays: Sequence[Array]) -> Array:
        parts = zip(arrays, undisturbed, scales, strict=True)
        return np.concatenate(
            [np.subtract(a, b, dtype=np.float64).reshape(-1) / scale for a, b, scale in parts]
        )

    whole = effect(reference)
    energy = float(np.vdot(whole, whole))
    if not energy:
        return []
    results = []
    for number, names in enumerate([*((name,) for name in nodes), tuple(nodes)]):
        change = effect(with_own(names))
        share = float(np.vdot(change, whole)) / energy
        size = float(np.sqrt(np.vdot(change, change) / energy))
        results.append(Contribution(names, share, size))
        done(number + 3)
    return [*sorted(results[:-1], key=lambda item: -item.share), results[-1]]


def _collect(
    pairing: Pairing, nodes: Sequence[str], seen: Collection[str]
) -> tuple[dict[str, Array], list[Array]]:
    """Reference minus candidate of some nodes on identical inputs; the reference's outputs."""
    own: dict[str, Array] = {}
    outputs: dict[str, Array] = {}

    def look(met: Meeting) -> None:
        assert met.reference is not None, "every node of the candidate has its partner"
        if met.name in pairing.outputs:
            outputs[met.name] = np.array(met.reference)
        output = met.output
        if met.name in nodes and output is not None:
            own[met.name] = met.reference - output

    IsolatedWalk(pairing, look, seen).run()
    return own, [outputs[name] for name in pairing.outputs]
