"""The operations that make a node, kept while they run, to compute them again without roundings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from parity.sides.pytorch.dispatch import Step, has_memory, kept, storage_of
from parity.sides.pytorch.hooks import same
from parity.sides.pytorch.nested import flatten, mapped

_EVERY = 16
"""Operations after which what nobody will read again is let go."""

_LONGEST = 64
"""Operations of a span beyond which it is not computed again."""


@dataclass(frozen=True)
class Read:
    """A tensor that an operation of a span was given.

    Attributes:
        number: The tensor's, by which it is known in the span.
        tensor: What is held of it; None where an earlier operation of the span has made it, which
            will make it again.
    """

    number: int
    tensor: Tensor | None


@dataclass(frozen=True)
class Held:
    """An operation that is kept, without the tensors that it made.

    Attributes:
        sequence: Its place among all operations of the run.
        function: The operation.
        args: What it was given by position, with a :class:`Read` for each tensor.
        kwargs: What it was given by name, likewise.
        read: The tensors among these whose memory is known.
        made: The numbers of the tensors that it returned.
        before: Copies of what it has written over, by the number of the tensor.
    """

    sequence: int
    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    read: Sequence[Read]
    made: Sequence[int]
    before: Mapping[int, Tensor]


@dataclass(frozen=True)
class Span:
    """Operations that make a node out of the nodes before it.

    Attributes:
        steps: In order.
        output: The tensor that is the node.
        number: Of that tensor.
    """

    steps: Sequence[Held]
    output: Tensor
    number: int

    @property
    def given(self) -> list[Tensor]:
        """The tensors that come from outside of the span, in the order in which they are read."""
        made = {number for step in self.steps for number in step.made}
        found = {
            read.number: read.tensor
            for step in self.steps
            for read in step.read
            if read.number not in made
        }
        return [tensor for tensor in found.values() if tensor is not None]

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
        before = {key: copy for step in reversed(self.steps) for key, copy in step.before.items()}

        def get(value: Any) -> Any:
            if not isinstance(value, Read):
                return value
            if value.number not in there:
                tensor = before.get(value.number, value.tensor)
                if tensor is None:
                    raise LookupError("what makes it is no part of the span")
                there[value.number] = taken(tensor)
            # What an earlier step has made goes on without roundings, even if it is written over.
            return there[value.number]

        for step in self.steps:
            made = step.function(*mapped(tuple(step.args), get), **mapped(dict(step.kwargs), get))
            there.update(zip(step.made, flatten(made), strict=True))
        return there.get(self.number)


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor.clone()


class _Numbers:
    """Numbers tensors, without keeping them."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ReferenceType[Tensor], int]] = {}
        self._last = 0

    def of(self, tensor: Tensor) -> int:
        """The tensor's number, which no other has had."""
        known = self._known.get(id(tensor))
        # An address may be used again.
        if known is not None and known[0]() is tensor:
            return known[1]
        self._last += 1
        self._known[id(tensor)] = ref(tensor), self._last
        return self._last


class Spans:
    """Collects the operations of each node while a candidate runs.

    No tensor is kept for longer than the candidate keeps it, but for what a span reads from
    outside, and that only while its last tensors are there.
    """

    def __init__(self) -> None:
        self._steps: dict[int, list[Held]] = {}
        self._alive: dict[int, StorageWeakRef] = {}
        self._before: dict[int, Tensor] = {}
        self._numbers = _Numbers()
        self._count = 0

    def before(self, written: Sequence[Tensor]) -> None:
        """Keep what an operation is about to write over."""
        self._before = {self._numbers.of(tensor): tensor.clone() for tensor in written}

    def behind(self, step: Step) -> None:
        """Take note of an operation."""
        steps: dict[int, Held] = {}
        for tensor in step.read:
            for earlier in self._steps.get(storage_of(tensor), ()):
                steps[earlier.sequence] = earlier
        steps[step.sequence] = self._held(step, steps.values())
        self._before = {}
        if len(steps) <= _LONGEST:
            ordered = [steps[number] for number in sorted(steps)]
            made = filter(has_memory, [*flatten(step.output), *step.written])
            for tensor in {id(tensor): tensor for tensor in made}.values():
                self._keep(tensor, ordered)
        self._count += 1
        if self._count % _EVERY == 0:
            self._let_go()

    def _held(self, step: Step, earlier: Iterable[Held]) -> Held:
        within = {number for held in earlier for number in held.made}

        def read(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            number = self._numbers.of(value)
            return Read(number, None if number in within else value)

        return Held(
            step.sequence,
            step.function,
            mapped(tuple(step.args), read),
            mapped(dict(step.kwargs), read),
            [read(tensor) for tensor in step.read],
            [self._numbers.of(tensor) for tensor in flatten(step.output)],
            self._before,
        )

    def ended(self, tensor: Tensor) -> Span:
        """The span that ends with a tensor, which is a node; what reads it begins another."""
        steps = self._steps.get(storage_of(tensor), [])
        self._keep(tensor, [])
        return Span(steps, tensor, self._numbers.of(tensor))

    def _keep(self, tensor: Tensor, steps: list[Held]) -> None:
        storage = storage_of(tensor)
        self._steps[storage] = steps
        if storage not in self._alive:
            self._alive[storage] = kept(tensor)

    def _let_go(self) -> None:
        gone = [key for key, memory in self._alive.items() if memory.expired()]  # type: ignore[no-untyped-call]
        for storage in gone:
            del self._alive[storage], self._steps[storage]
