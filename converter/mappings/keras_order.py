"""The order of the official Keras network's variables, by which its ``.h5`` files are loaded.

``tf2/efficientdet_keras.py`` builds the network, and Keras lists the variables of what contains
others in one rule: what is trained first, then the moving statistics, each in the order in which
the parts were made. The whole network is such a list of its top-level layers; a layer is one list,
but the backbone is a model of its own, whose stem stands behind its blocks, and ``model.weights``
lists the blocks and the stem one after the other where a file lists the whole backbone at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from converter.mappings.official import iterate_pairs
from efficientdet_spec import EfficientDetConfig

_STATISTICS = ("/moving_mean", "/moving_variance")
"""Ends of the names of what is not trained."""

_CELLS = "fpn_cells"
_HEADS = ("class_net", "box_net")

_LOWEST_RESAMPLED = 6
"""The first level for which there is a layer of its own: the backbone has none beyond 5."""


def keras_order(config: EfficientDetConfig) -> tuple[str, ...]:
    """Every variable's name in the order of the Keras network's ``model.weights``.

    Args:
        config: The model.
    """
    layers = _made(config)
    stem = f"{config.backbone.name}/stem/"
    backbone = layers.pop(config.backbone.name)
    parts = [
        [name for name in backbone if not name.startswith(stem)],
        [name for name in backbone if name.startswith(stem)],
        # A list of layers in one attribute is one part, whichever of them have variables.
        [name for layer in _resampled(config) for name in layers.pop(layer)],
        *layers.values(),
    ]
    return tuple(name for part in parts for name in _trained_first(part))


def iterate_layers(config: EfficientDetConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The network's top-level layers, and the names of their variables, as a ``.h5`` has them.

    The layers are in the order of a file's ``layer_names``, the variables in that of a layer's
    ``weight_names``. A layer that has no variables is there too.

    Args:
        config: The model.
    """
    for layer, names in _made(config).items():
        yield layer, _trained_first(names)


def creation_order(config: EfficientDetConfig) -> tuple[str, ...]:
    """Every variable's name in the order in which the Keras network makes its parts.

    What is not trained, the statistics or a part that a trainer has frozen, stands in a file
    behind what is; within both, this is the order.

    Args:
        config: The model.
    """
    return tuple(name for names in _made(config).values() for name in names)


def _resampled(config: EfficientDetConfig) -> list[str]:
    """The layers that make the levels which the backbone lacks."""
    return [f"resample_p{level}" for level in range(_LOWEST_RESAMPLED, config.max_level + 1)]


def _made(config: EfficientDetConfig) -> dict[str, list[str]]:
    """The variables of each top-level layer in the order in which its parts were made."""
    names = [name for pair in iterate_pairs(config) for name in pair.variables]
    backbone = config.backbone.name
    made: dict[str, list[str]] = {
        layer: [] for layer in (backbone, *_resampled(config), _CELLS, *_HEADS)
    }
    for name in names:
        made[name.split("/", 1)[0]].append(name)
    # The network's list of pairs goes as the values do; these were made in another order.
    stem = f"{backbone}/stem/"
    made[backbone].sort(key=lambda name: name.startswith(stem))
    made[_CELLS] = _weights_first(made[_CELLS])
    for layer in _HEADS:
        made[layer].sort(key=_rank_in_head)
    return made


def _weights_first(names: Iterable[str]) -> list[str]:
    """The variables of the cells with each node's own, the fusion weights, before its layers'."""
    nodes: dict[str, list[str]] = {}
    for name in names:
        nodes.setdefault("/".join(name.split("/")[:3]), []).append(name)
    return [
        name
        for node in nodes.values()
        for name in sorted(node, key=lambda name: name.count("/") > 3)
    ]


def _rank_in_head(name: str) -> int:
    """Where a head's variable stands: the convolutions, the norms, the one that predicts."""
    layer = name.split("/")[1]
    return 2 if layer.endswith("-predict") else 1 if "-bn-" in layer else 0


def is_statistic(name: str) -> bool:
    """Whether a variable is one of a batch norm's moving statistics, which are never trained.

    Args:
        name: The variable's.
    """
    return name.endswith(_STATISTICS)


def _trained_first(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=is_statistic))
