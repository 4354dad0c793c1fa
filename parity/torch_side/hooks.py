"""The PyTorch model as a consumer: hooks compare every layer's output as it is computed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parity.stream import Array

Visit = Callable[[str, nn.Module, tuple[Any, ...], Tensor], None]
"""Called with a node's name, its module, the module's inputs and its output."""


def nhwc(tensor: Tensor) -> Array:
    """An NCHW tensor as an NHWC array; without a copy where it is laid out channels last."""
    array: Array = tensor.detach().permute(0, 2, 3, 1).cpu().numpy()
    return array


def run(model: nn.Module, images: Array) -> Any:
    """The model's outputs for NHWC images, without gradients.

    Args:
        model: The model, in evaluation mode.
        images: [N, H, W, 3].
    """
    with torch.inference_mode():
        return model(torch.from_numpy(images).permute(0, 3, 1, 2))


@contextmanager
def visiting(model: nn.Module, levels: Iterable[int], visit: Visit) -> Iterator[None]:
    """Call ``visit`` at each node of the model while the body runs it.

    A node is a module without children that computes something: one that returns its very
    input is passed over. A module that is called once for each level gives as many nodes.

    Args:
        model: The model.
        levels: Feature levels in the order in which shared modules are called.
        visit: What to do.
    """
    order = list(levels)
    calls: Counter[str] = Counter()
    shared = _shared_modules(model)
    busy = False

    def hook(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal busy
        if busy or any(output is value for value in inputs):
            return
        level = f"@P{order[calls[name] % len(order)]}" if name in shared else ""
        calls[name] += 1
        busy = True
        try:
            visit(name + level, module, inputs, output)
        finally:
            busy = False

    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: hook(name, module, inputs, output)
        )
        for name, module in model.named_modules()
        if not any(module.children())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shared_modules(model: nn.Module) -> set[str]:
    """Names of the layers that the heads call once for each level."""
    return {
        name
        for name, _ in model.named_modules()
        if re.match(r"(class|box)_head\.", name) and not re.search(r"\.P\d+$", name)
    }


def terms(x: Tensor) -> int:
    """Number of values that one output element of a mean over height and width sums up."""
    return int(x.shape[2:].numel())


def exact_mean(x: Tensor) -> Array:
    """The mean over height and width of NCHW features in float64, as NHWC."""
    return nhwc(x.mean((2, 3), keepdim=True, dtype=torch.float64))


def flatten(outputs: Any) -> list[Tensor]:
    """The tensors in nested lists and tuples, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [tensor for item in outputs for tensor in flatten(item)]


def disturb(output: Tensor, array: Array) -> None:
    """Add an array to a node's output, in place.

    Args:
        output: [N, C, H, W], a tensor that nothing but the next module will read.
        array: [N, H, W, C].
    """
    output.add_(torch.from_numpy(array).permute(0, 3, 1, 2))


def substitute(output: Tensor, array: Array) -> None:
    """Overwrite a node's output with the reference's values, in place.

    Args:
        output: [N, C, H, W], a tensor that nothing but the next module will read.
        array: [N, H, W, C].
    """
    # Torch wants writable memory even to read from it; the reference's may not be.
    source = torch.from_numpy(array if array.flags.writeable else array.copy())
    output.copy_(source.permute(0, 3, 1, 2))
