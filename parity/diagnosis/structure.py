"""What can be said of a candidate's layers without running them: parameters and settings.

Some mistakes change no output of an inference run: a bias of zeros, a momentum, a weight that
only meets zeros. They come to light in fine-tuning, or on other images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.weight_norm import WeightNorm

from efficientdet_spec import NodeKind
from parity.diagnosis.relations import Pool, Relation, relate
from parity.faults import ROUNDINGS
from parity.process.arrays import Array
from parity.results.records.nodes import Finding
from parity.sides.naming import Naming, base
from parity.sides.pytorch.referee import FaithfulReferee

SETTING_TOLERANCE = 1e-9
"""Between two ways of writing one setting: ``1 - 0.99`` is 0.01 to within 1e-17."""

_COUNTERS = "num_batches_tracked"


class Structure:
    """Compares a candidate's layers with the faithful model's.

    Args:
        candidate: The candidate.
        naming: Which of its submodules make which nodes.
        referee: The faithful model.
        faithful: The same as a module, for the names of its parameters.
        alternatives: Other values of the checkpoint's parameters, by what they are and by name.
    """

    def __init__(
        self,
        candidate: nn.Module,
        naming: Naming,
        referee: FaithfulReferee,
        faithful: nn.Module,
        alternatives: Mapping[str, Mapping[str, Array]],
    ) -> None:
        self._candidate = candidate
        self._naming = naming
        self._referee = referee
        self._alternatives = alternatives
        self._faithful = dict(_state(faithful))
        self._state = {name: _array(value) for name, value in self._faithful.items()}

    def findings(self) -> list[Finding]:
        """Everything about the candidate that is not as it should be, what acts most first."""
        found = [*self._training()]
        paths = self._naming.path_of()
        members_of: dict[str, list[str]] = {}
        for name in self._referee.calls:
            members_of.setdefault(base(name), []).append(name)
        for node, members in members_of.items():
            for path in dict.fromkeys(paths[name] for name in members if name in paths):
                found += self._of_layer(members[0], node, path)
        found += self._weights()
        return sorted(found, key=lambda item: _rank(item.slug))

    def _training(self) -> Iterator[Finding]:
        """What is in training mode and does something else there."""
        acting = {
            path: why
            for path, module in self._candidate.named_modules()
            if module.training and (why := _in_training(module))
        }
        if self._candidate.training and acting:
            counts = Counter(acting.values())
            listed = " and ".join(f"{count} of its layers {why}" for why, count in counts.items())
            text = f"the whole model is in training mode, in which {listed}; call its eval()"
            yield Finding("training", "the candidate", text)
            return
        nodes = {path: base(calls[0]) for path, calls in self._naming.calls.items()}
        for path, why in acting.items():
            text = f"it is in training mode, in which it will {why}"
            yield Finding("training", _owner(path, nodes) or path, text)

    def _of_layer(self, member: str, node: str, path: str) -> Iterator[Finding]:
        faithful = self._referee.calls[member].module
        try:
            module = self._candidate.get_submodule(path)
        except AttributeError:
            # Levels that the candidate shares are not called by every path.
            return
        if self._referee.kinds[member] is NodeKind.BATCH_NORM and isinstance(module, _ConvNd):
            # It has taken the norm in, and its values are not the norm's: judged at the node.
            return
        theirs = {
            name: _array(value)
            for name, value in _state(module)
            if not self._is_anothers(path, name)
        }
        expected = {name: _array(value) for name, value in _state(faithful)}
        # Where it has none of them it is built in another way, whatever its path.
        strict = self._naming.strict and not (expected and theirs.keys().isdisjoint(expected))
        for local, ours in expected.items():
            name = f"{node}.{local}"
            match = theirs.pop(local, None)
            if match is None:
                match = _computed(module, local, ours, theirs, strict)
            if match is None and not strict:
                match = _taken(theirs, local, ours)
            if match is None:
                if strict:
                    yield Finding("parameter-missing", name, "the candidate has no such parameter")
                continue
            relation = self._relate(name, ours, match)
            if relation:
                yield Finding(
                    f"parameter-{relation.slug}",
                    name,
                    f"the candidate's value is {relation.title}",
                )
        # What it computes with parameters of its own is judged at its node.
        its_own = self._naming.strict and not strict
        if its_own or self._referee.kinds[member] is NodeKind.FUSE:
            theirs = {}
        for local, value in theirs.items():
            if self._is_of_unnamed(value) or self._has_moved(value):
                continue
            what = "all zero" if not value.any() else f"values up to {abs(value).max():.3g}"
            yield Finding(
                "parameter-extra",
                f"{node}.{local}",
                f"the candidate has this parameter, {what}, and the model does not",
            )
        yield from _settings(node, faithful, module)

    def _is_anothers(self, path: str, local: str) -> bool:
        """Whether a parameter below a node's path lies in a layer that is named for another.

        A port may name a container for a node that also holds the layers of others.
        """
        parts = f"{path}.{local}".split(".") if path else local.split(".")
        depth = path.count(".") + 1 if path else 0
        inner = (".".join(parts[:end]) for end in range(depth + 1, len(parts)))
        return any(name in self._naming.calls for name in inner)

    def _is_of_unnamed(self, value: Array) -> bool:
        """Whether a parameter that is left over is one of the checkpoint's.

        Where a port's names do not cover every node, it may belong to one that they leave out.
        """
        return not self._naming.strict and bool(self._contents.find(value))

    def _has_moved(self, value: Array) -> bool:
        """Whether a parameter that is left over is one that the candidate lacks at its place."""
        lacking = (ours for name, ours in self._state.items() if name not in self._names)
        return any(
            ours.shape == value.shape and ours.tobytes() == value.tobytes() for ours in lacking
        )

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(name for name, _ in _state(self._candidate))

    @cached_property
    def _contents(self) -> Pool:
        return Pool(self._state)

    def _weights(self) -> Iterator[Finding]:
        """Parameters that belong to no layer: the fusions' weights."""
        if not self._naming.strict:
            return
        layers = {base(name) for name in self._referee.calls}
        state = dict(_state(self._candidate))
        for name, ours in self._state.items():
            if name.rpartition(".")[0] in layers or self._is_kept_elsewhere(name, state):
                continue
            match = _array(state[name]) if name in state else None
            if match is None:
                match = _computed(self._candidate, name, ours, {}, True)
            if match is None:
                text = "the candidate has no such parameter"
                yield Finding("parameter-missing", name, text)
                continue
            relation = self._relate(name, ours, match)
            if relation:
                yield Finding(
                    f"parameter-{relation.slug}",
                    name,
                    f"the candidate's value is {relation.title}",
                )

    def _is_kept_elsewhere(self, name: str, state: Mapping[str, Tensor]) -> bool:
        """Whether the layer that is given a parameter is none of the candidate's, or has its own.

        What such a candidate computes with it is judged at the node, as far as that can be seen.
        """
        if name in state:
            return False
        paths = self._naming.path_of()
        readers = [
            node
            for node, call in self._referee.calls.items()
            if any(value is self._faithful[name] for value in call.arguments)
        ]
        for reader in readers:
            try:
                module = self._candidate.get_submodule(paths.get(reader, base(reader)))
            except AttributeError:
                return True
            if _state(module):
                return True
        return False

    def _relate(self, name: str, ours: Array, theirs: Array) -> Relation | None:
        if ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes():
            return None
        others = {
            what: arrays[name] for what, arrays in self._alternatives.items() if name in arrays
        }
        return relate(name, ours, theirs, self._contents, others)


