"""The referee knows the network's wiring, and what each node should make of its inputs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from efficientdet_spec import IMAGES, Fusion, NodeKind
from parity.judge.operations import operation
from parity.sides import pytorch
from parity.sides.pytorch import FaithfulReferee
from torch_model import layers

BLOCK = "backbone.blocks.2"


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def sources(lockstep, node):
    return lockstep.referee.sources(node)


def test_every_node_is_called_once_in_the_order_of_computation(lockstep):
    calls = lockstep.referee.calls
    assert list(calls) == list(lockstep.kinds)
    order = {name: index for index, name in enumerate(calls)}
    for name, call in calls.items():
        assert call.module is lockstep.faithful.get_submodule(name.partition("@")[0])
        assert call.sources
        assert all(source == IMAGES or order[source] < order[name] for source in call.sources)


def test_the_wiring_is_that_of_the_paper(lockstep):
    assert sources(lockstep, "backbone.stem_conv") == (IMAGES,)
    assert sources(lockstep, "backbone.stem_bn") == ("backbone.stem_conv",)
    assert sources(lockstep, f"{BLOCK}.se.scale") == (f"{BLOCK}.depthwise_act", f"{BLOCK}.se.gate")
    assert sources(lockstep, f"{BLOCK}.residual") == (
        f"{BLOCK}.project_bn",
        "backbone.blocks.1.project_bn",
    )
    # A level's second node reads the first one's, its own input and the level below.
    fuse = sources(lockstep, "fpn.cells.1.nodes.4.fuse")
    assert len(fuse) == 3 and len(set(fuse)) == 3
    # What a head shares reads each level's own features.
    features = {
        sources(lockstep, f"{head}.convs.0.depthwise@P{level}")
        for head in ("class_head", "box_head")
        for level in lockstep.config.levels
    }
    assert len(features) == len(lockstep.config.levels)


def test_parameters_among_arguments_are_the_faithful_models(lockstep):
    features, weights = lockstep.referee.calls["fpn.cells.0.nodes.4.fuse"].arguments
    assert weights is lockstep.faithful.fpn.cells[0].nodes[4].weights
    assert len(features) == 3
    _, size = lockstep.referee.calls["fpn.cells.0.nodes.0.resamples.1.upsample"].arguments
    assert tuple(size) == lockstep.config.feature_sizes(96, 128)[6]


def test_what_depends_on_a_node(lockstep):
    down = lockstep.referee.downstream
    assert down({"box_head.predict.pointwise@P3"}) == set()
    assert down({"box_head.predict.depthwise@P3"}) == {"box_head.predict.pointwise@P3"}
    assert down({IMAGES}) == set(lockstep.kinds)
    assert down({"backbone.stem_conv"}) == set(lockstep.kinds) - {"backbone.stem_conv"}
    behind = down({"class_head.convs.0.depthwise@P4"})
    assert behind and all(name.startswith("class_head.") for name in behind)
    assert all("P4" in name for name in behind)


def test_a_model_that_lacks_a_node_is_no_referee(lockstep):
    model = lockstep.candidate()
    model.backbone.blocks[1].se.forward = lambda x: x
    with pytest.raises(ValueError, match="does not make the reference's nodes"):
        FaithfulReferee(model, lockstep.kinds, lockstep.images.shape)


def test_features_are_dropped_after_their_last_use(lockstep):
    sitting = lockstep.referee.sitting(lockstep.images)
    last = {}
    for name, call in lockstep.referee.calls.items():
        last.update(dict.fromkeys(call.sources, name))
    order = {name: index for index, name in enumerate(lockstep.kinds)}
    for index, name in enumerate(lockstep.kinds):
        ruling = sitting.rule(name)
        sitting.follow(name, lockstep.tensors[name], ruling, substituted=True, recorded=True)
        due = {
            source
            for source, reader in last.items()
            if order.get(source, -1) <= index < order[reader]
        }
        assert sitting._features.keys() == due
    assert sitting._features == sitting._errors == sitting._reference_errors == {}


def test_arguments_are_the_references_tensors(lockstep):
    sitting = lockstep.referee.sitting(lockstep.images)
    for name in lockstep.kinds:
        ruling = sitting.rule(name)
        arguments = pytorch.flatten(lockstep.referee.arguments(name, ruling.inputs))
        for source, tensor in zip(lockstep.referee.sources(name), arguments, strict=False):
            given = lockstep.images if source == IMAGES else lockstep.tensors[source]
            assert np.array_equal(pytorch.nhwc(tensor), given)
        assert ruling.certain
        sitting.follow(name, lockstep.tensors[name], ruling, substituted=True, recorded=True)


def test_without_the_same_inputs_gauges_grow(lockstep):
    names = ["backbone.stem_conv", "backbone.stem_bn"]
    gauges = {}
    for substituted, recorded in [(True, True), (False, True), (True, False)]:
        sitting = lockstep.referee.sitting(lockstep.images)
        ruling = sitting.rule(names[0])
        tensor = lockstep.tensors[names[0]]
        sitting.follow(names[0], tensor, ruling, substituted=substituted, recorded=recorded)
        gauges[substituted, recorded] = sitting.rule(names[1])
    same, own, unknown = gauges.values()
    assert same.certain and unknown.certain and not own.certain
    assert np.array_equal(same.gauge, same.reference_gauge)
    assert (own.gauge > same.gauge).all() and np.array_equal(own.reference_gauge, same.gauge)
    assert (
        np.array_equal(unknown.gauge, same.gauge) and (unknown.reference_gauge > same.gauge).all()
    )
    assert own.rounded().dtype == np.float32
    assert np.allclose(own.rounded(), lockstep.tensors[names[1]], atol=1e-5)


# Exact values, against an evaluation of its own in float64


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def conv_by_definition(x, weight, bias, stride, groups):
    """A convolution with TensorFlow's SAME padding, tap by tap."""
    height, width = x.shape[2:]
    k = weight.shape[-1]
    out = [-(-size // stride) for size in (height, width)]
    before = [
        max((n - 1) * stride + k - size, 0) // 2
        for n, size in zip(out, (height, width), strict=True)
    ]
    padded = torch.zeros(*x.shape[:2], height + 2 * k, width + 2 * k, dtype=torch.float64)
    top, left = before
    padded[:, :, top : top + height, left : left + width] = x
    result = torch.zeros(x.shape[0], weight.shape[0], *out, dtype=torch.float64)
    for i in range(k):
        for j in range(k):
            tap = padded[:, :, i : i + out[0] * stride : stride, j : j + out[1] * stride : stride]
            kernel = weight[:, :, i, j]
            if groups == 1:
                result += torch.einsum("nchw,oc->nohw", tap, kernel)
            else:
                result += tap * kernel[:, 0].view(1, -1, 1, 1)
    return result if bias is None else result + bias.view(1, -1, 1, 1)


def batch_norm(channels):
    bn = layers.BatchNorm2d(channels).eval()
    with torch.no_grad():
        bn.weight.uniform_(-2, 2)
        bn.bias.uniform_(-1, 1)
        bn.running_mean.uniform_(-1, 1)
        bn.running_var.uniform_(0.1, 2)
    return bn


def by_definition(kind, module, inputs):
    values = [pytorch.as_double(value) for value in inputs]
    x = values[0]
    if kind in (NodeKind.CONV, NodeKind.DEPTHWISE):
        bias = None if module.bias is None else module.bias.double()
        weight = module.weight.double()
        return conv_by_definition(x, weight, bias, module.stride[0], module.groups)
    if kind is NodeKind.BATCH_NORM:
        parts = (module.running_mean, module.running_var, module.weight, module.bias)
        mean, variance, gamma, beta = (part.double().view(1, -1, 1, 1) for part in parts)
        return (x - mean) / torch.sqrt(variance + 1e-3) * gamma + beta
    if kind is NodeKind.FUSE:
        shares = torch.clamp(values[1], min=0)
        return sum(f * w for f, w in zip(x, shares, strict=True)) / (shares.sum() + 1e-4)
    return {
        NodeKind.ACTIVATION: lambda: x * sigmoid(x),
        NodeKind.GATE: lambda: sigmoid(x),
        NodeKind.MEAN: lambda: x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3]),
        NodeKind.SCALE: lambda: x * values[1],
        NodeKind.ADD: lambda: x + values[1],
        NodeKind.POOL: lambda: F.max_pool2d(
            F.pad(x, (0, 1, 0, 1), value=-torch.inf), (3, 3), (2, 2)
        ),
        NodeKind.UPSAMPLE: lambda: x.repeat_interleave(2, 2).repeat_interleave(2, 3),
    }[kind]()


