"""The pickle within a PyTorch file, read without running anything that it asks for.

A pickle is a program. This reads the few instructions that plain values and tensors need, and
names the first other thing that one asks for; a tensor becomes a description of where its bytes
are (:class:`StoredTensor`), which claims nothing that has been checked.
"""

from __future__ import annotations

import contextlib
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO

MAX_BYTES = 2**22
"""Largest pickle; that of D7x's 1,902 parameters has 0.2 MB."""

MAX_INSTRUCTIONS = 400_000
"""Most instructions, each of which makes at most a few hundred bytes; D7x's takes 60,000."""

_MAX_DEPTH = 32
"""Dictionaries, lists and tuples within each other; a model file has five."""

MAX_DIMENSIONS = 32
"""Most dimensions of a tensor, as many as NumPy has."""


class PickleError(Exception):
    """A pickle that is damaged, or holds more than plain values and tensors.

    Attributes:
        holds: What it asks for that only code could bring back; None where it is damaged.
        texts: Short texts in it, whatever they are, where somebody has looked for them.
    """

    def __init__(self, message: str, holds: str | None = None) -> None:
        super().__init__(message)
        self.holds = holds
        self.texts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Storage:
    """Where bytes are.

    Attributes:
        type: Name of the elements' type, such as ``float32``.
        key: Name of the record that holds them.
        count: Number of elements that are claimed.
    """

    type: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as a file describes it.

    Attributes:
        storage: Where its elements are.
        offset: Of the first, in elements.
        shape: Extents, none negative.
        strides: Elements from one to the next of each dimension, none negative.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Inert:
    """What a file names and nothing here needs, such as a device."""

    name: str


STORAGES: Mapping[str, str] = MappingProxyType(
    {
        "torch BFloat16Storage": "bfloat16",
        "torch BoolStorage": "bool",
        "torch ByteStorage": "uint8",
        "torch CharStorage": "int8",
        "torch DoubleStorage": "float64",
        "torch FloatStorage": "float32",
        "torch HalfStorage": "float16",
        "torch IntStorage": "int32",
        "torch LongStorage": "int64",
        "torch ShortStorage": "int16",
    }
)
"""PyTorch's classes of storages and the types of their elements."""

_OTHER_TENSORS: Mapping[str, str] = MappingProxyType(
    {
        "_rebuild_device_tensor_from_numpy": "a tensor of another device",
        "_rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
        "_rebuild_nested_tensor": "a nested tensor",
        "_rebuild_qtensor": "a quantised tensor",
        "_rebuild_sparse_tensor": "a sparse tensor",
        "_rebuild_wrapper_subclass": "a tensor of another class",
    }
)
"""PyTorch's functions that make tensors of other kinds, and what they are called here."""


def read_pickle(stream: BinaryIO) -> Any:
    """What the next pickle of a stream holds.

    Args:
        stream: At the pickle's first byte, with :data:`MAX_BYTES` bytes left at most.

    Returns:
        Dictionaries, lists, tuples, texts, numbers, None, and :class:`StoredTensor` for tensors.

    Raises:
        PickleError: It is damaged, too long, or asks for anything else.
    """
    machine = _Machine()
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if number >= MAX_INSTRUCTIONS:
                raise PickleError(f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions")
            if instruction.name == "STOP":
                return _small(machine.pop())
            machine.carry_out(instruction.name, argument)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        reason = f"{error!s:.80}" or type(error).__name__
        raise PickleError(f"its pickle cannot be read: {reason}") from error
    raise PickleError("its pickle has no end")


def iterate_tensors(content: Any) -> Iterator[tuple[tuple[str, ...], StoredTensor]]:
    """Every tensor in what :func:`read_pickle` has returned, with the keys that lead to it.

    Items of lists and tuples have their place as key. One that stands in two places comes twice.

    Args:
        content: The content; that it is small and not deep has been seen to.
    """
    if isinstance(content, StoredTensor):
        yield (), content
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list | tuple):
        items = enumerate(content)
    for key, item in items:
        for rest, tensor in iterate_tensors(item):
            yield (str(key), *rest), tensor


