"""What a fault is, where in a model it can sit, and the few ways in which it is put there."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from efficientdet_spec import EfficientDetConfig, Fusion
from torch_model import EfficientDet


@dataclass(frozen=True)
class Context:
    """What a fault may need beside the model.

    Attributes:
        config: The model.
        raw: The checkpoint's raw values, those that are not moving averages, in PyTorch's layout.
    """

    config: EfficientDetConfig
    raw: Mapping[str, np.ndarray]


Names = Callable[[EfficientDet, Context], frozenset[str]]
"""Gives names of nodes, without a level's suffix, from a faithful model."""


def no_nodes(model: EfficientDet, context: Context) -> frozenset[str]:
    """Names nothing."""
    return frozenset()


def any_model(config: EfficientDetConfig) -> bool:
    """Whether the fault can be made in a model: in each."""
    return True


def with_attention(config: EfficientDetConfig) -> bool:
    """Whether fusion has weights."""
    return config.fusion is Fusion.FAST_ATTENTION


def with_plain_sum(config: EfficientDetConfig) -> bool:
    """Whether fusion has no weights."""
    return config.fusion is Fusion.SUM


@dataclass(frozen=True)
class Fault:
    """A mistake that a port can hold.

    Attributes:
        key: Short name, ``what/where``.
        title: What is wrong, for a table.
        inject: Changes a faithful model in place.
        nodes: The nodes that are then wrong, by the names of the faithful model.
        slugs: Names of the diagnosis that are right.
        visible: Whether inference shows it; where not, only the model's structure can.
        knock_on: Nodes that are right, but are given something else than the reference's tensors
            or are called at another time, so that they may be reported too.
        applies: Whether it can be made in a model.
        each: Where it is several faults, the names of each; empty for one.
        images: How many images it takes to show it.
    """

    key: str
    title: str
    inject: Callable[[EfficientDet, Context], None]
    nodes: Names
    slugs: frozenset[str]
    visible: bool = True
    knock_on: Names = no_nodes
    applies: Callable[[EfficientDetConfig], bool] = any_model
    each: tuple[frozenset[str], ...] = ()
    images: int = 1


def fields(config: EfficientDetConfig) -> dict[str, int]:
    """Numbers of the parts of a model by the words that a place may use for them."""
    blocks = config.backbone.blocks
    strided = [index for index, block in enumerate(blocks) if block.stride == 2]
    residual = [
        index for index, block in enumerate(blocks) if block.has_residual and block.expansion != 1
    ]
    low, high = config.min_level, config.max_level
    result = {
        "early": next(index for index, block in enumerate(blocks) if block.expansion != 1),
        "mid": len(blocks) // 2,
        "late": len(blocks) - 1,
        "strided": strided[0],
        "strided_late": strided[-1],
        "residual": residual[0],
        "residual_late": residual[-1],
        "last": config.fpn_cells - 1,
        "repeat": config.head_repeats - 1,
        "low": low,
        "high": high,
        "finest": high - low - 1,
        "top": 2 * (high - low) - 1,
    }
    # Of each level's two nodes, those on the way down come first.
    result |= {f"down{level}": high - 1 - level for level in range(low, high)}
    result |= {f"up{level}": high - low + level - low - 1 for level in range(low + 1, high + 1)}
    return result


def layers(model: nn.Module) -> list[str]:
    """Names of the modules without children that compute something."""
    return [
        name
        for name, module in model.named_modules()
        if not any(module.children()) and not fnmatchcase(name, "*.resamples.?")
    ]


def places(model: EfficientDet, templates: Iterable[str]) -> list[str]:
    """Names of the layers that templates name.

    Args:
        model: The model.
        templates: Names with the words of :func:`fields` in braces, and with wildcards.

    Raises:
        LookupError: A template names no layer.
    """
    found = []
    names = layers(model)
    words = fields(model.config)
    for template in templates:
        pattern = template.format(**words)
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            raise LookupError(f"{template} ({pattern}) names no layer of {model.config.name}")
        found += matches
    return found


