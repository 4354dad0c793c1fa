"""What every reference promises, whatever computes it or has computed it."""

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest

import reference_tf
from parity.commands.references.trace import reference_of
from parity.sides.naming import own_paths
from parity.sides.pytorch import TorchCandidate
from parity.sides.pytorch.streaming import streaming
from parity.sides.replay import kept
from parity.sides.stream import StreamError
from parity.sides.tensorflow_graph import TensorflowReference
from parity.traces.header import TraceHeader
from parity.traces.reader import open_trace
from parity.traces.writer import trace_nodes, write_trace
from reference_tf.metagraph import load_metagraph
from torch_model.checkpoint import from_arrays

SIZE = (96, 128)
SIDES = ("graph", "metagraph", "module", "trace", "part of a trace", "kept")
FARTHEST = 1e-4
"""Of a node's rms: two frameworks in float32 on their own."""


class Opened:
    """The tiny model on every side."""

    def __init__(self, conversion, checkpoint, folder):
        self.stack = ExitStack()
        self.conversion, self.checkpoint = conversion, checkpoint
        self.images = np.random.default_rng(5).standard_normal((1, *SIZE, 3)).astype("float32")
        self.references = {"graph": self.graph(reference_tf.build(conversion.config, *SIZE))}
        built = self.references["graph"]
        self.kinds = built.kinds
        self.references["metagraph"] = self.metagraph(folder)
        model = from_arrays(conversion.config, conversion.arrays, "tiny")
        candidate = TorchCandidate(model, own_paths(self.kinds))
        described = {"kind": "module", "source": "tiny.pth"}
        self.references["module"] = streaming(candidate, self.kinds, built.outputs, described)
        self.references["trace"] = self.trace(built, folder / "whole.h5", ())
        self.references["part of a trace"] = self.trace(built, folder / "part.h5", ("fpn.*",))
        self.references["kept"] = kept(built)

    def graph(self, built, kind="graph"):
        taps = TensorflowReference(built)
        session = self.stack.enter_context(reference_tf.open_session(built.graph, 2))
        built.restore(session, self.checkpoint / "model", ema=True)
        return taps.reference(session, {"kind": kind, "source": "a test"})

    def metagraph(self, folder):
        from tensorflow.compat import v1

        path = folder / "model.meta"
        built = reference_tf.build(self.conversion.config, *SIZE)
        with built.graph.as_default():
            v1.train.export_meta_graph(str(path), graph=built.graph)
        config = self.conversion.config
        return self.graph(load_metagraph(path, config, SIZE, dtype="float32"), "metagraph")

    def trace(self, reference, path, globs):
        sha256 = hashlib.sha256(self.images.tobytes()).hexdigest()
        header = TraceHeader(
            config=self.conversion.config,
            checkpoint={"source": "tiny", "fingerprint": "0" * 64, "weights": "ema"},
            input={"source": "a test", "height": SIZE[0], "width": SIZE[1], "sha256": sha256},
            dtype="float32",
            environment={},
            outputs=tuple(reference.outputs),
            globs=globs,
            nodes=trace_nodes(reference, globs),
        )
        write_trace(path, header, self.images, lambda: reference.compute(self.images))
        return reference_of(open_trace(path))


@pytest.fixture(scope="module")
def opened(tiny_conversion, tiny_checkpoint, tmp_path_factory):
    result = Opened(tiny_conversion, tiny_checkpoint, tmp_path_factory.mktemp("sides"))
    with result.stack:
        yield result


@pytest.fixture(params=SIDES)
def side(request, opened):
    return opened.references[request.param]


def taken(reference, images):
    """Copies of all tensors of one run, by node in the order in which they came."""
    found = {}
    with reference.compute(images) as tensors:
        for name in reference.names:
            found[name] = np.array(tensors.take(name))
            tensors.release()
    return found


def test_it_has_the_nodes_of_the_network_and_says_where_it_comes_from(side, opened):
    assert dict(side.kinds) == dict(opened.kinds) and list(side.kinds) == list(opened.kinds)
    assert list(side.outputs) == list(opened.references["graph"].outputs)
    assert set(side.names) <= set(opened.kinds) and side.names
    assert side.framework in ("TensorFlow", "PyTorch")
    assert {"kind", "source"} <= side.described.keys()


def test_its_tensors_are_those_of_the_network(side, opened):
    found = taken(side, opened.images)
    expected = taken(opened.references["graph"], opened.images)
    for name, array in found.items():
        other = expected[name]
        assert (array.shape, array.dtype) == (other.shape, np.float32)
        rms = np.sqrt(np.mean(np.square(other, dtype=np.float64)))
        assert np.abs(array - other).max() <= FARTHEST * rms, name


def test_two_runs_give_the_same_bits(side, opened):
    first, second = taken(side, opened.images), taken(side, opened.images)
    assert all(first[name].tobytes() == second[name].tobytes() for name in side.names)


def test_another_node_than_the_next_is_refused(side, opened):
    with side.compute(opened.images) as tensors, pytest.raises(StreamError, match="was due"):
        tensors.take(side.names[1])


def test_tensors_can_be_passed_over(side, opened):
    with side.compute(opened.images) as tensors:
        tensors.skip()
        second = np.array(tensors.take(side.names[1]))
        tensors.release()
    assert np.array_equal(second, taken(side, opened.images)[side.names[1]])


def test_a_body_that_ends_early_leaves_nothing_behind(side, opened):
    for _ in range(2):
        with side.compute(opened.images) as tensors:
            tensors.take(side.names[0])
    with pytest.raises(KeyError), side.compute(opened.images):
        raise KeyError
    assert list(taken(side, opened.images)) == side.names


def test_it_ends_after_its_last_node(side, opened):
    with side.compute(opened.images) as tensors:
        for _ in side.names:
            tensors.skip()
        with pytest.raises(StreamError, match="end"):
            tensors.take(side.names[0])


def broken(reference, **changed):
    """A side that breaks its promise in one way."""
    return replace(reference, **changed)


class Backwards:
    """Gives each tensor with its rows turned around."""

    def __init__(self, tensors):
        self._tensors = tensors
        self.skip, self.release = tensors.skip, tensors.release

    def take(self, name):
        return self._tensors.take(name)[:, ::-1]


def test_a_side_that_gives_other_tensors_is_found(opened):
    graph = opened.references["graph"]

    @contextmanager
    def compute(images):
        with graph.compute(images) as tensors:
            yield Backwards(tensors)

    with pytest.raises(AssertionError):
        test_its_tensors_are_those_of_the_network(broken(graph, compute=compute), opened)


def test_a_side_that_lacks_nodes_or_outputs_is_found(opened):
    graph = opened.references["graph"]
    fewer = dict(list(graph.kinds.items())[1:])
    for changed in ({"kinds": fewer}, {"outputs": graph.outputs[1:]}, {"described": {}}):
        with pytest.raises(AssertionError):
            side = broken(graph, **changed)
            test_it_has_the_nodes_of_the_network_and_says_where_it_comes_from(side, opened)


def test_a_side_that_does_not_repeat_itself_is_found(opened):
    graph = opened.references["graph"]
    count = iter(range(1, 9))

    def compute(images):
        return graph.compute(images * np.float32(1 + next(count) / 100))

    with pytest.raises(AssertionError):
        test_two_runs_give_the_same_bits(broken(graph, compute=compute), opened)
