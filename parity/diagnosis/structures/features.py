"""Which of the backbone's features are read, and by which layers they are brought on."""

from __future__ import annotations

from collections.abc import Iterator

from efficientdet_spec import NodeKind, Part
from parity.diagnosis.structures.flow import Kind, Layer
from parity.diagnosis.structures.seen import Seen, listed, numbers
from parity.results.records.nodes import Statement


def levels(seen: Seen) -> Iterator[Statement]:
    """Features of other blocks than the model's."""
    due = _due(seen)
    taps = [tap for tap in seen.network.taps if tap.block is not None]
    read = sorted({tap.block for tap in taps if tap.block is not None})
    missing = _resamples(seen)
    if not taps or not missing or read == list(due.values()):
        return
    layers = [tap.layer for tap in taps if tap.block not in due.values()] or [taps[-1].layer]
    if len(read) == len(due):
        pairs = zip(read, due.items(), strict=True)
        told = [
            f"P{level} is taken from block {own} of the backbone instead of block {block}"
            for own, (level, block) in pairs
            if own != block
        ]
        text = "; ".join(told)
    else:
        text = (
            f"{len(read)} features of the backbone are read, behind blocks {listed(read)}; the "
            f"model reads {len(due)}, behind blocks {listed(list(due.values()))}"
        )
    last = max((n.block for n in seen.network.backbone.values() if n.block is not None), default=0)
    if last > read[-1]:
        unread = f"block {last}" if last == read[-1] + 1 else f"blocks {read[-1] + 1} to {last}"
        text += f"; what {unread} make is read by nothing"
    yield seen.statement("features-other", text, layers, missing, other_layers=True)


def inner(seen: Seen) -> Iterator[Statement]:
    """Features that are read from inside of a block."""
    taps = [tap for tap in seen.network.taps if not tap.whole]
    if taps and _resamples(seen):
        text = (
            f"a feature is read from inside of block {taps[0].block} of the backbone, before its "
            f"projection"
        )
        yield seen.statement("features-other", text, [tap.layer for tap in taps], other_layers=True)


def once(seen: Seen) -> Iterator[Statement]:
    """Features that are down-channelled once where the model has two layers."""
    due = _due(seen)
    read = sorted({tap.block for tap in seen.network.taps if tap.block is not None})
    if len(read) != len(due):
        return
    told, layers, nodes = [], [], []
    for block, level in zip(read, due, strict=True):
        wanted = [
            node.name
            for node in seen.nodes
            if node.cell == 0 and node.kind is NodeKind.CONV and node.name.endswith(".conv")
            if node.inputs
            and node.inputs[0] == _feature(seen, due[level])
            # That of an extra level reads the same feature.
            and ".resamples." in node.name
        ]
        here = [
            tap.layer
            for tap in seen.network.taps
            if tap.block == block and tap.layer.kernel == (1, 1) and not _pools(seen, tap.layer)
        ]
        shared = [(layer, count) for layer in here if (count := _read(seen, layer)) > 1]
        missing = [n for n in wanted if not seen.results[n].verdict.passes]
        follow = [f"{n.removesuffix('.conv')}.bn" for n in wanted]
        missing += [n for n in follow if n in seen.results and not seen.results[n].verdict.passes]
        if len(wanted) > 1 and len(here) < len(wanted) and shared and missing:
            layer, count = shared[0]
            told.append(f"P{level} ({count} fusions read it)")
            layers.append(layer)
            nodes += wanted
    if told:
        text = (
            f"{listed(told)} {'is' if len(told) == 1 else 'are'} down-channelled once, and what "
            f"the one 1x1 convolution makes is read again; the model has two layers for each"
        )
        yield seen.statement("down-channelled-once", text, layers, nodes, other_layers=True)


