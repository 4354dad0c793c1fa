"""What a candidate's structure has otherwise than the model's, in statements on its layers.

They are read off what was recorded, whatever the values are: also where shapes are others, so that
no tensor can be compared any more. Of layers that make their nodes as they should nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from efficientdet_spec import EfficientDetConfig, NodeKind
from parity.diagnosis.settings import due
from parity.diagnosis.structures import (
    biases,
    features,
    fusions,
    heads,
    inside,
    norms,
    strides,
    windows,
)
from parity.diagnosis.structures.flow import Flow
from parity.diagnosis.structures.network import Network
from parity.diagnosis.structures.seen import Seen, Statements
from parity.judge.verdict import NodeResult
from parity.lockstep.pairing import Pairing
from parity.results.records.nodes import Statement
from parity.sides.pytorch import FaithfulReferee
from parity.sides.pytorch.observation.candidate import ObservedCandidate

_OF_PARTS: tuple[Statements, ...] = (
    strides.strides,
    inside.activations,
    inside.squeeze_excites,
    features.levels,
    features.inner,
    features.once,
    features.extra_levels,
    features.pool_order,
    norms.missing_behind_taps,
    norms.extra_behind_taps,
    biases.before_norms,
    fusions.count,
    fusions.levels,
    fusions.weights,
    fusions.behind,
    heads.layers,
    heads.sharing,
)
"""Statements on parts of the network, which have to be known for that."""

_OF_ALL: tuple[Statements, ...] = (
    biases.between,
    windows.pools,
    windows.paddings,
    norms.epsilons,
    norms.momenta,
)
"""Statements on all layers of a kind."""


def structures(
    pairing: Pairing, nodes: Sequence[NodeResult], config: EfficientDetConfig
) -> list[Statement]:
    """What a candidate's structure has otherwise; nothing where its operations are not seen.

    Args:
        pairing: What was compared.
        nodes: The results.
        config: The model.
    """
    candidate, referee = pairing.candidate, pairing.referee
    if not isinstance(candidate, ObservedCandidate) or not isinstance(referee, FaithfulReferee):
        return []
    if all(node.verdict.passes for node in nodes):
        # However its layers are written, they are the model's.
        return []
    try:
        found, _ = candidate.seen()
    except ValueError:
        return []
    flow = Flow(found.record)
    weights = {
        node: tuple(_weight(referee.calls[node].module))
        for node, kind in referee.kinds.items()
        if kind in (NodeKind.CONV, NodeKind.DEPTHWISE)
    }
    network = Network(flow, config, weights)
    seen = Seen(
        flow,
        network,
        config,
        [node for node in network.nodes if node.name in referee.kinds],
        {node.name: node for node in nodes},
        found.partners,
        lambda node: due(referee, node),
        {
            path: module
            for path, module in candidate.model.named_modules()
            if hasattr(module, "momentum") and hasattr(module, "running_var")
        },
    )
    return list(_said(seen))


def _weight(module: Any) -> Sequence[int]:
    shape: Sequence[int] = module.weight.shape
    return shape


def _said(seen: Seen) -> Iterator[Statement]:
    for statements in (*(_OF_PARTS if seen.network.known else ()), *_OF_ALL):
        try:
            found = list(statements(seen))
        # Operations of a kind that nobody foresaw explain nothing, and a comparison never ends
        # here.
        except Exception:
            continue
        yield from found
