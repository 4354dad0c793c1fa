"""PyTorch's gradients, and how rounding would move them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from efficientdet_spec import Cause, InputError
from parity.gradients.sides import Gradients, Sensitivity
from parity.gradients.verdict import ROUNDING
from parity.judge.limits import SIDE_LIMIT
from parity.judge.measure import unit_roundoff
from parity.process.arrays import Array
from parity.sides.pytorch.hooks import nhwc
from parity.sides.pytorch.nested import flatten

_STATISTICS = ("running_mean", "running_var")

_DOUBLE_ROUNDING = unit_roundoff(np.dtype(np.float64))

_FUSION_WEIGHTS = ".weights"
"""End of the name of the parameters that act through a relu."""

_SELECTIONS = ("constant_pad_nd", "max_pool2d_with_indices", "upsample_nearest2d", "clone", "copy")
"""Operations that move values and compute none, so that they do not round."""


class TorchGradients:
    """Gradients of a model that itself stays as it is: every run is made on a copy.

    Args:
        model: The model, of any precision. Its batch norms' mode does not matter; all else is
            run in evaluation mode, since what training drops is random.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def gradients(
        self, images: Array, patterns: Sequence[Array], *, dtype: str, training: bool
    ) -> Gradients:
        """Gradients of the sum over all outputs y of ``mean(y * pattern + y * y / 2)``.

        Args:
            images: [N, H, W, 3], normalised.
            patterns: One for each output, NHWC.
            dtype: ``float32`` or ``float64``, in which everything is computed.
            training: Whether batch norms use the statistics of the batch.

        Raises:
            InputError: The model's outputs are not of the patterns' shapes.
        """
        model = _prepared(self._model, dtype, training)
        return _differentiate(model, images, patterns, training)

    def sensitivity(
        self,
        images: Array,
        patterns: Sequence[Array],
        exact: Gradients,
        *,
        training: bool,
        draws: int,
    ) -> Sensitivity:
        """How far the gradients move for each float32 rounding that every number moves by.

        They are moved by as many as one correct side may carry, so that what tips over then, and
        is no multiple of a rounding, is seen.

        Args:
            images: As for :meth:`gradients`.
            patterns: As for :meth:`gradients`.
            exact: The gradients in float64.
            training: Whether batch norms use the statistics of the batch.
            draws: Number of random disturbances.
        """

        def moved(rounding: float, seed: int) -> dict[str, float]:
            """Norm of each gradient's change."""
            model = _prepared(self._model, "float64", training)
            random = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(_noise(parameter, random, rounding))
            with _Disturbance(random, rounding):
                arrays = _differentiate(model, images, patterns, training).arrays()
            return {name: _norm(arrays[name] - array) for name, array in exact.arrays().items()}

        changes = [moved(SIDE_LIMIT * ROUNDING, draw) for draw in range(draws)]
        negative = _not_positive(self._model)
        return Sensitivity(
            units={
                name: float(np.sqrt(np.mean([np.square(change[name]) for change in changes])))
                / SIDE_LIMIT
                for name in changes[0]
            },
            double_units=moved(_DOUBLE_ROUNDING, draws),
            negative=negative,
            closed=self._closed(images, patterns, exact, training) if negative else frozenset(),
        )

    def _closed(
        self, images: Array, patterns: Sequence[Array], exact: Gradients, training: bool
    ) -> frozenset[str]:
        """Gradients that are zero now and not where all fusion weights are above zero."""
        zero = [name for name, array in exact.arrays().items() if not array.any()]
        if not zero:
            return frozenset()
        model = _prepared(self._model, "float64", training)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(_FUSION_WEIGHTS):
                    parameter.copy_(torch.where(parameter > 0, parameter, 1.0))
        opened = _differentiate(model, images, patterns, training).arrays()
        return frozenset(name for name in zero if opened[name].any())


def _prepared(model: nn.Module, dtype: str, training: bool) -> nn.Module:
    """A copy in which batch norms alone are in training mode, or none is."""
    result = copy.deepcopy(model).to(getattr(torch, dtype)).eval().requires_grad_(True)
    for module in result.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(training)
    return result


def _nchw(array: Array, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(array).to(dtype).permute(0, 3, 1, 2)


def _differentiate(
    model: nn.Module, images: Array, patterns: Sequence[Array], training: bool
) -> Gradients:
    parameters = dict(model.named_parameters())
    dtype = next(iter(parameters.values())).dtype
    inputs = _nchw(images, dtype).requires_grad_(True)
    outputs = flatten(model(inputs))
    shapes = [(x.shape[0], *x.shape[2:], x.shape[1]) for x in outputs]
    if shapes != [pattern.shape for pattern in patterns]:
        raise InputError(
            f"The candidate's outputs have the shapes {[list(shape) for shape in shapes]} (NHWC), "
            f"not {[list(pattern.shape) for pattern in patterns]}; compare its nodes first.",
            Cause.CANDIDATE,
        )
    scalar = torch.stack(
        [
            (y * _nchw(pattern, dtype) + y * y / 2).mean()
            for y, pattern in zip(outputs, patterns, strict=True)
        ]
    ).sum()
    wanted = [inputs, *parameters.values()]
    found = torch.autograd.grad(scalar, wanted, allow_unused=True, materialize_grads=True)
    statistics = {
        name: value.numpy().copy()
        for name, value in model.named_buffers()
        if training and name.rsplit(".", 1)[-1] in _STATISTICS
    }
    return Gradients(
        scalar=float(scalar.detach()),
        images=nhwc(found[0]),
        parameters={
            name: gradient.numpy() for name, gradient in zip(parameters, found[1:], strict=True)
        },
        statistics=statistics,
    )


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array.reshape(-1)))


def _noise(x: Tensor, random: torch.Generator, rounding: float) -> Tensor:
    """For each element up to one rounding of it, and up to another that its channel has in common.

    Nearly equal values round alike, which a mean over positions does not average out.
    """
    # In the tensor's own layout, and in float32, which takes half as many random bits.
    noise = torch.empty_like(x, dtype=torch.float32, requires_grad=False)
    noise.uniform_(-rounding, rounding, generator=random)
    if x.dim() == 4:
        common = torch.empty(1, x.shape[1], 1, 1).uniform_(-rounding, rounding, generator=random)
        noise += common
    return noise * x.detach()


class _Disturbance(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves what every operation computes by up to one rounding, forward and backward.

    Below autograd, so that what is saved for the backward pass is what went on forward.

    Args:
        random: Where the noise comes from.
        rounding: Largest relative movement.
    """

    def __init__(self, random: torch.Generator, rounding: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._random = random
        self._rounding = rounding

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in _SELECTIONS:
            return result
        values = result if isinstance(result, (tuple, list)) else (result,)
        for value, declared in zip(values, func._schema.returns, strict=False):
            # A view, or what was overwritten in place, is not a new number.
            new = declared.alias_info is None and isinstance(value, Tensor)
            if new and value.is_floating_point():
                value.add_(_noise(value, self._random, self._rounding))
        return result


def _not_positive(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Which fusion weights are not above zero, so that a relu passes nothing through them."""
    return {
        name: tuple((value <= 0).nonzero().flatten().tolist())
        for name, value in model.named_parameters()
        if name.endswith(_FUSION_WEIGHTS) and bool((value <= 0).any())
    }
