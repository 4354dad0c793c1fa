"""A model in the form that computes fastest, which is proven like any other."""

from __future__ import annotations

import threading
from collections import OrderedDict
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

MAX_PROGRAMS = 4
"""Shapes of images for which programs are kept; each holds its weights in a layout of its own."""

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
            up to a third longer; see :func:`torch_model.memory.keep_memory`.

    Attributes:
        config: What the model is.
        provenance: Where its values came from.
        network: The folded network, as it is written.

    Raises:
        InputError: The type cannot be computed in on the model's device.
    """

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
        self.network = fold(model).to(dtype=dtype or own.dtype, memory_format=torch.channels_last)
        self._written = False
        self._lock = threading.Lock()
        self._programs: OrderedDict[Any, Program] = OrderedDict()
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
        # What is compiled, and whoever waits for it, belongs to this object alone.
        return {**self.__dict__, "_programs": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_lock": threading.Lock()})

    def _apply(self, *given: Any, **named: Any) -> Any:
        # Programs hold values of their own, in the type and on the device of before.
        self._programs.clear()
        return super()._apply(*given, **named)

    def load_state_dict(self, *given: Any, **named: Any) -> Any:
        """Take other folded values; programs with the former ones are forgotten."""
        self._programs.clear()
        return super().load_state_dict(*given, **named)

    def forward(self, images: Tensor) -> Outputs:
        """As of :class:`torch_model.model.EfficientDet`, whose outputs these are but for roundings.

        Args:
            images: [N, 3, H, W], RGB, normalised. No gradients are recorded for them.

        Raises:
            InputError: As there, or what was compiled computes something else.
        """
        check_images(self.config, images)
        if self._written:
            return self.network(images)  # type: ignore[no-any-return]
        with torch.no_grad():
            values = next(self.network.parameters())
            given = images.to(values.dtype).contiguous(memory_format=torch.channels_last)
            plain = not given.is_cuda and given.dtype != torch.float32
            # TorchScript rounds some numbers to float32, and oneDNN knows no other type.
            classes, boxes = self.network(given) if plain else self._program(given)(given)
        return (
            [output.to(images.dtype) for output in classes],
            [output.to(images.dtype) for output in boxes],
        )

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """Within it the folded network runs layer by layer, so that each can be looked at."""
        before, self._written = self._written, True
        try:
            yield
        finally:
            self._written = before

    def _program(self, images: Tensor) -> Program:
        # Kernels are chosen for a number of threads too.
        key = (tuple(images.shape), images.dtype, images.device, torch.get_num_threads())
        with self._lock:
            if key not in self._programs:
                program = compiled(self.network, images)
                self._check(program(images), self.network(images))
                self._programs[key] = program
                if len(self._programs) > MAX_PROGRAMS:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return self._programs[key]

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
