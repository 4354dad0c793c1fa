"""The noise floor: nothing moves where nothing is random, and what does is named."""

import contextlib
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from paired import paired

import reference_tf
from converter.conversion import convert
from converter.fetch.sources import resolve
from efficientdet_spec import InputError, NodeKind
from parity.detections.images import photograph_like
from parity.lockstep.noise import (
    candidate_noise,
    recorded,
    reference_noise,
    room_note,
    switched_onednn,
    threads_note,
)
from parity.settings.programs import ROOT, program_words
from parity.settings.record import RecordSettings
from parity.sides.naming import own_paths
from parity.sides.pytorch import FaithfulReferee
from parity.sides.pytorch.noise import again, identical, variations
from parity.sides.stream import StreamError
from parity.sides.tensorflow_graph import TensorflowReference
from parity.sides.variations import REPEATED, other_threads, threads_name
from torch_model.checkpoint import from_arrays
from torch_model.preprocess import preprocess

SIZE = (96, 128)


class Side:
    """The tiny model's reference, and fresh candidates to run against it."""

    def __init__(self, folder, cache):
        self.files = resolve(str(folder), cache)
        self.conversion = convert(self.files)
        self.images = preprocess(photograph_like(*SIZE), *SIZE)[None]
        self.stack = contextlib.ExitStack()
        self.stream = self.stack.enter_context(self.another(2))
        self.referee = FaithfulReferee(self.candidate(), self.kinds, self.images.shape)

    @contextlib.contextmanager
    def another(self, threads, change=None):
        """A stream of a graph and session of its own."""
        built = reference_tf.build(self.conversion.config, *SIZE)
        self.kinds, self.outputs = built.kinds, built.output_nodes
        reference = TensorflowReference(built)
        with reference_tf.open_session(built.graph, threads) as session:
            built.restore(session, self.files.prefix, ema=True)
            images = self.images if change is None else change(self.images)
            yield partial(reference.stream, session, images)

    def candidate(self):
        arrays = {name: array.copy() for name, array in self.conversion.arrays.items()}
        return from_arrays(self.conversion.config, arrays, "tiny")

    def pairing(self, model, naming=None, stream=None, recorded=None):
        return paired(
            stream or self.stream,
            model,
            naming or own_paths(self.kinds),
            self.referee,
            self.images,
            self.outputs,
            recorded,
        )


