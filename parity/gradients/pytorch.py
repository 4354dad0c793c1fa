"""PyTorch's gradients, and how rounding would move them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from efficientdet_spec import Cause, InputError
from parity.gradients.sides import Gradients, ReferenceGradients, Sensitivity
from parity.gradients.verdict import ROUNDING
from parity.judge.limits import SIDE_LIMIT
from parity.judge.measure import unit_roundoff
from parity.process.arrays import Array
from parity.process.console import out_of_memory
from parity.results.records.gradients import is_statistic
from parity.sides.pytorch.code import failure
from parity.sides.pytorch.hooks import nhwc, state
from parity.sides.pytorch.nested import flatten
from parity.sides.pytorch.observation.holdings import Held
from parity.sides.side import CandidateError

_DOUBLE_ROUNDING = unit_roundoff(np.dtype(np.float64))

_FUSION_WEIGHTS = ".weights"
"""End of the name of the parameters that act through a relu."""

_SELECTIONS = ("constant_pad_nd", "max_pool2d_with_indices", "upsample_nearest2d", "clone", "copy")
"""Operations that move values and compute none, so that they do not round."""


@dataclass(frozen=True)
class View:
    """How a model holds what is differentiated, where it is not as in the faithful model.

    Attributes:
        held: By our names, how it holds parameters and statistics.
        norms: Paths of the modules that are batch norms.
        outputs: Takes the outputs, [N, C, H, W] in the reference's order, out of what it returns.
    """

    held: Mapping[str, Held]
    norms: frozenset[str]
    outputs: Callable[[Sequence[Tensor]], list[Tensor]]

    @staticmethod
    def of(model: nn.Module, prefix: str = "") -> View:
        """Of a model whose names are the faithful model's.

        Args:
            model: The model.
            prefix: What all its names begin with.
        """
        named = [*model.named_parameters(), *model.named_buffers()]
        held = {
            name.removeprefix(prefix): Held((name,), None, tuple(value.shape))
            for name, value in named
            if value.is_floating_point()
        }
        norms = (name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d))
        return View(held, frozenset(norms), list)


class TorchGradients:
    """Gradients of a model that itself stays as it is: every run is made on a copy.

    Args:
        model: The model, of any precision. Its batch norms' mode does not matter; all else is
            run in evaluation mode, since what training drops is random.
        view: How it holds what is differentiated; None for as the faithful model does.
    """

    def __init__(self, model: nn.Module, view: View | None = None) -> None:
        self._model = model
        self._view = view or View.of(model)

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
        model = _prepared(self._model, self._view, dtype, training)
        return _differentiate(model, self._view, images, patterns, training)

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
            model = _prepared(self._model, self._view, "float64", training)
            random = torch.Generator(_device(model)).manual_seed(seed)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(_noise(parameter, random, rounding))
            with _Disturbance(random, rounding):
                found = _differentiate(model, self._view, images, patterns, training)
            arrays = found.arrays()
            return {name: _norm(arrays[name] - array) for name, array in exact.arrays().items()}

        changes = [moved(SIDE_LIMIT * ROUNDING, draw) for draw in range(draws)]
        negative = _not_positive(self._model, self._view)
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
        model = _prepared(self._model, self._view, "float64", training)
        with torch.no_grad():
            for _, weights in _fusion_weights(model, self._view):
                weights.copy_(torch.where(weights > 0, weights, 1.0))
        opened = _differentiate(model, self._view, images, patterns, training).arrays()
        return frozenset(name for name in zero if opened[name].any())


def faithful_gradients(model: nn.Module) -> ReferenceGradients:
    """The gradients of the faithful model, computed by PyTorch on the CPU.

    In float64 they are the exact ones, as far as can be told. How far float32 may be off them
    depends on the network and its images: sums over many positions add up roundings that no unit
    contains, in any framework. So the faithful model computes in float32 as well, and a candidate
    may be as much further off as it may be with TensorFlow as the reference.

    Args:
        model: The faithful model.
    """
    return TorchGradients(model).gradients


def _prepared(model: nn.Module, view: View, dtype: str, training: bool) -> nn.Module:
    """A copy in which batch norms alone are in training mode, or none is."""
    kind = getattr(torch, dtype)
    with _blamed(torch.empty(0, dtype=kind)):
        result = copy.deepcopy(model).to(kind).eval().requires_grad_(True)
    for path, module in result.named_modules():
        if path in view.norms:
            module.train(training)
    return result


def _device(model: nn.Module) -> torch.device:
    return next((value.device for _, value in state(model)), torch.device("cpu"))


def _nchw(array: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like).permute(0, 3, 1, 2)


def _differentiate(
    model: nn.Module, view: View, images: Array, patterns: Sequence[Array], training: bool
) -> Gradients:
    values = dict(state(model))
    of_parameters = {name: held for name, held in view.held.items() if not is_statistic(name)}
    names = (other for held in of_parameters.values() for other in held.names)
    # What should be a parameter may be a buffer.
    wanted = {name: values[name].requires_grad_(True) for name in names}
    like = next((value for value in values.values() if value.is_floating_point()), torch.empty(0))
    inputs = _nchw(images, like).requires_grad_(True)
    with _blamed(like):
        outputs = view.outputs(flatten(model(inputs)))
    shapes = [(x.shape[0], *x.shape[2:], x.shape[1]) for x in outputs]
    if shapes != [pattern.shape for pattern in patterns]:
        raise InputError(
            f"The candidate's outputs have the shapes {[list(shape) for shape in shapes]} (NHWC), "
            f"not {[list(pattern.shape) for pattern in patterns]}; compare its nodes first.",
            Cause.CANDIDATE,
        )
    scalar = torch.stack(
        [
            (y * _nchw(pattern, y) + y * y / 2).mean()
            for y, pattern in zip(outputs, patterns, strict=True)
        ]
    ).sum()
    with _blamed(like):
        found = torch.autograd.grad(
            scalar, [inputs, *wanted.values()], allow_unused=True, materialize_grads=True
        )
    gradients = dict(zip(wanted, found[1:], strict=True))
    return Gradients(
        scalar=float(scalar.detach()),
        images=nhwc(found[0].cpu()),
        parameters={
            # One of ours that several are copies of moves them all.
            name: np.sum([_array(held, gradients[other]) for other in held.names], axis=0)
            for name, held in of_parameters.items()
        },
        statistics={
            name: _array(held, values[held.names[0]].detach()).copy()
            for name, held in view.held.items()
            if training and name not in of_parameters
        },
    )


@contextmanager
def _blamed(like: Tensor) -> Iterator[None]:
    """Within it what the candidate raises is told as its failure.

    Args:
        like: Of the type in which it computes.

    Raises:
        CandidateError: It fails.
    """
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise
        kind = str(like.dtype).removeprefix("torch.")
        raise CandidateError(
            f"A copy of the candidate in {kind} cannot be differentiated: it fails with "
            f"{failure(error)}; let its forward compute with gradients, in the type of its "
            f"parameters, and from these alone, as a copy of it does.",
            failure(error),
        ) from error


def _array(held: Held, tensor: Tensor) -> Array:
    array: Array = held.as_ours(tensor).cpu().numpy()
    return array


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
        common = torch.empty(1, x.shape[1], 1, 1, device=x.device)
        common.uniform_(-rounding, rounding, generator=random)
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


def _fusion_weights(model: nn.Module, view: View) -> Iterator[tuple[str, Tensor]]:
    """What acts through a relu: our name of it, and the model's own tensor."""
    values = dict(state(model))
    for name, held in view.held.items():
        if name.endswith(_FUSION_WEIGHTS):
            for other in held.names:
                yield name, values[other]


def _not_positive(model: nn.Module, view: View) -> dict[str, tuple[int, ...]]:
    """Which fusion weights are not above zero, so that a relu passes nothing through them."""
    return {
        name: tuple((value <= 0).nonzero().flatten().tolist())
        for name, value in _fusion_weights(model, view)
        if bool((value <= 0).any())
    }
