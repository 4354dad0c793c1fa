"""Whether the candidate's parameters, or its mode, account for its output."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from parity.faults.basics.case import ALL, Case, Channels, Evaluation
from parity.faults.basics.distance import beside
from parity.faults.basics.operations import faithful, with_settings
from parity.faults.diagnosis import CLOSER


class Account:
    """One explanation, held against all nodes that a module makes.

    Attributes:
        roundings: The largest distance from it so far, in roundings.
    """

    def __init__(self) -> None:
        self.roundings = 0.0
        self._holds = True
        self._telling = False

    @property
    def holds(self) -> bool:
        """Whether it reproduced every node, and at one came closer than the faithful operation."""
        return self._holds and self._telling

    def reject(self) -> None:
        """It cannot be held against a node."""
        self._holds = False

    def add(self, case: Case, distance: float, without: float) -> None:
        """What it came to at one node.

        Args:
            case: The node.
            distance: The candidate's distance from the explanation.
            without: Its distance from the faithful operation.
        """
        self._holds &= distance <= case.bound
        self._telling |= distance * CLOSER <= without
        self.roundings = max(self.roundings, distance)


@torch.no_grad()
def account_for_parameters(account: Account, case: Case, values: Mapping[str, Tensor]) -> None:
    """Hold the faithful operation with the candidate's parameters against a node.

    Args:
        account: Is told how far the candidate is from it.
        case: The node.
        values: The candidate's parameters and statistics by the faithful layer's names, and a
            bias that the faithful layer lacks.
    """
    module = _filled(case.module, values)
    if module is None:
        account.reject()
        return
    other = replace(case, module=module)
    try:
        output, gauge = faithful(other)(ALL)
        # NaN agrees with NaN here, where it is the parameters that hold it.
        agreed = output.isnan() & case.candidate.isnan()
        seen = replace(case, candidate=case.candidate.masked_fill(agreed, 0.0))
    # Parameters of a shape that the operation does not take explain nothing.
    except Exception:
        account.reject()
        return

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        made = output.masked_fill(agreed, 0.0), gauge.masked_fill(agreed, 0.0)
        return made[0][:, channels], made[1][:, channels]

    distance, without = beside(seen, evaluate, _faithful_or_nothing(case), ALL)
    if bool(agreed.any()):
        without = float("inf")
    account.add(case, distance, without)


def _faithful_or_nothing(case: Case) -> Evaluation:
    return lambda channels: faithful(case)(channels)


def _filled(faithful_module: nn.Module, values: Mapping[str, Tensor]) -> nn.Module | None:
    """The faithful layer with other values; None where they do not fit."""
    module: Any = copy.deepcopy(faithful_module)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if not value.is_floating_point():
            # A counter of batches takes no part.
            continue
        if name not in values or values[name].shape != value.shape:
            return None
        value.data.copy_(values[name].detach())
    bias = values.get("bias")
    if isinstance(module, nn.Conv2d) and module.bias is None and bias is not None:
        module.bias = nn.Parameter(bias.detach().cpu().to(module.weight.dtype))
    return module  # type: ignore[no-any-return]


@torch.no_grad()
def account_for_settings(account: Account, case: Case, settings: Mapping[str, Any]) -> None:
    """Hold the faithful operation with the candidate's settings against a node.

    Args:
        account: Is told how far the candidate is from it.
        case: The node.
        settings: With which the candidate makes it, of
            :data:`parity.sides.observed.settings.Settings`.
    """
    try:
        evaluate = with_settings(case, settings)
        base = faithful(case)
        distance, without = (
            (math.inf,) * 2 if evaluate is None else beside(case, evaluate, base, ALL)
        )
    # Settings that the operation does not take explain nothing.
    except Exception:
        account.reject()
        return
    account.add(case, distance, without)


@torch.no_grad()
def account_for_training(
    account: Account,
    case: Case,
    module: nn.Module,
    inputs: tuple[Any, ...],
    buffers: Mapping[int, Tensor],
) -> None:
    """Hold the candidate's own layer, put into evaluation mode, against a node.

    Args:
        account: Is told how far from the faithful value is what its layer computes in evaluation
            mode: where that is rounding, the mode explains its output.
        case: The node.
        module: The candidate's layer, some part of which is in training mode.
        inputs: What it is given.
        buffers: The layer's buffers by identity, as they were before a run in training mode
            changed them.
    """
    try:
        with _evaluating(module, buffers):
            made = module(*copy.deepcopy(inputs))
    # A layer that only works in training mode is explained by something else.
    except Exception:
        account.reject()
        return
    if not isinstance(made, Tensor) or made.shape != case.candidate.shape:
        account.reject()
        return
    base = _faithful_or_nothing(case)
    _, without = beside(case, base, base, ALL)
    quiet, _ = beside(replace(case, candidate=made.detach().cpu()), base, base, ALL)
    account.add(case, quiet, without)


@contextmanager
def _evaluating(module: nn.Module, buffers: Mapping[int, Tensor]) -> Iterator[None]:
    """A layer in evaluation mode, with the buffers of before the run; then as it was."""
    parts = [part for part in module.modules() if part.training]
    known = [value for value in module.buffers() if id(value) in buffers]
    changed = [(value, value.clone()) for value in known]
    try:
        for part in parts:
            part.training = False
        for value, _ in changed:
            value.copy_(buffers[id(value)])
        yield
    finally:
        for part in parts:
            part.training = True
        for value, kept in changed:
            value.copy_(kept)
