"""What no comparison on some inputs can see of a model, however a candidate does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from efficientdet_spec import EfficientDetConfig, Fusion, NodeKind

if TYPE_CHECKING:
    from parity.sides.pytorch import FaithfulReferee


def closed_inputs(referee: FaithfulReferee, config: EfficientDetConfig) -> dict[str, list[int]]:
    """By fusion node, its inputs whose weight is not above zero, so that relu takes them out.

    Args:
        referee: The faithful model.
        config: The model.
    """
    if config.fusion is not Fusion.FAST_ATTENTION:
        return {}
    found = {}
    for node, call in referee.calls.items():
        if referee.kinds[node] is NodeKind.FUSE:
            weights = call.arguments[1].detach().tolist()
            closed = [number for number, value in enumerate(weights) if value <= 0]
            if closed and len(closed) < len(weights):
                found[node] = closed
    return found


def saturation_notes(by_input: Sequence[Mapping[str, bool]]) -> list[str]:
    """A sentence on activations that no input has brought to their highest value.

    Args:
        by_input: For each input, of each activation that has a highest value whether it got there.
    """
    reached: dict[str, bool] = {}
    for saturated in by_input:
        for node, got_there in saturated.items():
            reached[node] = reached.get(node, False) or got_there
    below = [node for node, got_there in reached.items() if not got_there]
    if not below:
        return []
    return [
        f"{len(below)} of {len(reached)} activations stay below their highest value on these "
        f"inputs (first {below[0]}): whether the candidate keeps it there cannot be seen."
    ]


def one_tap_notes(referees: Sequence[FaithfulReferee]) -> list[str]:
    """A sentence on kernels of which one weight per channel alone has counted.

    Around a map of one position lies nothing but padding.

    Args:
        referees: The faithful model, for each of the inputs' shapes.
    """
    wider: set[int] = set()
    nodes: dict[int, str] = {}
    for referee in referees:
        for node, call in referee.calls.items():
            if referee.kinds[node] is not NodeKind.DEPTHWISE:
                continue
            layer = id(call.module)
            nodes.setdefault(layer, node)
            _, height, width, _ = referee.shapes[node]
            if height > 1 or width > 1:
                wider.add(layer)
    found = [node for layer, node in nodes.items() if layer not in wider]
    if not found:
        return []
    return [
        f"{len(found)} depthwise convolution{'s' if len(found) > 1 else ''} (first {found[0]}) "
        f"made maps of one position alone, where only the middle of the kernel counts; give "
        f"larger images to try all of it."
    ]
