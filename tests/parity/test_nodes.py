"""Two networks in lockstep: parity is found where it is, and each fault at its very node."""

import copy
import threading
from functools import partial

import numpy as np
import pytest
import torch

from efficientdet_spec import InputError
from parity.nodes import compare, compare_isolated
from parity.verdict import Verdict
from torch_model import layers


def test_a_faithful_port_passes_at_every_node(lockstep):
    nodes = lockstep.run(lockstep.candidate(), live=True)
    assert list(nodes) == list(lockstep.kinds)
    assert {node.verdict for node in nodes.values()} <= {Verdict.EXACT, Verdict.ROUNDING}
    assert all(node.shape and node.limit and node.reason for node in nodes.values())
    assert all(0 <= node.free.relative_max < 1e-4 for node in nodes.values())


def test_double_precision_shows_one_structure(double_lockstep):
    nodes = double_lockstep.run(double_lockstep.candidate(), live=True)
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
    # Its second call is taken for what it should be: the batch norm of P5.
    assert lockstep.failing(model) == ["class_head.bns.1.P5"]


def test_what_the_candidate_lacks_is_not_covered(lockstep):
    model = lockstep.candidate()
    se = model.backbone.blocks[1].se
    se.forward = lambda x: se.scale(x, se.gate(se.expand_conv(se.reduce_conv(se.pool(x)))))
    nodes = lockstep.run(model)
    missing = nodes["backbone.blocks.1.se.act"]
    assert missing.verdict is Verdict.NOT_COVERED
    assert missing.reason == "the candidate has no such node"
    assert missing.shape is None and missing.free is None and missing.own is None
    # What it made there itself shows against the reference's values all the same.
    assert missing.reference_from_exact.roundings < missing.limit.reference
    # The next one works on other numbers, and says so.
    after = nodes["backbone.blocks.1.se.expand_conv"]
    assert not after.certain and not after.verdict.passes
    assert after.wrong_inputs == ("backbone.blocks.1.se.reduce_conv",)


def test_behind_what_is_fused_verdicts_allow_for_inherited_roundings(lockstep):
    class Together(torch.nn.Module):
        """Batch norm and activation in one, as fused layers compute them."""

        def __init__(self, bn):
            super().__init__()
            self.bn = bn

        def forward(self, x):
            return torch.nn.functional.silu(self.bn(x))

    model = lockstep.candidate()
    model.backbone.stem_act = Together(model.backbone.stem_bn)
    model.backbone.stem_bn = torch.nn.Identity()
    naming = copy.deepcopy(lockstep.naming)
    del naming.calls["backbone.stem_bn"]
    nodes = lockstep.run(model, naming=naming)
    assert [name for name, node in nodes.items() if not node.verdict.passes] == ["backbone.stem_bn"]
    assert not nodes["backbone.stem_act"].certain
    assert nodes["backbone.blocks.0.depthwise_conv"].certain


def test_what_only_the_candidate_has_is_not_covered(lockstep):
    class Copy(torch.nn.Module):
        def forward(self, x):
            return x.clone()

    model = lockstep.candidate()
    model.copy = Copy()
    forward = model.forward
    model.forward = lambda images: forward(model.copy(images))
    nodes = lockstep.run(model)
    assert [name for name, node in nodes.items() if not node.verdict.passes] == ["copy"]
    extra = nodes["copy"]
    assert extra.verdict is Verdict.NOT_COVERED
    assert extra.reason == "the reference has no such node"
    assert extra.kind is None and extra.shape == (1, 96, 128, 3)
    # Layers that pass on what they get compute nothing.
    model.copy = torch.nn.Identity()
    assert lockstep.failing(model) == []


def test_one_call_too_many_is_not_covered(lockstep):
    model = lockstep.candidate()
    block = model.backbone.blocks[0]

    def again(module, inputs):
        block.depthwise_act(inputs[0])

    block.se.pool.register_forward_pre_hook(again)
    nodes = lockstep.run(model)
    failing = [name for name, node in nodes.items() if not node.verdict.passes]
    assert failing == ["backbone.blocks.0.depthwise_act call 2"]
    assert nodes[failing[0]].reason == "the reference has no such node"


def test_nodes_may_come_in_another_order(lockstep):
    model = lockstep.candidate()

    def boxes_first(images):
        features = model.fpn(model.backbone(images))
        boxes = model.box_head(features)
        return model.class_head(features), boxes

    model.forward = boxes_first
    nodes = lockstep.run(model)
    assert [name for name, node in nodes.items() if not node.verdict.passes] == []
    late = nodes["class_head.convs.0.depthwise@P3"]
    assert late.certain and late.free is not None and late.from_exact is not None
    # What comes late is measured as sharply.
    model.class_head.convs[0].depthwise.weight.data[1] *= 1 + 1e-4
    failing = {name.split("@")[0] for name in lockstep.failing(model)}
    assert failing == {"class_head.convs.0.depthwise"}


