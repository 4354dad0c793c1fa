"""Faults in a layer's parameters and settings that a look at the candidate itself finds.

No hypothesis recognises them: that one weight differs by its last bit no output shows, and a
momentum takes no part in inference. ``parity.diagnosis.structure`` compares the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from efficientdet_spec import BATCH_NORM_DECAY, NodeKind
from parity.faults.basics.case import Case, Evaluation, Hypothesis
from parity.faults.basics.fault import CONVOLUTIONS, Fault, Kinds


def _nothing(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    return iter(())


def _fault(slug: str, title: str, kinds: Kinds, change: Callable[[Any], None]) -> Fault:
    return Fault(slug, title, kinds, _nothing, change=change)


def _take_over_momentum(norm: Any) -> None:
    # PyTorch means the opposite by it.
    norm.momentum = BATCH_NORM_DECAY


def _nudge(conv: Any) -> None:
    with torch.no_grad():
        first = conv.weight[0, 0, 0, 0]
        first.copy_(torch.nextafter(first, torch.full_like(first, torch.inf)))


FAULTS = (
    _fault(
        "momentum",
        "TensorFlow's momentum taken over as it is",
        frozenset({NodeKind.BATCH_NORM}),
        _take_over_momentum,
    ),
    _fault("parameter-different", "one weight off by its last bit", CONVOLUTIONS, _nudge),
)
"""What only the candidate's structure shows."""
