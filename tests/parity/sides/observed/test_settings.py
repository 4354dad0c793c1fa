"""With which settings a node is made: read off what was called, in one vocabulary."""

import math

import pytest
import torch
import torch.nn.functional as F
from port_styles import STYLES, Port
from recorded_runs import recorded

from efficientdet_spec import NodeKind
from parity.diagnosis.settings import due, in_words, settings_apart
from parity.diagnosis.suspects import diagnosed, suspects
from parity.faults.basics.case import ALL, Site
from parity.faults.basics.operations import with_settings
from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.process.outcome import Outcome
from parity.sides.observed.layouts import layouts
from parity.sides.observed.settings import settings_of
from parity.sides.pytorch.observation.candidate import ObservedCandidate

KERNEL = torch.ones(6, 1, 3, 3)
SQUARE = torch.ones(6, 3, 3, 3)
WIDE = (1, 4, 4, 3)


def read(kind, function, layout=None):
    """The settings of all that a function does with images [1, 3, 4, 4]."""
    span = [value for value in recorded(function).values if value.operation is not None]
    return settings_of(kind, span, layout)


def padded(x, *pads, **options):
    return F.pad(x, pads, **options)


@pytest.mark.parametrize(
    "function, expected",
    [
        (
            lambda x: F.conv2d(x, KERNEL, stride=2, padding=(1, 0), groups=3),
            {"kernel": (3, 3), "stride": (2, 2), "groups": 3, "padding": (0, 0, 1, 1)},
        ),
        (lambda x: F.conv2d(padded(x, 0, 1, 0, 1), SQUARE), {"padding": (0, 1, 0, 1)}),
        (
            lambda x: F.conv2d(padded(padded(x, 1, 0), 0, 0, 0, 1), SQUARE, padding=1),
            {"padding": (2, 1, 1, 2), "padded with": 0.0},
        ),
        (
            lambda x: F.conv2d(padded(x, 1, 1, 1, 1, mode="reflect"), SQUARE, dilation=2),
            {"padding": (1, 1, 1, 1), "padded with": "reflection", "dilation": (2, 2)},
        ),
        (lambda x: F.conv_transpose2d(x, torch.ones(3, 2, 2, 2)), {"transposed": True}),
    ],
)
def test_convolutions(function, expected):
    found = read(NodeKind.CONV, function)
    assert {name: found[name] for name in expected} == expected


def test_other_nodes():
    ones, zeros = torch.ones(3), torch.zeros(3)
    norm = read(NodeKind.BATCH_NORM, lambda x: F.batch_norm(x, zeros, ones, eps=1e-4))
    assert norm == {"eps": 1e-4, "training": False}
    pool = read(NodeKind.POOL, lambda x: F.max_pool2d(padded(x, 0, 1, 0, 1, value=-math.inf), 3, 2))
    assert (pool["kernel"], pool["stride"]) == ((3, 3), (2, 2))
    assert (pool["padding"], pool["padded with"]) == ((0, 1, 0, 1), -math.inf)
    # The stride of a pool is its kernel where nothing is said.
    assert read(NodeKind.POOL, lambda x: F.max_pool2d(x, 2))["stride"] == (2, 2)
    aligned = {"size": (8, 8), "mode": "bilinear", "align_corners": True}
    up = read(NodeKind.UPSAMPLE, lambda x: F.interpolate(x, **aligned))
    assert up == {"mode": "bilinear with aligned corners"}
    usual, nhwc = layouts((1, 3, 4, 4), WIDE)[0], layouts((1, 4, 4, 3), WIDE)[0]
    assert read(NodeKind.MEAN, lambda x: x.mean((-1, 2)), usual) == {"axes": ("height", "width")}
    turned = read(NodeKind.MEAN, lambda x: x.permute(0, 2, 3, 1).mean((1, 3)), nhwc)
    assert sorted(turned["axes"]) == ["channels", "height"]


