"""What becomes of the names that a user gives: they override what was found by looking on.

A name says that a node is what a submodule makes at one of its calls. Where several nodes have one
submodule, those that were found among what its calls make keep their calls, and the others get
those that are left, in the order of computation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from parity.sides.naming import Naming
from parity.sides.observed.layouts import Layout, layouts
from parity.sides.observed.pairs import How, Partner, Partners, Sought
from parity.sides.observed.record import Call, Record
from parity.sides.observed.words import step_in_words


@dataclass(frozen=True)
class Named:
    """What names make of the partners that were found without them.

    Attributes:
        pins: By node the partner that it has because of its name.
        paths: By node of these the submodule.
        overrides: Whether any of them is another than was found.
        notes: By node whose name is followed although something else was surely found, what.
        unmet: By node whose name cannot be followed, why.
    """

    pins: Mapping[str, Partner]
    paths: Mapping[str, str]
    overrides: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    unmet: Mapping[str, str] = field(default_factory=dict)


NOTHING_NAMED = Named({}, {})
"""No names were given."""


def apply_names(record: Record, sought: Sought, partners: Partners, naming: Naming) -> Named:
    """Find what the named submodules make.

    Args:
        record: What a candidate did.
        sought: The nodes.
        partners: What was found there without names.
        naming: The names; every path in it is one of the candidate's.
    """
    resolved = _Names(record, sought, partners)
    for path, nodes in naming.calls.items():
        resolved.take(path, nodes)
    return resolved.result()


class _Names:
    """Collects pins, one submodule after the other."""

    def __init__(self, record: Record, sought: Sought, partners: Partners) -> None:
        self._record = record
        self._sought = sought
        self._found = partners.found
        self._node_of = {partner.value: node for node, partner in partners.found.items()}
        self._calls: dict[str, list[Call]] = {}
        for call in record.calls:
            self._calls.setdefault(call.path, []).append(call)
        self._pins: dict[str, Partner] = {}
        self._paths: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._unmet: dict[str, str] = {}

    def take(self, path: str, nodes: Sequence[str]) -> None:
        """The nodes that are named for one submodule."""
        calls = self._calls.get(path, [])
        left = list(calls)
        waiting = []
        for node in nodes:
            call = next((call for call in left if self._agrees(call, node)), None)
            if call is None:
                waiting.append(node)
                continue
            left.remove(call)
            self._pin(node, path, replace(self._found[node], sure=True))
        for node in waiting:
            fitting = [call for call in left if self._fits(call, node)]
            if not left:
                self._unmet[node] = f"{path} is named for {_nodes(nodes)} and {_called(calls)}"
                continue
            call = (fitting or left)[0]
            left.remove(call)
            self._override(node, path, call)

    def _agrees(self, call: Call, node: str) -> bool:
        """Whether what was found to be a node is what a call returns, however arranged."""
        partner = self._found.get(node)
        return partner is not None and any(
            partner.value in self._record.arranged_from(output)
            for output in call.outputs
            if output is not None
        )

    def _fits(self, call: Call, node: str) -> bool:
        value = self._value(call, node)
        return value is not None and bool(self._layouts(value, node))

    def _value(self, call: Call, node: str) -> int | None:
        """Which of the values that a call returns is meant: the first that a node can be."""
        values = [output for output in call.outputs if output is not None]
        fitting = [value for value in values if self._layouts(value, node)]
        return next(iter(fitting or values), None)

    def _layouts(self, value: int, node: str) -> tuple[Layout, ...]:
        return layouts(self._record.values[value].shape, self._sought.shapes[node])

    def _override(self, node: str, path: str, call: Call) -> None:
        """Pin a node to what a call returns, other than what was found; or tell why not."""
        number = self._value(call, node)
        if number is None:
            self._unmet[node] = f"{path}, which is named for it, returns no tensor that it makes"
            return
        value = self._record.values[number]
        other = self._node_of.get(number)
        told = self._told_apart(node, path, call, other)
        possible = self._layouts(number, node)
        if told and not possible:
            self._unmet[node] = (
                f"{path}, which is named for it, makes a tensor of shape {list(value.shape)}, "
                f"expected is one that holds {list(self._sought.shapes[node])}"
            )
            return
        if told:
            self._notes[node] = told
        # Of several layouts it is the one in which the values are the nearest.
        layout = min(possible, key=lambda item: self._distance(number, node, item), default=None)
        distance = np.inf if layout is None else self._distance(number, node, layout)
        self._pin(node, path, Partner(number, layout, How.NAMES, distance))

    def _distance(self, value: int, node: str, layout: Layout) -> float:
        """Relative difference of rms of a value from a node; infinite where that is unknown."""
        taken = self._record.values[value].samples.get(layout)
        if taken is None:
            return float(np.inf)
        wanted = self._sought.samples[node]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            apart = float(np.sqrt(((wanted - taken) ** 2).mean() / (wanted**2).mean()))
        return apart if np.isfinite(apart) else float(np.inf)

    def _told_apart(self, node: str, path: str, call: Call, other: str | None) -> str:
        """What was surely found and speaks against a name; empty where nothing does."""
        followed = f"the name {path} is followed"
        partner = self._found.get(node)
        if partner is not None and _is_sure(partner):
            # A step of the submodule itself does not speak against it.
            if not call.begin <= partner.value < call.end:
                where, how = self._where(partner), partner.how.value
                return f"{followed}, though {where} was found to make it, by its {how}"
        elif other is not None and _is_sure(self._found[other]):
            how = self._found[other].how.value
            return f"{followed}, though what it makes was found to be {other}, by its {how}"
        return ""

    def _where(self, partner: Partner) -> str:
        operation = self._record.values[partner.value].operation
        if operation is None:
            return "what the candidate holds"
        inside = f" in {operation.module}" if operation.module else ""
        return f"{step_in_words(operation)}{inside}"

    def _pin(self, node: str, path: str, partner: Partner) -> None:
        self._pins[node], self._paths[node] = partner, path

    def result(self) -> Named:
        """What becomes of all names."""
        first: dict[int, str] = {}
        # What was found to be so decides which of two nodes with one tensor it is.
        for node in sorted(self._pins, key=lambda node: self._pins[node].how is How.NAMES):
            value = self._pins[node].value
            if value in first:
                self._unmet[node] = (
                    f"what {self._paths[node]} makes, which is named for it, is the very tensor "
                    f"that is {first[value]}"
                )
                del self._pins[node], self._paths[node]
                self._notes.pop(node, None)
            first.setdefault(value, node)
        overrides = any(
            node not in self._found or self._found[node].value != partner.value
            for node, partner in self._pins.items()
        )
        return Named(self._pins, self._paths, overrides, self._notes, self._unmet)


def names_in_words(named: Named, partners: Partners) -> list[str]:
    """What is to be known of names: which override, and which are not followed and why.

    Of nodes that were not found either, their results say it.

    Args:
        named: What became of the names.
        partners: What was found in the end.
    """
    groups: dict[str, list[str]] = {}
    for node, why in named.unmet.items():
        if node in partners.found:
            groups.setdefault(why, []).append(node)
    passed = [
        f"The name of {nodes[0]}{_more(nodes)} is not followed: {why}; it was found without."
        for why, nodes in groups.items()
    ]
    return [*(f"At {node} {told}." for node, told in named.notes.items()), *passed]


def _more(nodes: Sequence[str]) -> str:
    return f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""


def _is_sure(partner: Partner) -> bool:
    """Whether a partner was found by what it is, and not only by where it lies."""
    return partner.sure and partner.how in (How.VALUES, How.PARAMETERS)


def _nodes(nodes: Sequence[str]) -> str:
    return "it" if len(nodes) == 1 else f"{len(nodes)} nodes, one for each call,"


def _called(calls: Sequence[Call]) -> str:
    if not calls:
        return "is never called"
    return f"is called {len(calls)} time{'s' if len(calls) > 1 else ''}"
