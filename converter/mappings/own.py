"""The keys of this project's own model, as ``model.state_dict()`` has them."""

from __future__ import annotations

from collections.abc import Iterator

from converter.mappings.keys import Key, Naming, counter
from converter.mappings.official import iterate_pairs
from efficientdet_spec import EfficientDetConfig


def iterate_keys(config: EfficientDetConfig) -> Iterator[Key]:
    """Every key of the model, in the order in which the network uses them.

    Args:
        config: The model.
    """
    for pair in iterate_pairs(config):
        yield Key(pair.parameter, pair.shape, pair.parameter)
        if pair.parameter.endswith(".running_var"):
            norm = pair.parameter.removesuffix(".running_var")
            yield counter(norm, norm)


OWN = Naming("efficientdet-parity", "this project's parameters", iterate_keys)
"""Not a naming of others, so none that a state dict can be translated to."""
