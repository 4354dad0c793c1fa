"""Two networks in lockstep: parity is found where it is, and each fault at its very node."""

import copy
import threading
from functools import partial

import numpy as np
import pytest
import torch

import reference_tf
from converter.conversion import convert
from converter.sources import resolve
from parity.naming import own_paths
from parity.nodes import Pairing, compare
from parity.tensorflow_side import TensorflowReference
from parity.torch_side import Referee
from parity.verdict import Verdict
from torch_model import layers
from torch_model.checkpoint import from_arrays


class Lockstep:
    """The tiny model's reference with a stream, and fresh candidates to run against it."""

    def __init__(self, folder, cache, dtype="float32"):
        files = resolve(str(folder), cache)
        self.conversion = convert(files)
        self.config = self.conversion.config
        self.dtype = dtype
        built = reference_tf.build(self.config, 96, 128, dtype=dtype)
        self.kinds = built.kinds
        self.outputs = built.output_nodes
        self.reference = TensorflowReference(built.graph, built.images, built.nodes, built.kinds)
        self.session = reference_tf.open_session(built.graph, 2)
        built.restore(self.session, files.prefix, ema=True)
        rng = np.random.default_rng(0)
        self.images = rng.standard_normal((1, 96, 128, 3)).astype(dtype)
        self.referee = Referee(self.candidate(), self.kinds, self.images.shape)

    def candidate(self):
        arrays = {name: array.copy() for name, array in self.conversion.arrays.items()}
        return from_arrays(self.config, arrays, "tiny").to(getattr(torch, self.dtype))

    def run(self, model):
        stream = partial(self.reference.stream, self.session, self.images)
        naming = own_paths(self.kinds)
        pairing = Pairing(stream, model, naming, self.referee, self.images, self.outputs)
        nodes, _ = compare(pairing)
        return {node.name: node for node in nodes}

    def failing(self, model):
        return [node.name for node in self.run(model).values() if not node.verdict.passes]


@pytest.fixture(scope="module")
def lockstep(tiny_checkpoint, tmp_path_factory):
    result = Lockstep(tiny_checkpoint, tmp_path_factory.mktemp("cache"))
    yield result
    result.session.close()


def test_a_faithful_port_passes_at_every_node(lockstep):
    nodes = lockstep.run(lockstep.candidate())
    assert list(nodes) == list(lockstep.kinds)
    assert {node.verdict for node in nodes.values()} <= {Verdict.EXACT, Verdict.ROUNDING}
    assert all(node.shape and node.limit and node.reason for node in nodes.values())
    assert all(0 <= node.free.relative_max < 1e-4 for node in nodes.values())


def test_double_precision_shows_one_structure(tiny_checkpoint, tmp_path):
    lockstep = Lockstep(tiny_checkpoint, tmp_path, "float64")
    nodes = lockstep.run(lockstep.candidate())
    lockstep.session.close()
    assert all(node.verdict.passes for node in nodes.values())
    assert max(node.free.relative_max for node in nodes.values()) < 1e-10


class ZeroPaddedPool(layers.MaxPool2d):
    def forward(self, x, size):
        padded = layers.pad_same(x, (3, 3), (2, 2))
        return torch.nn.functional.max_pool2d(padded, 3, 2)


def replace(path, module):
    def change(model):
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, module)

    return change


def set_epsilon(model):
    model.backbone.blocks[3].depthwise_bn.eps = 1e-5


def transpose_depthwise(model):
    weight = model.fpn.cells[1].nodes[2].conv.depthwise.weight
    weight.data = weight.data.transpose(2, 3).contiguous()


def extra_bias(model):
    conv = model.box_head.predict.depthwise
    conv.bias = torch.nn.Parameter(torch.full((conv.out_channels,), 0.01))


def share_level_norms(model):
    model.class_head.bns[1]["P5"] = copy.deepcopy(model.class_head.bns[1]["P4"])


def swap_fusion_weights(model):
    weights = model.fpn.cells[0].nodes[4].weights
    weights.data = weights.data.flip(0)


def flip_one_weight(model):
    model.backbone.blocks[2].expand_conv.weight.data[3, 1] *= -1


FAULTS = {
    "fpn.resample_p6.pool": replace("fpn.resample_p6.pool", ZeroPaddedPool()),
    "backbone.blocks.3.depthwise_bn": set_epsilon,
    "fpn.cells.1.nodes.2.conv.depthwise": transpose_depthwise,
    "box_head.predict.depthwise@P3": extra_bias,
    "fpn.cells.0.nodes.4.fuse": swap_fusion_weights,
    "backbone.blocks.2.expand_conv": flip_one_weight,
    "backbone.blocks.1.se.act": replace("backbone.blocks.1.se.act", torch.nn.ReLU()),
    "backbone.blocks.4.se.pool": replace(
        "backbone.blocks.4.se.pool", torch.nn.AdaptiveMaxPool2d(1)
    ),
}