def test_what_is_not_recorded_is_not_covered_but_still_held_to_the_exact_value(lockstep):
    names = list(lockstep.kinds)
    recorded = frozenset(names[: names.index("backbone.blocks.2.expand_bn")])
    nodes = lockstep.run(lockstep.candidate(), recorded=recorded)
    assert {name for name, node in nodes.items() if node.verdict.passes} == recorded
    node = nodes["backbone.blocks.2.expand_bn"]
    assert node.verdict is Verdict.NOT_COVERED
    assert node.reason.startswith("the reference's tensor is not recorded; PyTorch is ")
    assert node.own is None and node.free is None
    assert node.from_exact.roundings <= node.limit.candidate
    model = lockstep.candidate()
    set_epsilon(model)
    node = lockstep.run(model, recorded=recorded)["backbone.blocks.3.depthwise_bn"]
    assert node.verdict is Verdict.FUNCTION_DIFFERS


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(lambda position, name: "head" in name, id="the heads"),
        pytest.param(lambda position, name: position % 7, id="six of seven"),
    ],
)
def test_what_is_recorded_is_never_said_to_differ_for_what_is_not(lockstep, chosen):
    names = enumerate(lockstep.kinds)
    recorded = frozenset(name for position, name in names if chosen(position, name))
    nodes = lockstep.run(lockstep.candidate(), recorded=recorded)
    verdicts = {node.verdict for node in nodes.values()}
    assert verdicts <= {Verdict.EXACT, Verdict.ROUNDING, Verdict.NOT_COVERED}
    passing = {name for name, node in nodes.items() if node.verdict.passes}
    assert passing <= recorded
    # All but a few whose inputs are not known well enough.
    assert len(passing) > 0.8 * len(recorded)


def test_the_reference_is_held_to_the_exact_value_too(lockstep):
    # No node reads it, which would otherwise be judged on the wrong tensor.
    name = "box_head.predict.pointwise@P4"
    wrong = lockstep.tensors[name] * np.float32(1.001)
    nodes = lockstep.run(lockstep.candidate(), tensors={name: wrong})
    failing = [name for name, node in nodes.items() if not node.verdict.passes]
    assert failing == [name]
    assert nodes[name].verdict is Verdict.REFERENCE_DIFFERS
    # Where both are off by the same, they agree with each other and still fail.
    model = lockstep.candidate()
    conv = model.box_head.predict.pointwise
    conv.register_forward_hook(lambda module, inputs, output: output * 1.001)
    node = lockstep.run(model, tensors={name: wrong})[name]
    assert node.own.relative_max < 1e-6
    assert not node.verdict.passes


def test_the_isolated_pass_alone_gives_the_same_verdicts(lockstep):
    model = lockstep.candidate()
    set_epsilon(model)
    both, timings = compare(lockstep.pairing(model))
    assert [timing.name for timing in timings] == ["free", "isolated"]
    alone = compare_isolated(lockstep.pairing(model))
    assert [(node.name, node.verdict, node.reason) for node in alone] == [
        (node.name, node.verdict, node.reason) for node in both
    ]


def test_progress_counts_every_node_of_both_passes(lockstep):
    told = []
    compare(lockstep.pairing(lockstep.candidate()), lambda *numbers: told.append(numbers))
    total = 2 * len(lockstep.kinds)
    assert told == [(number, total) for number in range(1, total + 1)]


def test_a_candidate_may_overwrite_what_it_is_given(lockstep):
    model = lockstep.candidate()

    def forward(module, x):
        return torch.nn.functional.silu(x, inplace=True)

    for module in model.modules():
        if isinstance(module, layers.Swish):
            module.forward = partial(forward, module)
    # The tensors out of memory are read-only, and a changed one would fail in its next use.
    assert lockstep.failing(model) == []


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
    with pytest.raises(InputError, match="fails on .* with ZeroDivisionError: candidate"):
        lockstep.run(model, live=True)
    assert not [thread for thread in threading.enumerate() if thread.name == "tensorflow"]
    assert lockstep.failing(lockstep.candidate(), live=True) == []


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


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_mean_is_held_to_the_exact_one_whatever_tensorflow_may_do(lockstep, everywhere):
    class SloppyMean(layers.GlobalMean):
        def forward(self, x):
            # Within the many roundings that TensorFlow may take for so many terms, yet no mean.
            wrong = everywhere or x.dtype == torch.float32
            return super().forward(x) * (1 + 300 * 2**-24 * wrong)

    model = lockstep.candidate()
    model.backbone.blocks[0].se.pool = SloppyMean()
    node = lockstep.run(model)["backbone.blocks.0.se.pool"]
    assert node.limit.candidate < node.from_exact.roundings < node.limit.reference
    # Where only its float32 is off, the function is right and the arithmetic is not.
    differs = Verdict.FUNCTION_DIFFERS if everywhere else Verdict.CANDIDATE_DIFFERS
    assert node.verdict is differs
    assert "from the exact value" in node.reason
    assert everywhere or "its arithmetic is inaccurate" in node.reason