@pytest.mark.parametrize(
    "kind, function",
    [
        (NodeKind.CONV, lambda x: F.conv2d(F.conv2d(x, SQUARE[:3], padding=1), SQUARE)),
        (NodeKind.CONV, lambda x: torch.einsum("nchw,oc->nohw", x, torch.ones(6, 3))),
        # A pool pads with the lowest value itself, and something else pads with zeros.
        (NodeKind.POOL, lambda x: F.max_pool2d(padded(x, 1, 1), 3, 2, 1)),
        (NodeKind.MEAN, lambda x: x.mean((2, 3))),
        (NodeKind.ACTIVATION, F.silu),
    ],
    ids=["two", "another operation", "padded with two values", "no layout", "no settings"],
)
def test_what_is_not_known_is_not_told(kind, function):
    assert read(kind, function) == {}


def test_settings_in_words():
    expected = {"stride": (2, 2), "padding": (0, 1, 0, 1), "eps": 1e-3, "groups": 96}
    assert in_words(expected, expected) == in_words({}, expected) == ""
    other = {"stride": (1, 1), "padding": (1, 1, 1, 1), "eps": 1e-5, "groups": 1}
    assert in_words(other, expected) == (
        "stride 1 instead of 2, padding (1, 1, 1, 1) instead of (0, 1, 0, 1) (left, right, above, "
        "below), eps 1e-05 instead of 0.001, groups 1 instead of 96"
    )
    assert in_words({"stride": (2, 1), "eps": 1e-3 * (1 + 1e-12)}, expected) == (
        "stride 2x1 instead of 2"
    )


# In whole ports


def observed(lockstep, style, fault):
    model = Port(lockstep.referee, lockstep.outputs, STYLES[style](), fault, False).eval()
    plain = lockstep.pairing(lockstep.faithful)
    candidate = ObservedCandidate(model, list(lockstep.kinds))
    return Pairing(plain.reference, candidate, lockstep.referee, lockstep.images)


@pytest.mark.parametrize("style", ["functions", "channels last"])
def test_a_faithful_port_has_no_other_settings(lockstep, style):
    pairing = observed(lockstep, style, {})
    compare(pairing)
    known = 0
    for node in lockstep.kinds:
        assert settings_apart(pairing, node) == []
        known += bool(pairing.candidate.settings(node).get(node))
    assert known == sum(bool(due(lockstep.referee, node)) for node in lockstep.kinds)


def called(**options):
    """A convolution with some settings other than the layer's."""

    def fault(style, layer, given, step):
        settings = {"stride": layer.stride, "groups": layer.groups, **options}
        return F.conv2d(given[0], layer.weight, layer.bias, **settings)

    return fault


def with_epsilon(style, layer, given, step):
    layer.eps = 1e-5
    return step()


def odd_padding(style, layer, given, step):
    x = F.pad(given[0], (2, -1, 2, -1))
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)


def dense(style, layer, given, step):
    weight = layer.weight.repeat(1, len(layer.weight), 1, 1)
    return F.conv2d(given[0], weight, layer.bias, layer.stride, 1)


def pooled(style, layer, given, step):
    return F.max_pool2d(given[0], 3, 2, 1)


def smooth(style, layer, given, step):
    return F.interpolate(given[0], size=tuple(given[1]), mode="bilinear")


def every_pixel(style, layer, given, step):
    return called(stride=1, padding=1)(style, layer, given, step)[:, :, ::2, ::2]


STRIDED, PLAIN = "backbone.blocks.1.depthwise_conv", "backbone.blocks.2.depthwise_conv"
SHRUNK = "fpn.cells.0.nodes.5.resamples.2.pool"
GROWN = "fpn.cells.0.nodes.2.resamples.1.upsample"
SIDES = "instead of (0, 1, 0, 1) (left, right, above, below)"
PADDED = f"padding (1, 1, 1, 1) {SIDES}"
NAMED = [
    ("backbone.blocks.2.depthwise_bn", with_epsilon, "epsilon", "eps 1e-05 instead of 0.001"),
    (STRIDED, called(padding=1), "padding-symmetric", f"its convolution has {PADDED}"),
    (STRIDED, odd_padding, "padding-other", f"padding (2, -1, 2, -1) {SIDES}"),
    (STRIDED, every_pixel, "stride-other", "its convolution has stride 1 instead of 2"),
    (PLAIN, called(padding=2, dilation=2), "dilation", "dilation 2 instead of 1"),
    (PLAIN, dense, "groups-ignored", "its convolution has groups 1 instead of 16"),
    (SHRUNK, pooled, "pool-padding-symmetric", f"its max-pool has {PADDED}"),
    (GROWN, smooth, "bilinear", "its up-sampling has mode bilinear instead of nearest"),
]


