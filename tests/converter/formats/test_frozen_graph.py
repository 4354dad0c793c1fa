"""Frozen graphs: every variable of every model is found, and what has lost them is refused."""

import gzip
import json
import struct

import numpy as np
import pytest
from configurations import CONFIGURATIONS
from made_graphs import chunk, graph, ids, node, nodes, number, shape_of, tensor, written

from converter.formats.frozen_graph import FORMATS, FrozenGraph
from converter.formats.registry import find
from converter.formats.source import OFFICIAL
from converter.ledger import make_ledger
from converter.tensorflow_files import graph_def
from converter.tensorflow_files.graph_def import GraphFile
from efficientdet_spec import MODELS, TINY, Cause, InputError, lookalike_of
from efficientdet_spec.errors import MAX_BYTES

SAMPLES = {
    "d0_tf1_network_frozen_ids": ("d0", {"shape": 28, "arithmetic": 159}),
    "d0_tf1_pipeline_frozen_ids": ("d0", {"shape": 188, "arithmetic": 175}),
    "lite0_tf2_network_frozen_ids": ("lite0", {"shape": 172}),
}
ALL = {**MODELS, **CONFIGURATIONS}
VALUE = "efficientnet-tiny/stem/conv2d/kernel"
NORM = "efficientnet-tiny/stem/tpu_batch_normalization"


