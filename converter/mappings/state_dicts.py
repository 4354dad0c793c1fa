"""State dicts of other PyTorch code bases: to their keys, from them, and whose keys they are.

A module of this package that has a ``NAMING`` describes one code base. Nothing else needs to know
of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from functools import cache
from types import MappingProxyType

import converter.mappings
from converter.mappings.keys import Key, Naming
from converter.mappings.layouts import Array, Shape
from converter.mappings.own import OWN
from efficientdet_spec import (
    MODELS,
    Cause,
    EfficientDetConfig,
    Finding,
    InputError,
    did_you_mean,
    summary,
)


@cache
def namings() -> Mapping[str, Naming]:
    """Every naming of a PyTorch code base, by its name."""
    found = {}
    for item in pkgutil.iter_modules(converter.mappings.__path__):
        module = importlib.import_module(f"{converter.mappings.__name__}.{item.name}")
        naming = vars(module).get("NAMING")
        if naming is not None:
            found[naming.name] = naming
    return MappingProxyType(found)


def get_naming(name: str) -> Naming:
    """The naming called ``name``.

    Args:
        name: Such as ``effdet``.

    Raises:
        InputError: There is none; the message lists those that exist.
    """
    known = namings()
    if name not in known:
        raise InputError(
            f"There is no naming {name!r:.80}{did_you_mean(name, known)}; choose one of "
            f"{', '.join(known)}.",
            Cause.OPTION,
        )
    return known[name]


def to_naming(
    naming: Naming,
    config: EfficientDetConfig,
    arrays: Mapping[str, Array],
    source: str = "The state dict",
) -> dict[str, Array]:
    """A state dict of ours under another code base's keys, with every key that it has.

    Arrays are handed on as they are. Where ours lack a counter, or the code base makes a tensor
    that it never reads, the result holds what a new model of that code base does.

    Args:
        naming: Of the code base.
        config: The model.
        arrays: By our keys.
        source: What the arrays come from, to begin a sentence with.

    Raises:
        InputError: A parameter is missing, unknown or of another shape, or the code base has no
            such model.
    """
    keys = list(naming.keys(config))
    by_ours = {key.parameter: key for key in keys if key.parameter is not None}
    _require_fit(by_ours, arrays, f"{source} does not fit {config.name}")
    found = {}
    for key in keys:
        if key.parameter is not None and key.parameter in arrays:
            found[key.name] = arrays[key.parameter]
        elif key.fallback is not None:
            found[key.name] = key.fallback.copy()
    return found


def from_naming(
    naming: Naming,
    config: EfficientDetConfig,
    arrays: Mapping[str, Array],
    source: str = "The state dict",
) -> dict[str, Array]:
    """Another code base's state dict under our keys; arrays are handed on as they are.

    Args:
        naming: Of the code base.
        config: The model.
        arrays: By the code base's keys.
        source: What the arrays come from, to begin a sentence with.

    Raises:
        InputError: A parameter is missing, unknown or of another shape, or the code base has no
            such model.
    """
    by_theirs = {key.name: key for key in naming.keys(config)}
    wrong = f"{source} does not fit {config.name} in the naming of {naming.name}"
    _require_fit(by_theirs, arrays, wrong)
    return {
        key.parameter: arrays[name]
        for name, key in by_theirs.items()
        if key.parameter is not None and name in arrays
    }


def findings(keys: Mapping[str, Key], shapes: Mapping[str, Shape]) -> list[Finding]:
    """What keeps a state dict from having exactly these keys, in words.

    Args:
        keys: Each by the name that it should have in the state dict.
        shapes: Of the state dict's tensors, by name.
    """
    return [
        *(
            Finding(name, "missing", f"{name} is missing")
            for name, key in keys.items()
            if key.required and name not in shapes
        ),
        *(
            Finding(name, "unknown", f"{name} is unknown", str(list(shapes[name])))
            for name in shapes
            if name not in keys
        ),
        *(
            _reshaped(name, shapes[name], key.shape)
            for name, key in keys.items()
            if shapes.get(name, key.shape) != key.shape
        ),
    ]


def _reshaped(name: str, found: Shape, expected: Shape) -> Finding:
    detail = f"{list(found)}, not {list(expected)}"
    return Finding(name, "of another shape", f"{name} is {detail}", detail)


def _require_fit(keys: Mapping[str, Key], arrays: Mapping[str, Array], wrong: str) -> None:
    found = findings(keys, {name: tuple(array.shape) for name, array in arrays.items()})
    if found:
        raise InputError(
            f"{wrong}: {summary(found)}. Give the state dict of a whole model of this size and "
            f"number of classes.",
            Cause.MODEL,
        )


MOST_PARTS = 8
"""Most parts, each with a dot behind it, that are looked for before a model's keys."""


def naming_of(keys: Iterable[str]) -> Naming | None:
    """The code base whose keys these are; None where they are no known one's.

    A state dict is recognised by the keys that all models of a code base share, of which it must
    have more than half: it may be damaged, or of a model that has been changed.

    Args:
        keys: Of a state dict.
    """
    given = frozenset(keys)
    return next((_variant(one, given) for one in namings().values() if _has_most(one, given)), None)


def models_in(keys: Iterable[str]) -> dict[str, Naming]:
    """The models of a dictionary: whose keys each has, by what stands before these.

    That is found from the keys themselves: it is what ones that all models of a code base share
    have before them. As for :func:`naming_of`, more than half of them must have the same.

    Args:
        keys: Of the dictionary.

    Returns:
        By prefixes that are empty or end with a dot; of this project's names too.
    """
    found: dict[str, Naming] = {}
    every = tuple(keys)
    for naming in (OWN, *namings().values()):
        under: dict[str, set[str]] = {}
        shared = _shared_keys(naming).union(*map(_shared_keys, naming.variants))
        for key in every:
            for prefix, bare in splits(key):
                if bare in shared:
                    under.setdefault(prefix, set()).add(bare)
        for prefix, bare_keys in under.items():
            if prefix not in found and _has_most(naming, bare_keys):
                found[prefix] = _variant(naming, bare_keys)
    return found


def splits(key: str) -> Iterator[tuple[str, str]]:
    """A key in two at each place where a wrapper's part of it can end, the whole key first.

    Args:
        key: Of a state dict.
    """
    place = 0
    for _ in range(MOST_PARTS + 1):
        yield key[:place], key[place:]
        place = key.find(".", place) + 1
        if not place:
            return


@cache
def first_parts(naming: Naming) -> frozenset[str]:
    """What the keys of a code base's models begin with, up to the first dot.

    Args:
        naming: Of the code base.
    """
    return frozenset(key.partition(".")[0] for key in _shared_keys(naming))


def _variant(naming: Naming, keys: Set[str]) -> Naming:
    """The one of a code base's ways to name the same parameters that fits best."""
    return max((naming, *naming.variants), key=lambda one: len(_shared_keys(one) & keys))


def _has_most(naming: Naming, keys: Set[str]) -> bool:
    """Whether there is more than half of the keys that a code base's models share."""
    shared = _shared_keys(naming)
    return 2 * len(shared & keys) > len(shared)


@cache
def _shared_keys(naming: Naming) -> frozenset[str]:
    """The keys that every model of a code base has."""
    models = []
    for model in MODELS.values():
        # Models of one's own may be smaller than all of these.
        config = replace(model, fpn_cells=1, head_repeats=1)
        try:
            models.append({key.name for key in naming.keys(config)})
        except InputError:
            # The code base cannot build this one.
            continue
    return frozenset(set.intersection(*models))
