"""Which nodes the difference of the outputs comes from, by experiment.

The difference that a node makes on identical inputs is put into an otherwise undisturbed run
of the candidate, at that node alone. What then changes at the outputs is this node's doing. Its
share is the part of the outputs' whole difference that the change reproduces: the projection of
the one on the other, each output in units of its rms. Shares of independent small differences
add up to one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from parity.judge.measure import flat, row_parts
from parity.lockstep.isolated import IsolatedWalk, Meeting
from parity.lockstep.own import OwnDifferences
from parity.lockstep.pairing import Pairing, Progress
from parity.lockstep.walk import visited
from parity.process.arrays import Array
from parity.process.compiled import compiled, in_order
from parity.results.records.nodes import Contribution
from parity.sides.side import Made


@dataclass(frozen=True)
class Observed:
    """What a comparison has shown of a candidate, so that it need not run for it again.

    Attributes:
        visited: The nodes that it makes.
        outputs: What it returns on its own, NHWC.
        own: Differences that nodes make themselves, and what the outputs should be.
    """

    visited: Collection[str]
    outputs: Sequence[Array]
    own: OwnDifferences = field(default_factory=OwnDifferences)


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

    own = known.own if known else OwnDifferences()
    if not own.arrays.keys() >= set(nodes):
        own = _collect(pairing, nodes, seen)
    if not own.outputs.keys() >= set(pairing.outputs):
        # An output that could not be measured has no difference to be attributed.
        return []
    reference = [own.outputs[name] for name in pairing.outputs]
    done(1)

    def with_own(names: Sequence[str]) -> list[Array]:
        def visit(name: str, made: Made) -> Array | None:
            return made.value.array() + own.arrays[name] if name in names else None

        return [value.array() for value in pairing.candidate.outputs(pairing.run(visit))]

    undisturbed = known.outputs if known else with_own([])
    done(2)
    scales = [float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) or 1.0 for x in reference]

    def along(changed: Sequence[Array]) -> tuple[float, float]:
        """The product of a change and of the outputs' whole difference, and its own square."""
        found = [
            np.array(_products_of(arrays)) / scale**2
            for *arrays, scale in zip(reference, undisturbed, changed, scales, strict=True)
        ]
        product, square = np.sum(found, axis=0)
        return float(product), float(square)

    energy, _ = along(reference)
    if not energy:
        return []
    results = []
    for number, names in enumerate([*((name,) for name in nodes), tuple(nodes)]):
        product, square = along(with_own(names))
        results.append(Contribution(names, product / energy, float(np.sqrt(square / energy))))
        done(number + 3)
    return [*sorted(results[:-1], key=lambda item: -item.share), results[-1]]


def _products_of(arrays: Sequence[Array]) -> tuple[float, float]:
    """:func:`_products` of whole tensors, in parts that need no copies in float64."""
    rows = [flat(array) for array in arrays]
    parts = row_parts(rows[0].size, 1)
    found = in_order(lambda part: _products(*(row[part] for row in rows)), parts)
    product, square = (sum(column) for column in zip(*found, strict=True))
    return product, square


@compiled
def _products(right: Array, undisturbed: Array, changed: Array) -> tuple[float, float]:
    """The sums of ``change * (right - undisturbed)`` and of ``change ** 2``."""
    product, square = 0.0, 0.0
    for i in range(len(right)):
        base = np.float64(undisturbed[i])
        change = np.float64(changed[i]) - base
        product += change * (np.float64(right[i]) - base)
        square += change * change
    return product, square


def _collect(pairing: Pairing, nodes: Sequence[str], seen: Collection[str]) -> OwnDifferences:
    """The differences of some nodes and the reference's outputs, by a pass of their own."""
    found = OwnDifferences()

    def look(met: Meeting) -> None:
        assert met.reference is not None, "every node of the candidate has its partner"
        if met.name in pairing.outputs:
            found.outputs[met.name] = np.array(met.reference)
        output = met.output
        if met.name in nodes and output is not None:
            found.arrays[met.name] = met.reference - output

    IsolatedWalk(pairing, look, seen).run()
    return found
