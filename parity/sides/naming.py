"""Which call of which submodule of a candidate makes which node.

A node's name is the path of the module that makes it in the faithful model. A module that
levels share is called once for each level and makes one node at each call, in the levels'
order. Other people's models have other paths; a names file says which.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from efficientdet_spec import Cause, InputError, printable
from parity.process.json_text import read_json

WRITTEN = ("efficientdet-parity/names", 1)
"""Schema and version of the files that ``--write-names`` writes."""

_MAX_BYTES = 16 << 20
"""Larger names files are refused unread: the largest model has fewer than 2000 nodes."""


@dataclass(frozen=True)
class Naming:
    """The nodes that each submodule makes.

    Attributes:
        calls: By path of a submodule, the nodes that its successive calls make.
        nodes: All nodes of the reference in the order of computation.
        strict: Whether the candidate has the faithful model's paths, so that every layer of it
            that is not among them is one too many. Elsewhere what lies between two nodes
            belongs to the second.
        prefix: What the candidate's paths begin with, where a module holds the model.
    """

    calls: Mapping[str, tuple[str, ...]]
    nodes: tuple[str, ...]
    strict: bool
    prefix: str = ""

    def path_of(self) -> dict[str, str]:
        """The submodule's path by node."""
        return {node: path for path, nodes in self.calls.items() for node in nodes}


@dataclass(frozen=True)
class CandidateName:
    """What a text names that a user gives as the candidate.

    Attributes:
        file: A converted model, or a Python file; None for a model of a package.
        package: The package; None for a file.
        maker: The function of the Python file, or the name of the package's model; None for a
            file alone.
    """

    file: Path | None = None
    package: str | None = None
    maker: str | None = None

    @property
    def runs_code(self) -> bool:
        """Whether the candidate is made by code that is not this project's."""
        return self.maker is not None


def split_candidate(text: str) -> CandidateName:
    """The parts of ``model.py:build``, ``effdet:tf_efficientdet_d0`` or the path of a file.

    Args:
        text: As of ``--candidate``.
    """
    left, colon, right = text.rpartition(":")
    if colon and left.endswith(".py"):
        return CandidateName(file=Path(left), maker=right)
    # No path of a file: neither part has a dot or a slash.
    if left.isidentifier() and right.isidentifier():
        return CandidateName(package=left, maker=right)
    return CandidateName(file=Path(text))


def base(node: str) -> str:
    """A node's name without the level: the path of its module."""
    return node.partition("@")[0]


def own_paths(nodes: Iterable[str], prefix: str = "") -> Naming:
    """The naming of a candidate built like the faithful model.

    Args:
        nodes: The reference's nodes in the order of computation.
        prefix: What all its paths begin with.
    """
    calls: dict[str, tuple[str, ...]] = {}
    order = tuple(nodes)
    for node in order:
        path = f"{prefix}{base(node)}"
        calls[path] = (*calls.get(path, ()), node)
    return Naming(calls, order, strict=True, prefix=prefix)


def read_names(path: Path, nodes: Sequence[str], model: str | None = None) -> Naming:
    """The naming that a JSON file gives.

    The file is one that ``--write-names`` has written, of which the paths count, or holds one plain
    object. The plain one's keys are nodes, with a level (``class_head.acts.0@P4``) or
    without, which stands for all levels. Its values are paths of submodules; with
    ``"path": ["a", "b"]`` each of the levels has a submodule of its own. Nodes whose submodule is
    the same are its successive calls, in the order of computation.

    Args:
        path: The file.
        nodes: The reference's nodes in the order of computation.
        model: What the model is called; None where that is not known.

    Raises:
        InputError: The file cannot be read, is of another model, is no such object, or names
            nodes that do not exist.
    """
    given = _plain(path, _read_object(path), model)
    by_base = own_paths(nodes).calls
    paths: dict[str, str] = {}
    for key, value in given.items():
        members = (key,) if key in set(nodes) else by_base.get(key)
        if members is None:
            raise InputError(
                f"{path} names the node {key!r:.100}, which the model does not have; give a name "
                f"from the table of compare.py nodes, such as {nodes[0]!r}.",
                Cause.MODEL,
            )
        modules = [value] * len(members) if isinstance(value, str) else value
        if (
            not isinstance(modules, list)
            or len(modules) != len(members)
            or not all(isinstance(item, str) and item for item in modules)
        ):
            several = f", or a list of {len(members)} paths, one for each level"
            raise InputError(
                f"{path} gives {json.dumps(value):.80} for the node {key!r}; give the path of a "
                f"submodule{several if len(members) > 1 else ''}.",
                Cause.FORMAT,
            )
        for node, module in zip(members, modules, strict=True):
            if node in paths and paths[node] != module:
                raise InputError(
                    f"{path} names two submodules for the node {node!r}, {paths[node]!r} and "
                    f"{module!r}; leave one of them out.",
                    Cause.FORMAT,
                )
            paths[node] = module
    calls: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        if node in paths:
            calls[paths[node]] = (*calls.get(paths[node], ()), node)
    return Naming(calls, tuple(nodes), strict=False)


