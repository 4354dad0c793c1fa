"""Fusions: how their inputs are weighted, and what follows upon them."""

from __future__ import annotations

from collections.abc import Iterator

from efficientdet_spec import FUSION_EPSILON, Fusion, NodeKind, Part
from parity.diagnosis.structures.flow import Kind, Layer
from parity.diagnosis.structures.network import Chain
from parity.diagnosis.structures.seen import Seen, by_text, share
from parity.results.records.nodes import Statement

_KEPT = ("relu", "clamp", "clip", "threshold", "maximum", "softplus", "abs", "pow", "exp")


def _known(seen: Seen) -> bool:
    """Whether no more sums are taken for fusions than the model has: others are not known."""
    due = sum(node.kind is NodeKind.FUSE for node in seen.nodes)
    return len(seen.network.fusions) <= due


def count(seen: Seen) -> Iterator[Statement]:
    """How many there are."""
    due = [node for node in seen.nodes if node.kind is NodeKind.FUSE]
    there = len(seen.network.fusions)
    in_cell = len(due) // seen.config.fpn_cells
    if not there or there == len(due) or not seen.open((NodeKind.FUSE,)):
        return
    ups = [layer for layer in seen.network.outside if layer.kind is Kind.UP]
    if there % in_cell == 0 and not any(item.kind is Kind.OTHER for item in _readers(seen, ups)):
        text = (
            f"there are {there // in_cell} BiFPN cells of {in_cell} fusions; the model has "
            f"{seen.config.fpn_cells}"
        )
        last = seen.flow.layers[list(seen.network.fusions)[-1]]
        yield seen.statement(
            "cells-other", text, [last], seen.open((NodeKind.FUSE,))[-in_cell:], other_layers=True
        )


def weights(seen: Seen) -> Iterator[Statement]:
    """Fusions of fast attention without a relu on their weights, without epsilon, without any."""
    nodes = seen.open((NodeKind.FUSE,))
    if not nodes or not _known(seen) or seen.config.fusion is not Fusion.FAST_ATTENTION:
        return
    layers = {number: seen.flow.layers[number] for number in seen.network.fusions}
    wrong = {n: layer for n, layer in layers.items() if not seen.is_right(layer)}
    without, bare, plain = [], [], []
    for number, layer in wrong.items():
        made = [
            operation
            for part in seen.network.fusions[number]
            for factors in seen.flow.scales(part)
            for factor in factors
            for operation in (*seen.flow.made_by(factor), None)
        ]
        names = [operation.name for operation in made if operation is not None]
        if not made:
            plain.append(layer)
            continue
        if any("softmax" in name for name in names):
            continue
        if not any(kept in name for name in names for kept in _KEPT):
            without.append(layer)
        if any("div" in name for name in names) and not any(
            "add" in operation.name for operation in made if operation is not None
        ):
            bare.append(layer)
    total = len(layers)
    if without:
        text = f"{share(len(without), total, 'fusion')} no relu is applied to the weights"
        yield seen.statement("fusion-weights-relu", text, without)
    if bare:
        text = (
            f"{share(len(bare), total, 'fusion')} nothing is added to the sum of the weights; the "
            f"model adds {FUSION_EPSILON:g}"
        )
        yield seen.statement("fusion-epsilon", text, bare)
    if plain:
        text = f"{share(len(plain), total, 'fusion')} the inputs are added up without weights"
        yield seen.statement("fusion-unweighted", text, plain)


def behind(seen: Seen) -> Iterator[Statement]:
    """What follows upon a fusion: an activation, a separable convolution, a batch norm."""
    if not _known(seen):
        return
    chains = [chain for chain in seen.network.behind_fusions if _has(chain, Kind.CONV)]
    total = len(chains)
    inactive, others, after, whole, unnormed = [], [], [], [], []
    for chain in chains:
        kinds = [layer.kind for layer in chain.layers]
        first = kinds.index(Kind.CONV)
        head, rest = chain.layers[:first], chain.layers[first:]
        if not head:
            inactive.append(rest[0])
        others += [
            layer for layer in head if layer.kind is Kind.ACTIVATION if layer.name != "swish"
        ]
        after += [layer for layer in rest if layer.kind is Kind.ACTIVATION]
        if not rest[0].depthwise and max(rest[0].kernel) > 1:
            whole.append(rest[0])
        # A norm that is not the only one to read the convolution is one all the same.
        unknown = any(item.kind in (Kind.OTHER, Kind.NORM) for item in chain.end)
        if not any(layer.kind is Kind.NORM for layer in rest) and not unknown:
            unnormed.append([layer for layer in rest if layer.kind is Kind.CONV][-1])
    acts = seen.open((NodeKind.ACTIVATION,), Part.BIFPN)
    kernels = seen.open((NodeKind.CONV, NodeKind.DEPTHWISE), Part.BIFPN)
    norms = seen.open((NodeKind.BATCH_NORM,), Part.BIFPN)
    behind_norms = [n for n in norms if ".resample" not in n]
    if inactive and acts:
        text = (
            f"{_behind(len(inactive), total)} no activation follows: the convolution reads the "
            f"sum directly; the model has swish there"
        )
        yield seen.statement("activation-missing", text, inactive, acts)
    others = seen.wrong(others)
    if others and acts:
        names = by_text(layer.name for layer in others)
        text = f"{_behind(len(others), total)} {names} follows instead of swish"
        yield seen.statement("activation-other", text, others)
    if after and (behind_norms or acts):
        names = by_text(layer.name for layer in after)
        text = (
            f"{_behind(len(after), total)} {names} is applied behind the convolution, where the "
            f"model has no activation"
        )
        yield seen.statement("activation-extra", text, after, acts)
    if whole and kernels:
        text = (
            f"{_behind(len(whole), total)} there is one {_size(whole[0])} convolution over all "
            f"channels instead of a depthwise and a pointwise one"
        )
        yield seen.statement("convolution-not-separable", text, whole, kernels, other_layers=True)
    if unnormed and behind_norms and not seen.folds:
        text = f"{_behind(len(unnormed), total)} no batch norm follows upon the convolution"
        yield seen.statement("batch-norm-missing", text, unnormed, behind_norms)


def _behind(number: int, total: int) -> str:
    return f"behind {number} of {total} fusions"


def _size(layer: Layer) -> str:
    return "x".join(map(str, layer.kernel))


def _has(chain: Chain, kind: Kind) -> bool:
    return any(layer.kind is kind for layer in chain.layers)


def _readers(seen: Seen, layers: list[Layer]) -> list[Layer]:
    return [reader for layer in layers for reader in seen.flow.read_by(layer)]
