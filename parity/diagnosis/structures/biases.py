"""Biases of convolutions that have none in the model."""

from __future__ import annotations

from collections.abc import Iterator

from efficientdet_spec import NodeKind
from parity.diagnosis.structures.flow import Kind, Layer
from parity.diagnosis.structures.network import in_squeeze_excite
from parity.diagnosis.structures.seen import Seen
from parity.results.records.nodes import Statement


def between(seen: Seen) -> Iterator[Statement]:
    """Biases between the depthwise and the pointwise step of separable convolutions."""
    steps = [layer for layer in seen.flow.of_kind(Kind.CONV) if _is_separable(seen, layer)]
    biased = seen.wrong(layer for layer in steps if layer.biased)
    if biased:
        text = (
            f"in {len(biased)} of {len(steps)} separable convolutions there is a bias between the "
            f"depthwise and the pointwise convolution; the model has one behind the pointwise alone"
        )
        yield seen.statement("bias-extra", text, biased)


def before_norms(seen: Seen) -> Iterator[Statement]:
    """Biases of the backbone's convolutions that a batch norm follows."""
    wrong = []
    for number, node in seen.network.backbone.items():
        layer = seen.flow.layers[number]
        follows = [item.kind for item in seen.flow.read_by(layer)]
        if layer.biased and not in_squeeze_excite(node) and follows == [Kind.NORM]:
            wrong.append(layer)
    wrong = seen.wrong(wrong)
    if wrong and seen.open((NodeKind.CONV, NodeKind.DEPTHWISE)):
        text = (
            f"{len(wrong)} convolutions of the backbone have a bias before their batch norm, and "
            f"the model has none there"
        )
        yield seen.statement("bias-extra", text, wrong)


def _is_separable(seen: Seen, layer: Layer) -> bool:
    readers = seen.flow.read_by(layer)
    return (
        layer.depthwise
        and layer.number not in seen.network.backbone
        and len(readers) == 1
        and readers[0].kind is Kind.CONV
        and readers[0].kernel == (1, 1)
    )
