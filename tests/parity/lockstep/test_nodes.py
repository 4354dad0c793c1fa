"""Two networks in lockstep: parity is found where it is, and each fault at its very node."""

import copy
import dataclasses
import threading
from functools import partial

import numpy as np
import pytest
import torch
from faults.fault import instead
from faults.fusion import zero_padded

from efficientdet_spec import InputError
from parity.diagnosis.suspects import diagnosed, suspects
from parity.judge.limits import SIDE_LIMIT
from parity.judge.verdict import Verdict
from parity.lockstep.comparison import compare, compare_isolated
from parity.results.coverage import wiring_notes
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
    "fpn.resample_p6.pool": lambda model: instead(zero_padded)(model.fpn.resample_p6.pool),
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
    assert node.reason.startswith("the reference's tensor is not recorded; the candidate is ")
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
    found = compare(lockstep.pairing(model))
    both = found.nodes
    assert [timing.name for timing in found.timings] == ["unobserved", "free", "isolated"]
    alone = compare_isolated(lockstep.pairing(model))
    assert [(node.name, node.verdict, node.reason) for node in alone] == [
        (node.name, node.verdict, node.reason) for node in both
    ]


def test_progress_counts_each_node_once_half_for_each_pass(lockstep):
    told = []
    compare(lockstep.pairing(lockstep.candidate()), lambda *numbers: told.append(numbers))
    total = len(lockstep.kinds)
    assert told == [(number / 2, total) for number in range(1, 2 * total + 1)]


def test_a_candidate_may_overwrite_what_it_is_given(lockstep):
    model = lockstep.candidate()

    def forward(module, x):
        return torch.nn.functional.silu(x, inplace=True)

    for module in model.modules():
        if isinstance(module, layers.Swish):
            module.forward = partial(forward, module)
    # The tensors out of memory are read-only, and a changed one would fail in its next use.
    assert lockstep.failing(model) == []


def test_nan_of_the_candidate_alone_is_a_difference(lockstep):
    model = lockstep.candidate()
    with torch.no_grad():
        model.class_head.predict.pointwise.bias[5] = float("nan")
    nodes = lockstep.run(model)
    verdicts = {
        node.verdict for name, node in nodes.items() if "class_head.predict.pointwise" in name
    }
    # Its own function, of which the bias is a part, makes them.
    assert verdicts == {Verdict.FUNCTION_DIFFERS}
    reasons = {node.reason for node in nodes.values() if not node.verdict.passes}
    assert all("is NaN or infinite, first at [0, 0, 0, 5]" in reason for reason in reasons)


def test_nan_that_no_parameter_explains_is_inaccurate_arithmetic(lockstep):
    class Overflowing(layers.Swish):
        def forward(self, x):
            y = super().forward(x)
            return torch.where(y == y.amax(), torch.inf, y) if x.dtype == torch.float32 else y

    model = lockstep.candidate()
    model.backbone.blocks[2].depthwise_act = Overflowing()
    node = lockstep.run(model)["backbone.blocks.2.depthwise_act"]
    assert node.verdict is Verdict.CANDIDATE_DIFFERS and "infinite" in node.reason


def test_another_shape_is_another_function(lockstep):
    model = lockstep.candidate()

    class HalveOnlyWidth(torch.nn.Module):
        def forward(self, x, size):
            return x[..., :1] * 1

    model.fpn.resample_p7.pool = HalveOnlyWidth()
    nodes = lockstep.run(model)
    node = nodes["fpn.resample_p7.pool"]
    assert node.verdict is Verdict.FUNCTION_DIFFERS
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


MEAN = "backbone.blocks.0.se.pool"


def run_with_mean(lockstep, mean, tensors=None):
    """The result of the first mean where the candidate computes it by a function of its own."""

    class Mean(layers.GlobalMean):
        def forward(self, x):
            return mean(x)

    model = lockstep.candidate()
    model.backbone.blocks[0].se.pool = Mean()
    return lockstep.run(model, tensors=tensors)[MEAN]


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_mean_within_the_limit_of_its_terms_is_still_held_to_its_function(lockstep, everywhere):
    def sloppy(x):
        # A hundred roundings are fewer than a sum of 3072 terms may carry.
        wrong = everywhere or x.dtype == torch.float32
        return x.mean((2, 3), keepdim=True) * (1 + 100 * 2**-24 * wrong)

    node = run_with_mean(lockstep, sloppy)
    assert SIDE_LIMIT < node.from_exact.roundings < node.limit.candidate
    if everywhere:
        assert node.verdict is Verdict.FUNCTION_DIFFERS
        assert node.functions_apart > 10
    else:
        # Inaccurate, as a faithful sum in another order may be.
        assert node.verdict is Verdict.ROUNDING


