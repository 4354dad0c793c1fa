"""Where a candidate holds the faithful model's parameters: found by what its nodes read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efficientdet_spec import NodeKind
from parity.sides.observed.record import Made
from parity.sides.pytorch.hooks import state
from parity.sides.pytorch.nested import flatten
from parity.sides.pytorch.observation.finding import Found
from parity.sides.pytorch.observation.recording import content
from parity.sides.pytorch.referee import FaithfulReferee


@dataclass(frozen=True)
class Held:
    """How a candidate holds one of the faithful model's parameters.

    Attributes:
        names: Its own parameters or buffers with these values; several are copies, such as one for
            each level.
        axes: The permutation of their axes, those of one element left out, that gives ours; None
            where only the order of the elements is the same.
        shape: Ours.
    """

    names: tuple[str, ...]
    axes: tuple[int, ...] | None
    shape: tuple[int, ...]

    def as_ours(self, tensor: Tensor) -> Tensor:
        """A tensor that belongs to one of the candidate's, in our shape.

        Args:
            tensor: Of the shape of the candidate's.
        """
        if self.axes is not None:
            tensor = tensor.squeeze().permute(self.axes)
        return tensor.reshape(self.shape)


def holdings(
    faithful: nn.Module, referee: FaithfulReferee, candidate: nn.Module, found: Found
) -> dict[str, Held]:
    """Where the candidate holds each of the faithful model's parameters and statistics.

    Its values are those that the node which uses it is made from. What a candidate has computed
    from parameters beforehand, such as a folded batch norm, is not held.

    Args:
        faithful: The faithful model.
        referee: The same, ready to judge.
        candidate: The candidate.
        found: Which of its values are which nodes.
    """
    ours = dict(state(faithful))
    theirs = dict(state(candidate))
    name_of = {id(tensor): name for name, tensor in ours.items()}
    names: dict[str, list[str]] = {}
    for node, call in referee.calls.items():
        used = [value for _, value in state(call.module)] + flatten(call.arguments)
        mine = [name_of[id(value)] for value in used if id(value) in name_of]
        mine = [name for name in mine if ours[name].is_floating_point()]
        if not mine:
            continue
        read = _read(found, _made_at(found, referee, node))
        for name, other in _matched(mine, ours, read, theirs):
            held = names.setdefault(name, [])
            if other not in held:
                held.append(other)
    result = {}
    for name, held in names.items():
        arranged = {_axes(theirs[other], ours[name]) for other in held}
        if len(arranged) == 1 and (axes := arranged.pop()) != _UNLIKE:
            result[name] = Held(tuple(held), axes, tuple(ours[name].shape))
    return result


def norms(candidate: nn.Module, found: Found) -> list[nn.Module] | None:
    """The modules that make the batch norms; None where one is made otherwise.

    Args:
        candidate: The candidate.
        found: Which of its values are which nodes.
    """
    modules = dict(candidate.named_modules())
    result = []
    for node, kind in found.sought.kinds.items():
        if kind is NodeKind.BATCH_NORM:
            partner = found.partners.found.get(node)
            operation = found.record.values[partner.value].operation if partner else None
            module = modules.get(operation.module) if operation and operation.module else None
            if module is None or not any(True for _ in module.buffers(recurse=False)):
                return None
            result.append(module)
    return result


def _made_at(found: Found, referee: FaithfulReferee, node: str) -> set[int]:
    """The values that a node is made as; those of its readers where it is none by itself."""
    partner = found.partners.found.get(node)
    if partner is not None:
        return {partner.value}
    readers = [reader for reader, sources in referee.wiring.items() if node in sources]
    return {value for reader in readers for value in _made_at(found, referee, reader)}


def _read(found: Found, made: Iterable[int]) -> list[Made]:
    """What the candidate holds of what some values are made from, up to the nodes before."""
    values = found.record.values
    stops = {partner.value for partner in found.partners.found.values()} | {found.record.images}
    seen: set[int] = set()
    waiting = [parent for number in made for parent in values[number].parents]
    while waiting:
        number = waiting.pop()
        if number not in seen and number not in stops:
            seen.add(number)
            waiting.extend(values[number].parents)
    held = (values[number] for number in sorted(seen) if values[number].held)
    return [value for value in held if not _is_computed_from(value.held)]


def _is_computed_from(name: str) -> bool:
    """Whether a weight is computed from what bears this name, as weight norm does."""
    return ".parametrizations." in f".{name}" or name.endswith(("weight_v", "weight_orig"))


def _matched(
    mine: Iterable[str], ours: Mapping[str, Tensor], read: list[Made], theirs: Mapping[str, Tensor]
) -> list[tuple[str, str]]:
    """Pairs of our names and theirs with the same values."""
    found = []
    left = {value.held: value.content for value in read}
    for name in mine:
        wanted = content(ours[name].detach())
        alike = [other for other, held in left.items() if held == wanted]
        if not alike:
            continue

        def unlike(other: str, name: str = name) -> tuple[bool, bool]:
            # Equal values, such as a variance and a factor that are both 1.
            sort = isinstance(ours[name], nn.Parameter) != isinstance(theirs[other], nn.Parameter)
            return sort, name.rpartition(".")[2] != other.rpartition(".")[2]

        other = min(alike, key=unlike)
        found.append((name, other))
        left.pop(other)
    return found


_UNLIKE = (-1,)
"""Stands for axes where no permutation of one tensor is the other."""


def _axes(theirs: Tensor, ours: Tensor) -> tuple[int, ...] | None:
    """The permutation of a tensor's axes that gives ours; see :class:`Held`."""
    other, own = theirs.detach().cpu().squeeze(), ours.detach().cpu().squeeze()
    if other.dim() == own.dim():
        for axes in itertools.permutations(range(other.dim())):
            arranged = other.permute(axes)
            if arranged.shape == own.shape and torch.equal(arranged, own):
                return axes
    flat = other.numel() == own.numel() and torch.equal(other.reshape(-1), own.reshape(-1))
    return None if flat else _UNLIKE
