"""Batch norms: their settings, and where there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from efficientdet_spec import BATCH_NORM_DECAY, BATCH_NORM_EPSILON, NodeKind, Part
from parity.diagnosis.structures.flow import Kind, Layer
from parity.diagnosis.structures.seen import Seen
from parity.results.records.nodes import Statement

_TENSORFLOW = 0.5
"""Share of new statistics above which a momentum is one in TensorFlow's words: the share of old
ones, which no one keeps less of than half."""

_NEAR = 1e-9


def epsilons(seen: Seen) -> Iterator[Statement]:
    """Batch norms with another epsilon than the model's."""
    norms = [layer for layer in seen.flow.of_kind(Kind.NORM) if layer.whole]
    others: dict[float, list[Layer]] = {}
    for layer in seen.wrong(norms):
        found = seen.flow.epsilon(layer)
        if found is not None and abs(found - BATCH_NORM_EPSILON) > _NEAR:
            others.setdefault(found, []).append(layer)
    for epsilon, layers in others.items():
        text = (
            f"{len(layers)} of {len(norms)} batch norms have epsilon {epsilon:g} instead of "
            f"{BATCH_NORM_EPSILON:g}"
        )
        yield seen.statement("batch-norm-epsilon", text, layers)


def momenta(seen: Seen) -> Iterator[Statement]:
    """Batch norms whose momentum is TensorFlow's, which in PyTorch says the opposite."""
    counts = Counter(
        module.momentum
        for module in seen.norms.values()
        if module.momentum is not None and _TENSORFLOW < module.momentum < 1
    )
    for momentum, count in counts.items():
        text = (
            f"{count} of {len(seen.norms)} batch norms have momentum {momentum:g}: that is "
            f"TensorFlow's share of the old statistics, and PyTorch's is the share of the new "
            f"ones, {1 - BATCH_NORM_DECAY:g} in this model; it acts in training alone"
        )
        paths = [path for path, module in seen.norms.items() if module.momentum == momentum]
        yield Statement(
            slug="batch-norm-momentum", text=text, nodes=(), places=tuple(map(str, paths[:8]))
        )


def missing_behind_taps(seen: Seen) -> Iterator[Statement]:
    """1x1 convolutions of the backbone's features that no batch norm follows."""
    if not seen.config.resample_bn:
        return
    taps = [tap.layer for tap in seen.network.taps if tap.layer.kernel == (1, 1)]
    bare = [layer for layer in taps if _goes_on(seen, layer)]
    missing = [
        name
        for name in seen.open((NodeKind.BATCH_NORM,))
        if name.startswith("fpn.") and (".resample" in name)
    ]
    # One that was folded into the convolution is not missing.
    if not bare or not missing or seen.folds:
        return
    reading = seen.flow.read_by(bare[0])
    where = f": what reads the first is {_step(reading[0])}" if reading else ""
    text = (
        f"no batch norm follows upon {len(bare)} of {len(taps)} 1x1 convolutions that bring the "
        f"backbone's features to the BiFPN's channels; the candidate goes on from the "
        f"convolution's output{where}"
    )
    yield seen.statement("batch-norm-missing", text, bare, missing)


def extra_behind_taps(seen: Seen) -> Iterator[Statement]:
    """1x1 convolutions of the backbone's features that a batch norm follows."""
    if seen.config.resample_bn:
        return
    taps = [tap.layer for tap in seen.network.taps if tap.layer.kernel == (1, 1)]
    # A factor for each channel may be a fusion's.
    normed = [
        reader
        for layer in taps
        for reader in seen.flow.read_by(layer)
        if reader.kind is Kind.NORM and reader.whole
    ]
    nodes = seen.open((NodeKind.FUSE, NodeKind.POOL), Part.BIFPN)
    if normed and nodes:
        text = (
            f"a batch norm follows upon {len(normed)} of {len(taps)} 1x1 convolutions that bring "
            f"the backbone's features to the BiFPN's channels; the model has none there "
            f"(apply_bn_for_resampling)"
        )
        yield seen.statement("batch-norm-extra", text, normed, nodes, other_layers=True)


def _goes_on(seen: Seen, layer: Layer) -> bool:
    """Whether all that reads a convolution is known, and none of it is a batch norm."""
    readers = seen.flow.read_by(layer)
    return bool(readers) and not any(item.kind in (Kind.NORM, Kind.OTHER) for item in readers)


def _step(layer: Layer) -> str:
    what = layer.name if layer.kind is Kind.ACTIVATION else layer.kind.value
    return f"a {what} at {layer.place}" if layer.place else f"a {what}"
