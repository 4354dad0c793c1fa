"""The faithful model as a referee: what each node should make of the reference's tensors.

The referee runs nothing by itself. It knows which tensors each node reads, keeps the
reference's for as long as a node still needs them, and says for any node what its exact output
and the magnitude of its roundings are. That does not depend on what the candidate is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from efficientdet_spec import NodeKind
from parity.judge.limits import Limit, chance_factor, limit_of
from parity.naming import own_paths
from parity.stream import Array
from parity.torch_side.exact import exact, terms
from parity.torch_side.gauge import gauge
from parity.torch_side.hooks import nchw, nhwc, nhwc_shape, visiting
from parity.torch_side.spread import spread

IMAGES = "images"
"""Stands among a node's inputs for the network's own."""


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


@dataclass(frozen=True)
class Ruling:
    """What a node should make of the reference's tensors; computed when it is first asked for.

    Attributes:
        compute: Returns truth, gauge and the reference's gauge.
        certain: Whether the candidate was given the very same inputs. Otherwise its gauge
            includes how much the roundings of the nodes before it can change it, and so does
            the reference's where what it was given is not recorded.
        reference_certain: Whether the reference's inputs are its own recorded tensors.
        dtype: Type in which both sides compute.
        limit: What either side may be off, in roundings of its gauge.
    """

    compute: Callable[[], tuple[Tensor, Tensor, Tensor]]
    certain: bool
    reference_certain: bool
    dtype: torch.dtype
    limit: Limit

    @cached_property
    def _figures(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.compute()

    @property
    def truth(self) -> Tensor:
        """The exact output, [N, C, H, W]."""
        return self._figures[0]

    @property
    def gauge(self) -> Tensor:
        """The magnitude on which the roundings of each element of the candidate act."""
        return self._figures[1]

    @property
    def reference_gauge(self) -> Tensor:
        """The same for the reference."""
        return self._figures[2]

    def rounded(self) -> Array:
        """The exact output as an NHWC array of the type in which both sides compute."""
        return nhwc(self.truth.to(self.dtype))


class Referee:
    """The faithful model, ready to judge.

    Args:
        model: The faithful model with the checkpoint's parameters, on the CPU.
        kinds: What each node computes, in the order of computation.
        shape: Of the images, [N, H, W, 3].

    Attributes:
        calls: How each node is made.
        kinds: As given.
        elements: Number of output elements of all nodes together.
        inputs_of: NHWC shape of the first tensor that each node reads.
    """

    def __init__(
        self, model: nn.Module, kinds: Mapping[str, NodeKind], shape: tuple[int, ...]
    ) -> None:
        self.kinds = kinds
        self.calls, shapes = _trace(model, kinds, shape)
        self.elements = sum(math.prod(made) for made in shapes.values())
        everything = {IMAGES: tuple(shape), **shapes}
        self.inputs_of = {
            node: everything[call.sources[0]] for node, call in self.calls.items() if call.sources
        }
        self._last_use: dict[str, str] = {}
        for node, call in self.calls.items():
            for source in call.sources:
                self._last_use[source] = node

    def sitting(self, images: Array, elements: int | None = None) -> Sitting:
        """A new run through the network.

        Args:
            images: [N, H, W, 3].
            elements: Number of output elements that the whole comparison judges, both sides and
                all inputs together; None where this run of both sides is all.
        """
        factor = chance_factor(2 * self.elements if elements is None else elements)
        return Sitting(self, images, self._last_use, factor)

    def sources(self, node: str) -> tuple[str, ...]:
        """The nodes that a node reads; :data:`IMAGES` for the network's input."""
        return self.calls[node].sources

    def downstream(self, nodes: set[str]) -> set[str]:
        """All nodes that depend on any of the given ones."""
        reached: set[str] = set()
        for node, call in self.calls.items():
            if any(source in nodes or source in reached for source in call.sources):
                reached.add(node)
        return reached


class Sitting:
    """One run through the network, node by node in the order of computation."""

    def __init__(
        self, referee: Referee, images: Array, last_use: Mapping[str, str], factor: float
    ) -> None:
        self._referee = referee
        self._last_use = last_use
        self._factor = factor
        self._features: dict[str, Tensor] = {IMAGES: nchw(images)}
        self._features_type = self._features[IMAGES].dtype
        self._unit = torch.finfo(self._features_type).eps / 2
        # How far the tensors that each side goes on with may be from those kept here.
        self._errors: dict[str, Tensor] = {}
        self._reference_errors: dict[str, Tensor] = {}

    def arguments(self, node: str) -> tuple[Any, ...]:
        """What the faithful layer is called with at a node: the reference's tensors."""
        return tuple(_fill(item, self._features) for item in self._referee.calls[node].arguments)

    def rule(self, node: str) -> Ruling:
        """What a node should make of its inputs; all earlier nodes have been followed by it."""
        call = self._referee.calls[node]
        kind = self._referee.kinds[node]
        arguments = self.arguments(node)
        inherited = [
            [errors.get(source) for source in call.sources]
            for errors in (self._errors, self._reference_errors)
        ]
        certain = _none(inherited[0]), _none(inherited[1])
        limit = limit_of(
            kind,
            terms(kind, call.module, arguments),
            factor=self._factor,
            truth_is_wider=self._features_type != torch.float64,
            certain=certain,
        )

        def compute() -> tuple[Tensor, Tensor, Tensor]:
            with torch.inference_mode():
                truth = exact(kind, call.module, arguments)
                plain = gauge(kind, call.module, arguments, truth)
                gauges = [
                    plain
                    if _none(errors)
                    else plain
                    + spread(kind, call.module, arguments, errors) / (roundings * self._unit)
                    for errors, roundings in zip(
                        inherited, (limit.candidate, limit.reference), strict=True
                    )
                ]
            return truth, gauges[0], gauges[1]

        return Ruling(compute, *certain, self._features_type, limit)

    def follow(
        self, node: str, array: Array, ruling: Ruling, *, substituted: bool, recorded: bool
    ) -> None:
        """Go on behind a node with the reference's tensor.

        Args:
            node: The node.
            array: The reference's tensor, which must stay as it is.
            ruling: What :meth:`rule` said.
            substituted: Whether the candidate goes on with this tensor too. Otherwise it goes
                on with its own, which may differ from the exact value by its roundings, as this
                tensor does by what it is found to.
            recorded: Whether this is the reference's own tensor. Otherwise it is the exact
                value, from which the reference's may differ by its roundings.
        """
        if node in self._last_use:
            kept = self._features[node] = nchw(array)
            if not substituted:
                own = (kept.double() - ruling.truth.double()).abs().to(self._features_type)
                self._errors[node] = ruling.gauge * (ruling.limit.candidate * self._unit) + own
            if not recorded:
                # Nobody can see in which order the reference has added up a mean.
                worst = max(ruling.limit.reference, ruling.limit.by_order or 0.0)
                self._reference_errors[node] = ruling.reference_gauge * (worst * self._unit)
        for source in dict.fromkeys(self._referee.calls[node].sources):
            if self._last_use[source] == node:
                for held in (self._features, self._errors, self._reference_errors):
                    held.pop(source, None)


def _none(errors: Sequence[Tensor | None]) -> bool:
    return all(error is None for error in errors)


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
            if isinstance(value, (list, tuple)):
                return type(value)(place(item) for item in value)
            return value

        arguments = tuple(place(value) for value in inputs)
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
    if isinstance(value, _Feature):
        return features[value.node]
    if isinstance(value, (list, tuple)):
        return type(value)(_fill(item, features) for item in value)
    return value
