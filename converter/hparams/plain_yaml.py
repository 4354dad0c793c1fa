"""YAML files of plain values, read without trusting them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from efficientdet_spec import Cause, InputError, printable, read_regular

MAX_BYTES = 256 * 1024
"""Largest file: a configuration has 3 kB, the names of 1,200 classes 30 kB."""

MAX_DEPTH = 20
"""Most lists and mappings inside one another: a configuration with own FPN nodes has four."""

MAX_NODES = 50_000
"""Most values, each counted as often as it is referred to (``*name``)."""

_TUPLE = "tag:yaml.org,2002:python/tuple"
_LARGEST = 2**63


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain values, tuples, and no key twice.

    Reading runs no code: besides the types of YAML itself only ``!!python/tuple`` is known, which
    the official code writes for image sizes.
    """

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        """A mapping, no key of which is there twice.

        Raises:
            ConstructorError: One is.
        """
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {printable(key.value)!s:.60} is there twice",
                    key.start_mark,
                )
            seen.add((key.tag, key.value))
        # Merged keys (`<<`) are spread before the mapping is made.
        built: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return built


def _tuple(loader: _Loader, node: yaml.Node) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor(_TUPLE, _tuple)
# A date, and bytes, are no hyperparameters: their text tells more.
for _kind in ("timestamp", "binary"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_yaml_str)


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """What a YAML file holds: None, booleans, numbers, texts, lists, tuples and dictionaries.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, is too large or too deep, or holds something else.
    """
    path = Path(path)
    try:
        data = read_regular(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or printable(error)
        raise InputError(
            f"{printable(path)} cannot be read ({reason}); give a YAML file of hyperparameters.",
            Cause.of(error),
        ) from error
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, source: str) -> Any:
    """As :func:`read_yaml` of a file's content.

    Args:
        data: The content.
        source: The file, for messages.

    Raises:
        InputError: As there.
    """
    try:
        _check_events(data)
        loader = _Loader(data)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node)
            value = loader.construct_document(node)
        finally:
            loader.dispose()
        check_plain(value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f"line {mark.line + 1}: "
        raise _refused(source, f"{place}{error.problem or error}") from error
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise _refused(source, str(error).partition("\n")[0]) from error
    except (RecursionError, MemoryError, AttributeError) as error:
        raise _refused(source, "it is nested too deeply or damaged") from error
    return value


def _refused(source: str, reason: str) -> InputError:
    return InputError(
        f"{printable(source)} is no YAML file of plain values ({printable(reason)!s:.200}); give "
        f"one of numbers, texts, lists, mappings and !!python/tuple.",
        Cause.FORMAT,
    )


def _check_events(data: bytes) -> None:
    """Refuse what is deep or long before anything is made of it.

    Raises:
        ValueError: It is.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(data, Loader=yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it is more than {MAX_DEPTH} levels deep")
        if count > 2 * MAX_NODES:
            raise ValueError(f"it holds more than {MAX_NODES:,} values")


def _check_size(root: yaml.Node) -> None:
    """Refuse what grows without end by references.

    Raises:
        ValueError: It does.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        known = sizes.get(id(node))
        if known == 0:
            raise ValueError("it refers to itself")
        if depth > 2 * MAX_DEPTH:
            raise ValueError(f"it is more than {MAX_DEPTH} levels deep")
        if known is None:
            sizes[id(node)] = 0
            parts: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                parts = node.value
            known = sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        if known > MAX_NODES:
            raise ValueError(f"it holds more than {MAX_NODES:,} values")
        return known

    size(root, 0)


def check_plain(value: Any) -> None:
    """Refuse what could not be shown or written as JSON.

    Args:
        value: Of a file or a literal.

    Raises:
        ValueError: There is such a value.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise ValueError(f"a key is {key!r:.60}, not a text or whole number")
            check_plain(key)
            check_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            check_plain(item)
    elif isinstance(value, int):
        if not -_LARGEST < value < _LARGEST:
            raise ValueError("it holds a whole number of more than 19 digits")
    elif not (value is None or isinstance(value, float | str)):
        raise ValueError(f"it holds a {type(value).__name__}")


def yaml_text(values: Mapping[str, Any]) -> str:
    """Plain values as a YAML file that the official code reads too.

    Args:
        values: By key; tuples are written as lists.
    """
    plain = {key: _lists(value) for key, value in values.items()}
    text: str = yaml.safe_dump(plain, default_flow_style=None, allow_unicode=True)
    return text


def _lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return value
