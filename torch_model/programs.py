"""What a folded network is made into for images of one shape: code that is not Python's any more.

On a CPU it is traced by TorchScript, and oneDNN's graph compiler joins each convolution with its
activation, lays weights out as its kernels want them and lets neighbours keep the layout between
them. That needs no C++ compiler and writes no file: what has been compiled belongs to the process.
On a GPU all kernels of a forward pass are recorded once, as a CUDA graph, and started together.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from torch_model.one_image import for_one_image

Outputs = tuple[list[Tensor], list[Tensor]]
"""Class outputs and box outputs by level."""

Program = Callable[[Tensor], Outputs]
"""A forward pass for images of one shape."""

_RUNS = 3
"""TorchScript looks at the first run's shapes and compiles for them in the second; the third is as
all that follow. On a GPU libraries choose their kernels and take their memory in them."""

_compiling = threading.Lock()
"""Which passes TorchScript makes is a setting of the whole process."""


def compiled(network: nn.Module, images: Tensor) -> Program:
    """A network as a program for images of this shape, where they are.

    Args:
        network: Folded, in evaluation mode.
        images: [N, 3, H, W], channels last.
    """
    if len(images) == 1 and not images.is_cuda:
        network = for_one_image(network)
    try:
        traced = _traced(network, images, fused=not images.is_cuda)
    except RuntimeError:
        # oneDNN's graph compiler finds no layout for some maps of one position, as the highest
        # level of a small image is.
        traced = _traced(network, images, fused=False)
    count = len(traced(images)) // 2

    def program(given: Tensor) -> Outputs:
        outputs = list(traced(given))
        return outputs[:count], outputs[count:]

    return _recorded(program, images) if images.is_cuda else program


def _traced(network: nn.Module, images: Tensor, *, fused: bool) -> Any:
    """A network as TorchScript that has run, and is compiled, on these images."""
    with torch.no_grad(), _compiling, _fusing(fused), warnings.catch_warnings():
        # TorchScript is no longer developed, and says so; tracing says that sizes are fixed.
        warnings.simplefilter("ignore")
        traced = torch.jit.freeze(torch.jit.trace(_Flat(network).eval(), images, check_trace=False))
        for _ in range(_RUNS):
            traced(images)
    return traced


class _Flat(nn.Module):
    """A network that returns its outputs in one tuple, as TorchScript wants them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        classes, boxes = self.network(images)
        return (*classes, *boxes)


@contextmanager
def _fusing(fused: bool) -> Iterator[None]:
    """Within it TorchScript gives what it compiles to oneDNN's graph compiler, or does not."""
    before = torch.jit.onednn_fusion_enabled()
    torch.jit.enable_onednn_fusion(fused and torch.backends.mkldnn.is_available())
    try:
        yield
    finally:
        torch.jit.enable_onednn_fusion(before)


def _recorded(program: Program, images: Tensor) -> Program:
    """A program's kernels as one CUDA graph."""
    given = images.clone(memory_format=torch.channels_last)
    stream = torch.cuda.Stream(images.device)
    stream.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(_RUNS):
            program(given)
    torch.cuda.current_stream(images.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        made = program(given)
    lock = threading.Lock()

    def copies(outputs: Sequence[Tensor]) -> list[Tensor]:
        return [output.clone() for output in outputs]

    def replay(images: Tensor) -> Outputs:
        # The graph reads and writes the same memory each time.
        with lock:
            given.copy_(images)
            graph.replay()
            return copies(made[0]), copies(made[1])

    return replay
