"""What a candidate returns, taken apart into its nodes: any order, any layout, levels joined."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from parity.sides.observed.layouts import Layout, layouts
from parity.sides.observed.pairs import How
from parity.sides.observed.record import Record
from parity.sides.pytorch.hooks import same
from parity.sides.pytorch.observation.arranging import nchw_of
from parity.sides.pytorch.observation.finding import Found


@dataclass(frozen=True)
class Place:
    """Where an output node is among the tensors that are returned.

    Attributes:
        number: Of the tensor.
        node: NHWC shape of the node.
        layout: How the tensor holds it, where it holds nothing else; None for as it is.
        rows: Where several levels are joined, which anchors are its own; None where they are not.
        processed: Whether something has been done to the values, such as a sigmoid.
        is_sigmoid: Whether that is a sigmoid.
    """

    number: int
    node: tuple[int, int, int, int]
    layout: Layout | None = None
    rows: tuple[int, int] | None = None
    processed: bool = False
    is_sigmoid: bool = False

    def taken(self, returned: Sequence[Tensor]) -> Tensor:
        """The node's values out of what a run of the same shape returns, [N, C, H, W].

        Args:
            returned: The tensors; what is taken can be differentiated as they can.
        """
        tensor = returned[self.number]
        if self.rows is not None:
            return tensor[:, slice(*self.rows)].reshape(self.node).permute(0, 3, 1, 2)
        return tensor if self.layout is None else nchw_of(tensor, self.layout)


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
        places: Where each output is, in the reference's order; empty where that is not known.
    """

    found: Found
    kept: Mapping[str, Tensor]
    notes: list[str] = field(default_factory=list)
    not_shown: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def apart(self, returned: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of the nodes, [N, C, H, W] each, in the reference's order.

        Args:
            returned: The tensors that the candidate returns.

        Returns:
            What is returned of each node. Where not all of it is, all tensors as they are.
        """
        self.notes.clear()
        self.not_shown.clear()
        self.places.clear()
        outputs, kept = self.found.outputs, self.kept
        if any(node not in kept for node in outputs):
            return list(returned)
        single = self._single(returned)
        if single is not None:
            return single
        heads = [outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]]
        for what, nodes in zip(("class", "box"), heads, strict=True):
            levels = [kept[node] for node in nodes]
            joined = (_joined(number, tensor, levels) for number, tensor in enumerate(returned))
            places = next(filter(None, joined), [])
            self.places += places
            if not places:
                self.not_shown.append(
                    f"what the candidate returns does not hold its {what} outputs in an "
                    f"arrangement that is known here, so that what it does behind its last layers "
                    f"is not judged; return what these layers make"
                )
            else:
                behind = ", behind a sigmoid" if places[0].processed else ""
                self.notes.append(
                    f"The candidate returns its {what} outputs joined to [N, anchors, values], "
                    f"anchors in the usual order{behind}."
                )
        if self.not_shown:
            self.places.clear()
        return [kept[node] for node in outputs]

    def _single(self, returned: Sequence[Tensor]) -> list[Tensor] | None:
        """Where each node is returned by itself: its tensors, as they are returned."""
        record, partners = self.found.record, self.found.partners.found
        if len(record.returned) != len(returned):
            return None
        made = [_source(record, number) for number in record.returned]
        found: list[Place] = []
        places: list[int] = []
        for node in self.found.outputs:
            value, size = partners[node].value, self.kept[node].numel()
            same_values = {value, *self.found.copies.get(node, ())}
            here = [place for place, source in enumerate(made) if source in same_values]
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
            held, is_same = _layout_in(returned[here[0]], self.kept[node], order)
            shape = _nhwc(self.kept[node])
            # What was changed before it was returned is the node, but not what its layer made.
            processed = not is_same or partners[node].how is How.CHANGED
            found.append(Place(here[0], shape, held, processed=processed))
        half = len(places) // 2
        tensors = [place.taken(returned) for place in found]
        for what, part in (("class", slice(half)), ("box", slice(half, None))):
            made_there = [self.kept[node] for node in self.found.outputs[part]]
            if all(map(_is_sigmoid_of, tensors[part], made_there)):
                # What was made there is known, and so is what has been done to it.
                tensors[part] = made_there
                found[part] = [replace(place, is_sigmoid=True) for place in found[part]]
                self.notes.append(f"The candidate returns its {what} outputs behind a sigmoid.")
        self.places += found
        if places == sorted(places):
            return tensors
        if not (in_order(places[:half]) and in_order(places[half:])):
            # Levels that do not follow each other are taken for others by whoever reads them.
            return [tensor for _, tensor in sorted(zip(places, tensors, strict=True), key=_place)]
        self.notes.append("The candidate returns its outputs in another order.")
        return tensors


def in_order(places: Sequence[int]) -> bool:
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


def _layout_in(tensor: Tensor, made: Tensor, order: tuple[int, ...]) -> tuple[Layout | None, bool]:
    """The layout in which a returned tensor holds what was made, and whether it holds just that.

    Args:
        tensor: The tensor.
        made: What was made, [N, C, H, W].
        order: How that was held, which is taken where nothing holds it.
    """
    found = [layout for layout in layouts(tuple(tensor.shape), _nhwc(made)) if _is_upright(layout)]
    for layout in found:
        arranged = nchw_of(tensor, layout)
        if same(arranged, made.to(arranged.device)):
            return layout, True
    alike = [layout for layout in found if layout.order == order]
    alike = alike or (list(found) if len(found) == 1 else [])
    return (alike[0] if alike else None), False


def _is_upright(layout: Layout) -> bool:
    """Whether whoever reads a tensor can take it for a map: images first, rows before columns.

    Maps with their height and width exchanged, of square images, look right and are not.
    """
    batch, height, width, _ = layout.node
    order = layout.order
    rows_first = order.index(1) < order.index(2) or 1 in (height, width)
    return rows_first and (order[0] == 0 or batch == 1)


def _nhwc(tensor: Tensor) -> tuple[int, int, int, int]:
    batch, channels, height, width = tensor.shape
    return batch, height, width, channels


def _is_sigmoid_of(tensor: Tensor, made: Tensor) -> bool:
    """Whether a tensor is another one behind a sigmoid."""
    if tensor.shape != made.shape or not tensor.is_floating_point() or not tensor.numel():
        return False
    # NaN is close to nothing.
    return float((torch.sigmoid(made.to(tensor)) - tensor).abs().max()) <= _CLOSE


def _joined(number: int, tensor: Tensor, levels: Sequence[Tensor]) -> list[Place]:
    """The places of all levels where a tensor holds them joined; empty where it does not.

    Args:
        number: Of the tensor.
        tensor: The tensor.
        levels: What was made at each level, [N, C, H, W].
    """
    if tensor.dim() != 3 or not tensor.is_floating_point():
        return []
    values = tensor.shape[2]
    if sum(level.numel() for level in levels) != tensor.numel():
        return []
    flat = [level.permute(0, 2, 3, 1).reshape(len(level), -1, values) for level in levels]
    whole = torch.cat(flat, dim=1).to(tensor.device, tensor.dtype)
    if whole.shape != tensor.shape:
        return []
    processed = not same(whole, tensor)
    if processed and not _is_sigmoid_of(tensor, whole):
        return []
    ends = list(itertools.accumulate((part.shape[1] for part in flat), initial=0))
    return [
        Place(number, _nhwc(level), rows=rows, processed=processed, is_sigmoid=processed)
        for level, rows in zip(levels, itertools.pairwise(ends), strict=True)
    ]
