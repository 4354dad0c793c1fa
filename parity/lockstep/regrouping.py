"""Nodes that a candidate makes in other steps than the model does, with one and the same result.

Who weighs maps before they are resized, and adds them up afterwards, has other values at each of
these nodes and the same behind them. Such nodes are no fault: taken together they are right. So
where nodes differ, they are looked at once more as parts of the spans that end behind them. What is
right at those ends, on tensors that have not been replaced in between, is right as a whole.

That could hide a fault which does not reach the end of its span. Nodes are therefore taken together
only where each value of theirs counts at the end, which it does not behind a maximum or a mean, and
where the differences are far above what could go unseen there. What is too small for that is taken
together where the same kinds of nodes are so elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from efficientdet_spec import NodeKind
from parity.judge.limits import SIDE_LIMIT
from parity.judge.verdict import NodeResult, Verdict
from parity.lockstep.pairing import Pairing

_HIDING = (NodeKind.POOL, NodeKind.MEAN)
"""Kinds of nodes behind which not each value counts."""

_WRONG = (Verdict.FUNCTION_DIFFERS, Verdict.OWN_INPUTS, Verdict.NOT_COVERED)
"""Verdicts on a node that is not what was taken for it, and on those behind it."""

_MARGIN = 2 * SIDE_LIMIT
"""How often a difference is to be what could go unseen at the end of a span: twice the roundings
that one operation may be off."""


def regrouped(
    pairing: Pairing,
    results: Sequence[NodeResult],
    again: Callable[[], Sequence[NodeResult]],
) -> bool:
    """Take nodes that differ together where the whole of them is right.

    Args:
        pairing: What was compared; its candidate is seen operation by operation.
        results: What was found of each node by itself.
        again: Judges all nodes once more.

    Returns:
        Whether that has been done; what was judged last is what counts then.
    """
    differing = {
        node.name: node
        for node in results
        if node.verdict in _WRONG and node.shape and not node.returned and not node.silent
    }
    if not any(node.verdict.fails for node in differing.values()):
        return False
    undo = pairing.candidate.regroup(differing)
    tried = {node.name: node for node in again()}
    undo()
    accepted = _accepted(pairing, differing, tried)
    if not accepted:
        return False
    undo = pairing.candidate.regroup(accepted)
    found = again()
    failing = {node.name for node in found if node.verdict.fails}
    before = {node.name for node in results if node.verdict.fails}
    if failing - before or failing & accepted:
        # What seemed right depended on other nodes that were taken together.
        undo()
        return False
    return True


def _accepted(
    pairing: Pairing, differing: dict[str, NodeResult], tried: dict[str, NodeResult]
) -> set[str]:
    """The nodes that are right together with what ends their spans."""
    kinds = pairing.kinds
    right = {name for name in differing if tried[name].verdict.passes and tried[name].within}
    shown = {name for name in right if _counts(pairing, name, tried)}
    telling = {name for name in shown if _is_far_off(differing[name], tried)}
    alike = {(kinds[name], kinds[tried[name].within]) for name in telling}
    likewise = {name for name in shown if (kinds[name], kinds[tried[name].within]) in alike}
    found = telling | likewise
    # Nobody can say what should be where a weight of zero takes it out; that accuses nobody.
    return found | {name for name in differing if _is_closed(pairing, name)} if found else set()


def _is_closed(pairing: Pairing, node: str) -> bool:
    """Whether something reads a node, and whatever does takes it out."""
    referee = pairing.referee
    counted = [
        referee.operation(reader).depends_on(number)
        for reader, read in referee.wiring.items()
        for number, source in enumerate(read)
        if source == node
    ]
    # What nothing reads is an output, which counts.
    return bool(counted) and not any(counted)


def _counts(pairing: Pairing, node: str, tried: dict[str, NodeResult]) -> bool:
    """Whether each value of a node counts wherever its span ends."""
    readers: dict[str, list[str]] = {}
    for name, read in pairing.referee.wiring.items():
        for source in read:
            readers.setdefault(source, []).append(name)
    waiting, seen = [node], {node}
    while waiting:
        for reader in readers.get(waiting.pop(), ()):
            if pairing.kinds[reader] in _HIDING:
                return False
            if reader not in seen and not tried[reader].shape:
                seen.add(reader)
                waiting.append(reader)
    return True


def _is_far_off(node: NodeResult, tried: dict[str, NodeResult]) -> bool:
    end = tried[tried[node.name].within]
    if node.own is None:
        # It is of another shape, or behind one that is.
        return True
    if end.detectable is None:
        return False
    return node.own.relative_rms > _MARGIN * end.detectable