def named(*templates: str) -> Names:
    """The layers that templates name, as :func:`places`."""
    return lambda model, context: frozenset(places(model, templates))


def at(
    key: str,
    title: str,
    change: Callable[[nn.Module], None],
    where: str | tuple[str, ...] | Names,
    *slugs: str,
    visible: bool = True,
    knock_on: tuple[str, ...] = (),
    applies: Callable[[EfficientDetConfig], bool] = any_model,
    images: int = 1,
) -> Fault:
    """A fault that sits in single layers.

    Args:
        key: As for :class:`Fault`.
        title: As for :class:`Fault`.
        change: Changes such a layer in place.
        where: Which layers: templates, or what names them.
        slugs: As for :class:`Fault`.
        visible: As for :class:`Fault`.
        knock_on: Templates of the nodes reported besides.
        applies: As for :class:`Fault`.
        images: As for :class:`Fault`.
    """
    nodes = where if callable(where) else named(*([where] if isinstance(where, str) else where))

    def inject(model: EfficientDet, context: Context) -> None:
        for name in sorted(nodes(model, context)):
            change(model.get_submodule(name))

    return Fault(
        key=key,
        title=title,
        inject=inject,
        nodes=nodes,
        slugs=frozenset(slugs),
        visible=visible,
        knock_on=named(*knock_on),
        applies=applies,
        images=images,
    )


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def left_out(key: str, title: str, where: str, *knock_on: str) -> Fault:
    """A fault that leaves out one layer; ``knock_on`` are those that read its output."""
    nodes = named(where)

    def inject(model: EfficientDet, context: Context) -> None:
        for name in nodes(model, context):
            put(model, name, nn.Identity())

    return Fault(
        key,
        title,
        inject,
        nodes,
        frozenset({"left-out", "left-out-or-relu"}),
        knock_on=named(*knock_on),
    )


def instead(function: Callable[..., Tensor]) -> Callable[[nn.Module], None]:
    """Makes a module compute ``function(module, *inputs)``."""

    def change(module: nn.Module) -> None:
        class Faulty(type(module)):
            def forward(self, *inputs):
                return function(self, *inputs)

        module.__class__ = Faulty

    return change


def then(function: Callable[..., object]) -> Callable[[nn.Module], None]:
    """Makes a module return ``function(output)``."""

    def change(module: nn.Module) -> None:
        class Faulty(type(module)):
            def forward(self, *inputs):
                return function(super().forward(*inputs))

        module.__class__ = Faulty

    return change


def before(function: Callable[[Tensor], Tensor]) -> Callable[[nn.Module], None]:
    """Makes a module take ``function(x)`` as its first input."""

    def change(module: nn.Module) -> None:
        class Faulty(type(module)):
            def forward(self, x, *others):
                return super().forward(function(x), *others)

        module.__class__ = Faulty

    return change


def rounded(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Rounds values to a shorter type and gives them in their own."""
    return lambda x: x.to(dtype).to(x.dtype)


def fusions(choose: Callable[[Tensor], bool], index: int) -> Names:
    """One of the fusions whose weights are of a kind; where none has weights, one of all.

    Args:
        choose: Tells from the weights.
        index: Which one: 0 is the first, -1 the last.
    """

    def nodes(model: EfficientDet, context: Context) -> frozenset[str]:
        found = []
        for name in places(model, ["fpn.*.fuse"]):
            weights = model.get_submodule(name.removesuffix(".fuse")).weights
            if weights is None or choose(weights):
                found.append(name)
        return frozenset([found[index]])

    return nodes


def each_counts(weights: Tensor) -> bool:
    """Whether each input of a fusion has a share in it that can be seen."""
    return bool((weights > 0.05).all())


def one_is_negative(weights: Tensor) -> bool:
    """Whether the relu of fast attention has something to do and leaves something over."""
    return bool((weights < 0).any() and (weights > 0).any())