@pytest.mark.parametrize("node", FAULTS)
def test_each_fault_is_found_at_its_node_and_nowhere_else(lockstep, node):
    model = lockstep.candidate()
    FAULTS[node](model)
    failing = lockstep.failing(model)
    # A layer shared by levels is wrong at each of them.
    base = node.split("@")[0]
    assert node in failing
    assert {name.split("@")[0] for name in failing} == {base}


def test_a_level_with_anothers_batch_norm_is_found(lockstep):
    model = lockstep.candidate()
    share_level_norms(model)
    assert lockstep.failing(model) == ["class_head.bns.1.P5"]


def test_one_batch_norm_module_for_two_levels_is_found(lockstep):
    model = lockstep.candidate()
    model.class_head.bns[1]["P5"] = model.class_head.bns[1]["P4"]
    failing = lockstep.failing(model)
    # P5 has no partner, so the activation behind it is not given the reference's tensor either.
    assert failing == ["class_head.bns.1.P4", "class_head.bns.1.P5", "class_head.acts.1@P5"]


def test_what_the_candidate_lacks_is_not_covered(lockstep):
    model = lockstep.candidate()
    model.backbone.blocks[1].se.act = torch.nn.Identity()
    nodes = lockstep.run(model)
    missing = nodes["backbone.blocks.1.se.act"]
    assert missing.verdict is Verdict.NOT_COVERED
    assert missing.reason == "the candidate has no such node"


def test_what_only_the_candidate_has_is_not_covered(lockstep):
    model = lockstep.candidate()
    bn = model.backbone.stem_bn
    model.backbone.stem_bn = torch.nn.Sequential(bn, torch.nn.ReLU())
    nodes = lockstep.run(model)
    extra = nodes["backbone.stem_bn.1"]
    assert extra.verdict is Verdict.NOT_COVERED
    assert extra.reason == "the reference has no such node"


def test_nan_is_not_covered(lockstep):
    model = lockstep.candidate()
    with torch.no_grad():
        model.class_head.predict.pointwise.bias[5] = float("nan")
    nodes = lockstep.run(model)
    verdicts = {
        node.verdict for name, node in nodes.items() if "class_head.predict.pointwise" in name
    }
    assert verdicts == {Verdict.NOT_COVERED}


def test_another_shape_is_not_covered(lockstep):
    model = lockstep.candidate()

    class HalveOnlyWidth(torch.nn.Module):
        def forward(self, x, size):
            return x[..., :1] * 1

    model.fpn.resample_p7.pool = HalveOnlyWidth()
    nodes = lockstep.run(model)
    node = nodes["fpn.resample_p7.pool"]
    assert node.verdict is Verdict.NOT_COVERED
    assert node.reason == "its shape is [1, 2, 1, 16], the reference's [1, 1, 1, 16]"


def test_a_failing_candidate_leaves_no_thread_waiting(lockstep):
    class Broken(torch.nn.Module):
        def forward(self, x):
            raise ZeroDivisionError("candidate")

    model = lockstep.candidate()
    model.backbone.blocks[2].depthwise_act = Broken()
    with pytest.raises(ZeroDivisionError):
        lockstep.run(model)
    assert not [thread for thread in threading.enumerate() if thread.name == "tensorflow"]
    assert lockstep.failing(lockstep.candidate()) == []


@pytest.mark.parametrize("order", ["boxes first", "coarsest first", "one missing", "one more"])
def test_outputs_in_another_order_are_found(lockstep, order):
    model = lockstep.candidate()
    forward = model.forward

    def shuffled(images):
        classes, boxes = forward(images)
        if order == "boxes first":
            return boxes, classes
        if order == "coarsest first":
            return classes[::-1], boxes
        if order == "one missing":
            return classes, boxes[:-1]
        return classes, [*boxes, boxes[0]]

    model.forward = shuffled
    failing = lockstep.failing(model)
    assert failing
    assert set(failing) <= set(lockstep.outputs)


def test_a_mean_is_held_to_the_exact_one_whatever_tensorflow_may_do(lockstep):
    class SloppyMean(layers.GlobalMean):
        def forward(self, x):
            # Within the many roundings that a mean of so many terms may take, yet not a mean.
            return super().forward(x) * (1 + 60 * 2**-24)

    model = lockstep.candidate()
    model.backbone.blocks[0].se.pool = SloppyMean()
    nodes = lockstep.run(model)
    node = nodes["backbone.blocks.0.se.pool"]
    assert node.own.roundings < node.limit.roundings
    assert node.verdict is Verdict.DIFFERS
    assert "from the exact value" in node.reason
