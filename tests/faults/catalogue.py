"""All faults that a harness has to find: those seen in other ports, and many more.

``python -m faults.catalogue`` from the folder ``tests`` prints how many there are of each kind.
"""

from collections.abc import Iterable, Mapping

from faults import (
    activations,
    convolutions,
    fusion,
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
from faults.fault import Fault

from efficientdet_spec import EfficientDetConfig

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
}
"""The faults by what they are about."""

CATALOGUE: tuple[Fault, ...] = tuple(fault for family in FAMILIES.values() for fault in family)
"""Every fault."""


def applicable(config: EfficientDetConfig) -> list[Fault]:
    """The faults that can be made in a model."""
    return [fault for fault in CATALOGUE if fault.applies(config)]


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
