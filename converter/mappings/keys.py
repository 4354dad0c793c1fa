"""A state-dict key of another PyTorch code base, and which of our parameters it holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from converter.mappings.layouts import Array, Shape
from converter.mappings.official import iterate_pairs
from efficientdet_spec import (
    MODELS,
    OFFICIAL_KEYS,
    Activation,
    Cause,
    EfficientDetConfig,
    Fusion,
    InputError,
    base_model,
    first_difference,
)

COUNTER = "num_batches_tracked"
"""Last part of a batch norm's buffer that counts training steps and is not read at inference."""


@dataclass(frozen=True)
class Key:
    """One key of a code base's state dict.

    Attributes:
        name: The key.
        shape: Shape of its tensor.
        parameter: The key of our state dict whose values it holds, in the same layout; None
            where the code base makes a tensor that its model never reads.
        fallback: What it holds where our arrays have nothing for it; None for what they must have.
    """

    name: str
    shape: Shape
    parameter: str | None
    fallback: Array | None = None

    @property
    def required(self) -> bool:
        """Whether the model cannot be without it."""
        return self.fallback is None

    def why_unused(self, naming: Naming) -> str:
        """Why nothing is made of it where it is not required.

        Args:
            naming: Whose key it is.
        """
        if self.parameter is None:
            return f"never read by {naming.project}"
        return "counter of training steps, not read at inference"


def counter(theirs: str, ours: str) -> Key:
    """The counter of a batch norm, which is 0 in a new model.

    Args:
        theirs: Path of the layer in the other code base.
        ours: Path of the layer in our model.
    """
    return Key(f"{theirs}.{COUNTER}", (), f"{ours}.{COUNTER}", np.zeros((), np.int64))


def _no_notes(config: EfficientDetConfig) -> tuple[str, ...]:
    return ()


def _no_obstacle(keys: Collection[str]) -> str:
    return ""


@dataclass(frozen=True)
class Naming:
    """The keys that a PyTorch code base gives the parameters.

    Attributes:
        name: How users name it.
        project: The code base, as people know it.
        keys: Every key of its model of a configuration, each once. It raises InputError where
            the code base cannot build the configuration.
        variants: The same code base's other ways to name the same parameters.
        notes: For a configuration, what a user of a written state dict should know, a sentence
            each.
        obstacle: For the keys of a state dict in this naming, what model of the code base it is
            that no configuration has, with what to do, to stand behind ``is``; else an empty text.
    """

    name: str
    project: str
    keys: Callable[[EfficientDetConfig], Iterator[Key]]
    variants: tuple[Naming, ...] = ()
    notes: Callable[[EfficientDetConfig], tuple[str, ...]] = _no_notes
    obstacle: Callable[[Collection[str]], str] = _no_obstacle

    @property
    def whose(self) -> str:
        """The code base with its short name, to stand behind ``the names of``."""
        return self.project if self.name in self.project else f"{self.name} ({self.project})"


def has_keys_of_release(config: EfficientDetConfig) -> bool:
    """Whether a model's parameters are those of the release with its name, but for the classes.

    Args:
        config: The model.
    """
    usual = MODELS.get(base_model(config.name))
    if usual is None:
        return False
    usual = usual.with_classes(config.num_classes)
    return [(pair.parameter, pair.shape) for pair in iterate_pairs(config)] == [
        (pair.parameter, pair.shape) for pair in iterate_pairs(usual)
    ]


_USUAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "activation": (Activation.SWISH,),
        "fusion": (Fusion.FAST_ATTENTION, Fusion.SUM),
        "fpn_nodes": (None,),
        "separable_conv": (True,),
        "conv_after_downsample": (False,),
        "conv_bn_act": (False,),
        "resample_bn": (True,),
        "backbone_stages": (None,),
        "head_survival_probability": (None,),
    }
)
"""What the published models have: other code bases build it, and their keys for it are known."""


def require_usual(config: EfficientDetConfig, naming: Naming, also: Sequence[str] = ()) -> None:
    """Refuse a model of another structure than the published ones.

    Args:
        config: The model.
        naming: Of the code base.
        also: Fields in which the code base has other values too.

    Raises:
        InputError: Says in what the model differs.
    """
    for field, usual in _USUAL.items():
        value = getattr(config, field)
        if field not in also and value not in usual:
            found = first_difference(config, replace(config, **{field: usual[0]}))
            told = f"{OFFICIAL_KEYS.get(field, field)} otherwise than the published models"
            if found is not None:
                told = f"{found.key} {found.ours}"
            raise InputError(
                f"{config.name} has {told}, for which the keys of {naming.project} are not known; "
                f"write another kind of file.",
                Cause.MODEL,
            )


class Layers:
    """Yields the keys of layers, given the paths that both code bases have for them.

    Args:
        config: The model.
    """

    def __init__(self, config: EfficientDetConfig) -> None:
        self._shapes = {pair.parameter: pair.shape for pair in iterate_pairs(config)}

    def convolution(self, theirs: str, ours: str) -> Iterator[Key]:
        """The weight of a convolution, and its bias where it has one.

        Args:
            theirs: Path of the layer in the other code base.
            ours: Path of the layer in our model.
        """
        yield self.parameter(f"{theirs}.weight", f"{ours}.weight")
        if f"{ours}.bias" in self._shapes:
            yield self.parameter(f"{theirs}.bias", f"{ours}.bias")

    def batch_norm(self, theirs: str, ours: str) -> Iterator[Key]:
        """Parameters, statistics and counter of a batch norm.

        Args:
            theirs: As for :meth:`convolution`.
            ours: As for :meth:`convolution`.
        """
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield self.parameter(f"{theirs}.{part}", f"{ours}.{part}")
        yield counter(theirs, ours)

    def parameter(self, theirs: str, ours: str) -> Key:
        """A parameter that is no convolution's and no batch norm's.

        Args:
            theirs: Its key in the other code base.
            ours: Its key in our model.
        """
        return Key(theirs, self._shapes[ours], ours)
