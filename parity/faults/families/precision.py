"""Whether a candidate computed in a type of lower precision than it should have."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from parity.faults.basics.case import Case, Channels, Evaluation, Hypothesis, Operation
from parity.faults.basics.fault import CONVOLUTIONS, EVERY, with_numbers
from parity.faults.basics.operations import faithful

_Own = TypeVar("_Own", bound=Operation)


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
        """Values brought to it, in their own type; ties to even where they are rounded."""
        if self.dtype is not None:
            return x.to(self.dtype).to(x.dtype)
        fraction, exponent = torch.frexp(x)
        steps = 2.0 ** (self.bits + 1)
        whole = (fraction * steps).trunc() if self.cut else (fraction * steps).round()
        return torch.ldexp(whole / steps, exponent)


_BFLOAT16 = Precision("bfloat16", 7, torch.bfloat16)

PRECISIONS = (
    Precision("TF32", 10, None),
    Precision("TF32, by cutting off", 10, None, cut=True),
    Precision("float16", 10, torch.float16),
    _BFLOAT16,
    Precision("float8_e4m3fn", 3, torch.float8_e4m3fn),
    Precision("float8_e5m2", 2, torch.float8_e5m2),
)


def _hypotheses(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Operands, outputs or both rounded to a lower precision.

    The size of an error is no evidence of a type: quantised weights, tables and leaks make errors
    as large. A type is named where rounding the operands to it reproduces the output, or where
    the output's values are numbers of that type and nearly all of them the right ones.

    Args:
        case: The failing node.
        base: Its faithful operation.
    """
    for precision in PRECISIONS:
        stored = precision.dtype is not None and _holds(case.candidate, precision.dtype)
        count = len(_CHOICES) if case.kind in CONVOLUTIONS else 1
        if getattr(case.module, "bias", None) is None:
            # Without a bias the last two are the same as others.
            count = min(count, 3)
        for what, features, kernel in _CHOICES[:count]:
            evaluate = _rounding(case, precision, features, kernel)
            if case.kind in CONVOLUTIONS:
                bits = f"{precision.title} ({precision.bits}-bit mantissa)"
                yield Hypothesis(_SLUG, f"its {what} rounded to {bits}", evaluate)
            if stored:
                whole = f"its {what} and its output rounded to {precision.title}"
                yield Hypothesis(_SLUG, whole, evaluate, stored=precision)
        if stored:
            whole = f"its output rounded to {precision.title}"
            yield Hypothesis(_SLUG, whole, base, stored=precision)


_SLUG = "reduced-precision"

_CHOICES = (
    ("operands", True, ("weight", "bias")),
    ("input", True, ()),
    ("kernel", False, ("weight", "bias")),
    ("input and its kernel without the bias", True, ("weight",)),
    ("kernel without the bias", False, ("weight",)),
)
"""What may be rounded: (name, whether the input is, which parameters are)."""


def _rounding(
    operation: Operation, precision: Precision, features: bool, kernel: Collection[str]
) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        return faithful(_rounded(operation, precision, features, kernel))(channels)

    return evaluate


def _in_bfloat16(operation: Operation, base: Evaluation) -> Evaluation:
    """What is read, the kernel and what is written, rounded."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = _rounding(operation, _BFLOAT16, True, ("weight", "bias"))(channels)
        return _BFLOAT16.rounded(output), gauge

    return evaluate


def _rounded(
    operation: _Own, precision: Precision, features: bool, kernel: Collection[str]
) -> _Own:
    def change(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() == 4:
            return precision.rounded(value)
        return [change(item) for item in value] if isinstance(value, list) else value

    module, arguments = operation.module, operation.arguments
    if kernel and operation.kind in CONVOLUTIONS:
        module = copy.deepcopy(module)
        for name, parameter in module.named_parameters():
            if name in kernel:
                parameter.data = precision.rounded(parameter.data)
    if features:
        arguments = tuple(change(value) for value in arguments)
    return replace(operation, module=module, arguments=arguments)


def _holds(values: Tensor, dtype: torch.dtype) -> bool:
    return bool((values.to(dtype).to(values.dtype) == values).all())


FAULTS = (with_numbers(_SLUG, "a layer computed in bfloat16", EVERY, _hypotheses, _in_bfloat16),)
"""Lower precision, of whatever kind."""
