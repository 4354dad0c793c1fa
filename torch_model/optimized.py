"""A model in the form that computes fastest, which is proven like any other."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from efficientdet_spec import Cause, EfficientDetConfig, InputError
from torch_model.folding import fold
from torch_model.inputs import check_images
from torch_model.memory import keep_memory
from torch_model.programs import Outputs, Program, compiled
from torch_model.values import Values

MAX_PROGRAMS = 8
"""Times that one model is compiled, for as many shapes of images or changes of its values: PyTorch
never gives back what a program has taken, some 65 MB for the smallest model."""

_TOO_MANY = (
    f"An optimised model has been compiled for {MAX_PROGRAMS} shapes of images, and computes "
    f"others folded but not compiled from now on, which is slower; scale images to a few sizes."
)

_GROSS = {torch.float32: 1e-3, torch.float16: 0.25, torch.bfloat16: 0.5}
"""By type, of an output's rms: more than the roundings of a few hundred layers come to, less than
what a wrong layer does. In float32 seeded and trained models' outputs were moved by up to 2e-5 of
the rms."""


class OptimizedEfficientDet(nn.Module):
    """A model for inference alone, as fast as this machine and PyTorch allow.

    Batch norms are folded into convolutions, in float64. For each shape of images, when it comes
    for the first time, the network is compiled: see :mod:`torch_model.programs`. That
    takes some forward passes' time, and what the compiled program returns is held against what the
    folded network returns before it is used. A CPU compiles for float32 alone, and computes a model
    of another type folded and layer by layer.

    Args:
        model: A :class:`torch_model.model.EfficientDet`, which stays as it is and need not be
            kept.
        dtype: In which type to compute on a GPU; None: the model's own.
        keeps_memory: Whether this process is to keep freed memory, without which large images take
            up to twice as long; see :func:`torch_model.memory.keep_memory`.

    Attributes:
        config: What the model is.
        provenance: Where its values came from.
        network: The folded network, as it is written.

    Raises:
        InputError: The type cannot be computed in on the model's device.
    """

    network: nn.Module

    def __init__(
        self,
        model: Any,
        *,
        dtype: torch.dtype | None = None,
        keeps_memory: bool = True,
    ) -> None:
        super().__init__()
        own = next(model.parameters())
        if dtype not in (None, own.dtype) and (own.device.type == "cpu" or dtype not in _GROSS):
            raise InputError(
                f"The optimised form was asked to compute in {dtype} on {own.device.type}; on a "
                f"GPU it can do so in float16, bfloat16 and float32, and elsewhere in the model's "
                f"own type, {own.dtype}.",
                Cause.OPTION,
            )
        if keeps_memory:
            keep_memory()
        self.config: EfficientDetConfig = model.config
        self.provenance: dict[str, Any] = model.provenance
        # Whoever makes it without gradients may look at it with gradients later.
        with torch.inference_mode(False), torch.no_grad():
            network = fold(model)
        self.network = network.to(dtype=dtype or own.dtype, memory_format=torch.channels_last)
        # How many look at it as it is written, be it in other threads.
        self._written = 0
        self._said = False
        self._lock = threading.Lock()
        self._programs: dict[Any, Program] = {}
        self._made_of: Values | None = None
        self._compilations = 0
        self.eval()

    def train(self, mode: bool = True) -> OptimizedEfficientDet:
        """Stay in evaluation mode.

        Raises:
            InputError: Training is asked for.
        """
        if mode:
            raise InputError(
                "The optimised form of a model has no batch norms left and cannot be trained; "
                "train the model and optimise it again."
            )
        return super().train(False)

    def __getstate__(self) -> dict[str, Any]:
        # What is compiled, and whoever waits for it or looks at it, belongs to this object alone.
        fresh = {"_programs": {}, "_made_of": None, "_compilations": 0}
        return {**self.__dict__, **fresh, "_said": False, "_written": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_lock": threading.Lock()})

    def forward(self, images: Tensor) -> Outputs:
        """As of :class:`torch_model.model.EfficientDet`, whose outputs these are but for roundings.

        Args:
            images: [N, 3, H, W], RGB, normalised. No gradients are recorded for them.

        Raises:
            InputError: As there, or what was compiled computes something else.
        """
        check_images(self.config, images)
        # Its type is what it was made for, also where a caller computes in another.
        with torch.autocast(images.device.type, enabled=False):
            if self._written or torch.jit.is_tracing() or torch.compiler.is_compiling():
                # Whoever looks at its layers, or makes a program of it, has those as written.
                written: Outputs = self.network(images)
                return written
            return self._computed(images)

    @torch.no_grad()
    def _computed(self, images: Tensor) -> Outputs:
        values = next(self.network.parameters())
        given = images.to(values.dtype).contiguous(memory_format=torch.channels_last)
        # TorchScript rounds some numbers to float32, and oneDNN knows no other type.
        plain = not given.is_cuda and given.dtype != torch.float32
        program = self.network if plain or not len(given) else self._program(given)
        classes, boxes = program(given)
        return (
            [output.to(images.dtype) for output in classes],
            [output.to(images.dtype) for output in boxes],
        )

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """Within it the folded network runs layer by layer, in all threads, to be looked at."""
        with self._lock:
            self._written += 1
        try:
            yield
        finally:
            with self._lock:
                self._written -= 1

    def _program(self, images: Tensor) -> Program:
        # Kernels are chosen for a number of threads too.
        key = (tuple(images.shape), images.dtype, images.device, torch.get_num_threads())
        with self._lock:
            self._forget_other_values()
            found = self._programs.get(key)
            if found is None and self._compilations == MAX_PROGRAMS:
                if not self._said:
                    warnings.warn(_TOO_MANY, stacklevel=6)
                self._said = True
                return self.network
            if found is None:
                found = compiled(self.network, images)
                self._check(found(images), self.network(images))
                self._programs[key] = found
                self._compilations += 1
            return found

    def _forget_other_values(self) -> None:
        """Let go of programs of other values: a program holds its own."""
        if self._made_of is None or not self._made_of.same():
            self._programs.clear()
            self._made_of = Values(self)

    def _check(self, found: Outputs, written: Outputs) -> None:
        """Refuse what was compiled where it computes something else."""
        for one, other in zip([*found[0], *found[1]], [*written[0], *written[1]], strict=True):
            expected = other.double()
            apart = (one.double() - expected).abs().max()
            limit = _GROSS[other.dtype] * expected.square().mean().sqrt()
            # NaN in both is for whoever reads the outputs to find.
            if apart > limit or bool(one.isnan().any()) != bool(other.isnan().any()):
                raise InputError(
                    f"What PyTorch {torch.__version__} compiled of the folded network computes "
                    f"something else on this machine (an output is {float(apart):.3g} off, with an "
                    f"rms of {float(expected.square().mean().sqrt()):.3g}); use the eager model.",
                    Cause.MODEL,
                )