def _state(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and statistics by name."""
    both = [*module.named_parameters(), *module.named_buffers()]
    return [(name, value) for name, value in both if not name.endswith(_COUNTERS)]


def _array(value: Tensor) -> Array:
    plain = value.detach().cpu().contiguous()
    # NumPy has no bfloat16, all of whose numbers float32 has.
    array: Array = (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()
    return array


def _computed(
    module: nn.Module, local: str, ours: Array, theirs: dict[str, Array], strict: bool
) -> Array | None:
    """A value that a layer computes from parameters of other names, as weight norm does.

    Those parameters are taken out of ``theirs``. What was computed may differ by its roundings
    from the checkpoint's value, which is then what is given back.
    """
    owner, _, name = local.rpartition(".")
    if not strict:
        parts = (path for path, part in module.named_modules() if is_parametrized(part, name))
        owner = next(parts, owner)
    try:
        with torch.no_grad():
            value = _current(module.get_submodule(owner), name)
    # A property may fail in any way, and is then no value.
    except Exception:
        return None
    if not isinstance(value, Tensor):
        return None
    prefix = f"{owner}." if owner else ""
    for other in list(theirs):
        # PyTorch's parametrizations, and its older hooks (weight_g, weight_v, weight_orig).
        if other.startswith((f"{prefix}parametrizations.{name}.", f"{prefix}{name}_")):
            del theirs[other]
    made = _array(value)
    if made.shape != ours.shape or made.dtype.kind != "f":
        return made
    allowed = ROUNDINGS * np.finfo(made.dtype).eps / 2 * np.abs(ours)
    return ours if bool((np.abs(made - ours) <= allowed).all()) else made


def _current(module: nn.Module, name: str) -> Any:
    """An attribute, as it will be at the next call."""
    for hook in module._forward_pre_hooks.values():
        # PyTorch's older weight norm computes it there.
        if getattr(hook, "name", None) == name and isinstance(hook, WeightNorm):
            return hook.compute_weight(module)
    return getattr(module, name)


_RANKS = ("training", "eps", "momentum", "parameter-missing")
"""Kinds of findings, those first that change most; other parameters follow, extra ones last."""


def _rank(slug: str) -> int:
    if slug == "parameter-extra":
        return len(_RANKS) + 1
    return _RANKS.index(slug) if slug in _RANKS else len(_RANKS) - 1


def _owner(path: str, nodes: Mapping[str, str]) -> str | None:
    """The node that a submodule lies in; None for none."""
    parts = path.split(".")
    tops = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((nodes[top] for top in tops if top in nodes), None)


_DROPPING = re.compile(r"drop_?(out|connect|path|block)|stochastic_?depth", re.IGNORECASE)
"""Names of the classes that drop values, or whole branches, in training."""


def _in_training(module: nn.Module) -> str | None:
    """What a layer of its own kind does in training mode; None where that is nothing."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "use the batch's own statistics"
    # A probability of zero drops nothing.
    rates = [getattr(module, name, None) for name in ("p", "drop_prob", "rate", "drop_rate")]
    known = [rate for rate in rates if isinstance(rate, (int, float))]
    if _DROPPING.search(type(module).__name__) and not (known and max(known) == 0):
        return "drop values at random"
    return None


def kept_buffers(model: nn.Module) -> dict[int, Tensor]:
    """Copies of a model's buffers by identity, which a run in training mode would change."""
    if not any(part.training for part in model.modules()):
        return {}
    return {id(value): value.detach().clone() for value in model.buffers()}


def values_of(module: nn.Module, faithful: nn.Module) -> dict[str, Tensor]:
    """A candidate layer's parameters and statistics, by the names of the faithful layer.

    Those that it computes from parameters of other names are among them, and so is everything
    that it has besides.

    Args:
        module: The candidate's layer.
        faithful: The faithful one.
    """
    values = dict(_state(module))
    for name, _ in _state(faithful):
        value = getattr(module, name, None)
        if name not in values and isinstance(value, Tensor):
            values[name] = value.detach()
    return values


def _taken(theirs: dict[str, Array], local: str, ours: Array) -> Array | None:
    """The parameter of another structure that has this one's place: by last name and shape."""
    last = local.rpartition(".")[2]
    for name, value in theirs.items():
        if name.rpartition(".")[2] == last and value.shape == ours.shape:
            return theirs.pop(name)
    return None


def _settings(node: str, faithful: nn.Module, module: nn.Module) -> Iterator[Finding]:
    """Settings of batch norms, which hold for training or for inputs that are not seen here."""
    if not isinstance(faithful, nn.BatchNorm2d):
        return
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        for name in ("momentum", "eps"):
            ours: Any = getattr(faithful, name)
            theirs: Any = getattr(norm, name)
            if theirs is None or abs(theirs - ours) > SETTING_TOLERANCE:
                yield Finding(name, node, f"its {name} is {theirs!r} instead of {ours:g}")