@pytest.fixture(scope="module")
def side(tiny_checkpoint, tmp_path_factory):
    result = Side(tiny_checkpoint, tmp_path_factory.mktemp("cache"))
    with result.stack:
        yield result


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def state():
    return torch.get_num_threads(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled


def by_variation(noise):
    return {item.variation: item for item in noise}


class Noisy(torch.nn.Module):
    """A layer whose output is another at each call."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        output = self.inner(*inputs)
        return output + 1e-3 * torch.rand_like(output)


def test_a_faithful_model_repeats_itself_bit_for_bit(side, two_threads):
    before = state()
    seen = []
    found = by_variation(
        candidate_noise(side.pairing(side.candidate()), lambda *done: seen.append(done))
    )
    assert list(found) == [name for name, _ in variations(side.candidate())]
    assert found[REPEATED].changed == 0
    assert (found[REPEATED].largest, found[REPEATED].roundings) == (0.0, 0.0)
    assert found[REPEATED].node is None
    # Whatever the settings, a correct layer moves by no more than two correct ones may.
    assert all(item.nodes == len(side.kinds) for item in found.values())
    assert all(item.roundings <= 32 for item in found.values())
    assert seen == [(number + 1, len(side.kinds)) for number in range(len(side.kinds))]
    assert state() == before


def test_without_onednn_convolutions_sum_in_another_order(side):
    found = by_variation(candidate_noise(side.pairing(side.candidate())))
    change = found["oneDNN off"]
    assert 0 < change.changed < change.nodes
    assert change.roundings > 0 and 0 < change.largest < 1e-4
    assert side.kinds[change.node] in (NodeKind.CONV, NodeKind.DEPTHWISE)


def test_a_noisy_layer_is_seen_and_named(side):
    model = side.candidate()
    model.backbone.blocks[2].expand_conv = Noisy(model.backbone.blocks[2].expand_conv)
    found = by_variation(candidate_noise(side.pairing(model)))
    repeat = found[REPEATED]
    # Nodes behind it are given the reference's tensors, so none of them moves.
    assert (repeat.changed, repeat.node) == (1, "backbone.blocks.2.expand_conv")
    assert repeat.roundings > 32
    assert 1e-5 < repeat.largest < 1


def test_a_layer_that_works_in_place_is_not_taken_for_noisy(side):
    class InPlace(torch.nn.Module):
        def forward(self, x):
            return x.mul_(torch.sigmoid(x))

    model = side.candidate()
    model.backbone.blocks[1].depthwise_act = InPlace()
    names = [name for name in side.kinds if "blocks.1." in name]
    assert "backbone.blocks.1.depthwise_act" in names
    assert by_variation(candidate_noise(side.pairing(model)))[REPEATED].changed == 0


def test_nodes_that_the_stream_lacks_are_measured_on_exact_values(side):
    first = next(iter(side.kinds))

    @contextlib.contextmanager
    def without_first():
        with side.stream() as tensors:
            tensors.skip()
            yield tensors

    recorded = frozenset(side.kinds) - {first}
    pairing = side.pairing(side.candidate(), stream=without_first, recorded=recorded)
    repeat = candidate_noise(pairing)[0]
    assert (repeat.nodes, repeat.changed) == (len(side.kinds), 0)


def test_nodes_without_a_partner_and_extra_layers_are_left_out(side):
    model = side.candidate()
    model.extra = torch.nn.ReLU()
    stem_act = model.backbone.stem_act
    stem_act.register_forward_pre_hook(lambda module, inputs: (model.extra(inputs[0]),))
    everything = candidate_noise(side.pairing(model))[0]
    assert (everything.nodes, everything.changed) == (len(side.kinds), 0)
    naming = own_paths(side.kinds)
    calls = {path: nodes for path, nodes in naming.calls.items() if path != "backbone.stem_act"}
    pairing = side.pairing(model, replace(naming, calls=calls, strict=False))
    repeat = candidate_noise(pairing)[0]
    assert (repeat.nodes, repeat.changed) == (len(side.kinds) - 1, 0)


def test_settings_are_restored_after_an_exception(side, two_threads):
    class Failing(torch.nn.Module):
        def forward(self, x):
            if torch.get_num_threads() == 1:
                raise KeyError("only with one thread")
            return torch.sigmoid(x) * x

    before = state()
    model = side.candidate()
    model.backbone.stem_act = Failing()
    with pytest.raises(KeyError, match="only with one thread"):
        candidate_noise(side.pairing(model))
    assert state() == before
    for _, setting in variations(model)[1:]:
        with pytest.raises(ZeroDivisionError), setting():
            assert state() != before
            raise ZeroDivisionError
        assert state() == before
    # The reference can compute again.
    assert candidate_noise(side.pairing(side.candidate()))[0].changed == 0


def test_what_a_layer_cannot_do_by_itself_is_left_out(side, two_threads):
    class OnlyWithTwoThreads(torch.nn.Module):
        def forward(self, x):
            if torch.get_num_threads() != 2:
                raise RuntimeError
            return torch.sigmoid(x) * x

    model = side.candidate()
    model.backbone.stem_act = OnlyWithTwoThreads()
    found = by_variation(candidate_noise(side.pairing(model)))
    assert found[REPEATED].nodes == len(side.kinds)
    assert found["1 thread"].nodes == len(side.kinds) - 1
    assert again(torch.nn.Flatten(), (torch.zeros(1, 2, 3, 4),), nullcontext) is None


def test_other_thread_counts_are_others(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert other_threads(8) == [1]
    assert other_threads(1) == [8]
    assert other_threads(4) == [1, 8]
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert other_threads(1) == [2]
    assert [threads_name(count) for count in (1, 8)] == ["1 thread", "8 threads"]


def test_bits_are_compared_and_not_values():
    zero, nan = torch.zeros(1, 2, 2, 1), torch.full((1, 2, 2, 1), float("nan"))
    assert identical(nan, nan.clone())
    assert not identical(zero, -zero)
    assert identical(torch.zeros(1, 2, 3, 4).double(), torch.zeros(1, 2, 3, 4).double())
    assert not identical(zero, zero.double())


def test_another_run_of_the_reference_is_the_same(side):
    names = list(side.kinds)
    seen = []
    with side.another(2) as other, side.another(1) as alone:
        others = [(REPEATED, other), ("1 thread", alone)]
        found = reference_noise(side.stream, others, names, lambda *done: seen.append(done))
    assert [item.variation for item in found] == [REPEATED, "1 thread"]
    for item in found:
        assert (item.side, item.nodes, item.changed, item.node) == (
            "reference",
            len(names),
            0,
            None,
        )
        assert item.roundings is None
    assert seen[-1] == (len(names), len(names))


def test_another_run_that_differs_is_seen(side):
    with side.another(2, lambda images: images * np.float32(1 + 1e-5)) as other:
        (found,) = reference_noise(side.stream, [("brighter", other)], list(side.kinds))
    assert found.changed > found.nodes / 2
    assert 1e-6 < found.largest < 1e-2
    assert found.node in side.kinds


def test_a_value_that_is_no_number_is_as_far_off_as_can_be():
    class Fixed:
        def __init__(self, value):
            self.value = value

        def take(self, name):
            return np.full((1, 2, 2, 1), self.value, np.float32)

        def release(self):
            pass

    def stream(value):
        return lambda: nullcontext(Fixed(value))

    values = [("nan", stream(np.nan)), ("one", stream(1.0)), ("two", stream(2.0))]
    nan, one, two = reference_noise(stream(1.0), values, ["a"])
    assert (nan.changed, nan.largest, nan.node) == (1, np.inf, "a")
    assert (one.changed, one.largest) == (0, 0.0)
    assert (two.changed, two.largest) == (1, 1.0)
    (same,) = reference_noise(stream(np.nan), values[:1], ["a"])
    assert same.changed == 0


def test_runs_of_other_nodes_end_at_once(side):
    with side.another(2) as other, pytest.raises(StreamError, match="was due"):
        reference_noise(side.stream, [(REPEATED, other)], list(side.kinds)[::-1])


def recording(checkpoint):
    """Makes the command line that records to a file."""

    def command(trace):
        settings = RecordSettings(checkpoint=str(checkpoint), trace=trace, size=SIZE, threads=1)
        script, *rest = program_words(settings)
        return [sys.executable, str(ROOT / script), *rest]

    return command


def test_onednn_is_switched_from_what_it_is():
    name, other = switched_onednn({"A": "b"})
    assert (name, other) == (
        "oneDNN off (TF_ENABLE_ONEDNN_OPTS=0)",
        {"A": "b", "TF_ENABLE_ONEDNN_OPTS": "0"},
    )
    name, back = switched_onednn(other)
    assert (name, back["TF_ENABLE_ONEDNN_OPTS"]) == ("oneDNN on (TF_ENABLE_ONEDNN_OPTS=1)", "1")
    assert switched_onednn(back)[1] == other


def test_what_cannot_be_measured_is_said():
    assert threads_note({"TF_OVERRIDE_GLOBAL_THREADPOOL": "1"}) is None
    assert "TF_OVERRIDE_GLOBAL_THREADPOOL=1" in threads_note({})
    assert room_note(1000) is None
    assert "take 1000000000000.00 GB" in room_note(10**21)


def test_the_reference_in_another_process_without_onednn(
    side, tiny_checkpoint, monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name, environment = switched_onednn(os.environ)
    with recorded(recording(tiny_checkpoint), environment) as trace:
        assert trace.images.tobytes() == side.images.tobytes()
        setting = trace.header.environment["TF_ENABLE_ONEDNN_OPTS"]
        assert f"TF_ENABLE_ONEDNN_OPTS={setting}" in name
        (found,) = reference_noise(side.stream, [(name, trace.stream)], list(side.kinds))
    assert found.nodes == len(side.kinds)
    assert 0 <= found.largest < 1e-3
    assert not list(tmp_path.iterdir())


def test_a_process_that_fails_is_one_clear_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    missing = recording(tmp_path / "missing")
    with pytest.raises(InputError, match="exit code 2 .*missing"), recorded(missing, os.environ):
        pytest.fail("there is nothing to look at")
    assert not list(tmp_path.iterdir())


COUNT_THREADS = """
import os
import tensorflow as tf
import reference_tf

def count():
    return len(os.listdir("/proc/self/task"))

one = reference_tf.open_session(tf.Graph(), 1)
before = count()
nine = reference_tf.open_session(tf.Graph(), 9)
print(count() - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
@pytest.mark.parametrize(("value", "own"), [("1", True), ("0", False)])
def test_sessions_have_threads_of_their_own_only_where_no_note_is_made(value, own):
    environment = {**os.environ, "TF_OVERRIDE_GLOBAL_THREADPOOL": value}
    code = [sys.executable, "-c", COUNT_THREADS]
    done = subprocess.run(
        code, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert (threads_note(environment) is None) is own
    assert (int(done.stdout.split()[-1]) >= 8) is own
