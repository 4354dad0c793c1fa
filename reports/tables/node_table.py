"""All nodes of a comparison in few bytes, as columns for the page's script."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientdet_spec import EMA_SUFFIX
from parity.results.records.conversion import ConversionResult
from parity.results.records.nodes import DifferenceResult, InputResult, Node, NodesResult
from reports.reading.bands import bands
from reports.words.texts import shape as shape_text

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_HOLE = "\x01"
"""Stands in a text where one of its numbers belongs."""


@dataclass(frozen=True)
class Figure:
    """A figure of each node.

    Attributes:
        key: Its name in the page's data.
        label: What it is called.
        unit: Its unit; may be empty.
        explanation: What it says.
        path: Where it is in a node.
    """

    key: str
    label: str
    unit: str
    explanation: str
    path: tuple[str, ...]

    def of(self, node: Node) -> float | None:
        """The figure of one node; None where it has none."""
        value: Any = node
        for name in self.path:
            value = getattr(value, name) if value is not None else None
        found: float | None = value
        return found


FIGURES = (
    Figure(
        "torch",
        "PyTorch from the exact value",
        "roundings",
        "largest distance of PyTorch's result from the exact value on identical inputs",
        ("from_exact", "roundings"),
    ),
    Figure(
        "torch_limit",
        "limit of PyTorch",
        "roundings",
        "as many as its own arithmetic may take",
        ("limit", "candidate"),
    ),
    Figure(
        "torch_relative",
        "the same, relative",
        "of rms",
        "largest distance of PyTorch's result from the exact value",
        ("from_exact", "relative_max"),
    ),
    Figure(
        "tf",
        "TensorFlow from the exact value",
        "roundings",
        "largest distance of TensorFlow's result from the exact value",
        ("reference_from_exact", "roundings"),
    ),
    Figure(
        "tf_limit",
        "limit of TensorFlow",
        "roundings",
        "as many as its own arithmetic may take",
        ("limit", "reference"),
    ),
    Figure(
        "tf_relative",
        "the same, relative",
        "of rms",
        "largest distance of TensorFlow's result from the exact value",
        ("reference_from_exact", "relative_max"),
    ),
    Figure(
        "functions_apart",
        "the two functions apart",
        "roundings",
        "distance of PyTorch's own layer from the faithful one, both in exact arithmetic; measured "
        "where PyTorch is not close to the exact value",
        ("functions_apart",),
    ),
    Figure(
        "own",
        "own difference",
        "of rms",
        "largest difference of PyTorch and TensorFlow that the node itself makes when both get "
        "TensorFlow's tensors",
        ("own", "relative_max"),
    ),
    Figure(
        "own_rms",
        "the same, root mean square",
        "of rms",
        "over all elements",
        ("own", "relative_rms"),
    ),
    Figure(
        "free",
        "accumulated difference",
        "of rms",
        "largest difference when both networks run on their own: what has accumulated up to here",
        ("free", "relative_max"),
    ),
    Figure(
        "free_rms",
        "the same, root mean square",
        "of rms",
        "over all elements",
        ("free", "relative_rms"),
    ),
    Figure(
        "free_absolute",
        "the same, absolute",
        "",
        "in the tensor's own unit",
        ("free", "max_difference"),
    ),
    Figure(
        "rms",
        "rms of the tensor",
        "",
        "root mean square of TensorFlow's tensor, the unit of the relative figures",
        ("free", "rms"),
    ),
    Figure(
        "inherited",
        "inherited part",
        "share",
        "part of the square of the accumulated difference that came with the inputs",
        ("inherited",),
    ),
    Figure(
        "amplification",
        "amplification",
        "factor",
        "what came with the inputs, relative to the largest relative difference among them",
        ("amplification",),
    ),
    Figure(
        "detectable",
        "detectable error",
        "of rms",
        "the largest error of one element that could go unseen",
        ("detectable",),
    ),
    Figure(
        "constant",
        "constant channels",
        "channels",
        "channels in which all values are equal",
        ("constant_channels",),
    ),
)
"""What the panel of a node shows, in this order."""


def node_table(
    nodes: NodesResult,
    conversion: ConversionResult | None,
    closeups: Mapping[str, str],
) -> dict[str, Any]:
    """All nodes as columns.

    Names are given as the number of characters shared with the one before and the rest; texts
    that occur often as an index; reasons as an index of a text with holes and its numbers.

    Args:
        nodes: The comparison.
        conversion: The conversion, for the parameters; None where there is none.
        closeups: By node the id of the part of the page with a closer look.

    Returns:
        JSON-able values; the script ``report.js`` reads them.
    """
    found = nodes.nodes
    place = {node.name: number for number, node in enumerate(found)}
    outputs = [place[name] for name in nodes.outputs if name in place]
    table: dict[str, Any] = {
        "name": front_coded(node.name for node in found),
        "tensor": front_coded(node.tensor or "" for node in found),
        "kind": _indexed(found, lambda node: node.kind.value if node.kind else "none"),
        "shape": _indexed(found, lambda node: shape_text(node.shape)),
        "verdict": _indexed(found, lambda node: str(node.verdict.value)),
        "stage": _indexed(_stages(nodes), str),
        "reason": _reasons(found, nodes.inputs),
        "at": [_place(node.free) for node in found],
        "figures": {item.key: [_figure(node, item) for node in found] for item in FIGURES},
        "fields": [
            {
                "key": item.key,
                "label": item.label,
                "unit": item.unit,
                "explanation": item.explanation,
            }
            for item in FIGURES
        ],
        "outputs": outputs,
        "wrong": {place[node.name]: node.wrong_inputs for node in found if node.wrong_inputs},
        "disturbed": [place[node.name] for node in found if not node.certain],
        "suspects": {
            place[name]: number
            for number, suspect in reversed(list(enumerate(nodes.suspects)))
            for name in suspect.nodes
            if name in place
        },
        "closeups": {place[name]: id_ for name, id_ in closeups.items() if name in place},
        "parameters": _parameters(conversion),
    }
    return table


def front_coded(names: Iterable[str]) -> list[int | str]:
    """Each name as the number of characters shared with the one before it, then the rest."""
    result: list[int | str] = []
    before = ""
    for name in names:
        shared = 0
        for one, other in zip(before, name, strict=False):
            if one != other:
                break
            shared += 1
        result += [shared, name[shared:]]
        before = name
    return result


def _indexed(values: Iterable[Any], text: Callable[[Any], str]) -> dict[str, list[Any]]:
    """Texts that occur often: each once, and the index of each value's."""
    texts: dict[str, int] = {}
    places = [texts.setdefault(text(value), len(texts)) for value in values]
    return {"texts": list(texts), "rows": places}