def first_suspect(lockstep, fault):
    pairing = observed(lockstep, "functions", fault)
    nodes = compare(pairing).nodes
    found = suspects(pairing, nodes)
    return diagnosed(pairing, found, nodes, lockstep.known(), [], 3)[0]


@pytest.mark.parametrize("node, fault, slug, text", NAMED, ids=[case[2] for case in NAMED])
def test_functions_are_named_as_modules_are_and_their_settings_told(
    lockstep, node, fault, slug, text
):
    first = first_suspect(lockstep, {node: fault})
    assert (first.nodes, first.slug) == ((node,), slug)
    assert text in " | ".join([first.diagnosis, *first.evidence])


def test_what_does_not_show_itself_is_told_of_where_it_does(lockstep):
    def mean(style, layer, given, step):
        return given[0].mean(2, keepdim=True)

    first = first_suspect(lockstep, {"backbone.blocks.2.se.pool": mean})
    assert first.nodes == ("backbone.blocks.2.se.reduce_conv",)
    assert first.slug is None
    told = "its mean has axes height instead of height and width"
    assert f"backbone.blocks.2.se.pool: {told}" in first.evidence


def test_a_mean_of_the_channels_too_is_accused_itself(lockstep):
    def mean(style, layer, given, step):
        channels = given[0].shape[1]
        return given[0].mean((1, 2, 3), keepdim=True).expand(-1, channels, -1, -1)

    first = first_suspect(lockstep, {"backbone.blocks.2.se.pool": mean})
    assert (first.nodes, first.slug) == (("backbone.blocks.2.se.pool",), None)
    told = "its mean has axes height and width and channels instead of height and width"
    assert told in first.evidence and "Every value is " in first.patterns[0]


@pytest.mark.parametrize("place", ["resamples.1.upsample", "fuse"])
def test_a_factor_before_a_fusion_is_one_of_its_input(lockstep, place):
    """As the sum alone shows it, whether the map is multiplied or its share."""

    def up(style, layer, given, step):
        return step() * 1.25

    def fuse(style, layer, given, step):
        maps, weights = given
        return style.fuse([maps[0], maps[1] * 1.25], weights)

    node = "fpn.cells.0.nodes.3"
    first = first_suspect(lockstep, {f"{node}.{place}": fuse if place == "fuse" else up})
    assert (first.nodes, first.slug) == ((f"{node}.fuse",), "input-multiplied")
    assert first.diagnosis == "its input 1 multiplied by 1.25"


def test_a_pool_that_rounds_up_is_faithful_where_sizes_are_even(lockstep):
    """One pixel is missing behind, where the other pads with what never wins."""

    def rounded_up(style, layer, given, step):
        return F.max_pool2d(given[0], 3, 2, 0, ceil_mode=True)

    found = compare(observed(lockstep, "functions", {SHRUNK: rounded_up}))
    assert found.outcome is Outcome.PARITY


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 1}, {"stride": 3}, {"padding": 1, "stride": 3}, {"dilation": 2}],
    ids=str,
)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("size", [(11, 13), (12, 14), (9, 10)], ids=str)
def test_a_pool_with_the_settings_that_were_read(options, ceil_mode, size):
    def pool(x):
        return F.max_pool2d(x, 3, **{"stride": 2, **options}, ceil_mode=ceil_mode)

    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    span = [value for value in recorded(pool, x).values if value.operation is not None]
    site = Site(name="pool", kind=NodeKind.POOL, module=torch.nn.Identity())
    again = with_settings(site.given((x, (6, 7))), settings_of(NodeKind.POOL, span, None))
    assert torch.equal(again(ALL)[0], pool(x))