def texts_of(pickle: bytes) -> frozenset[str]:
    """Short texts in a pickle that is not carried out: the keys of its dictionaries, among others.

    Args:
        pickle: The pickle; where it is damaged, what stands before that is looked at.
    """
    found = set()
    with contextlib.suppress(ValueError, LookupError, TypeError, ArithmeticError):
        for number, (instruction, argument, _) in enumerate(pickletools.genops(pickle)):
            if number >= MAX_INSTRUCTIONS:
                break
            if instruction.name in _TEXTS and len(argument) <= _LONGEST_KEY:
                found.add(argument)
    return frozenset(found)


_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE")
_LONGEST_KEY = 200


def _small(content: Any) -> Any:
    """The content, unless it is more than its bytes could say plainly.

    A pickle can name what it has made before. So a few hundred instructions make a list of two
    lists of two lists and so on, of which nobody must go through all.

    Raises:
        PickleError: It is.
    """
    left, letters, level = MAX_INSTRUCTIONS, MAX_BYTES, [content]
    for _ in range(_MAX_DEPTH):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(item)
                following.extend(item.values())
            elif isinstance(item, list | tuple):
                following.extend(item)
            elif isinstance(item, str):
                letters -= len(item)
            if len(following) > left or letters < 0:
                raise PickleError("its pickle stands for much more than its bytes")
        left -= len(following)
        level = following
        if not level:
            return content
    raise PickleError(f"its values lie within each other more than {_MAX_DEPTH} deep")


_MARK = object()


