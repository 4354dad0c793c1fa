"""Where in a faithful model each fault can be put so that it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from efficientdet_spec import IMAGES
from parity.diagnosis.examination import Known, site_of
from parity.faults import Site
from parity.faults.basics.fault import Fault
from parity.process.arrays import Array
from parity.sides import pytorch
from parity.sides.naming import base, own_paths
from parity.sides.pytorch import FaithfulReferee


def places(
    faults: Sequence[Fault], referee: FaithfulReferee, known: Known, images: Array
) -> list[Site | None]:
    """For each fault the first layer that can have it and makes something else with it.

    Args:
        faults: The faults.
        referee: Of the faithful model.
        known: What is known of that.
        images: [N, H, W, 3], on which the fault is to be seen.

    Returns:
        The layers, and None for faults that cannot be seen on these images.
    """
    found: list[Site | None] = [None] * len(faults)
    layers = {base(name): call.module for name, call in referee.calls.items()}

    def visit(node: str, module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        site = site_of(
            node,
            referee.kinds[node],
            module,
            reads_images=IMAGES in referee.sources(node),
            layers=layers,
            known=known,
        )
        operation = site.given(inputs)
        for number, fault in enumerate(faults):
            if found[number] is None and fault.can_be_seen(operation, output):
                found[number] = site

    with pytorch.visiting(known.faithful, own_paths(referee.kinds), visit), torch.no_grad():
        pytorch.run(known.faithful, images)
    return found