def maps(*shapes):
    return [torch.randn(shape).contiguous(memory_format=torch.channels_last) for shape in shapes]


FULL = (2, 8, 14, 10)
CASES = {
    "pointwise": (NodeKind.CONV, lambda: layers.Conv2d(8, 5), lambda: maps(FULL)),
    "convolution": (NodeKind.CONV, lambda: layers.Conv2d(8, 5, 3, 2), lambda: maps(FULL)),
    "odd convolution": (
        NodeKind.CONV,
        lambda: layers.Conv2d(3, 5, 3, 2, bias=False),
        lambda: maps((1, 3, 15, 11)),
    ),
    **{
        f"depthwise {k} {s} {h}x{w}": (
            NodeKind.DEPTHWISE,
            lambda k=k, s=s: layers.DepthwiseConv2d(8, k, s),
            lambda h=h, w=w: maps((2, 8, h, w)),
        )
        for k in (3, 5)
        for s in (1, 2)
        for h, w in ((14, 10), (15, 11), (1, 2))
    },
    "batch norm": (NodeKind.BATCH_NORM, lambda: batch_norm(8), lambda: maps(FULL)),
    "activation": (NodeKind.ACTIVATION, layers.Swish, lambda: maps(FULL)),
    "gate": (NodeKind.GATE, torch.nn.Sigmoid, lambda: maps((2, 8, 1, 1))),
    "mean": (NodeKind.MEAN, layers.GlobalMean, lambda: maps(FULL)),
    "scale": (NodeKind.SCALE, layers.Scale, lambda: maps(FULL, (2, 8, 1, 1))),
    "add": (NodeKind.ADD, layers.Add, lambda: maps(FULL, FULL)),
    "fuse": (
        NodeKind.FUSE,
        lambda: layers.Fuse(Fusion.FAST_ATTENTION),
        lambda: [maps(FULL, FULL, FULL), torch.tensor([0.7, -0.2, 1.4])],
    ),
    "pool": (NodeKind.POOL, layers.MaxPool2d, lambda: [*maps(FULL), (7, 5)]),
    "upsample": (NodeKind.UPSAMPLE, layers.Upsample, lambda: [*maps(FULL), (28, 20)]),
}


