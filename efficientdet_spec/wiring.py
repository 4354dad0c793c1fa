"""How the nodes of a BiFPN cell are wired: which features each of them joins.

Sources: EfficientDet (arXiv 1911.09070, figure 3) and the official code, google/automl
``efficientdet/tf2/fpn_configs.py``; the quad FPN is described in its pull request 580.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from efficientdet_spec.errors import InputError

Wiring = tuple[tuple[int, tuple[int, ...]], ...]
"""Of each node of a cell, in the order in which they are computed, the level of its output and its
inputs: numbers of features, first the cell's inputs (lowest level first), then the nodes."""

MOST_NODES = 256
"""Nodes that a cell may have: far beyond any real one."""


@dataclass(frozen=True)
class ResampleSpec:
    """How one input of a BiFPN node is brought to the node's level and channels.

    Attributes:
        source: Index of the input among the cell's features: first the cell's inputs
            (lowest level first), then the outputs of its nodes in order.
        source_level: Level of that feature.
        input_channels: Channels of that feature; a 1x1 convolution is applied when they differ
            from the BiFPN's.
    """

    source: int
    source_level: int
    input_channels: int


@dataclass(frozen=True)
class NodeSpec:
    """One node of a BiFPN cell.

    Attributes:
        index: Position of the node in its cell.
        level: Feature level of its output.
        inputs: Its inputs in the order in which they are fused.
    """

    index: int
    level: int
    inputs: tuple[ResampleSpec, ...]


class _Cell:
    """A cell's nodes while they are listed."""

    def __init__(self, levels: range) -> None:
        self.wiring: list[tuple[int, tuple[int, ...]]] = []
        self.at = {level: [number] for number, level in enumerate(levels)}
        self._made = len(levels)

    def add(self, level: int, *sources: int) -> None:
        """Another node at ``level``."""
        self.wiring.append((level, sources))
        self.at[level].append(self._made)
        self._made += 1


def bifpn(levels: range) -> Wiring:
    """The BiFPN's two passes.

    A top-down pass joins each level with the level above; a bottom-up pass then joins each
    level's features so far with the level below.

    Args:
        levels: Lowest first.
    """
    cell = _Cell(levels)
    for level in reversed(levels[:-1]):
        cell.add(level, cell.at[level][-1], cell.at[level + 1][-1])
    for level in levels[1:]:
        cell.add(level, *cell.at[level], cell.at[level - 1][-1])
    return tuple(cell.wiring)


def qufpn(levels: range) -> Wiring:
    """The quad FPN: top-down then bottom-up, beside bottom-up then top-down, and the sum of both.

    Args:
        levels: Lowest first.
    """
    low, high = levels[0], levels[-1]
    cell = _Cell(levels)
    at = cell.at
    for level in reversed(levels[:-1]):
        cell.add(level, at[level][-1], at[level + 1][-1])
    # The highest level has no node of the first pass; it counts as one all the same.
    at[high].append(at[high][-1])
    for level in levels[1:-1]:
        cell.add(level, *at[level], at[level - 1][-1])
    cell.add(high, at[high][0], at[high - 1][-1])
    at[low].append(at[low][-1])
    for level in levels[1:]:
        below = at[level - 1]
        cell.add(level, at[level][0], below[0] if level == low + 1 else below[-1])
    at[low].append(at[low][-1])
    for level in reversed(levels[1:-1]):
        cell.add(level, at[level][0], at[level][-1], at[level + 1][-1])
    cell.add(low, at[low][0], at[low + 1][-1])
    at[high].append(at[high][-1])
    for level in reversed(levels):
        cell.add(level, at[level][2], at[level][4])
    return tuple(cell.wiring)


WIRINGS: Mapping[str, Callable[[range], Wiring]] = MappingProxyType(
    {"bifpn": bifpn, "bifpn_dyn": bifpn, "qufpn": qufpn}
)
"""By the official name (``fpn_name``); ``bifpn_dyn`` is an older name of ``bifpn``."""


def check_wiring(wiring: Wiring, levels: range) -> None:
    """Check that a cell can be computed in this order, and gives a feature of every level.

    Args:
        wiring: Any values of the right types.
        levels: Lowest first.

    Raises:
        InputError: It cannot; the message names the node.
    """
    if len(wiring) > MOST_NODES:
        raise InputError(
            f"A cell of the FPN has {len(wiring)} nodes; give at most {MOST_NODES} (fpn_config)."
        )
    for index, (level, sources) in enumerate(wiring):
        known = len(levels) + index
        if type(level) is not int or level not in levels:
            raise InputError(
                f"Node {index} of fpn_config has feat_level {level!r:.40}; give a level from "
                f"{levels[0]} to {levels[-1]}."
            )
        sound = all(type(source) is int and 0 <= source < known for source in sources)
        if len(sources) < 2 or not sound:
            raise InputError(
                f"Node {index} of fpn_config has inputs_offsets {list(sources)!r:.80}; give two or "
                f"more numbers of features from 0 to {known - 1}."
            )
    missing = sorted(set(levels) - {level for level, _ in wiring})
    if missing:
        raise InputError(
            f"fpn_config has no node of level {missing[0]}; give each of the levels {levels[0]} to "
            f"{levels[-1]} at least one."
        )
