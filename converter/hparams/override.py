"""The official syntax of hyperparameters in a line: ``act_type=relu6,nms_configs.sigma=0.3``.

Source: google/automl ``efficientdet/hparams_config.py`` (``Config.parse_from_str``).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from converter.hparams.plain_yaml import check_plain
from efficientdet_spec import Cause, InputError

MAX_LENGTH = 65_536
"""Longest text, in characters."""

_MAX_PARTS = 8
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def parse_text(text: str) -> dict[str, Any]:
    """Hyperparameters by their official key; nested ones are dictionaries.

    ``key=value`` pairs stand between commas; ``a.b=1`` is the key ``b`` of ``a``; ``1*2`` is a
    list; ``true`` and ``false`` are booleans; other values are Python literals or else texts. What
    the official code reads is read as it does. Where it gives up because of a comma inside brackets
    or quotes, as in ``aspect_ratios=[[1.4,0.7],[1.0,1.0]]``, that comma belongs to the value.

    Args:
        text: As of ``--hparams``.

    Raises:
        InputError: It is no such text.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"--hparams has {len(text):,} characters, and at most {MAX_LENGTH:,} are read; write "
            f"them to a YAML file and give its name.",
            Cause.OPTION,
        )
    for split, value in ((_at_commas, _value), (_outside_brackets, _bracketed)):
        try:
            return _parsed(split(text), value)
        except ValueError:
            continue
    raise InputError(
        f"--hparams is {text!r:.200}; give FILE.yaml, or key=value pairs with commas between them, "
        f"as in act_type=relu6,anchor_scale=0.25,nms_configs.sigma=0.3.",
        Cause.OPTION,
    )


def _parsed(pairs: Iterable[str], value: Callable[[str], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in filter(None, pairs):
        key, separator, text = pair.partition("=")
        if not separator or "=" in text:
            raise ValueError(pair)
        path = key.strip().split(".")
        if len(path) > _MAX_PARTS:
            raise ValueError(pair)
        nested: Any = value(text)
        for part in reversed(path):
            nested = {part: nested}
        _merge(found, nested)
    return found


def _merge(target: dict[Any, Any], source: Mapping[Any, Any]) -> None:
    """Add nested values to what is there; a value that is none replaces it."""
    for key, value in source.items():
        if isinstance(target.get(key), dict) and isinstance(value, Mapping):
            _merge(target[key], value)
        else:
            target[key] = value


def _at_commas(text: str) -> list[str]:
    return text.split(",")


def _value(text: str) -> Any:
    if "*" in text:
        return [_literal(part) for part in text.split("*")]
    return _literal(text)


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return _evaluated(text)
    except ValueError:
        return text


def _evaluated(text: str) -> Any:
    """The plain value of a Python literal.

    Raises:
        ValueError: It is none, or one that no hyperparameter has, such as a complex number.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(text) from error
    check_plain(value)
    return value


def _outside_brackets(text: str) -> list[str]:
    """The parts between commas that stand neither in brackets nor in quotes.

    Raises:
        ValueError: Brackets or quotes are left open.
    """
    parts = [""]
    expected: list[str] = []
    quote = ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _PAIRS:
            expected.append(_PAIRS[letter])
        elif letter in _PAIRS.values():
            if not expected or expected.pop() != letter:
                raise ValueError(text)
        elif letter == "," and not expected:
            parts.append("")
            continue
        parts[-1] += letter
    if quote or expected:
        raise ValueError(text)
    return parts


def _bracketed(text: str) -> Any:
    """A value that may hold commas, which then has to be a literal.

    Raises:
        ValueError: It is none.
    """
    if "," not in text:
        return _value(text)
    return _evaluated(text.strip())
