"""Contributions find the nodes whose differences reach the outputs, and in what proportion."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
from faults.fault import instead
from faults.fusion import zero_padded
from paired import paired

import reference_tf
from parity.lockstep import own
from parity.lockstep.comparison import compare
from parity.lockstep.contributions import Observed, contributions
from parity.results.ranking import sources
from parity.sides import pytorch
from parity.sides.naming import own_paths
from parity.sides.tensorflow_graph import TensorflowReference
from torch_model.checkpoint import from_arrays


class Setting:
    def __init__(self, conversion, prefix):
        self.conversion = conversion
        built = reference_tf.build(conversion.config, 96, 128, dtype="float64")
        reference = TensorflowReference(built)
        self.session = reference_tf.open_session(built.graph, 1)
        built.restore(self.session, prefix, ema=True)
        self.outputs = built.output_nodes
        self.images = np.random.default_rng(0).standard_normal((1, 96, 128, 3))
        self.stream = partial(reference.stream, self.session, self.images)
        self.naming = own_paths(built.kinds)
        self.referee = pytorch.FaithfulReferee(self.candidate(), built.kinds, self.images.shape)

    def candidate(self):
        arrays = {name: array.copy() for name, array in self.conversion.arrays.items()}
        return from_arrays(self.conversion.config, arrays, "tiny").double()

    def pairing(self, model, stream=None):
        return paired(
            stream or self.stream, model, self.naming, self.referee, self.images, self.outputs
        )

    def contributions(self, model, nodes):
        return contributions(self.pairing(model), nodes)


@pytest.fixture(scope="module")
def setting(tiny_conversion, tiny_checkpoint):
    result = Setting(tiny_conversion, tiny_checkpoint / "model")
    yield result
    result.session.close()


def shift(layer, factor):
    """Makes a layer's output wrong by a small factor, as a fault or a sloppy sum would."""
    layer.register_forward_hook(lambda module, inputs, output: output.mul_(1 + factor))


FIRST = "backbone.blocks.0.se.pool"
SECOND = "fpn.cells.0.nodes.2.fuse"
INNOCENT = "backbone.blocks.5.project_conv"


def test_the_only_culprit_is_all_of_the_difference(setting):
    model = setting.candidate()
    shift(model.get_submodule(FIRST), 1e-6)
    shares = {item.nodes: item.share for item in setting.contributions(model, [INNOCENT, FIRST])}
    assert shares[FIRST,] == pytest.approx(1, abs=1e-3)
    assert abs(shares[INNOCENT,]) < 1e-3
    assert shares[INNOCENT, FIRST] == pytest.approx(1, abs=1e-3)


def test_two_culprits_share_it(setting):
    model = setting.candidate()
    shift(model.get_submodule(FIRST), 1e-6)
    shift(model.get_submodule(SECOND), 5e-6)
    results = setting.contributions(model, [FIRST, SECOND, INNOCENT])
    assert [item.share for item in results[:-1]] == sorted(
        (item.share for item in results[:-1]), reverse=True
    )
    shares = {item.nodes: item.share for item in results}
    assert min(shares[FIRST,], shares[SECOND,]) > 0.01
    assert shares[FIRST,] + shares[SECOND,] == pytest.approx(1, abs=1e-3)
    assert results[-1].nodes == (FIRST, SECOND, INNOCENT)
    assert results[-1].share == pytest.approx(1, abs=1e-3)
    # With one culprit left out, the rest is not all of it.
    partly = setting.contributions(model, [FIRST, INNOCENT])[-1].share
    assert partly == pytest.approx(shares[FIRST,], abs=1e-3)


def test_a_wrong_pool_is_the_origin(setting):
    model = setting.candidate()
    instead(zero_padded)(model.fpn.resample_p6.pool)
    best = setting.contributions(model, [INNOCENT, "fpn.resample_p6.pool", FIRST])[0]
    assert best.nodes == ("fpn.resample_p6.pool",)
    assert best.share == pytest.approx(1, abs=1e-6)


def test_equal_outputs_have_no_contributions(setting):
    kept = {}

    def keep(name, module, inputs, output):
        kept[name] = pytorch.nhwc(output).copy()

    with pytorch.visiting(model := setting.candidate(), setting.naming, keep):
        pytorch.run(model, setting.images)

    class Replay:
        def take(self, name):
            return kept[name]

        def release(self):
            pass

    def stream():
        return nullcontext(Replay())

    found = contributions(setting.pairing(setting.candidate(), stream), [FIRST])
    assert found == []


@pytest.mark.parametrize(("keep", "room", "saved"), [(0, 1 << 28, 2), (2, 1 << 28, 3), (2, 99, 2)])
def test_what_is_known_of_the_candidate_need_not_be_run_for(
    setting, monkeypatch, keep, room, saved
):
    monkeypatch.setattr(own, "MOST_BYTES", room)
    model = setting.candidate()
    shift(model.get_submodule(FIRST), 1e-6)
    pairing = setting.pairing(model)
    found = compare(pairing, keep=keep)
    known = Observed([node.name for node in found.nodes if node.shape], found.outputs, found.own)
    nodes = [node.name for node in sources(found.nodes, 2)]
    runs = []
    model.register_forward_pre_hook(lambda *_: runs.append(None))
    expected = contributions(pairing, nodes)
    without = len(runs)
    assert contributions(pairing, nodes, known=known) == expected
    assert len(runs) - without == without - saved


def test_only_the_largest_differences_are_kept(setting):
    model = setting.candidate()
    for path, by in ((FIRST, 1e-6), (SECOND, 1e-4), (INNOCENT, 1e-5)):
        shift(model.get_submodule(path), by)
    found = compare(setting.pairing(model), keep=2)
    assert list(found.own.arrays) == [
        node.name for node in found.nodes if node.name in (SECOND, INNOCENT)
    ]
    assert set(found.own.arrays) == {node.name for node in sources(found.nodes, 2)}
    assert found.without_tensors().own.arrays == {} and len(found.without_tensors().outputs) == 0
