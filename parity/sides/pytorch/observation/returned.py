"""What a candidate returns, taken apart into its nodes: any order, any layout, levels joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from parity.sides.observed.layouts import layouts
from parity.sides.observed.record import Record
from parity.sides.pytorch.hooks import nchw_of, same
from parity.sides.pytorch.observation.finding import Found

_CLOSE = 4 * torch.finfo(torch.float32).eps
"""Between two ways of computing a sigmoid."""


@dataclass
class Returned:
    """Takes apart what a run returns.

    Args:
        found: Which of the run's values are which nodes.
        kept: By output node what was made there, or has taken its place, [N, C, H, W].

    Attributes:
        notes: Sentences on how the outputs are arranged.
        not_shown: Sentences on what has not been recognised.
    """

    found: Found
    kept: Mapping[str, Tensor]
    notes: list[str] = field(default_factory=list)
    not_shown: list[str] = field(default_factory=list)

    def apart(self, returned: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of the nodes, [N, C, H, W] each, in the reference's order.

        Args:
            returned: The tensors that the candidate returns.

        Returns:
            What is returned of each node. Where not all of it is, all tensors as they are.
        """
        self.notes.clear()
        self.not_shown.clear()
        outputs, kept = self.found.outputs, self.kept
        if any(node not in kept for node in outputs):
            return list(returned)
        single = self._single(returned)
        if single is not None:
            return single
        heads = [outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]]
        for what, nodes in zip(("class", "box"), heads, strict=True):
            arranged = next(
                (how for tensor in returned if (how := _joined(tensor, [kept[n] for n in nodes]))),
                None,
            )
            if arranged is None:
                self.not_shown.append(
                    f"what the candidate returns does not hold its {what} outputs in an "
                    f"arrangement that is known here, so that what it does behind its last layers "
                    f"is not judged; return what these layers make"
                )
            else:
                self.notes.append(f"The candidate returns its {what} outputs {arranged}.")
        return [kept[node] for node in outputs]

    def _single(self, returned: Sequence[Tensor]) -> list[Tensor] | None:
        """Where each node is returned by itself: its tensors, as they are returned."""
        record, partners = self.found.record, self.found.partners.found
        made = [_source(record, number) for number in record.returned]
        if len(made) != len(returned):
            return None
        found = []
        places = []
        for node in self.found.outputs:
            here = [place for place, value in enumerate(made) if value == partners[node].value]
            if not here:
                return None
            places.append(here[0])
            found.append(_as_node(returned[here[0]], self.kept[node]))
        if places != sorted(places):
            self.notes.append("The candidate returns its outputs in another order.")
        return found


def _source(record: Record, number: int | None) -> int | None:
    """The value that a returned one holds in another arrangement, or the returned one itself."""
    while number is not None:
        value = record.values[number]
        if not value.moved or len(value.parents) != 1:
            return number
        number = value.parents[0]
    return None


def _as_node(tensor: Tensor, made: Tensor) -> Tensor:
    """A returned tensor as [N, C, H, W], in the layout in which it holds what was made."""
    batch, channels, height, width = made.shape
    for layout in layouts(tuple(tensor.shape), (batch, height, width, channels)):
        arranged = nchw_of(tensor, layout)
        if same(arranged, made.to(arranged.device)):
            return arranged
    return tensor


def _joined(tensor: Tensor, levels: Sequence[Tensor]) -> str:
    """How a tensor holds the outputs of all levels; empty where it does not as is known here."""
    if tensor.dim() != 3 or not tensor.is_floating_point():
        return ""
    values = tensor.shape[2]
    if sum(level.numel() for level in levels) != tensor.numel():
        return ""
    flat = [level.permute(0, 2, 3, 1).reshape(len(level), -1, values) for level in levels]
    whole = torch.cat(flat, dim=1).to(tensor.device, tensor.dtype)
    if whole.shape != tensor.shape:
        return ""
    where = "joined to [N, anchors, values], anchors in the usual order"
    if same(whole, tensor):
        return where
    close = (torch.sigmoid(whole) - tensor).abs().max()
    return f"{where}, behind a sigmoid" if float(close) <= _CLOSE else ""
