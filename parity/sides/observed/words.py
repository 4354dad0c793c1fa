"""The operations of a span in words."""

from __future__ import annotations

from parity.sides.observed.pairs import Partners
from parity.sides.observed.record import Operation, Record

_MOST = 4
"""Operations that are named; of more the first and the last ones."""


def span_in_words(record: Record, partners: Partners, node: str) -> str:
    """Which operations make a node, and where in the code they stand.

    Args:
        record: What the candidate did.
        partners: Which of its values are which nodes.
        node: A node with a partner.
    """
    others = {item.value for name, item in partners.found.items() if name != node}
    found: dict[int, Operation] = {}
    waiting = [partners.found[node].value]
    seen = set(waiting)
    while waiting:
        value = record.values[waiting.pop()]
        if value.operation is not None:
            found[value.operation.number] = value.operation
        new = [parent for parent in value.parents if parent not in seen and parent not in others]
        seen.update(new)
        waiting += new
    steps = [_step(found[number]) for number in sorted(found)]
    if len(steps) > _MOST:
        half = _MOST // 2
        steps = [*steps[:half], f"{len(steps) - _MOST} more", *steps[-half:]]
    return ", ".join(steps)


def _step(operation: Operation) -> str:
    place = operation.place or operation.module
    return f"{operation.name} at {place}" if place else operation.name
