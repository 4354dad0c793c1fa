"""Which layers of a candidate are the backbone's, the BiFPN's and the heads', by structure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from efficientdet_spec import EfficientDetConfig, Node, NodeKind, Part, iterate_nodes
from parity.diagnosis.structures.flow import Flow, Kind, Layer

_KERNELS = (NodeKind.CONV, NodeKind.DEPTHWISE)

_STEPS = (Kind.CONV, Kind.NORM, Kind.ACTIVATION)
"""Layers that follow each other in a row."""

_KNOWN = 0.8
"""Share of the backbone's convolutions that a candidate must have for its parts to be told apart:
with fewer it is another network."""


@dataclass(frozen=True)
class Chain:
    """Layers that follow each other, each read by the next alone.

    Attributes:
        source: What the first of them reads.
        layers: In order.
        end: The layers that read the last.
    """

    source: Layer
    layers: tuple[Layer, ...]
    end: tuple[Layer, ...]


@dataclass(frozen=True)
class Tap:
    """A convolution outside of the backbone that reads from inside it.

    Attributes:
        layer: The convolution.
        block: The backbone's block that the tensor comes from; None for the stem.
        whole: Whether it is what the block makes, and nothing from inside it.
    """

    layer: Layer
    block: int | None
    whole: bool


class Network:
    """A candidate's layers in their parts.

    Args:
        flow: The layers.
        config: The model that it should be.
        weights: By node that is a convolution the shape of its weight.
    """

    def __init__(
        self, flow: Flow, config: EfficientDetConfig, weights: Mapping[str, Sequence[int]]
    ) -> None:
        self.flow = flow
        self.config = config
        self.nodes = list(iterate_nodes(config))
        due = [node for node in self.nodes if node.part is Part.BACKBONE and node.kind in _KERNELS]
        wanted = [tuple(weights[node.name]) for node in due]
        every = flow.of_kind(Kind.CONV)
        # A filter that is made on the way, such as one that smooths, is no layer of the backbone.
        for kernels in ([layer for layer in every if _holds_its_weight(layer)], every):
            pairs = _aligned(wanted, [layer.weight for layer in kernels])
            self.backbone: dict[int, Node] = {kernels[j].number: due[i] for i, j in pairs}
            # A candidate may have squeeze-excites where the model has none, or none where it has.
            own = [node for node in due if not in_squeeze_excite(node)]
            found = sum(not in_squeeze_excite(node) for node in self.backbone.values())
            self.known = found >= _KNOWN * len(own)
            if self.known:
                break

    @cached_property
    def _behind(self) -> dict[int, tuple[int, bool]]:
        """By layer the last convolution of the backbone before it, or -1, and whether another."""
        found: dict[int, tuple[int, bool]] = {}
        for layer in self.flow.layers.values():
            before = [found.get(number, (-1, False)) for number in layer.inputs]
            last = max((item[0] for item in before), default=-1)
            others = any(item[1] for item in before)
            if layer.number in self.backbone:
                last = layer.number
            elif layer.kind is Kind.CONV and layer.number in self._outside:
                others = True
            found[layer.number] = last, others
        return found

    @cached_property
    def _outside(self) -> set[int]:
        """The layers that no convolution of the backbone is made from."""
        ahead: set[int] = set()
        for layer in reversed(self.flow.layers.values()):
            if layer.number in self.backbone or layer.number in ahead:
                ahead.update(layer.inputs)
        return {n for n in self.flow.layers if n not in ahead and n not in self.backbone}

    @property
    def inside(self) -> list[Layer]:
        """The layers that a convolution of the backbone is made from."""
        return [layer for n, layer in self.flow.layers.items() if n not in self._outside]

    @cached_property
    def outside(self) -> list[Layer]:
        """The layers behind the backbone that have parameters, or that follow such ones."""
        return [
            layer
            for layer in self.flow.layers.values()
            if layer.number in self._outside and self._behind[layer.number][1]
        ]

    @cached_property
    def taps(self) -> list[Tap]:
        """The convolutions that read the backbone's features, in order."""
        found = []
        for layer in self.flow.of_kind(Kind.CONV):
            before = [self._behind.get(number, (-1, False)) for number in layer.inputs]
            if layer.number not in self._outside or any(others for _, others in before):
                continue
            last = max((number for number, _ in before), default=-1)
            node = self.backbone.get(last)
            if node is not None:
                whole = node.name.endswith("project_conv")
                found.append(Tap(layer, node.block, whole))
        return found

    @cached_property
    def residuals(self) -> frozenset[int]:
        """Sums outside of the backbone of a map and what a row of layers makes of it."""
        return frozenset(
            layer.number
            for layer in self.outside
            if layer.kind is Kind.SUM
            and len(layer.inputs) == 2
            and any(
                other in self._row_before(one) for one, other in (layer.inputs, layer.inputs[::-1])
            )
        )

    def _row_before(self, number: int) -> list[int]:
        """What the layers before one make, as far as each reads one alone: a residual's branch."""
        found: list[int] = []
        layer = self.flow.layers.get(number)
        while layer is not None and layer.kind in _STEPS and len(layer.inputs) == 1:
            found += layer.inputs
            layer = self.flow.layers.get(layer.inputs[0])
        return found

    @cached_property
    def fusions(self) -> dict[int, tuple[Layer, ...]]:
        """Sums of maps outside of the backbone, by the last of their layers: all of these."""
        # What is added up behind the heads is no map.
        sums = [
            layer
            for layer in self.outside
            if layer.kind is Kind.SUM
            and len(layer.shape) == 4
            and layer.number not in self.residuals
        ]
        inner = {
            layer.number
            for layer in sums
            if [reader.kind for reader in self.flow.read_by(layer)] == [Kind.SUM]
        }
        found: dict[int, tuple[Layer, ...]] = {}
        for layer in sums:
            if layer.number not in inner:
                parts = [layer]
                for part in parts:
                    parts += [self.flow.layers[n] for n in part.inputs if n in inner]
                found[layer.number] = tuple(parts)
        return found

    def reads(self, fusion: int) -> list[int]:
        """The layers whose outputs a fusion adds up."""
        parts = self.fusions[fusion]
        own = {part.number for part in parts}
        return [n for part in reversed(parts) for n in part.inputs if n not in own]

    @cached_property
    def in_fusion(self) -> dict[int, int]:
        """By layer of a fusion the last one."""
        return {part.number: last for last, parts in self.fusions.items() for part in parts}

    def chain(self, source: Layer, *first: Layer) -> Chain:
        """What follows upon a layer, or upon one of those that read it, up to a fork.

        A residual's sum is one of the layers, and what it reads before its branch no fork.
        """
        layers = list(first)
        following = self.flow.read_by(layers[-1] if layers else source)
        while True:
            branch = [item for item in following if item.number not in self.residuals]
            following = tuple(branch) if branch else following
            if len(following) != 1:
                break
            (layer,) = following
            if layer.kind not in _STEPS and layer.number not in self.residuals:
                break
            layers.append(layer)
            following = self.flow.read_by(layer)
        return Chain(source, tuple(layers), following)

    @cached_property
    def behind_fusions(self) -> list[Chain]:
        """What follows upon each fusion, up to where it is read more than once."""
        chains = [self.chain(self.flow.layers[number]) for number in self.fusions]
        return [chain for chain in chains if chain.layers]

    @cached_property
    def heads(self) -> list[Chain]:
        """The layers from where the two heads part, for each head and level."""
        feeds = {n for fusion in self.fusions for n in self.reads(fusion)}
        ahead = self._before(feeds)
        found = []
        for layer in self.flow.layers.values():
            readers = [
                item
                for item in self.flow.read_by(layer)
                if item.kind is Kind.CONV
                and item.number in self._outside
                and item.number not in ahead
            ]
            if len(readers) < 2 or not self._behind[layer.number][1]:
                continue
            for reader in readers:
                chain = self.chain(layer, reader)
                last = max(i for i, item in enumerate(chain.layers) if item.kind is Kind.CONV)
                end = self.flow.read_by(chain.layers[last])
                found.append(Chain(layer, chain.layers[: last + 1], end))
        return found

    def _before(self, numbers: set[int]) -> set[int]:
        """Some layers and all that they are made from."""
        found = set(numbers)
        for layer in reversed(self.flow.layers.values()):
            if layer.number in found:
                found.update(layer.inputs)
        return found


def in_squeeze_excite(node: Node) -> bool:
    """Whether a node of the backbone lies in a squeeze-excite."""
    return ".se." in node.name


def _holds_its_weight(layer: Layer) -> bool:
    """Whether a convolution's weight is one that the candidate holds, or made of such a one."""
    return any(count == math.prod(layer.weight) for count, _, _ in layer.held)


def _aligned(
    due: Sequence[tuple[int, ...]], there: Sequence[tuple[int, ...]]
) -> list[tuple[int, int]]:
    """The longest common part of two sequences, as pairs of places in both."""
    rows, columns = len(due), len(there)
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            same = due[i] == there[j]
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + same)
    pairs, i, j = [], 0, 0
    while i < rows and j < columns:
        if due[i] == there[j] and best[i][j] == best[i + 1][j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs
