"""The description of Python objects in TensorFlow 2's checkpoints: who holds which variable.

It is the message ``TrackableObjectGraph``, stored as a tensor of one string. Its nodes are objects,
the first of them what was saved; a node has children by the attribute or position that leads to
them, and the keys under which its own values are stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from converter.tensorflow_files import wire
from converter.tensorflow_files.wire import BYTES, VARINT, WireError

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""Name of the tensor."""

VALUE = "VARIABLE_VALUE"
"""What the value of a variable is called among a node's own values."""

VALUE_SUFFIX = f"/.ATTRIBUTES/{VALUE}"
"""What stands behind a variable's path in the keys of object checkpoints."""

MAX_BYTES = 1 << 22
"""Largest description: a SavedModel of D7x has about 1 MB."""

MAX_NODES = 1 << 16
"""Most objects in one: a SavedModel of D7x has about 18,000."""

MAX_REFERENCES = 1 << 17
"""Most references between them and values of theirs: a SavedModel of D7x has about 45,000."""


MAX_PATH = 1000
"""Longest path, as of the keys in an index; Google's have less than 100 letters."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the value of a variable is.

    Attributes:
        key: Name of its tensor in the checkpoint.
        full_name: What the variable was called in the process that saved it.
    """

    key: str
    full_name: str


@dataclass(frozen=True, slots=True)
class Node:
    """One object.

    Attributes:
        children: Numbers of other nodes by the name that leads there.
        value: The value of a variable; None for an object that is none.
        slots: Variables that an optimizer keeps for others: the name of the slot, and the number
            of the slot's node.
    """

    children: Mapping[str, int]
    value: Stored | None
    slots: tuple[tuple[str, int], ...]


def read_object_graph(data: bytes) -> tuple[Node, ...]:
    """The objects, the first of them what was saved.

    Args:
        data: The message.

    Raises:
        WireError: The bytes are no such message, or it refers to nodes that are not there.
    """
    if len(data) > MAX_BYTES:
        raise WireError(f"its {len(data):,} bytes are more than the {MAX_BYTES:,} accepted")
    nodes: list[Node] = []
    room = MAX_REFERENCES
    for tag, _, content in wire.read_fields(data):
        if tag == 1 << 3 | BYTES:
            if len(nodes) == MAX_NODES:
                raise WireError(f"it has more than {MAX_NODES:,} objects")
            node, room = _node(content, room)
            nodes.append(node)
        elif tag >> 3 == 1:
            raise WireError(f"its field 1 has wire type {tag & 7}")
    if not nodes:
        raise WireError("it has no objects")
    for node in nodes:
        for number in (*node.children.values(), *(number for _, number in node.slots)):
            if number >= len(nodes):
                raise WireError(f"it refers to object {number:,} of {len(nodes):,}")
    return tuple(nodes)


def write_object_graph(variables: Mapping[str, str]) -> bytes:
    """The least description by which TensorFlow restores variables: the objects on their paths.

    Args:
        variables: What each variable is called, by its path.
    """
    children: list[dict[str, int]] = [{}]
    own: dict[int, bytes] = {}
    for path, full_name in variables.items():
        number = 0
        for part in path.split("/"):
            child = children[number].setdefault(part, len(children))
            if child == len(children):
                children.append({})
            number = child
        own[number] = _text(1, VALUE) + _text(2, full_name) + _text(3, path + VALUE_SUFFIX)
    messages = []
    for number, names in enumerate(children):
        references = (wire.write_number(1, child) + _text(2, name) for name, child in names.items())
        node = b"".join(wire.write_chunk(1, reference) for reference in references)
        if number in own:
            node += wire.write_chunk(2, own[number])
        messages.append(wire.write_chunk(1, node))
    return b"".join(messages)


def walk(
    nodes: tuple[Node, ...], start: int, follow: Callable[[str], bool]
) -> Iterator[tuple[str, int]]:
    """Every node that can be reached, with the shortest path to it; the nearest first.

    Args:
        nodes: The objects.
        start: Number of the node to start at, whose path is empty.
        follow: Whether a child of this name is gone to.
    """
    seen, waiting = {start}, deque([("", start)])
    while waiting:
        path, number = waiting.popleft()
        yield path, number
        for name, child in nodes[number].children.items():
            if child in seen or not follow(name) or len(path) + len(name) >= MAX_PATH:
                continue
            seen.add(child)
            waiting.append((f"{path}/{name}" if path else name, child))


def below(nodes: tuple[Node, ...], starts: Iterable[int]) -> set[int]:
    """The numbers of every node that can be reached from some, and theirs.

    Args:
        nodes: The objects.
        starts: Numbers of the nodes to start at.
    """
    seen = set(starts)
    waiting = list(seen)
    while waiting:
        for child in nodes[waiting.pop()].children.values():
            if child not in seen:
                seen.add(child)
                waiting.append(child)
    return seen


def _text(field: int, text: str) -> bytes:
    return wire.write_chunk(field, text.encode())


def _node(data: bytes, room: int) -> tuple[Node, int]:
    """One object, and how many references and values are left of those that there is room for."""
    children: dict[str, int] = {}
    value = None
    slots: list[tuple[str, int]] = []
    for tag, _, content in wire.read_fields(data):
        room -= 1
        if room < 0:
            raise WireError(f"it has more than {MAX_REFERENCES:,} references")
        if tag == 1 << 3 | BYTES:
            numbers, texts = _message(content)
            name = texts.get(2, "")
            if name in children:
                raise WireError(f"an object has two children called {name!r:.60}")
            children[name] = numbers.get(1, 0)
        elif tag == 2 << 3 | BYTES:
            _, texts = _message(content)
            if texts.get(1) == VALUE:
                if value is not None:
                    raise WireError("an object has two values")
                value = Stored(texts.get(3, ""), texts.get(2, ""))
        elif tag == 3 << 3 | BYTES:
            numbers, texts = _message(content)
            slots.append((texts.get(2, ""), numbers.get(3, 0)))
        elif tag >> 3 in (1, 2, 3):
            raise WireError(f"an object's field {tag >> 3} has wire type {tag & 7}")
    return Node(children, value, tuple(slots)), room


def _message(data: bytes) -> tuple[dict[int, int], dict[int, str]]:
    """The numbers and the texts of a flat message by their fields."""
    numbers: dict[int, int] = {}
    texts: dict[int, str] = {}
    for tag, number, content in wire.read_fields(data):
        # Of others there may be any number.
        if tag >> 3 > 3:
            continue
        if tag & 7 == VARINT:
            numbers[tag >> 3] = number
        elif tag & 7 == BYTES:
            try:
                texts[tag >> 3] = content.decode()
            except UnicodeDecodeError as error:
                raise WireError(f"a name is not UTF-8: {content!r:.60}") from error
    return numbers, texts
