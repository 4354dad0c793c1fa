"""A reference and a candidate on one input, and how the candidate is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from efficientdet_spec import Cause, InputError, NodeKind
from parity.process.console import out_of_memory
from parity.sides import pytorch
from parity.sides.naming import Naming
from parity.sides.pytorch import Referee
from parity.sides.stream import Array, Stream

Progress = Callable[[int, int | None], None]
"""Told how much is done, and how much there is."""


def part_of(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Progress of one of several parts of about the same length.

    Args:
        progress: Of the whole.
        number: Which part it is of.
        count: How many parts there are.
    """
    if progress is None:
        return None

    def report(done: int, total: int | None) -> None:
        whole = total or 0
        progress(number * whole + done, count * whole)

    return report


Ours = tuple[Any, Any, Any]
"""What a candidate has at a node: the module, its inputs (with the values that it read) and its
output."""


class CandidateError(InputError):
    """The candidate cannot be run on an input."""

    DEFAULT = Cause.CANDIDATE


@dataclass(frozen=True)
class Pairing:
    """A reference and a candidate on one input.

    Attributes:
        stream: Makes the reference compute.
        model: The candidate, an ``nn.Module`` in evaluation mode.
        naming: Which of its submodules make which nodes.
        referee: The faithful model with the checkpoint's parameters.
        images: [N, H, W, 3], of the type in which both sides compute.
        outputs: Nodes whose tensors the candidate must return, in this order.
        recorded: The nodes that the stream has; None for all.
        elements: Number of output elements that the whole comparison judges, both sides and all
            inputs together; None where this input is all.
    """

    stream: Stream
    model: Any
    naming: Naming
    referee: Referee
    images: Array
    outputs: Sequence[str]
    recorded: frozenset[str] | None = None
    elements: int | None = None

    @property
    def kinds(self) -> Mapping[str, NodeKind]:
        """What each node of the reference computes, in the order of computation."""
        return self.referee.kinds

    def has(self, node: str) -> bool:
        """Whether the stream has this node's tensor."""
        return self.recorded is None or node in self.recorded

    def run(self, visit: pytorch.Visit) -> list[Any]:
        """Run the candidate, calling ``visit`` at each node.

        Returns:
            Copies of its output tensors, as it returns them.
        """
        ours: list[BaseException] = []

        def guarded(*arguments: Any) -> Any:
            try:
                return visit(*arguments)
            except BaseException as error:
                ours.append(error)
                raise

        referee = self.referee
        sources = {node: call.sources for node, call in referee.calls.items()}
        with pytorch.visiting(self.model, self.naming, guarded, referee.inputs_of, sources):
            return self._outputs(ours)

    def run_unobserved(self, *, gradients: bool) -> list[Any]:
        """Run the candidate as its user does; returns copies of its output tensors.

        Args:
            gradients: Whether PyTorch is to record what gradients need.
        """
        return self._outputs([], gradients=gradients)

    def mirrored(self) -> Pairing:
        """The same with each image's left and right exchanged."""
        return replace(self, images=np.ascontiguousarray(self.images[:, :, ::-1]))

    def _outputs(self, ours: Sequence[BaseException], *, gradients: bool = False) -> list[Any]:
        size = f"{self.images.shape[1]}x{self.images.shape[2]}"
        with pytorch.unchanged(self.model):
            try:
                returned = pytorch.run(self.model, self.images, gradients=gradients)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if ours or out_of_memory(error):
                    raise
                raise CandidateError(
                    f"The candidate fails on [{len(self.images)}, 3, H, W] images of {size} with "
                    f"{pytorch.failure(error)}; run it by itself and correct it."
                ) from error
        tensors = pytorch.flatten(returned)
        if not tensors:
            raise InputError(
                f"The candidate returns {type(returned).__name__} without a tensor for images of "
                f"{size}; let it return {len(self.outputs)} tensors, class outputs before box "
                f"outputs, finest level first.",
                Cause.CANDIDATE,
            )
        return [tensor.detach().clone() for tensor in tensors]
