"""The PyTorch model as a consumer: hooks see every node's output as it is computed."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parity.naming import Naming
from parity.stream import Array

Visit = Callable[[str, nn.Module, tuple[Any, ...], Tensor], "Tensor | None"]
"""Called with a node's name, its module, the module's inputs and its output.

What it returns takes the output's place; None leaves it.
"""


def nhwc(tensor: Tensor) -> Array:
    """An NCHW tensor as an NHWC array; without a copy where it is laid out channels last."""
    array: Array = tensor.detach().permute(0, 2, 3, 1).cpu().numpy()
    return array


def nchw(array: Array) -> Tensor:
    """An NHWC array as an NCHW tensor that shares its memory and must not be written to."""
    # PyTorch warns of memory that is not writable, even where it only reads.
    source = array if array.flags.writeable else array.copy()
    return torch.from_numpy(source).permute(0, 3, 1, 2)


def run(model: nn.Module, images: Array) -> Any:
    """The model's outputs for NHWC images, without gradients.

    Args:
        model: The model, in evaluation mode.
        images: [N, H, W, 3].
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    # Not inference mode, in which tensors do not count how often they are overwritten.
    with torch.no_grad():
        return model(torch.from_numpy(images).permute(0, 3, 1, 2).to(device))


@contextmanager
def visiting(model: nn.Module, naming: Naming, visit: Visit) -> Iterator[None]:
    """Call ``visit`` at each node of the model while the body runs it.

    A node is made by a module that the naming knows, whatever modules it consists of. Under a
    strict naming other layers are visited too, under their paths: those without children that
    compute something, which a module that returns its very input does not. So are calls beyond
    those that the naming expects, under the path and the number of the call.

    Args:
        model: The model.
        naming: Which modules make which nodes.
        visit: What to do.
    """
    calls: Counter[str] = Counter()
    expectations = _expectations(model, naming)
    busy = False

    def hook(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        nonlocal busy
        expected = expectations.get(name)
        if busy or not isinstance(output, Tensor):
            return None
        if expected is None and any(output is value for value in inputs):
            return None
        nodes = expected or (name,)
        node = nodes[calls[name]] if calls[name] < len(nodes) else f"{name} call {calls[name] + 1}"
        calls[name] += 1
        busy = True
        try:
            return visit(node, module, inputs, output)
        finally:
            busy = False

    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: hook(name, module, inputs, output)
        )
        for name, module in model.named_modules()
        if name in expectations or (naming.strict and _is_extra(name, module, naming))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _expectations(model: nn.Module, naming: Naming) -> dict[str, tuple[str, ...]]:
    """The nodes that each module's calls make, in order, under the first of its paths.

    One module may stand at several paths, as where levels share what each should have its own of.
    """
    first: dict[nn.Module, str] = {}
    nodes: dict[str, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if path in naming.calls:
            nodes.setdefault(first.setdefault(module, path), []).extend(naming.calls[path])
    position = {node: index for index, node in enumerate(naming.nodes)}
    return {path: tuple(sorted(found, key=position.__getitem__)) for path, found in nodes.items()}


def _is_extra(name: str, module: nn.Module, naming: Naming) -> bool:
    """Whether this is a layer that lies in no node."""
    parts = name.split(".")
    inside = any(".".join(parts[:end]) in naming.calls for end in range(1, len(parts)))
    return not inside and not any(module.children())


def flatten(values: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples and mappings, in order."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return []
    return [tensor for item in values for tensor in flatten(item)]


def disturbed(output: Tensor, array: Array) -> Tensor:
    """A node's output with an array added.

    Args:
        output: [N, C, H, W].
        array: [N, H, W, C].
    """
    return output + nchw(array).to(output.device)


def replacement(output: Tensor, inputs: tuple[Any, ...], array: Array) -> Tensor:
    """The reference's values in the layout, type and place of a node's output.

    Never the array's own memory, since a candidate may overwrite what it is given. The output's
    is used where nothing else can be in it.

    Args:
        output: [N, C, H, W].
        inputs: What it was made from, which must stay as it is.
        array: [N, H, W, C].
    """
    used = {tensor.untyped_storage().data_ptr() for tensor in flatten(inputs)}
    free = output._base is None and output.untyped_storage().data_ptr() not in used
    return (output if free else torch.empty_like(output)).copy_(nchw(array))


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Give a model's buffers back their values afterwards: in training mode a run changes them."""
    training = any(module.training for module in model.modules())
    kept = {name: value.clone() for name, value in model.named_buffers()} if training else {}
    try:
        yield
    finally:
        for name, value in model.named_buffers():
            if name in kept:
                value.data.copy_(kept[name])


def same(one: Tensor, other: Tensor | None) -> bool:
    """Whether two tensors are one, or equal bit for bit."""
    if one is other:
        return True
    return other is not None and one.shape == other.shape and torch.equal(one, other)


def nhwc_shape(tensor: Tensor) -> tuple[int, ...] | None:
    """An NCHW tensor's shape as NHWC; None for one of another rank."""
    return tuple(tensor.permute(0, 2, 3, 1).shape) if tensor.dim() == 4 else None


class Provenance:
    """Remembers which node each tensor came from, without keeping it alive."""

    def __init__(self) -> None:
        self._nodes: dict[int, tuple[weakref.ref[Tensor], str, int]] = {}

    def add(self, tensor: Tensor, node: str) -> None:
        """Remember where a tensor came from."""
        self._nodes[id(tensor)] = (weakref.ref(tensor), node, tensor._version)

    def of(self, values: Any) -> tuple[str | None, ...]:
        """The node of each tensor in nested values; None for a tensor of unknown origin."""
        found = []
        for tensor in flatten(values):
            reference, node, version = self._nodes.get(id(tensor), (None, "", 0))
            known = reference is not None and reference() is tensor and tensor._version == version
            found.append(node if known else None)
        return tuple(found)
