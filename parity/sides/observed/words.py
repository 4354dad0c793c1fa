"""The operations of a span in words."""

from __future__ import annotations

from parity.sides.observed.pairs import Partners
from parity.sides.observed.record import Operation, Record
from parity.sides.observed.settings import span_of

_MOST = 4
"""Operations that are named; of more the first and the last ones."""


def span_in_words(record: Record, partners: Partners, node: str) -> str:
    """Which operations make a node, and where in the code they stand; of many a few.

    Args:
        record: What the candidate did.
        partners: Which of its values are which nodes.
        node: A node with a partner.
    """
    steps = steps_of(record, partners, node)
    if len(steps) > _MOST:
        half = _MOST // 2
        steps = [*steps[:half], f"{len(steps) - _MOST} more", *steps[-half:]]
    return ", ".join(steps)


def steps_of(record: Record, partners: Partners, node: str) -> list[str]:
    """The operations that make a node, each with where in the code it stands.

    Args:
        record: What the candidate did.
        partners: Which of its values are which nodes.
        node: A node with a partner.
    """
    # An operation that makes several tensors is one step.
    found = {
        value.operation.number: value.operation
        for value in span_of(record, partners, node)
        if value.operation is not None
    }
    return [step_in_words(found[number]) for number in sorted(found)]


def step_in_words(operation: Operation) -> str:
    """An operation and the line that it stands at, such as ``convolution at port.py:17``."""
    place = operation.place or operation.module
    return f"{operation.name} at {place}" if place else operation.name
