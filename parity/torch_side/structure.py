"""What can be said of a candidate's layers without running them: parameters and settings.

Some mistakes change no output of an inference run: a bias of zeros, a momentum, a weight that
only meets zeros. They come to light in fine-tuning, or on other images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from parity.naming import Naming, base
from parity.parameters import Pool, Relation, relate
from parity.result import Finding
from parity.stream import Array
from parity.torch_side.referee import Referee

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
        referee: Referee,
        faithful: nn.Module,
        alternatives: Mapping[str, Mapping[str, Array]],
    ) -> None:
        self._candidate = candidate
        self._naming = naming
        self._referee = referee
        self._alternatives = alternatives
        self._state = {name: _array(value) for name, value in _state(faithful)}
        self._pool: Pool | None = None

    def findings(self) -> list[Finding]:
        """Everything about the candidate that is not as it should be."""
        found: list[Finding] = []
        paths = self._naming.path_of()
        for node in dict.fromkeys(base(name) for name in self._referee.calls):
            members = [name for name in self._referee.calls if base(name) == node]
            for path in dict.fromkeys(paths[name] for name in members if name in paths):
                found += self._of_layer(members[0], node, path)
        found += self._weights()
        return found

    def _of_layer(self, member: str, node: str, path: str) -> Iterator[Finding]:
        faithful = self._referee.calls[member].module
        try:
            module = self._candidate.get_submodule(path)
        except AttributeError:
            # Levels that the candidate shares are not called by every path.
            return
        theirs = {name: _array(value) for name, value in _state(module)}
        for local, ours in ((name, _array(value)) for name, value in _state(faithful)):
            name = f"{node}.{local}"
            match = theirs.pop(local, None)
            if match is None and not self._naming.strict:
                match = _taken(theirs, local, ours)
            if match is None:
                if self._naming.strict:
                    yield Finding("parameter-missing", name, "the candidate has no such parameter")
                continue
            relation = self._relate(name, ours, match)
            if relation:
                yield Finding(
                    f"parameter-{relation.slug}",
                    name,
                    f"the candidate's value is {relation.title}",
                )
        for local, value in theirs.items():
            what = "all zero" if not value.any() else f"values up to {abs(value).max():.3g}"
            yield Finding(
                "parameter-extra",
                f"{node}.{local}",
                f"the candidate has this parameter, {what}, and the model does not",
            )
        yield from _settings(node, faithful, module)

    def _weights(self) -> Iterator[Finding]:
        """Parameters that belong to no layer: the fusions' weights."""
        if not self._naming.strict:
            return
        layers = {base(name) for name in self._referee.calls}
        state = dict(_state(self._candidate))
        for name, ours in self._state.items():
            if name.rpartition(".")[0] in layers:
                continue
            if name not in state:
                text = "the candidate has no such parameter"
                yield Finding("parameter-missing", name, text)
                continue
            relation = self._relate(name, ours, _array(state[name]))
            if relation:
                yield Finding(
                    f"parameter-{relation.slug}",
                    name,
                    f"the candidate's value is {relation.title}",
                )

    def _relate(self, name: str, ours: Array, theirs: Array) -> Relation | None:
        if ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes():
            return None
        if self._pool is None:
            self._pool = Pool(self._state)
        others = {
            what: arrays[name] for what, arrays in self._alternatives.items() if name in arrays
        }
        return relate(name, ours, theirs, self._pool, others)


def _state(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and statistics by name."""
    both = [*module.named_parameters(), *module.named_buffers()]
    return [(name, value) for name, value in both if not name.endswith(_COUNTERS)]


def _array(value: Tensor) -> Array:
    array: Array = value.detach().cpu().contiguous().numpy()
    return array


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
            if theirs is None or abs(theirs - ours) > 1e-9:
                yield Finding(name, node, f"its {name} is {theirs!r} instead of {ours:g}")
        if norm.training:
            text = "it is in training mode, so that it uses the batch's own statistics"
            yield Finding("training", node, text)
