"""The model drawn as it is built, every part coloured by the worst verdict within it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

from efficientdet_spec import EfficientDetConfig, NodeSpec, Part
from efficientdet_spec import Node as Place
from parity.judge.verdict import Verdict
from parity.results.ranking import severity
from parity.results.records.nodes import Node, NodesResult
from parity.results.signs import css_of
from reports.reading.bands import config_of, places_of

_WIDTH = 1100
_LEFT = 96
_BOX = (34, 22)
_GAP = 5
_ROW = 44
_LABEL_GAP = 14
"""Between rows of boxes, so that a label stands between them."""

_STEM = 46
"""Width of the stem's box, which has a word in it and perhaps a cross."""

_LETTER = 7.0
"""Width of a letter of a label in pixels, at most on average."""

_EXTRA = "extra"
_OTHER = "other"
_NONE = -1
"""The index of a stem among blocks, and of a prediction among repeats."""

_Key = tuple[Any, ...]
"""What a box is: the part with two numbers in it; an extra level; or all the other nodes."""


@dataclass(frozen=True)
class _Part:
    """What one box stands for.

    Attributes:
        title: What it is.
        node: The node with the worst verdict.
        verdict: That verdict.
        count: Number of nodes.
    """

    title: str
    node: str
    verdict: Verdict
    count: int


@dataclass(frozen=True)
class _Box:
    """A part and where it is drawn, in pixels."""

    part: _Part
    x: float
    y: float
    text: str
    width: float = _BOX[0]

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + _BOX[1] / 2


def drawing(nodes: NodesResult) -> str:
    """One inline SVG of a comparison's model.

    Args:
        nodes: The result, schema ``efficientdet-parity/nodes``.

    Returns:
        SVG without any colour of its own: classes ``v-exact`` and the like say which. Each box
        links to its worst node's panel.
    """
    parts = _parts(nodes)
    # Of a model that is not known all nodes are in one box.
    config = config_of(nodes)
    pieces: list[str] = []
    boxes, y = _backbone(parts, pieces)
    fpn, y = _fpn(parts, config, y + 26, pieces)
    heads, y = _heads(parts, y + 26, pieces)
    everything = [*boxes, *fpn, *heads]
    pieces += [_box(box) for box in everything]
    pieces += _labels(everything)
    title = f"{nodes.model} as it is built, coloured by verdict"
    return (
        f'<svg class="structure" viewBox="0 0 {_WIDTH} {y + 10:g}" role="group" '
        f'aria-label="{escape(title)}"><defs><marker id="arrow" viewBox="0 0 8 8" refX="7" '
        f'refY="4" markerWidth="6" markerHeight="6" orient="auto"><path class="arrow-head" '
        f'd="M0 0L8 4L0 8z"/></marker></defs>{"".join(pieces)}</svg>'
    )


def _parts(nodes: NodesResult) -> dict[_Key, _Part]:
    places = places_of(nodes)
    groups: dict[_Key, list[Node]] = {}
    for node in nodes.nodes:
        groups.setdefault(_key(places.get(node.name)), []).append(node)
    result = {}
    for key, members in groups.items():
        worst = max(members, key=lambda node: severity(node.verdict))
        result[key] = _Part(_title(key), worst.name, worst.verdict, len(members))
    return result


def _key(node: Place | None) -> _Key:
    """The box that a node is drawn in."""
    if node is None:
        return (_OTHER,)
    if node.part is Part.BACKBONE:
        return node.part, node.level, _NONE if node.block is None else node.block
    if node.part is not Part.BIFPN:
        return node.part, node.level, _NONE if node.repeat is None else node.repeat
    if node.cell is None or node.index is None:
        return _EXTRA, node.level
    return node.part, node.cell, node.index


def _title(key: _Key) -> str:
    kind, *rest = key
    if kind is Part.BACKBONE:
        return "stem" if rest[1] == _NONE else f"block {rest[1]}"
    if kind is Part.BIFPN:
        return f"BiFPN cell {rest[0] + 1}, node {rest[1]}"
    if kind == _EXTRA:
        return f"input P{rest[0]}"
    if isinstance(kind, Part):
        what = "prediction" if rest[1] == _NONE else f"repeat {rest[1] + 1}"
        return f"{kind.value}, P{rest[0]}, {what}"
    return "other nodes"


def _heading(text: str, y: float) -> str:
    return f'<text class="heading" x="0" y="{y:g}">{escape(text)}</text>'


def _row_label(text: str, y: float, x: float = _LEFT - 14) -> str:
    return f'<text class="row" x="{x:g}" y="{y + 15:g}" text-anchor="end">{escape(text)}</text>'


def _backbone(parts: Mapping[_Key, _Part], pieces: list[str]) -> tuple[list[_Box], float]:
    pieces.append(_heading("Backbone: blocks by level", 14))
    boxes = []
    y = 38.0
    keys = sorted(key for key in parts if key[0] is Part.BACKBONE)
    for level in sorted({key[1] for key in keys}):
        pieces.append(_row_label(f"P{level} 1/{2**level}", y))
        x = float(_LEFT)
        for key in [key for key in keys if key[1] == level]:
            if x + _BOX[0] > _WIDTH:
                x, y = float(_LEFT), y + _BOX[1] + _LABEL_GAP
            stem = key[2] == _NONE
            width = _STEM if stem else _BOX[0]
            boxes.append(_Box(parts[key], x, y, "stem" if stem else str(key[2]), width))
            x += width + _GAP
        y += _BOX[1] + _LABEL_GAP
    other = parts.get((_OTHER,))
    if other:
        boxes.append(_Box(other, float(_LEFT), y, "other", 60))
        y += _BOX[1] + _LABEL_GAP
    return boxes, y