@pytest.mark.parametrize("part", [1, 500, 1 << 22])
@pytest.mark.parametrize("name", CASES)
def test_exact_values_are_exact(name, part, monkeypatch):
    monkeypatch.setattr(operation, "PART", part)
    kind, module, inputs = CASES[name]
    module, inputs = module(), tuple(inputs())
    with torch.inference_mode():
        found, _ = pytorch.expected(kind, module, inputs)
        expected = by_definition(kind, module, inputs)
    assert found.shape == expected.shape
    error = (found.double() - expected).abs().max().item()
    assert error <= 1e-14 * expected.abs().max().item()
    if kind in (NodeKind.POOL, NodeKind.UPSAMPLE):
        assert found.dtype == torch.float32
    else:
        # Beyond what float32 could hold.
        assert found.dtype == torch.float64
        assert not torch.equal(found, found.float().double())


def test_the_network_in_double_precision_is_its_own_exact_value(double_lockstep):
    sitting = double_lockstep.referee.sitting(double_lockstep.images)
    for name in double_lockstep.kinds:
        ruling = sitting.rule(name)
        tensor = double_lockstep.tensors[name]
        assert ruling.rounded().dtype == np.float64
        error = np.abs(ruling.rounded() - tensor)
        allowed = 32 * 2**-53 * ruling.gauge
        if double_lockstep.kinds[name] is not NodeKind.MEAN:
            assert (error <= allowed).all(), name
        sitting.follow(name, tensor, ruling, substituted=True, recorded=True)