def _stages(nodes: NodesResult) -> list[str]:
    return [
        band.part if band.section == band.part else f"{band.part} {band.section}"
        for band in bands(nodes)
        for _ in range(band.first, band.last + 1)
    ]


def _reasons(nodes: Sequence[Node], inputs: Sequence[InputResult]) -> dict[str, list[Any]]:
    texts: dict[str, int] = {}
    rows = []
    for node in nodes:
        reason = node.reason.replace(_HOLE, " ")
        if len(inputs) > 1:
            source = inputs[node.input].source.replace(_HOLE, " ")
            reason = f"{reason} (the worst of {len(inputs)} inputs: {source})"
        text = texts.setdefault(_NUMBER.sub(_HOLE, reason), len(texts))
        rows.append(" ".join([str(text), *_NUMBER.findall(reason)]))
    return {"texts": list(texts), "rows": rows}


def _place(free: DifferenceResult | None) -> str:
    return ",".join(map(str, free.max_index)) if free and free.relative_max else ""


def _figure(node: Node, item: Figure) -> float | str | None:
    found = item.of(node)
    if found is None:
        return None
    if not math.isfinite(found):
        return str(found)
    # A limit is a count, and few differ.
    return compact(found, 6 if item.path[0] == "limit" else 3)


def compact(value: float, digits: int = 3) -> float | int:
    """So many significant digits, without a fraction where it is none."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e6 else rounded


def _parameters(conversion: ConversionResult | None) -> dict[str, Any] | None:
    if conversion is None:
        return None
    rows = [row for row in conversion.ledger.variables if row.parameter]
    rows.sort(key=lambda row: (row.parameter, row.variable))
    ema = [index for index, row in enumerate(rows) if row.variable.endswith(EMA_SUFFIX)]
    return {
        "name": front_coded(row.parameter for row in rows),
        "variable": front_coded(row.variable.removesuffix(EMA_SUFFIX) for row in rows),
        "shape": _indexed(rows, lambda row: shape_text(row.shape)),
        "layout": _indexed(rows, lambda row: row.layout),
        # Nearly all or none have it.
        "raw": [] if len(ema) == len(rows) else sorted(set(range(len(rows))) - set(ema)),
        "suffix": EMA_SUFFIX,
    }
