"""What a candidate returns, taken apart into its nodes: any order, any layout, levels joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from parity.sides.observed.layouts import layouts
from parity.sides.observed.record import Record
from parity.sides.pytorch.hooks import same
from parity.sides.pytorch.observation.arranging import nchw_of
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
        if len(record.returned) != len(returned):
            return None
        made = [_source(record, number) for number in record.returned]
        found = []
        places: list[int] = []
        for node in self.found.outputs:
            value, size = partners[node].value, self.kept[node].numel()
            here = [place for place, source in enumerate(made) if source == value]
            # What something has been done to is returned all the same.
            here = here or [
                place
                for place, number in enumerate(record.returned)
                if returned[place].numel() == size and _comes_from(record, number, value)
            ]
            here = [place for place in here if place not in places]
            if not here:
                return None
            places.append(here[0])
            layout = partners[node].layout
            order = layout.order if layout is not None else ()
            found.append(_as_node(returned[here[0]], self.kept[node], order))
        half = len(places) // 2
        if places == sorted(places):
            return found
        if not (_follow(places[:half]) and _follow(places[half:])):
            # Levels that do not follow each other are taken for others by whoever reads them.
            return [tensor for _, tensor in sorted(zip(places, found, strict=True), key=_place)]
        self.notes.append("The candidate returns its outputs in another order.")
        return found


def _follow(places: Sequence[int]) -> bool:
    """Whether the levels of a head are returned from the finest to the coarsest, or reversed."""
    return list(places) in (sorted(places), sorted(places, reverse=True))


def _place(item: tuple[int, Tensor]) -> int:
    return item[0]


def _source(record: Record, number: int | None) -> int | None:
    """The value that a returned one holds in another arrangement, or the returned one itself."""
    return None if number is None else [*record.arranged_from(number)][-1]


def _comes_from(record: Record, number: int | None, source: int) -> bool:
    """Whether a value is made from another one, by whatever operations."""
    waiting, seen = [number], {number}
    while waiting:
        value = waiting.pop()
        if value == source:
            return True
        if value is not None and value > source:
            new = [parent for parent in record.values[value].parents if parent not in seen]
            seen.update(new)
            waiting.extend(new)
    return False


def _as_node(tensor: Tensor, made: Tensor, order: tuple[int, ...]) -> Tensor:
    """A returned tensor as [N, C, H, W], in the layout in which it holds what was made.

    Args:
        tensor: The tensor.
        made: What was made, [N, C, H, W].
        order: How that was held, which is taken where nothing holds it.
    """
    batch, channels, height, width = made.shape
    found = layouts(tuple(tensor.shape), (batch, height, width, channels))
    for layout in found:
        arranged = nchw_of(tensor, layout)
        if same(arranged, made.to(arranged.device)):
            return arranged
    alike = [layout for layout in found if layout.order == order]
    alike = alike or (list(found) if len(found) == 1 else [])
    return nchw_of(tensor, alike[0]) if alike else tensor


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