def one_after_another(x, lanes=1):
    """A mean in the type of its input, in interleaved sums."""
    rows = x.detach().permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1]).numpy()
    total = sum(np.add.reduce(rows[:, lane::lanes], axis=1) for lane in range(lanes))
    return torch.from_numpy(total / rows.dtype.type(rows.shape[1]))[:, :, None, None]


def test_a_mean_that_adds_one_value_after_another_is_rounding_with_a_note(lockstep):
    # Alike values make such sums err on one side.
    even = {
        "backbone.blocks.0.depthwise_act": np.full_like(
            lockstep.tensors["backbone.blocks.0.depthwise_act"], 0.1
        )
    }
    node = run_with_mean(lockstep, one_after_another, tensors=even)
    # The reference's own tensor is of other values and fails, which is not the question here.
    assert node.from_exact.roundings > lockstep_limit(node)
    assert node.limit.candidate == node.limit.terms + SIDE_LIMIT
    assert node.verdict is not Verdict.CANDIDATE_DIFFERS
    assert node.verdict is Verdict.REFERENCE_DIFFERS


def lockstep_limit(node):
    return 2.8 * node.limit.terms**0.5


def test_a_mean_that_is_as_far_off_in_no_plain_order_is_inaccurate(lockstep):
    def noisy(x):
        wrong = 1000 * 2**-24 * (x.dtype == torch.float32)
        signs = torch.tensor([1.0, -1.0]).repeat(x.shape[1] // 2)[None, :, None, None]
        return x.mean((2, 3), keepdim=True) * (1 + wrong * signs)

    node = run_with_mean(lockstep, noisy)
    assert node.verdict is Verdict.CANDIDATE_DIFFERS
    assert node.limit.candidate < 2.8 * node.limit.terms**0.5


def test_tensorflows_own_order_is_known(lockstep):
    """In four interleaved sums; where that is no longer so, its means need another limit."""
    x = lockstep.tensors["backbone.blocks.0.depthwise_act"]
    simulated = one_after_another(torch.from_numpy(x.copy()).permute(0, 3, 1, 2), lanes=4)
    assert np.array_equal(simulated.numpy().transpose(0, 2, 3, 1), lockstep.tensors[MEAN])


def test_a_conv_of_another_function_within_its_limit_is_found(lockstep):
    """A limit that grows with the number of terms must not hide a changed parameter."""
    model = lockstep.candidate()
    conv = model.fpn.resample_p6.conv
    conv.weight.data *= 1 + 20 * 2**-23
    node = lockstep.run(model)["fpn.resample_p6.conv"]
    assert node.verdict is Verdict.FUNCTION_DIFFERS


def test_an_activation_in_place_is_judged_by_what_it_read(lockstep):
    model = lockstep.candidate()
    model.backbone.blocks[1].expand_act = torch.nn.ReLU(inplace=True)
    node = lockstep.run(model)["backbone.blocks.1.expand_act"]
    assert node.verdict is Verdict.FUNCTION_DIFFERS


def test_a_convolution_in_a_pools_place_is_another_function(lockstep):
    class Strided(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(16, 16, 3, stride=2, padding=1)

        def forward(self, x, size):
            return self.conv(x)

    model = lockstep.candidate()
    torch.manual_seed(0)
    model.fpn.resample_p6.pool = Strided()
    node = lockstep.run(model)["fpn.resample_p6.pool"]
    assert node.verdict is Verdict.FUNCTION_DIFFERS


def test_a_layer_is_computed_again_without_its_hooks(lockstep):
    """A port that collects its outputs by hooks would otherwise return twice as many."""
    model = lockstep.candidate()
    with torch.no_grad():
        model.class_head.predict.pointwise.bias.zero_()
    collected = []
    heads = (model.class_head.predict.pointwise, model.box_head.predict.pointwise)
    for head in heads:
        head.register_forward_hook(lambda module, inputs, output: collected.append(output))

    forward = model.forward

    def collecting(images):
        collected.clear()
        forward(images)
        return list(collected)

    model.forward = collecting
    nodes = lockstep.run(model)
    failing = {name.partition("@")[0] for name, node in nodes.items() if not node.verdict.passes}
    assert failing == {"class_head.predict.pointwise"}
    assert not any("returns" in node.reason for node in nodes.values())


def test_behind_a_hidden_mean_the_references_own_error_counts(double_lockstep, lockstep):
    """TensorFlow's mean is hundreds of roundings off; who hides the mean is not to blame."""
    for found in (lockstep, double_lockstep):
        model = found.candidate()
        for block in model.backbone.blocks:
            se = block.se

            def squeezed(x, se=se):
                small = x.mean((2, 3), keepdim=True)
                return se.scale(x, se.gate(se.expand_conv(se.act(se.reduce_conv(small)))))

            se.forward = squeezed
        nodes = found.run(model)
        verdicts = {node.verdict for node in nodes.values() if not node.verdict.passes}
        assert verdicts == {Verdict.NOT_COVERED}
        differing = [name for name, node in nodes.items() if node.verdict.fails]
        assert differing == []


def test_outputs_changed_after_they_were_made_are_found(lockstep):
    model = lockstep.candidate()
    forward = model.forward

    def squashed(images):
        classes, boxes = forward(images)
        for logits in classes:
            logits.sigmoid_()
        return classes, boxes

    model.forward = squashed
    nodes = lockstep.run(model)
    failing = {name: node for name, node in nodes.items() if not node.verdict.passes}
    assert set(failing) == {name for name in lockstep.outputs if name.startswith("class_head")}
    assert {node.verdict for node in failing.values()} == {Verdict.FUNCTION_DIFFERS}
    assert all("changed after" in node.reason for node in failing.values())


def test_wiring_that_changes_nothing_is_kept_with_the_result(lockstep):
    model = lockstep.candidate()
    node = model.fpn.cells[0].nodes[0]
    first, second = node.weights.tolist()
    assert second < 0 < first

    def same_input_twice(module, inputs):
        maps, weights = inputs
        return [maps[0], maps[0]], weights

    node.fuse.register_forward_pre_hook(same_input_twice)
    found = lockstep.run(model)["fpn.cells.0.nodes.0.fuse"]
    assert found.verdict.passes
    assert len(found.wrong_inputs) == 2 and found.wrong_inputs[0] == found.wrong_inputs[1]
    (note,) = wiring_notes([found], {})
    assert "which makes no difference on these inputs" in note


def test_levels_of_a_shared_head_may_come_in_any_order(lockstep):
    """Calls of one module are told apart by what they are given, not only by their order."""
    model = lockstep.candidate()

    def coarsest_first(images):
        features = model.fpn(model.backbone(images))
        classes, boxes = {}, {}
        for level in reversed(list(features)):
            boxes[level] = model.box_head._level(f"P{level}", features[level])
            classes[level] = model.class_head._level(f"P{level}", features[level])
        return [classes[n] for n in features], [boxes[n] for n in features]

    model.forward = coarsest_first
    assert lockstep.failing(model) == []


def test_the_same_values_in_a_wider_type_are_the_same_outputs(lockstep):
    model = lockstep.candidate()
    forward = model.forward
    model.forward = lambda images: [[y.double() for y in side] for side in forward(images)]
    assert lockstep.failing(model) == []
    model.forward = lambda images: [[y.half() for y in side] for side in forward(images)]
    assert set(lockstep.failing(model)) == set(lockstep.outputs)


def test_a_function_in_a_modules_place_is_not_called_left_out(lockstep):
    model = lockstep.candidate()
    se = model.backbone.blocks[1].se
    se.forward = lambda x: se.scale(
        x, torch.sigmoid(se.expand_conv(se.act(se.reduce_conv(se.pool(x)))))
    )
    (suspect,) = lockstep.tell(model).suspects
    assert suspect.nodes == ("backbone.blocks.1.se.gate",)
    assert suspect.slug is None and suspect.diagnosis is None
    assert any("a function that does the same" in line for line in suspect.evidence)
    # Without it what reads it is wrong, and then it is left out.
    se.forward = lambda x: se.scale(x, se.expand_conv(se.act(se.reduce_conv(se.pool(x)))))
    assert "left-out" in {suspect.slug for suspect in lockstep.tell(model).suspects}


def test_no_number_is_fitted_to_what_does_not_repeat_itself(lockstep):
    model = lockstep.candidate()
    norm = model.backbone.blocks[3].project_bn
    forward = norm.forward
    norm.forward = lambda x: forward(x) * (1 + 1e-3 * torch.randn(()))
    pairing = lockstep.pairing(model)
    found = compare(pairing)
    assert found.runs
    known = dataclasses.replace(lockstep.known(), repeats=False)
    guilty = diagnosed(pairing, suspects(pairing, found.nodes), found.nodes, known, [], 5)
    assert [suspect.diagnosis for suspect in guilty] == [None]


def test_calls_of_one_module_are_told_apart_by_what_they_read(lockstep):
    """One activation for the whole model, and the box head first: shapes alone are the same."""
    model = lockstep.candidate()
    act = layers.Swish()
    for path, module in list(model.named_modules()):
        if isinstance(module, layers.Swish):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, act)

    def forward(images):
        features = model.fpn(model.backbone(images))
        boxes = model.box_head(features)
        return model.class_head(features), boxes

    model.forward = forward
    assert lockstep.failing(model) == []
    # A fault is found at the very call that has it.
    model.box_head.bns[0]["P4"].weight.data[1] *= 1.01
    assert lockstep.failing(model) == ["box_head.bns.0.P4"]
