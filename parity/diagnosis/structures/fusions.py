"""Fusions: how their inputs are weighted, and what follows upon them."""

from __future__ import annotations

from collections.abc import Iterator

from efficientdet_spec import FUSION_EPSILON, Fusion, NodeKind, Part
from efficientdet_spec.wiring import bifpn, qufpn
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
    """How many there are, and how many in each cell."""
    due = [node for node in seen.nodes if node.kind is NodeKind.FUSE]
    there, cells = len(seen.network.fusions), seen.config.fpn_cells
    in_cell = len(due) // cells
    if not there or there == len(due) or not seen.open((NodeKind.FUSE,)):
        return
    ups = [layer for layer in seen.network.outside if layer.kind is Kind.UP]
    if any(item.kind is Kind.OTHER for item in _readers(seen, ups)):
        return
    last = seen.flow.layers[list(seen.network.fusions)[-1]]
    of_levels = list(_of_levels(seen))
    yield from of_levels
    if of_levels:
        return
    if there % in_cell == 0:
        there_are = f"there are {there // in_cell} BiFPN cells of {in_cell} fusions"
        text = f"{there_are}; the model has {cells}"
        nodes = seen.open((NodeKind.FUSE,))[-in_cell:]
        yield seen.statement("cells-other", text, [last], nodes, other_layers=True)
    elif there % cells == 0 and (known := _wiring(there // cells)):
        text = (
            f"each of the {cells} cells has {there // cells} fusions, as {known}; the model has "
            f"{in_cell} in each"
        )
        nodes = seen.open((NodeKind.FUSE,))
        yield seen.statement("wiring-other", text, [last], nodes, other_layers=True)


def levels(seen: Seen) -> Iterator[Statement]:
    """Of which levels they are, where there are as many as should be."""
    due = sum(node.kind is NodeKind.FUSE for node in seen.nodes)
    if len(seen.network.fusions) == due:
        yield from _of_levels(seen)


def _of_levels(seen: Seen) -> Iterator[Statement]:
    found = _sizes(seen)
    by_level = _by_level(seen)
    nodes = seen.open((NodeKind.FUSE,))
    due = {by_level[level] for level in seen.config.levels}
    if not nodes or not found or found == due or not found <= set(by_level.values()):
        return
    # Maps of one pixel are of any level behind the first of these.
    levels = sorted(min(n for n, size in by_level.items() if size == one) for one in found)
    last = seen.flow.layers[list(seen.network.fusions)[-1]]
    text = (
        f"the fusions are of levels P{levels[0]} to P{levels[-1]}; the model's are of "
        f"P{seen.config.min_level} to P{seen.config.max_level}"
    )
    yield seen.statement("levels-other", text, [last], nodes, other_layers=True)


def _by_level(seen: Seen) -> dict[int, tuple[int, ...]]:
    """Height and width of the maps of each level."""
    found = {0: seen.flow.image_size}
    for level in range(_HIGHEST):
        found[level + 1] = tuple((side + 1) // 2 for side in found[level])
    return found


def _sizes(seen: Seen) -> set[tuple[int, ...]]:
    """Height and width of what the fusions make; none where their axes are not known."""
    found = set()
    for number in seen.network.fusions:
        _, *sides = seen.flow.layers[number].shape
        channels = seen.config.fpn_channels
        if channels not in (sides[0], sides[-1]):
            return set()
        found.add(tuple(sides[1:] if sides[0] == channels else sides[:-1]))
    return found


_HIGHEST = 12
"""Levels up to this one are told by their sizes."""


def _wiring(fusions: int) -> str:
    """What a cell of so many fusions is known as; empty where it is not known, or two fit."""
    found = [
        f"a {name} of {count} levels has"
        for name, wiring in (("BiFPN", bifpn), ("quad FPN", qufpn))
        for count in range(2, _MOST_LEVELS + 1)
        if len(wiring(range(3, 3 + count))) == fusions
    ]
    return " or ".join(found)


_MOST_LEVELS = 7
"""Levels that any model has."""


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
    """What follows upon a fusion: an activation, a convolution, a batch norm, in their order."""
    if not _known(seen):
        return
    chains = [chain for chain in seen.network.behind_fusions if _has(chain, Kind.CONV)]
    yield from _activations(seen, chains)
    total = len(chains)
    unlike, unnormed = [], []
    for chain in chains:
        rest = _parts(chain)[1]
        if is_other_convolution(seen, rest[0]):
            unlike.append(rest[0])
        # A norm that is not the only one to read the convolution is one all the same.
        unknown = any(item.kind in (Kind.OTHER, Kind.NORM) for item in chain.end)
        if not any(layer.kind is Kind.NORM for layer in rest) and not unknown:
            unnormed.append([layer for layer in rest if layer.kind is Kind.CONV][-1])
    kernels = seen.open((NodeKind.CONV, NodeKind.DEPTHWISE), Part.BIFPN)
    norms = seen.open((NodeKind.BATCH_NORM,), Part.BIFPN)
    if unlike and kernels:
        slug, words = other_convolution(seen, unlike[0])
        text = f"{_behind(len(unlike), total)} {words}"
        yield seen.statement(slug, text, unlike, kernels, other_layers=True)
    behind_norms = [n for n in norms if ".resample" not in n]
    if unnormed and behind_norms and not seen.folds:
        text = f"{_behind(len(unnormed), total)} no batch norm follows upon the convolution"
        yield seen.statement("batch-norm-missing", text, unnormed, behind_norms)


def _parts(chain: Chain) -> tuple[list[Layer], list[Layer]]:
    """The layers before the first convolution, and these from there on."""
    layers = list(chain.layers)
    first = [layer.kind for layer in layers].index(Kind.CONV)
    return layers[:first], layers[first:]


def _activations(seen: Seen, chains: list[Chain]) -> Iterator[Statement]:
    """Activations that are missing, others, or where the model has none."""
    acts = seen.open((NodeKind.ACTIVATION,), Part.BIFPN)
    norms = [n for n in seen.open((NodeKind.BATCH_NORM,), Part.BIFPN) if ".resample" not in n]
    last, total = seen.config.conv_bn_act, len(chains)
    inactive, here, elsewhere = [], [], []
    for chain in chains:
        head, rest = _parts(chain)
        own, others = (rest, head) if last else (head, rest)
        active = [layer for layer in own if layer.kind is Kind.ACTIVATION]
        if not active and not head and not last:
            inactive.append(rest[0])
        if not active and last and not any(item.kind is Kind.OTHER for item in chain.end):
            inactive.append(rest[-1])
        here += active
        elsewhere += [layer for layer in others if layer.kind is Kind.ACTIVATION]
    if inactive and acts:
        what = (
            "no activation follows upon the batch norm"
            if last
            else "no activation follows: the convolution reads the sum directly"
        )
        text = f"{_behind(len(inactive), total)} {what}; the model has {seen.activation} there"
        yield seen.statement("activation-missing", text, inactive, acts)
    here, alike = seen.other_activations(here)
    if here and acts:
        names = by_text(layer.name for layer in here)
        text = f"{_behind(len(here), total)} {names} follows instead of {seen.activation}{alike}"
        yield seen.statement("activation-other", text, here)
    if elsewhere and (norms or acts):
        names = by_text(layer.name for layer in elsewhere)
        where = "before the convolution" if last else "behind the convolution"
        text = (
            f"{_behind(len(elsewhere), total)} {names} is applied {where}, where the model has no "
            f"activation"
        )
        yield seen.statement("activation-extra", text, elsewhere, acts)


def is_other_convolution(seen: Seen, layer: Layer) -> bool:
    """Whether a convolution is whole where the model's are separable, or the reverse."""
    if not seen.config.separable_conv:
        return layer.depthwise
    return not layer.depthwise and max(layer.kernel) > 1


def other_convolution(seen: Seen, layer: Layer) -> tuple[str, str]:
    """The name of such a difference, and what is there, in words."""
    size = "x".join(map(str, layer.kernel))
    if seen.config.separable_conv:
        return "convolution-not-separable", (
            f"there is one {size} convolution over all channels instead of a depthwise and a "
            f"pointwise one"
        )
    return "convolution-separable", (
        f"there is a depthwise {size} convolution instead of one over all channels"
    )


def _behind(number: int, total: int) -> str:
    return f"behind {number} of {total} fusions"


def _has(chain: Chain, kind: Kind) -> bool:
    return any(layer.kind is kind for layer in chain.layers)


def _readers(seen: Seen, layers: list[Layer]) -> list[Layer]:
    return [reader for layer in layers for reader in seen.flow.read_by(layer)]