def _without_repetition(path: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of which a second value for a key does not take the first one's place."""
    values = dict(pairs)
    if len(values) < len(pairs):
        given = [key for key, _ in pairs]
        twice = next(key for key in values if given.count(key) > 1)
        raise InputError(
            f"{path} gives the key {twice!r:.80} twice; leave one of them out.", Cause.FORMAT
        )
    return values


def _read_object(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise InputError(
                f"{path} has {size} bytes, more than any list of names; give a JSON file of at "
                f"most {_MAX_BYTES >> 20} MiB.",
                Cause.FORMAT,
            )
        values = read_json(path, _MAX_BYTES, pairs=partial(_without_repetition, path))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} cannot be read as JSON ({printable(error)!s:.200}); give a file "
            f"with one object that maps nodes to paths of submodules.",
            Cause.of(error),
        ) from error
    if not isinstance(values, dict) or not values:
        raise InputError(
            f"{path} holds {type(values).__name__ if values else 'nothing'}; give one JSON object "
            f"that maps nodes to paths of submodules.",
            Cause.FORMAT,
        )
    return values


def _plain(path: Path, values: dict[str, Any], model: str | None) -> dict[str, Any]:
    """What a file gives for nodes, without what else ``--write-names`` says of them."""
    schema, version = values.get("schema"), values.get("version")
    if schema is None:
        return values
    nodes = values.get("nodes")
    if (schema, version) != WRITTEN or not isinstance(nodes, dict):
        found = f"is {json.dumps(schema):.40} in version {json.dumps(version):.10}"
        if (schema, version) == WRITTEN:
            found = "has no object under the key 'nodes'"
        raise InputError(
            f"{path} {found}; give what --write-names of this version has written "
            f"({WRITTEN[0]} version {WRITTEN[1]}), or one plain JSON object that maps nodes to "
            f"paths of submodules.",
            Cause.FORMAT,
        )
    made_for = values.get("model")
    if model is not None and isinstance(made_for, str) and made_for != model:
        raise InputError(
            f"{path} was written for {made_for:.40}, and this is {model}; give the names of a "
            f"candidate of this model.",
            Cause.MODEL,
        )
    given = {}
    for node, entry in nodes.items():
        if not isinstance(entry, dict):
            raise InputError(
                f"{path} gives {json.dumps(entry):.80} for the node {node!r:.80}; give an object "
                f"with a path.",
                Cause.FORMAT,
            )
        # What no submodule makes by itself is left to what is found.
        if entry.get("path") is not None:
            given[node] = entry["path"]
    return given


def check_paths(naming: Naming, modules: Iterable[str], source: str) -> None:
    """Raise where a naming speaks of submodules that a candidate does not have.

    Args:
        naming: The naming.
        modules: Paths of the candidate's submodules.
        source: The file that the naming comes from.

    Raises:
        InputError: Says the first such path, and paths that look like it.
    """
    known = set(modules)
    for path in naming.calls:
        if path not in known:
            last = path.rpartition(".")[2]
            alike = [name for name in sorted(known) if name.rpartition(".")[2] == last][:3]
            hint = f", which has for example {', '.join(alike)}" if alike else ""
            raise InputError(
                f"{source} names the submodule {path!r}, which the candidate does not have{hint}; "
                f"correct the path.",
                Cause.CANDIDATE,
            )
