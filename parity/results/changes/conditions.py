"""What two comparisons do not have in common: what forbids to compare them, and what to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from parity.results.records.hyperparameters import HyperparametersResult
from parity.results.records.nodes import InputResult, NodesResult
from parity.results.records.nodes_diff import Condition

_NONE = "none"


def conditions(before: NodesResult, after: NodesResult) -> list[Condition]:
    """What makes two results say something of different things.

    What a change of code did can be seen only where all of this is the same.

    Args:
        before: The old result.
        after: The new one.

    Returns:
        Model, checkpoint, hyperparameters, type, kind of reference and inputs, as far as they
        differ.
    """
    inputs = _only_in(before.inputs, after.inputs), _only_in(after.inputs, before.inputs)
    return _differing(
        ("model", before.model, after.model),
        (
            "checkpoint fingerprint",
            before.checkpoint.fingerprint,
            after.checkpoint.fingerprint,
        ),
        ("hyperparameters", *_hyperparameters(before, after)),
        ("weights", before.checkpoint.weights.value, after.checkpoint.weights.value),
        ("type", before.dtype, after.dtype),
        ("kind of reference", before.reference.kind.value, after.reference.kind.value),
        ("inputs", *inputs),
    )


def _hyperparameters(before: NodesResult, after: NodesResult) -> tuple[str, str]:
    """What was given to each; the same where one of the results is older than that."""
    old, new = before.checkpoint.hyperparameters, after.checkpoint.hyperparameters
    if old is UNSET or new is UNSET or _without_labels(old) == _without_labels(new):
        return "", ""
    return old.sentence, new.sentence


def _without_labels(found: HyperparametersResult) -> Mapping[str, Any]:
    """The configuration but for names of classes, which change nothing."""
    return {key: value for key, value in found.config.items() if key != "label_map"}


def settings(before: NodesResult, after: NodesResult) -> list[Condition]:
    """What else two results depend on, as far as it differs; it does not forbid to compare them.

    Args:
        before: The old result.
        after: The new one.

    Returns:
        The names of candidate and reference, and of the environment each entry by itself.
    """
    old, new = (dict(_entries(result.environment)) for result in (before, after))
    names = list(dict.fromkeys([*old, *new]))
    return _differing(
        ("candidate", before.candidate, after.candidate),
        ("reference", before.reference.source, after.reference.source),
        (
            "gradients",
            "compared" if before.gradients else "not compared",
            "compared" if after.gradients else "not compared",
        ),
        *((name, old.get(name, _NONE), new.get(name, _NONE)) for name in names),
    )


def _differing(*pairs: tuple[str, str, str]) -> list[Condition]:
    return [Condition(what, old, new) for what, old, new in pairs if old != new]


def _only_in(inputs: Sequence[InputResult], others: Sequence[InputResult]) -> str:
    """The inputs that the other result does not have; their order changes no verdict."""
    left = Counter((item.sha256, item.size) for item in others)
    found = []
    for item in inputs:
        key = (item.sha256, item.size)
        if left[key]:
            left[key] -= 1
        else:
            found.append(f"{item.source} ({item.size}, sha256 {item.sha256[:16]})")
    return ", ".join(found) or "no others"


def _entries(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each entry of nested objects, such as ``packages.torch``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _NONE if value is None else str(value)