def extra_levels(seen: Seen) -> Iterator[Statement]:
    """How the levels beyond the backbone's are made."""
    missing = [name for name in _resamples(seen) if name.startswith("fpn.resample_p")]
    missing += [n for n in seen.open((NodeKind.POOL,)) if n.startswith("fpn.resample_p")]
    if not missing:
        return
    wide = [tap.layer for tap in seen.network.taps if max(tap.layer.kernel) > 1]
    behind = [
        item
        for layer in wide
        for reader in (*seen.flow.read_by(layer), *_behind_activations(seen, layer))
        if (item := reader).kind is Kind.CONV and max(item.kernel) > 1
    ]
    layers = [*wide, *dict.fromkeys(behind)]
    if layers:
        first = layers[0]
        window = seen.flow.window(first)
        stride = f" of stride {numbers(window.stride)}" if window else ""
        levels = listed([f"P{level}" for level in seen.config.extra_levels()][: len(layers)])
        text = (
            f"{levels} {'is' if len(layers) == 1 else 'are'} made by {_size(first)} "
            f"convolutions{stride}; the model makes P{seen.config.extra_levels()[0]} by "
            f"{_due_steps(seen)}, and further levels by a max-pool alone"
        )
        yield seen.statement("extra-levels-other", text, layers, missing, other_layers=True)


def pool_order(seen: Seen) -> Iterator[Statement]:
    """Whether the max-pool of the first extra level precedes its 1x1 convolution."""
    missing = [n for n in seen.open(NodeKind, Part.BIFPN) if n.startswith("fpn.resample_p")]
    if not missing:
        return
    taps = [tap.layer for tap in seen.network.taps if tap.layer.kernel == (1, 1)]
    before = [layer for layer in taps if _reads_pool(seen, layer)]
    behind = [layer for layer in taps if _is_pooled(seen, layer)]
    first = seen.config.conv_after_downsample
    wrong = behind if first else before
    if wrong and not (before if first else behind):
        what = ("behind", "precedes") if first else ("before", "follows upon")
        text = (
            f"the max-pool to P{seen.config.extra_levels()[0]} comes {what[0]} the 1x1 convolution;"
            f" the model's {what[1]} it (conv_after_downsample)"
        )
        yield seen.statement("pool-order", text, wrong, missing, other_layers=True)


def _pools(seen: Seen, layer: Layer) -> bool:
    """Whether a 1x1 convolution makes an extra level, which a max-pool brings to its size."""
    return _reads_pool(seen, layer) or _is_pooled(seen, layer)


def _reads_pool(seen: Seen, layer: Layer) -> bool:
    reads = [seen.flow.layers.get(number) for number in layer.inputs]
    return any(item is not None and item.kind is Kind.POOL for item in reads)


def _is_pooled(seen: Seen, layer: Layer) -> bool:
    end = seen.network.chain(layer).end
    return bool(end) and all(item.kind is Kind.POOL for item in end)


def _due_steps(seen: Seen) -> str:
    """What makes the model's first extra level, in words."""
    convolution = "a 1x1 convolution"
    if seen.config.resample_bn:
        convolution += ", a batch norm"
    pool = "a max-pool"
    if seen.config.conv_after_downsample:
        return f"{pool} and {convolution}"
    return f"{convolution} and {pool}"


def _size(layer: Layer) -> str:
    return "x".join(map(str, layer.kernel))


def _behind_activations(seen: Seen, layer: Layer) -> Iterator[Layer]:
    for reader in seen.flow.read_by(layer):
        if reader.kind is Kind.ACTIVATION:
            yield from seen.flow.read_by(reader)


def _due(seen: Seen) -> dict[int, int]:
    """By level of the BiFPN the block whose feature a 1x1 convolution brings to its channels."""
    blocks = seen.config.backbone.feature_blocks()
    return {
        level: blocks[level]
        for level, channels in seen.config.feature_channels().items()
        if channels != seen.config.fpn_channels
    }


def _feature(seen: Seen, block: int) -> str:
    last = [node.name for node in seen.nodes if node.block == block and node.part is Part.BACKBONE]
    return last[-1]


def _resamples(seen: Seen) -> list[str]:
    """The layers that bring features to the BiFPN's channels, as far as they are not right."""
    kinds = (NodeKind.CONV, NodeKind.BATCH_NORM)
    return [n for n in seen.open(kinds, Part.BIFPN) if ".resample" in n]


def _read(seen: Seen, layer: Layer) -> int:
    """How many fusions read what a convolution makes, perhaps behind its batch norm."""
    chain = seen.network.chain(layer)
    readers = chain.end if chain.layers else seen.flow.read_by(layer)
    through = [
        item
        for reader in readers
        for item in ((reader,) if reader.kind is Kind.SUM else seen.flow.read_by(reader))
        if reader.kind in (Kind.SUM, Kind.UP, Kind.POOL)
    ]
    own = seen.network.in_fusion
    return len({own[item.number] for item in through if item.number in own})
