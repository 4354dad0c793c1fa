"""Sees every operation that PyTorch carries out, and the memory that it reads and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from parity.sides.pytorch.nested import flatten


@dataclass(frozen=True)
class Step:
    """An operation, as it has just been carried out.

    Attributes:
        number: Its place in the run among all that count; -1 for one that does not.
        sequence: Its place among all.
        function: The operation.
        args: What it was given by position.
        kwargs: What it was given by name.
        read: The tensors among these whose memory is known.
        written: Those of them that it has written to.
        replaced: Those of which nothing is left of what was there before.
        output: What it returned.
    """

    number: int
    sequence: int
    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    read: list[Tensor]
    written: list[Tensor]
    replaced: list[Tensor]
    output: Any

    @property
    def name(self) -> str:
        """Such as ``convolution``."""
        return name_of(self.function)

    @property
    def made(self) -> list[Tensor]:
        """The tensors with new content: those written to, and those whose memory is new."""
        known = {storage_of(tensor) for tensor in self.read}
        made = filter(has_memory, flatten(self.output))
        fresh = [tensor for tensor in made if storage_of(tensor) not in known]
        # What it returns of what it has written to is mostly the same tensor.
        return [*self.written, *fresh]


_UNCOUNTED = frozenset(("detach", "alias", "lift_fresh"))
"""Operations that give another name to what is there. PyTorch itself carries some out where
somebody holds what was made, as whoever looks at it may."""


_OF_SHAPE = frozenset(
    (
        *("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like"),
        *("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided"),
    )
)
"""Operations that make a tensor like another one, whose values they do not read."""


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries every operation out as it is, and shows it before and behind.

    Subclasses override :meth:`before` and :meth:`behind`, in which no operation is seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count = 0
        self._sequence = 0

    def before(self, function: Any, args: Any, kwargs: Any) -> None:
        """Look at an operation that is about to be carried out."""

    def behind(self, step: Step) -> None:
        """Look at an operation; the memory of what it made may be written to."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        sequence, self._sequence = self._sequence, self._sequence + 1
        number = -1
        if name_of(func) not in _UNCOUNTED:
            number, self._count = self._count, self._count + 1
        self.before(func, args, named)
        output = func(*args, **named)
        written, replaced = _written(func, args, named)
        # Of some operations' arguments only shape and type matter.
        given = [] if name_of(func) in _OF_SHAPE else flatten([list(args), named])
        read = list(filter(has_memory, given))
        self.behind(Step(number, sequence, func, args, named, read, written, replaced, output))
        return output


def name_of(function: Any) -> str:
    """What PyTorch calls an operation, without its namespace and variant."""
    schema = getattr(function, "_schema", None)
    name = schema.name if schema is not None else str(function)
    return str(name).rpartition("::")[2]


def storage_of(tensor: Tensor) -> int:
    """What memory a tensor is of; as long as :func:`kept` is, nothing else has this number."""
    return int(tensor.untyped_storage()._cdata)


def has_memory(tensor: Tensor) -> bool:
    """Whether it is known what memory a tensor is of; not of sparse ones and of oneDNN's own."""
    try:
        storage_of(tensor)
    except (RuntimeError, NotImplementedError):
        return False
    return True


def kept(tensor: Tensor) -> StorageWeakRef:
    """Keeps the number of a tensor's memory from being used again, and not the memory."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


@lru_cache(maxsize=4096)
def _writes(function: Any) -> tuple[tuple[int, str, bool], ...]:
    """Arguments that an operation writes to: place, name, and whether it reads them not."""
    schema = getattr(function, "_schema", None)
    if schema is None:
        return ()
    fills = name_of(function).rstrip("_") in ("copy", "zero", "fill", "normal", "uniform")
    return tuple(
        (place, argument.name, bool(argument.is_out) or (fills and place == 0))
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def _written(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Tensor], list[Tensor]]:
    written: list[Tensor] = []
    replaced: list[Tensor] = []
    for place, name, unread in _writes(function):
        value = args[place] if place < len(args) else kwargs.get(name)
        for tensor in filter(has_memory, flatten([value])):
            written.append(tensor)
            whole = tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
            if unread and whole:
                replaced.append(tensor)
    return written, replaced


def written_by(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors that an operation is about to write to."""
    return _written(function, args, kwargs)[0]