def saved(tmp_path, content, name="graph.pb"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def read(tmp_path, content):
    path = saved(tmp_path, content)
    (found, place) = find(path)
    assert found is FORMATS[0]
    return found.open(place)


def used(source):
    return {name for name in source.entries if name not in source.left_out}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_the_official_tools_have_frozen(test_data, tmp_path, name):
    model, kinds = SAMPLES[name]
    packed = test_data / "formats" / f"{name}.pb.gz"
    source = read(tmp_path, gzip.decompress(packed.read_bytes()))
    order = test_data / "formats" / "variables" / f"{model}.keras_order.json"
    variables = json.loads(order.read_text())["variables"]
    assert source.naming is OFFICIAL
    assert used(source) == {name for name, _, _ in variables}
    for position, (variable, shape, _) in enumerate(variables, 1):
        array = source.read(variable)
        assert array.shape == tuple(shape) and (array == position).all()
    reasons = list(source.left_out.values())
    assert {kind: sum(kind in reason for reason in reasons) for kind in kinds} == kinds
    assert sum(kinds.values()) == len(reasons)
    assert sum(map(source.verify, source.entries)) == 0


LARGE = [f"efficientdet-d{number}" for number in (3, 4, 5, 6, 7, "7x")]


@pytest.mark.parametrize(
    ("name", "tf2"),
    # Every model in one of the two forms in turn; the other and large graphs are heavy.
    [
        pytest.param(
            name,
            tf2,
            id=f"{name}-{'tf2' if tf2 else 'tf1'}",
            marks=pytest.mark.heavy if number % 2 == tf2 or name in LARGE else (),
        )
        for number, name in enumerate(ALL)
        for tf2 in (False, True)
    ],
)
def test_every_variable_of_every_model(tmp_path, name, tf2):
    config = ALL[name]
    prefix = "StatefulPartitionedCall/net/" if tf2 else ""
    source = read(tmp_path, graph(config, tf2=tf2, prefix=prefix))
    expected = ids(config)
    assert used(source) == set(expected)
    ledger = make_ledger(source, config)
    assert not ledger.findings
    for key, array in expected.items():
        if array.size < 1000:
            np.testing.assert_array_equal(source.read(key), array)
    assert source.entries[next(iter(expected))].name.startswith(prefix)


def swapped(one, other, **options):
    """A graph in which two constants have each other's names."""
    names = {one: other, other: one}
    made = nodes(TINY, **options)
    assert names.keys() <= {each.name for each in made}
    return written(each.renamed(names) for each in made)


def test_a_norm_is_told_by_its_inputs_and_not_by_names(tmp_path):
    gamma = f"{NORM}/ReadVariableOp/resource"
    mean = f"{NORM}/FusedBatchNormV3/ReadVariableOp/resource"
    source = read(tmp_path, swapped(gamma, mean, tf2=True))
    assert source.entries[f"{NORM}/gamma"].name == mean
    for part in ("gamma", "beta", "moving_mean", "moving_variance"):
        name = f"{NORM}/{part}"
        np.testing.assert_array_equal(source.read(name), ids(TINY)[name])


def again(value):
    """A shared layer that is called a second time, and reads a constant of its own."""
    scope, name = "class_net/class-0_1", "class_net/class-0_1/separable_conv2d/depthwise"
    constant = f"{scope}/separable_conv2d/ReadVariableOp/resource"
    return node(constant, "Const", value=tensor(value)) + node(
        name, "DepthwiseConv2dNative", "images", constant
    )


def test_a_variable_that_is_read_twice(tmp_path):
    name = "class_net/class-0/depthwise_kernel"
    value = ids(TINY)[name]
    source = read(tmp_path, again(value) + graph(TINY, tf2=True))
    assert used(source) == set(ids(TINY))
    (copy,) = [reason for reason in source.left_out.values() if "once more" in reason]
    assert name in copy
    with pytest.raises(InputError, match=f"two different values of '{name}'"):
        read(tmp_path, again(value + 1) + graph(TINY, tf2=True))


def test_many_copies_of_one_variable_take_little_time(tmp_path, monkeypatch):
    """Of a variable with each value on its own, which takes long to go through."""
    value = number(1, 1) + chunk(2, shape_of((20_000,)))
    content = node("a/kernel", "Const", value=value + (b"\x2d" + struct.pack("<f", 1)) * 20_000)
    parts = [f"b/{role}" for role in ("gamma", "beta", "moving_mean", "moving_variance")]
    for name in parts:
        content += node(name, "Const", value=tensor(np.zeros(3, np.float32)))
    content += node("b/FusedBatchNormV3", "FusedBatchNormV3", "images", *parts)
    copies = ["a/kernel", *(f"copy_{place}" for place in range(200))]
    for place, name in enumerate(copies):
        if place:
            content += node(name, "Const", value=value + b"\x2d" + struct.pack("<f", 1))
        content += node(f"a/Conv2D_{place}", "Conv2D", "images", name)
    went = []
    values = GraphFile._values
    monkeypatch.setattr(
        GraphFile, "_values", lambda self, tensor: went.append(1) or values(self, tensor)
    )
    source = read(tmp_path, content)
    assert source.entries["a/kernel"].shape == (20_000,) and len(source.left_out) == 200
    assert len(went) == 1 + 200


REFUSED = {
    "folded": (
        node("a/conv2d/kernel", "Const", value=tensor(np.zeros((1, 1, 3, 4), np.float32)))
        + node("a/conv2d/Conv2D", "Conv2D", "images", "a/conv2d/kernel"),
        "folded into the convolutions",
    ),
    "without values": (
        node("a/kernel", "VarHandleOp")
        + node("a/ReadVariableOp", "ReadVariableOp", "a/kernel")
        + node("a/Conv2D", "Conv2D", "images", "a/ReadVariableOp"),
        "a graph without values: its 1 variables",
    ),
    "something else": (node("x", "Placeholder") + node("y", "MatMul", "x", "x"), "1 MatMul"),
    "two roles": (
        graph(TINY) + node("box_net/box-0/BiasAdd_9", "BiasAdd", "images", VALUE),
        "is taken as bias and as kernel",
    ),
    "another role than its name": (
        swapped(f"{NORM}/gamma", f"{NORM}/beta"),
        "tpu_batch_normalization/(gamma|beta)' is taken as",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_lost_its_variables(tmp_path, kind):
    content, told = REFUSED[kind]
    with pytest.raises(InputError, match=told) as refused:
        read(tmp_path, content)
    assert refused.value.cause in (Cause.MODEL, Cause.FORMAT)
    assert "give" in str(refused.value) and len(str(refused.value).encode()) <= MAX_BYTES


META = chunk(1, chunk(2, chunk(1, chunk(1, "Add"))) + chunk(4, "serve")) + chunk(2, graph(TINY))
OTHERS = {
    "SavedModel": number(1, 1) + chunk(2, META),
    "MetaGraph": META,
    "TFLite": b"\x1c\0\0\0TFL3" + bytes(100),
    "ONNX": number(1, 7) + chunk(2, "pytorch") + chunk(7, b"graph"),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "ZIP": b"PK\x03\x04" + bytes(100),
    "text": b'node {\n  name: "images"\n  op: "Placeholder"\n}\n',
    "nothing": b"",
    "a beginning": graph(TINY)[:9],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_frozen_graph_is_not_taken_for_one(tmp_path, kind):
    assert FORMATS[0].find(saved(tmp_path, OTHERS[kind])) is None


@pytest.mark.parametrize(
    ("kind", "told"),
    [("TFLite", "batch norms are folded"), ("ONNX", "exported from"), ("text", "graph as text")],
)
def test_what_is_told_of_others(tmp_path, kind, told):
    found = lookalike_of(saved(tmp_path, OTHERS[kind]))
    assert told in f"{found.kind}; {found.advice}" and "give" in found.advice


@pytest.mark.parametrize("kind", ["SavedModel", "MetaGraph"])
def test_graphs_within_are_not_taken_for_another_model(tmp_path, kind):
    assert lookalike_of(saved(tmp_path, OTHERS[kind])) is None


def test_a_folder_and_a_name_that_is_nothing(tmp_path):
    assert FORMATS[0].find(tmp_path) is None
    assert FORMATS[0].find(tmp_path / "none.pb") is None


def constant(content, name="a/gamma"):
    return node(name, "Const", value=content) + graph(TINY)


FLOATS = number(1, 1) + chunk(2, shape_of((5,)))
DAMAGED = {
    "cut short": (graph(TINY)[:-3], "runs past its end"),
    "twice the same node": (node("images", "Placeholder") + graph(TINY), "two nodes have the name"),
    "no operation": (graph(TINY) + chunk(1, chunk(1, "x")), "no name or no operation"),
    "no value": (graph(TINY) + node("x", "Const"), "a constant without a value"),
    "too few bytes": (constant(FLOATS + chunk(4, bytes(16))), "takes 20 bytes, but has 16"),
    "too many values": (constant(FLOATS + chunk(5, bytes(24))), "has 6 values"),
    "half a value": (constant(FLOATS + chunk(5, bytes(7))), "7 bytes of numbers of 4"),
    "a wrong wire type": (constant(FLOATS + number(5, 1)), "field 5 of wire type 0"),
    "a huge shape": (constant(number(1, 1) + chunk(2, shape_of((2**20, 2**20)))), "more than"),
    "a huge shape of nothing": (
        constant(number(1, 1) + chunk(2, shape_of((0, 2**40, 2**40)))),
        "more",
    ),
    "a negative shape": (constant(number(1, 1) + chunk(2, shape_of((2**64 - 1,)))), "shape"),
    "an unknown rank": (constant(number(1, 1) + chunk(2, number(3, 1))), "unknown rank"),
    "many dimensions": (constant(number(1, 1) + chunk(2, shape_of((1,) * 40))), "shape that no"),
    "a long name": (graph(TINY) + node("x" * 2000, "Placeholder"), "too long"),
    "a name that moves cursors": (graph(TINY) + node("x\x1b[2J", "Add"), "cannot be printed"),
    "a name that is no text": (graph(TINY) + chunk(1, chunk(1, b"\xff")), "not UTF-8"),
    "an endless number": (graph(TINY) + b"\x0a" + b"\xff" * 12, "longer than 64 bits"),
    "an unknown field": (graph(TINY) + chunk(9, "x"), "unknown field 9"),
    "a group": (graph(TINY) + b"\x1b", "wire type 3"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_to_the_structure(tmp_path, kind):
    content, told = DAMAGED[kind]
    with pytest.raises(InputError, match=told) as refused:
        read(tmp_path, content)
    text = str(refused.value)
    assert text.isprintable() and len(text.encode()) <= MAX_BYTES and "again" in text


def test_sizes_are_bounded(tmp_path, monkeypatch):
    path = saved(tmp_path, graph(TINY))
    bounds = {
        "_MAX_FIELDS": "fields",
        "_MAX_TEXT_BYTES": "too long",
        "_MAX_ELEMENTS": "more than 1,000 elements",
    }
    for name, told in bounds.items():
        with monkeypatch.context() as patch, pytest.raises(InputError, match=told):
            patch.setattr(graph_def, name, 1000)
            GraphFile(path)
    with monkeypatch.context() as patch, pytest.raises(InputError, match="at most 1,000"):
        patch.setattr(graph_def, "MAX_FILE_BYTES", 1000)
        GraphFile(path)


def forms():
    """TensorProtos in every form, with the values that TensorFlow reads from them."""
    floats = np.array([1.5, -2, 3.25, 3.25, 3.25], np.float32)
    half = np.array([0.5, -1.25, 65504], np.float16)
    shape3 = chunk(2, shape_of((3,)))
    bits = half.view("<u2").tolist()
    bfloat = [0x3FC0, 0xC020, 0x7F80]
    wide = np.array([1e300, -0.0, 2.5])

    def packed(values):
        return b"".join(graph_def_varint(value) for value in values)

    return {
        "content": (FLOATS + chunk(4, floats.tobytes()), floats),
        "packed": (FLOATS + chunk(5, floats.tobytes()), floats),
        "packed, last repeats": (FLOATS + chunk(5, floats[:3].tobytes()), floats),
        "in two pieces": (
            FLOATS + chunk(5, floats[:1].tobytes()) + chunk(5, floats[1:].tobytes()),
            floats,
        ),
        "one by one": (
            FLOATS + b"".join(b"\x2d" + struct.pack("<f", value) for value in floats[:3]),
            floats,
        ),
        "none": (FLOATS, np.zeros(5, np.float32)),
        "double": (number(1, 2) + shape3 + chunk(6, wide.tobytes()), wide),
        "half": (number(1, 19) + shape3 + chunk(13, packed(bits)), half),
        "half, content": (number(1, 19) + shape3 + chunk(4, half.tobytes()), half),
        "bfloat16": (
            number(1, 14) + shape3 + chunk(13, packed(bfloat)),
            np.array([1.5, -2.5, np.inf], np.float32),
        ),
        "int32": (
            number(1, 3) + shape3 + chunk(7, packed([7, 2**64 - 1, 2**64 - 5])),
            np.array([7, -1, -5], np.int32),
        ),
        "int64": (
            number(1, 9) + shape3 + number(10, 9) + number(10, 2**63),
            np.array([9, -(2**63), -(2**63)], np.int64),
        ),
        "bool": (number(1, 10) + shape3 + chunk(11, b"\1\0"), np.array([True, False, False])),
        "scalar": (number(1, 1) + chunk(5, struct.pack("<f", 4)), np.float32(4).reshape(())),
        "empty": (number(1, 1) + chunk(2, shape_of((0, 3))), np.zeros((0, 3), np.float32)),
    }


def graph_def_varint(value):
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


@pytest.mark.parametrize("chunk_elements", [1, 2, 1 << 18])
@pytest.mark.parametrize("form", forms())
def test_every_form_of_values(tmp_path, monkeypatch, form, chunk_elements):
    monkeypatch.setattr(graph_def, "_CHUNK", chunk_elements)
    content, expected = forms()[form]
    found = GraphFile(saved(tmp_path, node("x", "Const", value=content)))
    array = found.read(found.nodes["x"].tensor)
    assert array.dtype == expected.dtype and array.shape == expected.shape
    assert array.tobytes() == expected.tobytes()
    assert found.not_finite(found.nodes["x"].tensor) == int(form == "bfloat16")
    longest = node("y", "Const", value=number(1, 1) + chunk(2, shape_of((7,))))
    other = GraphFile(saved(tmp_path, node("x", "Const", value=content) + longest))
    assert other.digest(other.nodes["x"].tensor) == found.digest(found.nodes["x"].tensor)
    assert other.digest(other.nodes["y"].tensor) != found.digest(found.nodes["x"].tensor)


@pytest.mark.parametrize("form", forms())
def test_tensorflow_reads_the_same(form):
    tensor_pb2 = pytest.importorskip("tensorflow.core.framework.tensor_pb2")
    tensor_util = pytest.importorskip("tensorflow.python.framework.tensor_util")
    content, expected = forms()[form]
    message = tensor_pb2.TensorProto()
    message.ParseFromString(content)
    found = tensor_util.MakeNdarray(message)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))


def test_nodes_are_as_tensorflow_reads_them(tmp_path):
    graph_pb2 = pytest.importorskip("tensorflow.core.framework.graph_pb2")
    message = graph_pb2.GraphDef()
    message.ParseFromString(graph(TINY, tf2=True))
    found = GraphFile(saved(tmp_path, message.SerializeToString()))
    assert [(each.name, each.operation, each.inputs) for each in found.nodes.values()] == [
        (each.name, each.op, tuple(each.input)) for each in message.node
    ]


def test_values_are_read_from_the_file_and_not_kept(tmp_path):
    source = read(tmp_path, graph(TINY))
    first, second = source.read(VALUE), source.read(VALUE)
    first[...] = 0
    assert second.flags.writeable and second.any()
    assert source.path == tmp_path / "graph.pb"
    assert len(source.digests()["file_sha256"]) == 64
    with pytest.raises(InputError, match="has become shorter"):
        (tmp_path / "graph.pb").write_bytes(b"")
        source.read(VALUE)


def test_what_stands_before_the_names_of_two_networks_stays(tmp_path):
    source = read(tmp_path, graph(TINY, prefix="a/") + graph(TINY, prefix="b/")[: -len(END)])
    assert {name[:2] for name in used(source)} == {"a/", "b/"}


END = chunk(4, number(1, 2474))


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.pb")
    assert FORMATS[0].find(tmp_path / "pipe.pb") is None
    with pytest.raises(InputError, match="pipe"):
        FrozenGraph(tmp_path / "pipe.pb")
