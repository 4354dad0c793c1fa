"""What the backbone's blocks are made of: their activations and squeeze-excites."""

from __future__ import annotations

from collections.abc import Iterator

from efficientdet_spec import NodeKind, Part
from parity.diagnosis.structures.flow import Kind, Layer
from parity.diagnosis.structures.seen import Seen, by_text
from parity.results.records.nodes import Statement

_SQUEEZE_EXCITE = (NodeKind.MEAN, NodeKind.GATE, NodeKind.SCALE)


def activations(seen: Seen) -> Iterator[Statement]:
    """Activations that are others than the model's."""
    there = [layer for layer in _inside(seen) if layer.kind is Kind.ACTIVATION]
    others, alike = seen.other_activations(there)
    if others and seen.open((NodeKind.ACTIVATION,), Part.BACKBONE):
        names = by_text(layer.name for layer in others)
        text = (
            f"{len(others)} of {len(there)} activations of the backbone are {names} instead of "
            f"{seen.activation}{alike}"
        )
        yield seen.statement("activation-other", text, others)


def squeeze_excites(seen: Seen) -> Iterator[Statement]:
    """Blocks with a squeeze-excite where the model has none, or the reverse."""
    blocks = seen.config.backbone.blocks
    due = sum(block.has_squeeze_excite for block in blocks)
    inside = _inside(seen)
    by_kind = [
        [layer for layer in inside if layer.kind is kind]
        for kind in (Kind.PRODUCT, Kind.GATE, Kind.MEAN)
    ]
    counts = [len(layers) for layers in by_kind]
    # What is made by other operations than one would write for it counts by what is known of it.
    if min(counts) > due:
        number = min(counts)
        nodes = seen.open((NodeKind.CONV,), Part.BACKBONE)
        less = "none" if not due else f"{due} of them"
        text = (
            f"{number} of {len(blocks)} blocks of the backbone scale their channels by gates made "
            f"of their means (squeeze-excite); the model has {less}"
        )
        if nodes:
            yield seen.statement("squeeze-excite-extra", text, by_kind[0], nodes, other_layers=True)
    if max(counts) < due:
        nodes = seen.open(_SQUEEZE_EXCITE, Part.BACKBONE)
        missing = due - max(counts)
        text = (
            f"{missing} of {due} blocks of the backbone have no squeeze-excite: nothing scales "
            f"their channels by gates made of their means"
        )
        if nodes:
            yield seen.statement(
                "squeeze-excite-missing", text, by_kind[0], nodes, other_layers=True
            )


def _inside(seen: Seen) -> list[Layer]:
    """The layers up to the backbone's last convolution, without what reads its features."""
    last = max(seen.network.backbone, default=-1)
    return [layer for layer in seen.network.inside if layer.number < last]
