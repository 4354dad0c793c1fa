"""The pickle within a PyTorch file, written without PyTorch.

The counterpart of :mod:`torch_model.pickled`: plain values, and a description for each tensor. The
instructions are those of protocol 2, which :func:`torch.save` uses, and of them the few that
:func:`torch.load` admits where it may load weights only.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from efficientdet_spec import Cause, InputError
from torch_model.pickled import STORAGES, StoredTensor

_START, _STOP = b"\x80\x02", b"."
_FLOAT = struct.Struct(">d")
_INT = struct.Struct("<i")
_LENGTH = struct.Struct("<I")

_CLASSES = {kind: name for name, kind in STORAGES.items()}
"""PyTorch's class of the storages of each type of elements, as a pickle names it."""

_REBUILD = "torch._utils _rebuild_tensor_v2"
_HOOKS = "collections OrderedDict"


def pickle_of(content: Any) -> bytes:
    """A pickle that holds plain values and tensors.

    Args:
        content: Dictionaries, lists, tuples, texts, numbers, None, and a
            :class:`~torch_model.pickled.StoredTensor` for each tensor.

    Raises:
        InputError: Something in it is nothing of that.
    """
    pickler = _Pickler()
    pickler.put(content)
    return bytes(_START + pickler.written + _STOP)


class _Pickler:
    """Writes the instructions that make a value, one value after another."""

    def __init__(self) -> None:
        self.written = bytearray()
        self._memo: dict[bytes, bytes] = {}

    def put(self, value: Any) -> None:
        """The instructions that make a value."""
        if isinstance(value, StoredTensor):
            self._put_tensor(value)
        elif isinstance(value, str):
            self._put_text(value)
        elif value is None:
            self.written += b"N"
        elif isinstance(value, bool):
            self.written += b"\x88" if value else b"\x89"
        elif isinstance(value, int):
            self._put_int(value)
        elif isinstance(value, float):
            self.written += b"G" + _FLOAT.pack(value)
        elif isinstance(value, Mapping):
            self.written += b"}("
            for key, item in value.items():
                self.put(key)
                self.put(item)
            self.written += b"u"
        elif isinstance(value, list):
            self.written += b"]("
            for item in value:
                self.put(item)
            self.written += b"e"
        elif isinstance(value, tuple):
            self._put_tuple(value)
        else:
            raise InputError(
                f"A PyTorch file would hold a {type(value).__name__}, which is no plain value; "
                f"keep texts, numbers, lists, dictionaries and tensors in it.",
                Cause.FORMAT,
            )

    def _once(self, instruction: bytes) -> None:
        """An instruction that makes a text or names something; from then on, its number."""
        known = self._memo.get(instruction)
        if known is not None:
            self.written += known
            return
        number = len(self._memo)
        short = number < 256
        place = bytes([number]) if short else _LENGTH.pack(number)
        self.written += instruction + (b"q" if short else b"r") + place
        self._memo[instruction] = (b"h" if short else b"j") + place

    def _put_text(self, text: str) -> None:
        encoded = text.encode("utf-8", "surrogatepass")
        self._once(b"X" + _LENGTH.pack(len(encoded)) + encoded)

    def _put_named(self, name: str) -> None:
        """A class or function by its module and name, with a blank between."""
        self._once(b"c" + name.replace(" ", "\n").encode() + b"\n")

    def _put_int(self, value: int) -> None:
        if 0 <= value < 2**8:
            self.written += b"K" + bytes([value])
        elif -(2**31) <= value < 2**31:
            self.written += b"J" + _INT.pack(value)
        else:
            encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(encoded) >= 2**8:
                raise InputError("A number of more than 255 bytes cannot be kept.", Cause.FORMAT)
            self.written += b"\x8a" + bytes([len(encoded)]) + encoded

    def _put_tuple(self, items: tuple[Any, ...]) -> None:
        if not items:
            self.written += b")"
            return
        self.written += b"("
        for item in items:
            self.put(item)
        self.written += b"t"

    def _put_tensor(self, tensor: StoredTensor) -> None:
        """What PyTorch calls to rebuild a tensor: its storage and how it lies in it."""
        storage = tensor.storage
        self._put_named(_REBUILD)
        self.written += b"(("
        self._put_text("storage")
        self._put_named(_CLASSES[storage.type])
        self._put_text(storage.key)
        self._put_text("cpu")
        self._put_int(storage.count)
        self.written += b"tQ"
        for value in (tensor.offset, tensor.shape, tensor.strides, False):
            self.put(value)
        # A tensor's hooks, of which it has none.
        self._put_named(_HOOKS)
        self.written += b")RtR"
