"""Records one run of a candidate: operations, what they read and make, samples of the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.process.arrays import Array
from parity.sides.observed.layouts import Layout, layouts
from parity.sides.observed.record import Call, Content, Made, Operation, Record
from parity.sides.observed.samples import positions
from parity.sides.pytorch.dispatch import Step, Watching, has_memory, kept, storage_of
from parity.sides.pytorch.nested import bits, flatten, plain, unreadable
from parity.sides.pytorch.observation.arguments import settings_of, shapes_of
from parity.sides.pytorch.observation.modules import Running, place

_MOVES = frozenset(
    (
        *("clone", "copy", "contiguous", "constant_pad_nd", "pad", "cat", "stack"),
        *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
        *("index_select", "index", "gather", "flip", "roll", "repeat", "view_copy", "slice_copy"),
        *("permute_copy", "transpose_copy", "_reshape_copy", "_unsafe_view", "detach_copy"),
        *("slice_scatter", "select_scatter", "index_put", "unfold_copy", "lift_fresh_copy"),
    )
)
"""Operations that only put elements elsewhere."""


Substitute = Callable[[int, int, Tensor], None]
"""Called with an operation's number, the number of one of its tensors, and the tensor, which it
may write to."""


class Recording(Watching):  # type: ignore[no-untyped-call]
    """Sees a run, and keeps a :class:`Record` of it.

    Args:
        nodes: NHWC shapes of the nodes that are sought.
        running: Knows which module is running.
        model: The candidate, whose parameters and buffers have names.
        instead: Puts something in the place of what is made; None for nothing.

    Attributes:
        failures: What has gone wrong in here.
    """

    def __init__(
        self,
        nodes: Sequence[tuple[int, int, int, int]],
        running: Running,
        model: nn.Module,
        instead: Substitute | None = None,
    ) -> None:
        super().__init__()
        self._names = _names(model)
        self._nodes: dict[int, list[tuple[int, int, int, int]]] = {}
        for node in dict.fromkeys(nodes):
            self._nodes.setdefault(int(np.prod(node)), []).append(node)
        self._running = running
        self._instead = instead
        self._values: list[Made] = []
        self._now: dict[int, int] = {}
        self._kept: list[Any] = []
        self._calls: list[Call] = []
        self._images = -1
        self._dtype = torch.float32
        self.failures: list[BaseException] = []

    def give(self, images: Tensor) -> None:
        """Take note of the images, before the run."""
        self._dtype = images.dtype
        self._images = self._add(None, 0, (), images)
        self._remember(images, self._images)

    def entered(self) -> int:
        """How many values there are where a module begins; see :class:`~.modules.Watcher`."""
        return len(self._values)

    def left(self, path: str, mark: int, output: Any) -> None:
        """Keep which values a module returns; see :class:`~.modules.Watcher`."""
        outputs = tuple(self._value(tensor) for tensor in flatten(output))
        self._calls.append(Call(path, mark, len(self._values), outputs))

    def behind(self, step: Step) -> None:
        """Keep what an operation read and made."""
        if step.number < 0:
            return
        try:
            self._keep(step)
        except BaseException as error:
            self.failures.append(error)
            raise

    def _keep(self, step: Step) -> None:
        operation = Operation(
            step.number,
            step.name,
            self._running.path,
            place(),
            settings_of(step),
            shapes_of(step),
        )
        replaced = {id(tensor) for tensor in step.replaced}
        parents = tuple(
            dict.fromkeys(
                self._number(tensor) for tensor in step.read if id(tensor) not in replaced
            )
        )
        moved = step.name.rstrip("_") in _MOVES
        for output, tensor in enumerate(step.made):
            number = self._add(operation, output, parents, tensor, moved=moved)
            self._remember(tensor, number)
            if self._instead is not None:
                self._instead(step.number, output, tensor)

    def record(self, returned: Any) -> Record:
        """What was seen, once the run is over.

        Args:
            returned: What the model returned.
        """
        origins = [self._value(tensor) for tensor in flatten(returned)]
        return Record(self._values, self._images, origins, self._calls)

    def _value(self, tensor: Tensor) -> int | None:
        """The value that a tensor is of; None for one that was not seen in this run."""
        return self._now.get(storage_of(tensor)) if has_memory(tensor) else None

    def _number(self, tensor: Tensor) -> int:
        """The value that a tensor is of."""
        storage = storage_of(tensor)
        if storage not in self._now:
            # Nothing in this run has made it: the candidate holds it.
            name = self._names.get(storage, "")
            number = self._add(None, 0, (), tensor, content=content(tensor), held=name)
            self._remember(tensor, number)
        return self._now[storage]

    def _remember(self, tensor: Tensor, number: int) -> None:
        storage = storage_of(tensor)
        if storage not in self._now:
            self._kept.append(kept(tensor))
        self._now[storage] = number

    def _add(
        self,
        operation: Operation | None,
        output: int,
        parents: tuple[int, ...],
        tensor: Tensor,
        *,
        moved: bool = False,
        content: Content | None = None,
        held: str = "",
    ) -> int:
        number = len(self._values)
        samples = {} if operation is None else self._samples(tensor)
        shape = tuple(tensor.shape)
        native = tensor.dtype is self._dtype
        real = not tensor.is_complex()
        made = (operation, output, parents, shape, native, moved, content, held, samples, real)
        self._values.append(Made(number, *made))
        return number

    def _samples(self, tensor: Tensor) -> Mapping[Layout, Array]:
        if unreadable(tensor) or not tensor.is_floating_point():
            return {}
        found = {}
        values = plain(tensor).detach()
        for node in self._nodes.get(values.numel(), ()):
            for layout in layouts(tuple(values.shape), node):
                index = tuple(map(torch.from_numpy, layout.index(positions(node))))
                taken = values[index] if index else values.reshape(1)
                found[layout] = taken.to("cpu", torch.float64).numpy()
        return found


def content(tensor: Tensor) -> Content | None:
    """The numbers in a tensor, in whatever order they lie; None where they cannot be read."""
    if unreadable(tensor) or tensor.is_complex() or not tensor.is_floating_point():
        return None
    whole = bits(tensor).to(torch.int64)
    # Beyond 64 bits a sum begins anew, which is the same in any order.
    return whole.numel(), int(whole.sum()), int((whole * whole).sum())


def _names(model: nn.Module) -> dict[int, str]:
    """Names of parameters and buffers by their memory, where one has it to itself."""
    found: dict[int, str] = {}
    shared = set()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if has_memory(value):
            memory = storage_of(value)
            if memory in found:
                shared.add(memory)
            found[memory] = name
    return {memory: name for memory, name in found.items() if memory not in shared}
