"""The faithful PyTorch model as a referee: how it makes each node, and with which parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from efficientdet_spec import IMAGES, NodeKind
from parity.judge.operations import Operation
from parity.judge.referee import Referee
from parity.process.arrays import Array
from parity.sides.naming import own_paths
from parity.sides.pytorch.hooks import nchw, nhwc_shape, visiting
from parity.sides.pytorch.nested import mapped
from parity.sides.pytorch.operations import operation_of


@dataclass(frozen=True)
class _Feature:
    """Stands for a tensor of the network among a module's arguments."""

    node: str


@dataclass(frozen=True)
class Call:
    """How the faithful model makes a node.

    Attributes:
        module: The layer.
        arguments: What it is called with; a place where a tensor of the network goes holds its
            node.
        sources: These nodes in order.
    """

    module: nn.Module
    arguments: tuple[Any, ...]
    sources: tuple[str, ...]


class FaithfulReferee(Referee):
    """The faithful model in PyTorch, ready to judge.

    Args:
        model: The faithful model with the checkpoint's parameters, on the CPU.
        kinds: What each node computes, in the order of computation.
        shape: Of the images, [N, H, W, 3].

    Attributes:
        calls: How each node is made.
        shapes: NHWC shape of each node.
    """

    def __init__(
        self, model: nn.Module, kinds: Mapping[str, NodeKind], shape: tuple[int, ...]
    ) -> None:
        self.calls, shapes = _trace(model, kinds, shape)
        self.shapes: Mapping[str, tuple[int, ...]] = shapes
        sources = {node: call.sources for node, call in self.calls.items()}
        super().__init__(kinds, sources, {IMAGES: tuple(shape), **shapes})

    def operation(self, node: str) -> Operation:
        """What a node computes, with the checkpoint's parameters."""
        call = self.calls[node]
        return operation_of(self.kinds[node], call.module, call.arguments)

    def arguments(self, node: str, inputs: Sequence[Array]) -> tuple[Any, ...]:
        """What the faithful layer is called with at a node.

        Args:
            node: The node.
            inputs: The tensors that it reads, NHWC, as those of a ruling.
        """
        call = self.calls[node]
        maps = (nchw(array) for array in inputs)
        features = dict(zip(call.sources, maps, strict=True))
        return tuple(_fill(item, features) for item in call.arguments)


def _trace(
    model: nn.Module, kinds: Mapping[str, NodeKind], shape: tuple[int, ...]
) -> tuple[dict[str, Call], dict[str, tuple[int, ...]]]:
    """How a model makes its nodes, found by running it on tensors without values.

    Returns:
        The calls, and the NHWC shapes of their outputs.
    """
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    real = dict(model.named_parameters())
    parameters = {id(tensor): real[name] for name, tensor in state.items() if name in real}
    made: dict[int, str] = {}
    alive: list[Tensor] = []
    shapes: dict[str, tuple[int, ...]] = {}
    calls: dict[str, Call] = {}

    def visit(node: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        shapes[node] = nhwc_shape(output) or ()
        sources: list[str] = []

        def place(value: Any) -> Any:
            if isinstance(value, Tensor):
                if id(value) in parameters:
                    return parameters[id(value)]
                sources.append(made.get(id(value), IMAGES))
                return _Feature(sources[-1])
            return value

        arguments = mapped(tuple(inputs), place)
        calls[node] = Call(module, arguments, tuple(sources))
        made[id(output)] = node
        # An address must not be used again.
        alive.append(output)

    batch, height, width, channels = shape
    dtype = next(model.parameters()).dtype
    images = torch.empty(batch, channels, height, width, dtype=dtype, device="meta")
    with visiting(model, own_paths(kinds), visit), torch.no_grad():
        functional_call(model, state, (images,))
    if list(calls) != list(kinds):
        raise ValueError("the faithful model does not make the reference's nodes")
    return calls, shapes


def _fill(value: Any, features: Mapping[str, Tensor]) -> Any:
    return mapped(value, lambda item: features[item.node] if isinstance(item, _Feature) else item)