class _Machine:
    """The stack and the memory that a pickle's instructions work on."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a value is missing")
        return value

    def carry_out(self, name: str, argument: Any) -> None:
        """One instruction.

        Raises:
            PickleError: It does something else than making plain values.
            ValueError, LookupError, TypeError: The instructions do not fit each other.
        """
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            items = tuple(self.pop() for _ in range(count))[::-1]
            self._stack.append(items)
        elif name in _OTHERS:
            _OTHERS[name](self, argument)
        else:
            raise PickleError(f"the instruction {name}", f"the pickled instruction {name}")

    def _since_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                found = self._stack[place + 1 :]
                del self._stack[place:]
                return found
        raise ValueError("the beginning of a list is missing")

    def _ignore(self, _: Any) -> None:
        """For what only says how the pickle is laid out."""

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _append(self, _: Any) -> None:
        item = self.pop()
        self._container(list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        self._container(list).extend(items)

    def _set(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._put(key, value)

    def _set_all(self, _: Any) -> None:
        items = self._since_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._put(key, value)

    def _put(self, key: Any, value: Any) -> None:
        # Anything else would have to be hashed, and tuples may lie within each other too deeply.
        if not isinstance(key, str | int):
            raise ValueError("a key is neither a text nor a number")
        found = self._container(dict)
        if key in found:
            raise ValueError(f"the key {key!r:.60} is there twice")
        found[key] = value

    def _container(self, kind: type) -> Any:
        found = self._stack[-1]
        if not isinstance(found, kind):
            raise ValueError(f"something is put into what is no {kind.__name__}")
        return found

    def _keep(self, place: Any) -> None:
        self._memo[len(self._memo) if place is None else place] = self._stack[-1]

    def _recall(self, place: Any) -> None:
        self._stack.append(self._memo[place])

    def _global(self, name: Any) -> None:
        self._stack.append(_named(name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self._stack.append(_named(f"{module} {name}"))

    def _persistent(self, _: Any) -> None:
        self._stack.append(_storage(self.pop()))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(arguments, tuple) or not callable(function):
            raise ValueError("something is called that is no function")
        self._stack.append(function(*arguments))

    def _build(self, _: Any) -> None:
        # A dictionary's attributes, such as the versions of a state dict's modules.
        self.pop()
        self._container(dict)


_VALUES = frozenset(
    ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
)
_CONSTANTS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        "NONE": lambda: None,
        "NEWTRUE": lambda: True,
        "NEWFALSE": lambda: False,
        "EMPTY_TUPLE": tuple,
        "EMPTY_LIST": list,
        "EMPTY_DICT": dict,
    }
)
_TUPLES = MappingProxyType({"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3})
_OTHERS: Mapping[str, Callable[[_Machine, Any], None]] = MappingProxyType(
    {
        "PROTO": _Machine._ignore,
        "FRAME": _Machine._ignore,
        "MARK": _Machine._mark,
        "TUPLE": _Machine._tuple,
        "APPEND": _Machine._append,
        "APPENDS": _Machine._appends,
        "SETITEM": _Machine._set,
        "SETITEMS": _Machine._set_all,
        "BINPUT": _Machine._keep,
        "LONG_BINPUT": _Machine._keep,
        "MEMOIZE": _Machine._keep,
        "BINGET": _Machine._recall,
        "LONG_BINGET": _Machine._recall,
        "GLOBAL": _Machine._global,
        "STACK_GLOBAL": _Machine._stack_global,
        "BINPERSID": _Machine._persistent,
        "REDUCE": _Machine._reduce,
        "BUILD": _Machine._build,
    }
)
"""What each instruction does, by its name in :mod:`pickletools`."""


def _named(name: str) -> Any:
    """What a class or function of a pickle stands for here.

    Args:
        name: Module and name with a blank between.

    Raises:
        PickleError: It is none that plain tensors need.
    """
    if name in STORAGES:
        return _Inert(STORAGES[name])
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    module, _, last = name.rpartition(" ")
    shown = f"{module}.{last}"
    if module in ("torch._utils", "torch.nested._internal.nested_tensor"):
        raise PickleError(shown, _OTHER_TENSORS.get(last, f"a pickled {shown:.100}"))
    if module == "torch" and last.startswith(("float", "int", "uint", "bfloat", "bool")):
        return _Inert(last)
    raise PickleError(shown, f"a pickled {shown:.100}")


def _storage(described: Any) -> Storage:
    """A storage from what a pickle says of it: a word, its class, its record, device and size."""
    if not isinstance(described, tuple) or len(described) < 5:
        raise ValueError("a storage is not described")
    word, kind, key, _, count = described[:5]
    # Before 0.4, a storage could be a part of another one.
    if any(part is not None for part in described[5:]):
        raise ValueError("a storage is a part of another")
    if word != "storage" or not isinstance(kind, _Inert) or not isinstance(key, str):
        raise ValueError("a storage is described otherwise than PyTorch does")
    return Storage(kind.name, key, _whole(count))


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{type(value).__name__} stands where a size belongs")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor has no shape")
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} extents and {len(strides)} strides")
    extents, steps = (tuple(_whole(item) for item in items) for items in (shape, strides))
    return StoredTensor(storage, _whole(offset), extents, steps)


def _parameter(data: Any, *_: Any) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise ValueError("a parameter is no tensor")
    return data


def _size(extents: Any = ()) -> tuple[int, ...]:
    if not isinstance(extents, list | tuple) or len(extents) > MAX_DIMENSIONS:
        raise ValueError("a size is none")
    return tuple(_whole(item) for item in extents)


def _dictionary(*items: Any) -> dict[Any, Any]:
    if items and any(items):
        raise ValueError("a dictionary is made from something")
    return {}


_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "collections OrderedDict": _dictionary,
        "torch Size": _size,
        "torch device": lambda *_: _Inert("device"),
        "torch._utils _rebuild_parameter": _parameter,
        "torch._utils _rebuild_tensor": _tensor,
        "torch._utils _rebuild_tensor_v2": _tensor,
    }
)
"""The functions that plain tensors need, and what is called in their place."""
