"""The two heads: their layers, and what levels share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from efficientdet_spec import NodeKind, Part
from parity.diagnosis.structures.flow import Kind, Layer
from parity.diagnosis.structures.fusions import is_other_convolution, other_convolution
from parity.diagnosis.structures.network import Chain
from parity.diagnosis.structures.seen import Seen, by_text
from parity.results.records.nodes import Statement

_PARTS = (Part.CLASS_HEAD, Part.BOX_HEAD)


def layers(seen: Seen) -> Iterator[Statement]:
    """Which layers there are: convolutions, batch norms, activations, sums, and how many."""
    chains = seen.network.heads
    if not chains:
        return
    unlike, unnormed, inactive, others = [], [], [], []
    total = 0
    for chain in chains:
        for repeat in _repeats(chain)[:-1]:
            total += 1
            kernels = [layer for layer in repeat if layer.kind is Kind.CONV]
            if is_other_convolution(seen, kernels[0]):
                unlike.append(kernels[0])
            if not any(layer.kind is Kind.NORM for layer in repeat):
                unnormed.append(kernels[-1])
            active = [layer for layer in repeat if layer.kind is Kind.ACTIVATION]
            if not active:
                inactive.append(repeat[-1])
            others += active
    where = f"of {total} repeats of the heads"
    if unlike and (nodes := seen.open((NodeKind.CONV, NodeKind.DEPTHWISE), *_PARTS)):
        slug, words = other_convolution(seen, unlike[0])
        text = f"in {len(unlike)} {where} {words}"
        yield seen.statement(slug, text, unlike, nodes, other_layers=True)
    norms = seen.open((NodeKind.BATCH_NORM,), *_PARTS)
    if unnormed and norms and not seen.folds:
        text = f"in {len(unnormed)} {where} no batch norm follows upon the convolution"
        yield seen.statement("batch-norm-missing", text, unnormed, norms)
    acts = seen.open((NodeKind.ACTIVATION,), *_PARTS)
    if inactive and acts:
        text = (
            f"in {len(inactive)} {where} there is no activation; the model has {seen.activation} "
            f"there"
        )
        yield seen.statement("activation-missing", text, inactive, acts)
    others, alike = seen.other_activations(others)
    if others and acts:
        names = by_text(layer.name for layer in others)
        text = f"in {len(others)} {where} there is {names} instead of {seen.activation}{alike}"
        yield seen.statement("activation-other", text, others)
    yield from _residuals(seen, chains)
    yield from _number(seen, chains)


def _residuals(seen: Seen, chains: Sequence[Chain]) -> Iterator[Statement]:
    """Whether what a repeat makes is added to what it was given."""
    nodes = seen.open(NodeKind, *_PARTS)
    repeats = [repeat for chain in chains for repeat in _repeats(chain)[1:-1]]
    added = [layer for repeat in repeats for layer in repeat if layer.kind is Kind.SUM]
    has = seen.config.head_survival_probability is not None
    where = f"{len(repeats)} repeats of the heads behind the first"
    if not has and added and nodes:
        text = (
            f"in {len(added)} of {where} what the repeat is given is added to what it makes; the "
            f"model adds nothing there (survival_prob)"
        )
        yield seen.statement("residual-extra", text, added, nodes, other_layers=True)
    missing = [repeat[-1] for repeat in repeats if repeat[-1].kind is not Kind.SUM]
    sums = seen.open((NodeKind.ADD,), *_PARTS)
    if has and missing and sums:
        text = (
            f"in {len(missing)} of {where} what the repeat is given is not added to what it "
            f"makes, as the model does (survival_prob)"
        )
        yield seen.statement("residual-missing", text, missing, sums, other_layers=True)


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
    for chain in seen.network.heads:
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
