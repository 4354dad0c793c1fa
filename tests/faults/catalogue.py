"""All faults that a harness has to find: those seen in other ports, and many more.

``python -m faults.catalogue`` from the folder ``tests`` prints how many there are of each kind.
"""

from collections.abc import Iterable, Mapping

import torch
from faults import (
    activations,
    convolutions,
    fusion,
    habits,
    inputs,
    kinds,
    modules,
    origins,
    resized,
    two,
    values,
    weights,
    wiring,
)
from faults.fault import Context, Fault

from efficientdet_spec import Activation, EfficientDetConfig
from torch_model import EfficientDet

FAMILIES: Mapping[str, tuple[Fault, ...]] = {
    "layout of parameters": weights.LAYOUT,
    "origin of parameters": origins.ORIGIN,
    "values of parameters": values.VALUES,
    "padding, stride, dilation": modules.CONVOLUTIONS,
    "other convolutions": convolutions.UNUSUAL,
    "batch norms": modules.BATCH_NORMS,
    "activations, gates, means, sums": activations.ACTIVATIONS,
    "precision": activations.PRECISION,
    "pools and up-sampling": fusion.RESAMPLING,
    "other pools and up-samplings": resized.RESIZED,
    "fusion": fusion.FUSION,
    "order of layers": wiring.ORDER,
    "sources of layers": wiring.SOURCES,
    "sharing of layers": wiring.SHARING,
    "missing parts": wiring.MISSING,
    "inputs": inputs.INPUTS,
    "other images": resized.IMAGES,
    "outputs": inputs.OUTPUTS,
    "two in one layer": two.IN_ONE,
    "in two neighbours": two.IN_NEIGHBOURS,
    "kinds of activations": kinds.ACTIVATIONS,
    "kinds of norms": kinds.NORMS,
    "kinds of branches": kinds.BRANCHES,
    "dropout": kinds.DROPOUT,
    "kinds of fusions": kinds.FUSIONS,
    "kinds of predictions": kinds.PREDICTIONS,
    "batches": kinds.BATCHES,
    "habits of the release": habits.HABITS,
}
"""The faults by what they are about."""

CATALOGUE: tuple[Fault, ...] = tuple(fault for family in FAMILIES.values() for fault in family)
"""Every fault."""


def applicable(config: EfficientDetConfig) -> list[Fault]:
    """The faults that can be made in a model."""
    applying = [fault for fault in CATALOGUE if fault.applies(config)]
    if like_the_release(config):
        return applying
    with torch.device("meta"):
        model = EfficientDet(config)
    of_swish = {fault.key for fault in kinds.ACTIVATIONS + activations.ACTIVATIONS}
    swish = config.activation is Activation.SWISH
    return [
        fault
        for fault in applying
        if (swish or fault.key not in of_swish) and _has_its_places(model, fault)
    ]


def like_the_release(config: EfficientDetConfig) -> bool:
    """Whether a model has every layer that places are written for."""
    gated = all(block.has_squeeze_excite for block in config.backbone.blocks)
    return gated and config.activation is Activation.SWISH and config.separable_conv


def _has_its_places(model: EfficientDet, fault: Fault) -> bool:
    try:
        fault.nodes(model, Context(model.config, {}))
        fault.knock_on(model, Context(model.config, {}))
    except LookupError:
        return False
    # What is chosen by values is there, whatever these are.
    except RuntimeError:
        return True
    return True


def one_of_each_kind(faults: Iterable[Fault]) -> list[Fault]:
    """Each kind of fault at one of its places: the first kind at its first, the next at its second.

    Args:
        faults: The kind of each is what its key begins with.
    """
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.key.partition("/")[0], []).append(fault)
    return [places[number % len(places)] for number, places in enumerate(kinds.values())]


def table(families: Mapping[str, Iterable[Fault]] = FAMILIES) -> str:
    """The number of faults of each family, and of all, one a line."""
    counts = {name: len(list(faults)) for name, faults in families.items()}
    rows = [*counts.items(), ("all", sum(counts.values()))]
    return "\n".join(f"{count:4} {name}" for name, count in rows)


if __name__ == "__main__":
    print(table())
