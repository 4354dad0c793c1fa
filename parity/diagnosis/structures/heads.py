"""The two heads: their layers, and what levels share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from efficientdet_spec import NodeKind, Part
from parity.diagnosis.structures.flow import Kind, Layer
from parity.diagnosis.structures.network import Chain
from parity.diagnosis.structures.seen import Seen, by_text
from parity.results.records.nodes import Statement

_PARTS = (Part.CLASS_HEAD, Part.BOX_HEAD)


def layers(seen: Seen) -> Iterator[Statement]:
    """Which layers there are: separable convolutions, batch norms, activations, and how many."""
    chains = _chains(seen)
    if not chains:
        return
    whole, unnormed, inactive, others = [], [], [], []
    total = 0
    for chain in chains:
        for repeat in _repeats(chain)[:-1]:
            total += 1
            kernels = [layer for layer in repeat if layer.kind is Kind.CONV]
            if not kernels[0].depthwise and max(kernels[0].kernel) > 1:
                whole.append(kernels[0])
            if not any(layer.kind is Kind.NORM for layer in repeat):
                unnormed.append(kernels[-1])
            active = [layer for layer in repeat if layer.kind is Kind.ACTIVATION]
            if not active:
                inactive.append(repeat[-1])
            others += [layer for layer in active if layer.name != "swish"]
    where = f"of {total} repeats of the heads"
    if whole and (nodes := seen.open((NodeKind.CONV, NodeKind.DEPTHWISE), *_PARTS)):
        size = "x".join(map(str, whole[0].kernel))
        text = (
            f"in {len(whole)} {where} there is one {size} convolution over all channels instead "
            f"of a depthwise and a pointwise one"
        )
        yield seen.statement("convolution-not-separable", text, whole, nodes, other_layers=True)
    norms = seen.open((NodeKind.BATCH_NORM,), *_PARTS)
    if unnormed and norms and not seen.folds:
        text = f"in {len(unnormed)} {where} no batch norm follows upon the convolution"
        yield seen.statement("batch-norm-missing", text, unnormed, norms)
    acts = seen.open((NodeKind.ACTIVATION,), *_PARTS)
    if inactive and acts:
        text = f"in {len(inactive)} {where} there is no activation; the model has swish there"
        yield seen.statement("activation-missing", text, inactive, acts)
    others = seen.wrong(others)
    if others and acts:
        text = (
            f"in {len(others)} {where} there is {by_text(a.name for a in others)} instead of swish"
        )
        yield seen.statement("activation-other", text, others)
    yield from _number(seen, chains)


def _number(seen: Seen, chains: Sequence[Chain]) -> Iterator[Statement]:
    counts = {len(_repeats(chain)) - 1 for chain in chains}
    nodes = seen.open(NodeKind, *_PARTS)
    if len(counts) == 1 and counts != {seen.config.head_repeats} and nodes:
        (count,) = counts
        text = f"the heads have {count} repeats; the model has {seen.config.head_repeats}"
        yield seen.statement("repeats-other", text, [chains[0].layers[0]], nodes, other_layers=True)
    widths = {
        layer.weight[0]
        for chain in chains
        for repeat in _repeats(chain)[:-1]
        for layer in repeat
        if layer.kind is Kind.CONV and layer.weight
    }
    if len(widths) == 1 and widths != {seen.config.fpn_channels} and nodes:
        (width,) = widths
        text = f"the heads have {width} channels; the model has {seen.config.fpn_channels}"
        yield seen.statement(
            "channels-other", text, [chains[0].layers[0]], nodes, other_layers=True
        )


def sharing(seen: Seen) -> Iterator[Statement]:
    """Convolutions are shared by the levels, and batch norms are each level's own."""
    groups: dict[int, list[Chain]] = {}
    for chain in _chains(seen):
        last = chain.layers[-1]
        groups.setdefault(last.weight[0] if last.weight else 0, []).append(chain)
    shared: list[Layer] = []
    apart: list[Layer] = []
    norms = kernels = 0
    for chains in groups.values():
        if len(chains) != len(seen.config.levels) or len({_form(c) for c in chains}) > 1:
            continue
        for together in zip(*(chain.layers for chain in chains), strict=True):
            held = [layer.held for layer in together]
            if not all(held):
                continue
            if together[0].kind is Kind.NORM:
                norms += 1
                if len(set(held)) < len(held):
                    shared.append(_again(together, held))
            elif together[0].kind is Kind.CONV:
                kernels += 1
                if len(set(held)) > 1:
                    apart.append(together[1])
    if shared and (nodes := seen.open((NodeKind.BATCH_NORM,), *_PARTS)):
        text = (
            f"{len(shared)} of {norms} batch norms of the heads are shared by levels; the model "
            f"has one for each level"
        )
        yield seen.statement("batch-norm-shared", text, shared, nodes)
    if apart and (nodes := seen.open((NodeKind.CONV, NodeKind.DEPTHWISE), *_PARTS)):
        text = (
            f"{len(apart)} of {kernels} convolutions of the heads have other parameters at other "
            f"levels; in the model all levels share them"
        )
        yield seen.statement("convolution-not-shared", text, apart, nodes)


def _again(together: Sequence[Layer], held: Sequence[frozenset[object]]) -> Layer:
    """The first of some layers whose parameters an earlier one has."""
    return next(layer for i, layer in enumerate(together) if held[i] in held[:i])


def _chains(seen: Seen) -> list[Chain]:
    """The heads, where they are chains of layers as the model's are."""
    if seen.config.head_survival_probability is not None:
        return []
    return seen.network.heads


def _form(chain: Chain) -> tuple[str, ...]:
    return tuple(layer.kind.value for layer in chain.layers)


def _repeats(chain: Chain) -> list[list[Layer]]:
    """The layers of a head by repeat, the prediction last.

    A pointwise convolution goes with the depthwise one before it.
    """
    found: list[list[Layer]] = []
    before: Layer | None = None
    for layer in chain.layers:
        begins = layer.kind is Kind.CONV and not (
            before is not None and before.depthwise and layer.kernel == (1, 1)
        )
        if begins:
            found.append([])
        found[-1].append(layer)
        before = layer
    return found
