"""The operations that make a node, kept while they run, to compute them again without roundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from parity.sides.pytorch.hooks import same
from parity.sides.pytorch.nested import flatten, mapped
from parity.sides.pytorch.observation.dispatch import Step, has_memory, kept, storage_of

_EVERY = 64
"""Operations after which what nobody will read again is let go."""

_LONGEST = 64
"""Operations of a span beyond which it is not computed again."""


@dataclass(frozen=True)
class Held:
    """An operation that is kept.

    Attributes:
        step: The operation.
        before: Copies of what it has written over, by the identity of the tensor.
    """

    step: Step
    before: Mapping[int, Tensor]


@dataclass(frozen=True)
class Span:
    """Operations that make a node out of the nodes before it.

    Attributes:
        steps: In order.
        output: The tensor that is the node.
    """

    steps: Sequence[Held]
    output: Tensor

    @property
    def given(self) -> list[Tensor]:
        """The tensors that come from outside of the span, in the order in which they are read."""
        steps = [held.step for held in self.steps]
        made = {id(tensor) for step in steps for tensor in flatten(step.output)}
        found = {
            id(tensor): tensor for step in steps for tensor in step.read if id(tensor) not in made
        }
        return list(found.values())

    def exact(self) -> Tensor | None:
        """The node without roundings; None where that is unknown.

        The span is computed again. Only where that gives its output bit for bit is it known to be
        the whole of what was done.
        """
        if not self.steps or len(self.steps) > _LONGEST:
            return None
        try:
            with torch.no_grad():
                again = self._carried_out(lambda tensor: tensor.clone())
                if again is None or not same(again, self.output):
                    return None
                truth = self._carried_out(_double)
        except Exception:
            # Whatever an operation raises in another type says nothing about its function.
            return None
        if truth is None or truth.shape != self.output.shape:
            return None
        return truth.detach().cpu()

    def _carried_out(self, taken: Callable[[Tensor], Tensor]) -> Tensor | None:
        """The output, with each tensor from outside as some function gives it."""
        there: dict[int, Tensor] = {}
        # As it was before the first of the steps that have written over it.
        before = {key: copy for held in reversed(self.steps) for key, copy in held.before.items()}

        def get(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if id(value) not in there:
                there[id(value)] = taken(before.get(id(value), value))
            # What an earlier step has made goes on without roundings, even if it is written over.
            return there[id(value)]

        for step in (held.step for held in self.steps):
            made = step.function(*mapped(tuple(step.args), get), **mapped(dict(step.kwargs), get))
            for was, now in zip(flatten(step.output), flatten(made), strict=True):
                there[id(was)] = now
        return there.get(id(self.output))


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor.clone()


class Spans:
    """Collects the operations of each node while a candidate runs."""

    def __init__(self) -> None:
        self._steps: dict[int, list[Held]] = {}
        self._alive: dict[int, StorageWeakRef] = {}
        self._before: dict[int, Tensor] = {}
        self._count = 0

    def before(self, written: Sequence[Tensor]) -> None:
        """Keep what an operation is about to write over."""
        self._before = {id(tensor): tensor.clone() for tensor in written}

    def behind(self, step: Step) -> None:
        """Take note of an operation."""
        steps: dict[int, Held] = {}
        for tensor in step.read:
            for earlier in self._steps.get(storage_of(tensor), ()):
                steps[earlier.step.sequence] = earlier
        steps[step.sequence] = Held(step, self._before)
        self._before = {}
        if len(steps) <= _LONGEST:
            ordered = [steps[number] for number in sorted(steps)]
            made = filter(has_memory, [*flatten(step.output), *step.written])
            for tensor in {id(tensor): tensor for tensor in made}.values():
                self._keep(tensor, ordered)
        self._count += 1
        if self._count % _EVERY == 0:
            self._let_go()

    def ended(self, tensor: Tensor) -> Span:
        """The span that ends with a tensor, which is a node; what reads it begins another."""
        steps = self._steps.get(storage_of(tensor), [])
        self._keep(tensor, [])
        return Span(steps, tensor)

    def _keep(self, tensor: Tensor, steps: list[Held]) -> None:
        storage = storage_of(tensor)
        self._steps[storage] = steps
        if storage not in self._alive:
            self._alive[storage] = kept(tensor)

    def _let_go(self) -> None:
        gone = [key for key, memory in self._alive.items() if memory.expired()]  # type: ignore[no-untyped-call]
        for storage in gone:
            del self._alive[storage], self._steps[storage]
