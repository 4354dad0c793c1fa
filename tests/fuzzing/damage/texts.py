"""Damage to JSON: values of other types, odd keys, odd texts, deep nesting."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

from fuzzing.damage.raw import RAW
from fuzzing.target import Damage

_MARK = "\ue000"
"""Stands around text that is no JSON value of Python's, and behind a key that is there twice."""

_WRITTEN = re.compile(f'"{_MARK}([^{_MARK}]*){_MARK}"')

_WORDS = (
    "",
    "x",
    "\x1b[2J\x1b[1;31mgone",
    "a\nb\r\nc",
    "\u202egnp.exe",
    "\x00",
    "\ud800",
    "\u2028",
    "../../../etc/passwd",
    "/dev/zero",
    "C:\\nul",
    "x" * 300,
    "\u00e4" * 5000,
    "<script>alert(1)</script>",
    "{{ 7*7 }}",
    "%s%n{0}",
)

_NUMBERS = (0, -1, 1, 0.5, -0.0, 2**31, 2**53, 2**63, 2**64, 10**30, -(10**30), 1e308, 5e-324)

_RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1" * 400,
    "1" * 5000,
    "0" * 10,
    "1.",
    "01",
    "nul",
    "[" * 40 + "]" * 40,
    "[" * 1200 + "]" * 1200,
    "[" * 100_000,
    '{"a":' * 5000 + "1" + "}" * 5000,
)


def odd_value(rng: Random) -> Any:
    """A value of some type, an extreme one often."""
    form = rng.randrange(6)
    if form == 0:
        return rng.choice(_WORDS)
    if form == 1:
        return rng.choice(_NUMBERS)
    if form == 2:
        return f"{_MARK}{rng.choice(_RAW)}{_MARK}"
    if form == 3:
        return rng.choice((None, True, False, [], {}, [[]], [None], {"": None}))
    if form == 4:
        return [rng.choice(_NUMBERS) for _ in range(rng.choice((1, 3, 4, 5, 200)))]
    return {rng.choice(_WORDS): rng.choice(_NUMBERS)}


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with a key of it."""
    waiting = [value]
    while waiting:
        now = waiting.pop()
        keys = now.keys() if isinstance(now, dict) else range(len(now))
        for key in keys:
            yield now, key
            if isinstance(now[key], dict | list) and now[key]:
                waiting.append(now[key])


def _change(rng: Random, value: Any) -> Any:
    """Change one place of a value; the value itself where it has none."""
    places = list(_places(value)) if isinstance(value, dict | list) else []
    if not places or rng.random() < 0.02:
        return odd_value(rng)
    container, key = rng.choice(places)
    form = rng.randrange(7)
    if form <= 2:
        container[key] = odd_value(rng)
    elif form == 3:
        del container[key]
    elif isinstance(container, list):
        if form == 4:
            container.insert(key, container[key])
        elif form == 5:
            container.insert(key, odd_value(rng))
        else:
            rng.shuffle(container)
    elif form == 4:
        container[f"{key}{_MARK}"] = rng.choice((container[key], odd_value(rng)))
    elif form == 5:
        container[rng.choice((*_WORDS, "version", "schema", "id"))] = odd_value(rng)
    else:
        container[f"{key}{rng.choice(('s', ' ', chr(0x301), '_'))}"] = container.pop(key)
    return value


def write(value: Any) -> bytes:
    """A value as JSON, with what is marked as it stands."""
    text = json.dumps(value, ensure_ascii=False)
    text = _WRITTEN.sub(lambda found: found[1], text).replace(_MARK, "")
    return text.encode("utf-8", "surrogatepass")


def values(rng: Random, data: bytes) -> bytes:
    """One to four places of a JSON text are changed."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return RAW["byte"](rng, data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = _change(rng, value)
    return write(value)


def encoding(rng: Random, data: bytes) -> bytes:
    """The text in another encoding, or with a byte order mark."""
    text = data.decode("utf-8", "replace")
    form = rng.randrange(4)
    if form == 0:
        return b"\xef\xbb\xbf" + data
    if form == 1:
        return text.encode(rng.choice(("utf-16", "utf-32", "utf-16-le")))
    if form == 2:
        return data.replace(b'"', b"'")
    return data.replace(b":", b": \xff", 1)


def token(rng: Random, data: bytes) -> bytes:
    """A word of the text takes another one's place, or goes."""
    parts = re.split(rb'([{}\[\],:"])', data)
    place = rng.randrange(len(parts))
    parts[place] = rng.choice((b"", rng.choice(parts), b"{", b"]", b"null", b"1e400", b"\\u0000"))
    return b"".join(parts)


JSON: dict[str, Damage] = {
    "value": values,
    "encoding": encoding,
    "token": token,
    **RAW,
}
"""What can be done to a JSON file."""

# Values are what the readers check, so most of the damage is to them.
JSON |= {f"value-{number}": values for number in range(1, 12)}
