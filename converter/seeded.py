"""Reproducible weights for any model, drawn from the variables' names.

They are not a trained model, but exercise every operation with well-scaled values; two
programs that follow the same rule hold the same weights without exchanging a file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.conversion import to_tensorflow
from converter.mappings.layouts import SCALARS, VECTORS
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle_writer import write_bundle
from efficientdet_spec import EMA_SUFFIX, Cause, EfficientDetConfig, InputError

STATISTICS = ("moving_mean", "moving_variance")
"""Last parts of the names of batch norms' statistics, which no rule here draws."""


def seeded_value(name: str, shape: tuple[int, ...], salt: str) -> NDArray[np.float32]:
    """The value of one variable.

    Args:
        name: Full TensorFlow name.
        shape: Its shape.
        salt: Any text; another salt gives other weights.

    Raises:
        ValueError: The variable is a batch-norm statistic, or of a kind that no rule covers.
    """
    digest = hashlib.sha256(f"{salt}/{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    kind = name.rsplit("/", 1)[-1]
    if kind == "gamma":
        value = rng.uniform(0.5, 1.5, shape)
    elif kind in ("beta", "bias"):
        # A class bias near -log((1 - p) / p) with p = 0.01, as training starts with.
        mean, deviation = (-4.6, 0.3) if "class-predict" in name else (0.0, 0.2)
        value = mean + deviation * rng.standard_normal(shape)
    elif kind.startswith("WSM"):
        value = rng.uniform(-0.2, 1.5, shape)
    elif kind.endswith("kernel"):
        fan = math.prod(shape[:2] if kind == "depthwise_kernel" else shape[:-1])
        value = math.sqrt(2 / fan) * rng.standard_normal(shape)
    else:
        raise ValueError(f"no rule draws {name}")
    return np.asarray(value, np.float32)


def seeded_variables(
    config: EfficientDetConfig, salt: str
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and value of every variable of a model except the batch norms' statistics."""
    for pair in iterate_pairs(config):
        for name, shape in pair.variable_shapes.items():
            if not name.endswith(STATISTICS):
                yield name, seeded_value(name, shape, salt)


RAW_NOISE = 0.02
"""Relative spread of the raw values around the averages, so that taking the wrong ones shows."""

Statistics = Callable[[EfficientDetConfig, Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
"""Gives every parameter, statistics included, from the parameters other than statistics."""


def _alive(
    config: EfficientDetConfig, drawn: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """The same values with no fusion that takes nothing.

    The relu of fast attention makes 0 of a node all of whose weights are negative, about one in
    seventy, and of all that reads it: nothing could be compared there. Such weights are taken by
    their magnitudes.
    """
    if config.fusion.is_softmax or not config.fusion.is_weighted:
        return drawn
    for pair in iterate_pairs(config):
        if pair.layout in (SCALARS, VECTORS):
            weights = np.array([drawn[name] for name in pair.variables])
            dead = (weights <= 0).all(axis=0)
            for name, weight in zip(pair.variables, weights, strict=True):
                drawn[name] = np.where(dead, np.abs(weight), weight).astype(np.float32)
    return drawn


def write_seeded(
    config: EfficientDetConfig, folder: Path, salt: str, statistics: Statistics
) -> Path:
    """Write a checkpoint in the layout of the official releases, with seeded weights.

    As there, each variable is stored twice, raw and as its moving average, beside
    ``global_step``; the two differ.

    Args:
        config: The model.
        folder: Where to write; made if need be.
        salt: Any text; another salt gives other weights.
        statistics: Completes the parameters by the batch norms' statistics. Without
            statistics that fit its weights, a deep network overflows or dies out.

    Returns:
        The checkpoint's prefix.

    Raises:
        InputError: The folder cannot be written.
    """
    drawn = _alive(config, dict(seeded_variables(config, salt)))
    parameters = {
        pair.parameter: pair.layout.to_torch([drawn[name] for name in pair.variables])
        for pair in iterate_pairs(config)
        if pair.variables[0] in drawn
    }
    tensors: dict[str, NDArray[Any]] = {"global_step": np.array(0, np.int64)}
    for name, value in to_tensorflow(config, statistics(config, parameters)):
        rng = np.random.default_rng(len(tensors))
        noise = 1 + RAW_NOISE * rng.uniform(-1, 1, np.shape(value))
        tensors[name + EMA_SUFFIX] = np.asarray(value, np.float32)
        tensors[name] = np.asarray(value * noise, np.float32)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}); name a folder that can be written.",
            Cause.of(error),
        ) from error
    return write_bundle(folder / "model", tensors)
