"""The description of objects in a checkpoint: read, written, and whatever else stands there."""

import time
import tracemalloc

import pytest

from converter.tensorflow_files import object_graph, wire
from converter.tensorflow_files.object_graph import (
    VALUE,
    Stored,
    below,
    read_object_graph,
    walk,
    write_object_graph,
)
from converter.tensorflow_files.wire import WireError

NAMES = {"a/0/kernel": "scope/kernel", "a/1/kernel": "scope_1/kernel", "b": "other"}


def _node(children=(), attributes=(), slots=()):
    """A node's message of (name, number), (name, full name, key) and (slot, number)."""
    message = b""
    for name, number in children:
        reference = wire.write_number(1, number) + wire.write_chunk(2, name.encode())
        message += wire.write_chunk(1, reference)
    for texts in attributes:
        message += wire.write_chunk(
            2, b"".join(wire.write_chunk(1 + i, text.encode()) for i, text in enumerate(texts))
        )
    for name, number in slots:
        slot = wire.write_chunk(2, name.encode()) + wire.write_number(3, number)
        message += wire.write_chunk(3, slot)
    return wire.write_chunk(1, message)


def _everywhere(nodes, start=0):
    return list(walk(nodes, start, lambda _: True))


def test_what_is_written_is_read():
    nodes = read_object_graph(write_object_graph(NAMES))
    found = {path: nodes[number].value for path, number in _everywhere(nodes)}
    assert {path: value.full_name for path, value in found.items() if value} == NAMES
    assert found["a/0/kernel"].key == "a/0/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert len(nodes) == len({"", "a", "a/0", "a/1"} | NAMES.keys())


def test_tensorflow_reads_what_is_written():
    pytest.importorskip("tensorflow")
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    graph = TrackableObjectGraph()
    graph.ParseFromString(write_object_graph(NAMES))
    (value,) = graph.nodes[graph.nodes[0].children[1].node_id].attributes
    assert (value.name, value.full_name) == (VALUE, "other")
    assert value.checkpoint_key == "b/.ATTRIBUTES/VARIABLE_VALUE"


def test_slots_and_values_are_told_apart():
    data = _node([("x", 1)], slots=[("momentum", 2)])
    data += _node(attributes=[("OTHER", "o", "k"), (VALUE, "n", "key")]) + _node()
    first, second, third = read_object_graph(data)
    assert first.slots == (("momentum", 2),)
    assert second.value == Stored("key", "n")
    assert third.value is None


def test_paths_are_the_shortest_and_circles_end():
    data = _node([("long", 1), ("short", 2)]) + _node([("way", 2), ("back", 0)]) + _node()
    nodes = read_object_graph(data)
    assert _everywhere(nodes) == [("", 0), ("long", 1), ("short", 2)]
    assert [path for path, _ in walk(nodes, 0, lambda name: name != "short")][-1] == "long/way"
    assert below(nodes, [1]) == {0, 1, 2}
    assert below(nodes, []) == set()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "no objects"),
        (b"\x0a\x05ab", "past the end"),
        (b"\x08\x01", "field 1 has wire type 0"),
        (_node([("x", 1)]), "refers to object 1 of 1"),
        (_node(slots=[("x", 7)]), "refers to object 7 of 1"),
        (_node([("x", 0), ("x", 0)]), "two children called 'x'"),
        (_node(attributes=[(VALUE, "a", "b")] * 2), "two values"),
        (wire.write_chunk(1, wire.write_number(1, 5)), "field 1 has wire type 0"),
        (wire.write_chunk(1, wire.write_chunk(1, b"\x12\x01\xff")), "not UTF-8"),
    ],
)
def test_what_is_no_description_is_refused(data, match):
    with pytest.raises(WireError, match=match):
        read_object_graph(data)


def test_sizes_are_bounded(monkeypatch):
    monkeypatch.setattr(object_graph, "MAX_NODES", 3)
    assert len(read_object_graph(_node() * 3)) == 3
    with pytest.raises(WireError, match="more than 3 objects"):
        read_object_graph(_node() * 4)
    monkeypatch.setattr(object_graph, "MAX_REFERENCES", 2)
    assert read_object_graph(_node([("x", 0)]) + _node([("x", 0)]) + _node())
    with pytest.raises(WireError, match="more than 2 references"):
        read_object_graph(_node([("x", 0)]) + _node([("x", 0), ("y", 0), ("z", 0)]))
    monkeypatch.setattr(object_graph, "MAX_BYTES", 5)
    with pytest.raises(WireError, match="6 bytes are more than the 5 accepted"):
        read_object_graph(_node() * 3)


def test_fields_that_nobody_knows_are_not_kept():
    unknown = b"".join(wire.write_number(number, 1) for number in range(4, 400_000))
    reference = wire.write_number(1, 0) + wire.write_chunk(2, b"x") + unknown
    data = wire.write_chunk(1, wire.write_chunk(1, reference))
    tracemalloc.start()
    assert read_object_graph(data)[0].children == {"x": 0}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(data)


def test_long_chains_take_little_time():
    count = 30_000
    chain = b"".join(_node([("x", number + 1)]) for number in range(count)) + _node()
    nodes = read_object_graph(chain)
    begun = time.monotonic()
    paths = [path for path, _ in _everywhere(nodes)]
    assert len(paths[-1]) <= object_graph.MAX_PATH
    assert len(below(nodes, range(count))) == count + 1
    assert time.monotonic() - begun < 5
