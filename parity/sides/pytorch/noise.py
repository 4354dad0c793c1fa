"""Settings of PyTorch that should not matter, and a layer's output under each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parity.sides.pytorch.nested import bits, copies
from parity.sides.side import Setting
from parity.sides.variations import REPEATED, other_threads, threads_name


def variations(model: nn.Module) -> list[tuple[str, Setting]]:
    """What to change, on the device of a model; first nothing at all.

    On the CPU the number of threads and oneDNN, on a GPU cuDNN. Layout and determinism stay.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found: list[tuple[str, Setting]] = [(REPEATED, nullcontext)]
    if device.type == "cuda":
        if torch.backends.cudnn.is_available():  # type: ignore[no-untyped-call]
            found.append((_switch_name("cuDNN", torch.backends.cudnn), _switch_cudnn))
        return found
    for count in other_threads(torch.get_num_threads()):
        found.append((threads_name(count), partial(_threads, count)))
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        found.append((_switch_name("oneDNN", torch.backends.mkldnn), _switch_onednn))
    return found


def again(module: nn.Module, inputs: tuple[Any, ...], setting: Setting) -> Tensor | None:
    """A layer's output on copies of its inputs, which a layer that works in place overwrites.

    Args:
        module: The layer.
        inputs: What it is given.
        setting: What to apply meanwhile.

    Returns:
        The output; None where the layer does not compute a tensor from these inputs alone.
    """
    taken = copies(getattr(inputs, "read", inputs))
    try:
        with setting(), torch.inference_mode():
            output = module(*taken)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None
    return output if isinstance(output, Tensor) and output.dim() == 4 else None


def identical(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same bit for bit, NaNs and the signs of zeros included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.is_complex():
        one, other = (torch.view_as_real(tensor.resolve_conj()) for tensor in (one, other))
    return torch.equal(bits(one), bits(other))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _switch_onednn() -> AbstractContextManager[None]:
    return _switched(torch.backends.mkldnn)


def _switch_cudnn() -> AbstractContextManager[None]:
    return _switched(torch.backends.cudnn)


@contextmanager
def _switched(backend: Any) -> Iterator[None]:
    # The backends' own managers would also set what is not asked for here.
    before = backend.enabled
    backend.enabled = not before
    try:
        yield
    finally:
        backend.enabled = before


def _switch_name(name: str, backend: Any) -> str:
    return f"{name} {'off' if backend.enabled else 'on'}"
