"""What statements on a candidate's structure are made from, and the form that they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from efficientdet_spec import EfficientDetConfig, Node, NodeKind, Part
from parity.diagnosis.structures.flow import WORDS, Flow, Kind, Layer
from parity.diagnosis.structures.network import Network, in_squeeze_excite
from parity.judge.verdict import NodeResult, Verdict
from parity.results.records.nodes import Statement
from parity.sides.observed.pairs import Partners

_KINDS = {
    Kind.CONV: (NodeKind.CONV, NodeKind.DEPTHWISE),
    Kind.NORM: (NodeKind.BATCH_NORM,),
    Kind.ACTIVATION: (NodeKind.ACTIVATION,),
    Kind.POOL: (NodeKind.POOL,),
    Kind.UP: (NodeKind.UPSAMPLE,),
    Kind.SUM: (NodeKind.FUSE, NodeKind.ADD),
}

_PLACES = 8
"""Lines of code that a statement lists."""


@dataclass(frozen=True)
class Seen:
    """A candidate's layers beside the model's nodes.

    Attributes:
        flow: Its layers.
        network: The same in parts.
        config: The model.
        nodes: The model's nodes, in order.
        results: What was found about each.
        partners: Which of the candidate's values are which nodes.
        settings: By node those that the model has.
        norms: Of the candidate's modules that are batch norms the settings, by path.
    """

    flow: Flow
    network: Network
    config: EfficientDetConfig
    nodes: Sequence[Node]
    results: Mapping[str, NodeResult]
    partners: Partners
    settings: Callable[[str], Mapping[str, Any]]
    norms: Mapping[str, Any]

    def open(self, kinds: Iterable[NodeKind], *parts: Part) -> list[str]:
        """The nodes of some kinds, and of some parts of the network, that are not shown right."""
        wanted = frozenset(kinds)
        return [
            node.name
            for node in self.nodes
            if node.kind in wanted
            and (not parts or node.part in parts)
            and not self.results[node.name].verdict.passes
        ]

    @property
    def activation(self) -> str:
        """What the model's activation is called."""
        return WORDS[self.config.activation]

    @cached_property
    def folds(self) -> bool:
        """Whether batch norms may be folded: few of the backbone's convolutions have one behind."""
        kernels = [
            self.flow.layers[number]
            for number, node in self.network.backbone.items()
            if not in_squeeze_excite(node)
        ]
        normed = [
            layer
            for layer in kernels
            if any(reader.kind is Kind.NORM for reader in self.flow.read_by(layer))
        ]
        return 2 * len(normed) < len(kernels)

    def node(self, layer: Layer) -> str | None:
        """The node that a layer was found to make, if that is one of its kind."""
        for name, partner in self.partners.found.items():
            if self.flow.at(partner.value) == layer.number:
                kinds = _KINDS.get(layer.kind, ())
                if name in self.results and self.results[name].kind in kinds:
                    return name
        return None

    def is_right(self, layer: Layer) -> bool:
        """Whether a layer makes a node, and makes it as it should."""
        name = self.node(layer)
        return name is not None and self.results[name].verdict.passes

    def wrong(self, layers: Iterable[Layer]) -> list[Layer]:
        """Those of some layers that do not make a node as they should."""
        return [layer for layer in layers if not self.is_right(layer)]

    def other_activations(self, layers: Iterable[Layer]) -> tuple[list[Layer], str]:
        """Those of some activations that are others than the model's, none where all are right.

        Two may be the same on all values that are met, as relu and relu6 are up to 6. These count
        as others too, and the text says at how many of them the values do not show it.
        """
        others = [layer for layer in layers if layer.name != self.activation]
        alike = [layer for layer in others if self._agrees(layer)]
        if not self.wrong(others):
            return [], ""
        # What only cuts values off above may be the rest of such an activation.
        open_ended = [
            layer
            for layer in alike
            if any(reader.kind is Kind.OTHER for reader in self.flow.read_by(layer))
        ]
        others = [layer for layer in others if layer not in open_ended]
        count = len(alike) - len(open_ended)
        if not count:
            return others, ""
        limited = {layer.name for layer in others} | {self.activation} == {"relu", "relu6"}
        why = ", as none is above 6" if limited else ""
        return others, f"; at {count} of these no value tells the two apart{why}"

    def _agrees(self, layer: Layer) -> bool:
        """Whether the values of an activation are the model's, be it that they say little."""
        name = self.node(layer)
        if name is None:
            return False
        result = self.results[name]
        limited = all("relu" in words for words in (layer.name, self.activation))
        unsaid = result.verdict is Verdict.NOT_COVERED and result.shape is not None
        return result.verdict.passes or (limited and unsaid)

    def statement(
        self,
        slug: str,
        text: str,
        layers: Sequence[Layer],
        nodes: Iterable[str] = (),
        *,
        other_layers: bool = False,
    ) -> Statement:
        """A statement on some layers.

        Args:
            slug: Its short name.
            text: What is so, without where.
            layers: The layers that it is about, whose places are told.
            nodes: The nodes that it is about; those that the layers make where none are given.
            other_layers: Whether layers are missing, too many or of another sort, so that a layer
                may be taken for another node than it is meant to be.
        """
        places = list(dict.fromkeys(layer.place for layer in layers if layer.place))
        named = list(nodes) or [name for layer in layers if (name := self.node(layer))]
        where = f" ({_listed(places)})" if places else ""
        return Statement(
            slug=slug,
            text=f"{text}{where}",
            nodes=tuple(dict.fromkeys(named)),
            places=tuple(places[:_PLACES]),
            other_layers=other_layers,
        )


Statements = Callable[[Seen], Iterator[Statement]]
"""Says what is so of a candidate, if anything is."""


def share(count: int, total: int, what: str, plural: str = "") -> str:
    """``in 3 of 8 fusions``; ``in the only fusion``."""
    if total == 1:
        return f"in the only {what}"
    return f"in {count} of {total} {plural or what + 's'}"


def by_text(texts: Iterable[str]) -> str:
    """Texts with how often each is there: ``3 times relu, once relu6``."""
    counts = Counter(texts).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(
        f"{text} {count} times" if count > 1 else f"{text} once" for text, count in counts
    )


def _listed(places: Sequence[str]) -> str:
    """The first place, and how many more there are."""
    more = len(places) - 1
    if not more:
        return places[0]
    return f"{places[0]}, and {more} more place{'s' if more > 1 else ''}"


def listed(items: Sequence[object]) -> str:
    """``1, 2 and 3``."""
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def numbers(pair: Sequence[int]) -> str:
    """``3`` for 3 along both axes, ``3x2`` for others."""
    return str(pair[0]) if len(set(pair)) == 1 else "x".join(map(str, pair))
