"""Whether a candidate computed in a type of lower precision than it should have.

Such arithmetic differs between devices, so that nothing reproduces it bit for bit: it is
recognised by the size of its errors, counted in the unit roundoff of the lower type.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.torch_side.hypotheses.case import Case, Evaluation

_CONVOLUTIONS = (NodeKind.CONV, NodeKind.DEPTHWISE)


@dataclass(frozen=True)
class Precision:
    """A type of lower precision.

    Attributes:
        title: Its name.
        bits: Bits of its mantissa that are stored.
        dtype: PyTorch's type; None where values are stored as float32.
        cut: Whether further bits are cut off instead of rounded to nearest.
    """

    title: str
    bits: int
    dtype: torch.dtype | None
    cut: bool = False

    @property
    def unit(self) -> float:
        """Its unit roundoff."""
        return 2.0 ** -(self.bits + 1)

    @property
    def smallest(self) -> float:
        """The smallest number of full precision."""
        return torch.finfo(self.dtype or torch.float32).tiny

    def rounded(self, x: Tensor) -> Tensor:
        """Float64 values brought to it; ties to even where they are rounded."""
        if self.dtype is not None:
            return x.to(self.dtype).double()
        fraction, exponent = torch.frexp(x)
        steps = 2.0 ** (self.bits + 1)
        whole = (fraction * steps).trunc() if self.cut else (fraction * steps).round()
        return torch.ldexp(whole / steps, exponent)


PRECISIONS = (
    Precision("TF32", 10, None),
    Precision("TF32, by cutting off", 10, None, cut=True),
    Precision("float16", 10, torch.float16),
    Precision("bfloat16", 7, torch.bfloat16),
)


@dataclass(frozen=True)
class Rounded:
    """One way in which precision may have been lost.

    Attributes:
        precision: The type.
        title: The fault as part of a sentence.
        evaluate: What it gives before the output is rounded.
        output: Whether the output is rounded too.
    """

    precision: Precision
    title: str
    evaluate: Evaluation
    output: bool


def ways(case: Case, faithful: Any) -> Iterator[Rounded]:
    """Operands, outputs or both rounded to a lower precision.

    Args:
        case: The failing node.
        faithful: Gives the faithful operation of a case.
    """
    for precision in PRECISIONS:
        operands = faithful(_with_rounded_operands(case, precision))
        stored = precision.dtype is not None and _holds(case.candidate, precision.dtype)
        if case.kind in _CONVOLUTIONS:
            title = f"operands rounded to {precision.title} ({precision.bits}-bit mantissa)"
            yield Rounded(precision, title, operands, False)
            if stored:
                yield Rounded(
                    precision, f"computed in {precision.title}, output too", operands, True
                )
        elif stored:
            yield Rounded(precision, f"computed in {precision.title}", operands, True)
        if stored:
            yield Rounded(
                precision, f"its output rounded to {precision.title}", faithful(case), True
            )


def _with_rounded_operands(case: Case, precision: Precision) -> Case:
    def change(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() == 4:
            return precision.rounded(value)
        return [change(item) for item in value] if isinstance(value, list) else value

    module = case.module
    if case.kind in _CONVOLUTIONS:
        module = copy.deepcopy(module)
        for parameter in module.parameters():
            parameter.data = precision.rounded(parameter.data)
    return replace(case, module=module, arguments=tuple(change(v) for v in case.arguments))


def _holds(values: Tensor, dtype: torch.dtype) -> bool:
    return bool((values.to(dtype).to(values.dtype) == values).all())


def squared(case: Case, faithful: Any) -> Tensor | None:
    """The root of the sum of squared products of a convolution, for each output element.

    Independent errors of the operands add up in squares. None for other nodes.
    """
    if case.kind not in _CONVOLUTIONS:
        return None
    module = copy.deepcopy(case.module)
    for parameter in module.parameters():
        parameter.data = parameter.data.square()
    squares = replace(case, module=module, arguments=(case.arguments[0].square(),))
    output: Tensor = faithful(squares)(slice(None))[0]
    return output.sqrt()


def noise(error: Tensor, truth: Tensor, scale: Tensor) -> Precision | None:
    """The precision whose rounding of both operands makes errors of this size; None without one.

    Two operands of uniform mantissa, each rounded to nearest, give errors of 0.6 units times the
    root of the sum of squared products; twice that where they are cut off, which also makes
    every product smaller by one or two units. Beside that the errors are blind to the value, and
    they are alike in all channels.

    Args:
        error: Candidate minus truth.
        truth: The exact output.
        scale: :func:`squared` of the node.
    """
    known = scale > 0
    count = int(known.sum())
    if count < 256 or not bool(torch.isfinite(error).all()):
        return None
    bias = float((error * truth).sum() / truth.square().sum().clamp(min=1e-300))
    relative = torch.where(known, (error - bias * truth) / scale.clamp(min=1e-300), 0.0)
    size = float((relative.square().sum() / count).sqrt())
    by_channel = (relative.square().sum((0, 2, 3)) / known.sum((0, 2, 3)).clamp(min=1)).sqrt()
    alike = (by_channel > size / 4) & (by_channel < size * 4)
    if float(alike.double().mean()) < 0.95:
        return None
    for precision in (PRECISIONS[0], PRECISIONS[-1]):
        if 0.2 <= size / precision.unit <= 2.0 and abs(bias) <= 3 * precision.unit:
            return precision
    return None
