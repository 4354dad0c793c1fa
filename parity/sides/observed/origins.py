"""What makes each node of a candidate, for a file that can be read as names again."""

from __future__ import annotations

import math

from parity.sides.observed.layouts import USUAL
from parity.sides.observed.named import Named
from parity.sides.observed.pairs import How, Partner, Partners
from parity.sides.observed.record import Record
from parity.sides.observed.words import steps_of
from parity.sides.side import Origin

_FOUND = {
    How.PARAMETERS: "parameters",
    How.DATAFLOW: "place",
    How.READERS: "place",
    How.CHANGED: "place",
    How.ORDER: "place",
    How.NAMES: "name",
}


def origins(record: Record, partners: Partners, named: Named) -> dict[str, Origin]:
    """What makes each node that has a partner.

    Args:
        record: What the candidate did.
        partners: Which of its values are which nodes.
        named: What became of the names that were given.
    """
    paths = {**_own_paths(record, partners), **named.paths}
    return {
        node: Origin(
            path=paths.get(node),
            found=_found_by(partner),
            sure=partner.sure,
            operations=steps_of(record, partners, node),
            distance=partner.distance if math.isfinite(partner.distance) else None,
            layout=_letters(partner),
            shape=record.values[partner.value].shape,
        )
        for node, partner in partners.found.items()
    }


def _own_paths(record: Record, partners: Partners) -> dict[str, str]:
    """By node the submodule that makes it by itself: it returns it, and makes no other node."""
    node_of = {partner.value: node for node, partner in partners.found.items()}
    found: dict[str, str] = {}
    # The innermost module comes first.
    for call in record.calls:
        inside = {node_of[number] for number in range(call.begin, call.end) if number in node_of}
        if len(inside) != 1:
            continue
        (node,) = inside
        value = partners.found[node].value
        returned = (output for output in call.outputs if output is not None)
        if any(value in record.arranged_from(output) for output in returned):
            found.setdefault(node, call.path)
    # The candidate itself has no path.
    return {node: path for node, path in found.items() if path}


def _found_by(partner: Partner) -> str:
    usual = partner.layout is None or partner.layout.order == USUAL
    return _FOUND.get(partner.how) or ("values" if usual else "values in another layout")


def _letters(partner: Partner) -> str | None:
    layout = partner.layout
    return None if layout is None else "".join("NHWC"[axis] for axis in layout.order)
