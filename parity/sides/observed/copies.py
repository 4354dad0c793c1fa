"""Values that a candidate computes more than once: each further one is the same node again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity.sides.observed.pairs import Partner
from parity.sides.observed.record import Made, Record


def copies(record: Record, found: Mapping[str, Partner]) -> dict[str, tuple[int, ...]]:
    """By node the values that are computed anew and are the same as its partner bit for bit.

    A model whose two heads each compute the features has every node of the features twice.

    Args:
        record: A run in which nothing was put in the place of anything.
        found: Partners.
    """
    by_name: dict[tuple[str, tuple[int, ...]], list[Made]] = {}
    for value in record.values:
        if value.operation is not None and not value.moved:
            by_name.setdefault((value.operation.name, value.shape), []).append(value)
    taken = {partner.value for partner in found.values()}
    result = {}
    for node, partner in found.items():
        first = record.values[partner.value]
        if first.operation is None or partner.layout is None:
            continue
        wanted = first.samples.get(partner.layout)
        if wanted is None or not wanted.any():
            continue
        same = tuple(
            value.number
            for value in by_name.get((first.operation.name, first.shape), ())
            if value.number > first.number
            and value.number not in taken
            and first.number not in value.parents
            and np.array_equal(value.samples.get(partner.layout, ()), wanted)
        )
        if same:
            result[node] = same
    return result