def _fpn(
    parts: Mapping[_Key, _Part],
    config: EfficientDetConfig | None,
    y: float,
    pieces: list[str],
) -> tuple[list[_Box], float]:
    cells = sorted({key[1] for key in parts if key[0] is Part.BIFPN})
    if not cells or config is None:
        return [], y
    levels = list(config.levels)
    pieces.append(_heading("BiFPN: cells from left to right, levels as rows", y + 4))
    top = y + 24
    height = {level: top + _ROW * (levels[-1] - level) for level in levels}
    for level, row in height.items():
        pieces.append(_row_label(f"P{level}", row))
    passes = _passes(config.cell_nodes(cells[0]))
    columns = max(passes) + 1
    step = min((_WIDTH - _LEFT - 70) / len(cells), _COLUMN * columns)
    boxes = []
    before: dict[int, tuple[float, float]] = {}
    for level in levels:
        extra = parts.get((_EXTRA, level))
        if extra:
            box = _Box(extra, float(_LEFT), height[level], "in")
            boxes.append(box)
            before[level] = box.middle
        else:
            before[level] = (_LEFT + _BOX[0] / 2, height[level] + _BOX[1] / 2)
            x, middle = before[level]
            pieces.append(f'<circle class="source" cx="{x:g}" cy="{middle:g}" r="4"/>')
    for place, cell in enumerate(cells):
        left = _LEFT + 70 + place * step
        features = [before[level] for level in levels]
        last = dict(before)
        for spec in config.cell_nodes(cell):
            part = parts.get((Part.BIFPN, cell, spec.index))
            start = left + step * passes[spec.index] / columns
            end = (start + _BOX[0] / 2, height[spec.level] + _BOX[1] / 2)
            if part:
                boxes.append(_Box(part, start, height[spec.level], str(spec.index)))
            pieces += [_arrow(features[item.source], end) for item in spec.inputs]
            features.append(end)
            last[spec.level] = end
        before = last
    return boxes, height[levels[0]] + _BOX[1] + 8


_COLUMN = 85
"""Width of a column of nodes, at most."""


def _passes(nodes: Sequence[NodeSpec]) -> list[int]:
    """For each node of a cell its pass over the levels, in which no level comes twice."""
    found: list[int] = []
    held: set[int] = set()
    for node in nodes:
        if node.level in held:
            held.clear()
            found.append(found[-1] + 1)
        else:
            found.append(found[-1] if found else 0)
        held.add(node.level)
    return found


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    reach = _BOX[0] / 2 + 2
    if abs(x2 - x1) < 1:
        rise = _BOX[1] / 2 + 2
        sign = 1 if y2 > y1 else -1
        path = f"M{x1:g} {y1 + sign * rise:g}L{x2:g} {y2 - sign * rise:g}"
    else:
        a, b = x1 + reach, x2 - reach
        bend = max((b - a) / 2, 4)
        path = f"M{a:g} {y1:g}C{a + bend:g} {y1:g} {b - bend:g} {y2:g} {b:g} {y2:g}"
    return f'<path class="arrow" marker-end="url(#arrow)" d="{path}"/>'


def _heads(parts: Mapping[_Key, _Part], y: float, pieces: list[str]) -> tuple[list[_Box], float]:
    boxes = []
    bottom = y
    for place, head in enumerate((Part.CLASS_HEAD, Part.BOX_HEAD)):
        keys = sorted(key for key in parts if key[0] is head)
        if not keys:
            continue
        left = _LEFT + place * (_WIDTH - _LEFT) / 2
        title = f"{head.value.capitalize()}: repeats, then the prediction"
        pieces.append(
            f'<text class="heading" x="{left - _LEFT:g}" y="{y + 4:g}">{escape(title)}</text>'
        )
        row = y + 24
        for level in sorted({key[1] for key in keys}, reverse=True):
            pieces.append(_row_label(f"P{level}", row, left - 14))
            repeats = sorted(key[2] for key in keys if key[1] == level and key[2] != _NONE)
            for column, repeat in enumerate([*repeats, _NONE]):
                part = parts.get((head, level, repeat))
                if part:
                    text = "out" if repeat == _NONE else str(repeat + 1)
                    boxes.append(_Box(part, left + column * (_BOX[0] + _GAP), row, text))
            row += _BOX[1] + _LABEL_GAP
        bottom = max(bottom, row)
    return boxes, bottom


def _box(box: _Box) -> str:
    part = box.part
    failing = not part.verdict.passes
    said = f"{part.title}: {part.verdict.value}; {part.count} nodes, the worst {part.node}"
    x, y = box.middle
    text = f"✕ {box.text}" if failing else box.text
    return (
        f'<a href="#node={escape(quote(part.node, safe=""))}" class="part v-{css_of(part.verdict)}'
        f'{" failing" if failing else ""}">'
        f"<title>{escape(said)}</title>"
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{_BOX[1]}" rx="3"/>'
        f'<text x="{x:g}" y="{y + 4:g}" text-anchor="middle">{escape(text)}</text></a>'
    )


def _labels(boxes: Sequence[_Box]) -> Iterator[str]:
    """The names of failing parts' nodes, as far as they do not overlap; all parts bear a cross."""
    taken: list[tuple[float, float, float]] = []
    for box in boxes:
        if box.part.verdict.passes:
            continue
        late = box.x > _WIDTH / 2
        x = box.x + box.width if late else box.x
        anchor = "end" if late else "start"
        wide = _LETTER * len(box.part.node)
        left = x - wide if late else x
        if any(y == box.y and left < end and start < left + wide for start, end, y in taken):
            continue
        taken.append((left, left + wide, box.y))
        yield (
            f'<text class="label" x="{x:g}" y="{box.y - 3:g}" text-anchor="{anchor}">'
            f"{escape(box.part.node)}</text>"
        )
