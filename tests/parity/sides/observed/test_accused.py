"""What is accused of a fault is the node that has it, not what reads that node."""

import pytest
import torch
import torch.nn.functional as F
from lockstep import Lockstep
from port_styles import STYLES, Port, pads
from sampling import one_in

from parity.diagnosis.suspects import diagnosed, suspects
from parity.judge.verdict import Verdict
from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.sides.pytorch.observation.candidate import ObservedCandidate


@pytest.fixture(scope="module")
def two_images(tiny_conversion, tiny_checkpoint):
    result = Lockstep(tiny_conversion, tiny_checkpoint / "model", batch=2)
    yield result
    result.session.close()


# Faults: each is given the style, the layer, what it reads, and the faithful step.


def with_mean_of_all(style, layer, given, step):
    return step() + 0.05 * step().mean((1, 2, 3), keepdim=True)


def with_next_image(style, layer, given, step):
    return 0.9 * step() + 0.1 * step().roll(1, 0)


def mirrored(style, layer, given, step):
    made = step()
    return 0.7 * made + 0.3 * made.flip(3)


def checkered(style, layer, given, step):
    made = step()
    rows, columns = (torch.arange(size) for size in made.shape[2:])
    return made * (1 - 0.05 * ((rows[:, None] + columns) % 2))


def in_half(style, layer, given, step):
    return step().half().float()


def in_tiles(style, layer, given, step):
    (x,) = given
    halves = x.split(x.shape[2] // 2, 2)
    return torch.cat([style.depthwise(half, layer) for half in halves], 2)


def median(style, layer, given, step):
    x, size = given
    windows = F.unfold(F.pad(x, pads(x, (3, 3), (2, 2))), 3, stride=2)
    return windows.unflatten(1, (x.shape[1], 9)).median(2).values.unflatten(2, tuple(size))


def largest(style, layer, given, step):
    return given[0].amax((2, 3), keepdim=True)


def rounded(style, layer, given, step):
    return torch.round(given[0] * 16) / 16


def sine(style, layer, given, step):
    return torch.sin(given[0])


def values_before_anchors(style, layer, given, step):
    made = step()
    return made.unflatten(1, (9, -1)).transpose(1, 2).flatten(1, 2)


NECK = "fpn.cells.0.nodes.4.bn"
ACCUSED = [
    (NECK, with_mean_of_all),
    (NECK, with_next_image),
    (NECK, mirrored),
    (NECK, checkered),
    (NECK, in_half),
    ("backbone.blocks.2.depthwise_act", mirrored),
    ("backbone.blocks.2.depthwise_act", sine),
    ("backbone.blocks.2.depthwise_act", rounded),
    ("backbone.blocks.2.depthwise_conv", in_tiles),
    ("backbone.blocks.2.se.pool", largest),
    ("backbone.blocks.4.se.gate", sine),
    ("fpn.resample_p6.pool", median),
    ("class_head.predict.pointwise", values_before_anchors),
]
NAMES = {
    with_next_image: "images-mixed",
    in_tiles: "tile-seams",
    median: "pool-statistic",
    values_before_anchors: "prediction-order",
    in_half: "reduced-precision",
}


CASES = [(*case, style) for case in ACCUSED for style in ("functions", "own functions")]


@pytest.mark.parametrize("node, fault, style", one_in(3, CASES))
def test_the_node_that_is_wrong_is_accused_alone(two_images, node, fault, style):
    found, first = looked_at(two_images, node, fault, style)
    failing = [item.name for item in found.nodes if item.verdict.fails]
    assert {name.partition("@")[0] for name in failing} == {node}
    assert first.nodes == tuple(failing)
    assert first.slug == NAMES.get(fault, first.slug)
    assert not first.slug or "input" not in first.slug


def spectrum(style, layer, given, step):
    """The very convolution, as a product of spectra."""
    (x,) = given
    size = layer.kernel_size
    x = F.pad(x, pads(x, size, layer.stride))
    kernel = torch.fft.rfft2(layer.weight[:, 0], s=x.shape[2:]).conj()
    made = torch.fft.irfft2(torch.fft.rfft2(x) * kernel, s=x.shape[2:])
    return made[..., : made.shape[2] - size[0] + 1, : made.shape[3] - size[1] + 1]


def test_a_convolution_by_spectra_is_inaccurate_at_most(two_images):
    """It spreads the roundings of large values over the whole map; a spectrum is no node."""
    found, first = looked_at(two_images, "class_head.predict.depthwise", spectrum, "functions")
    bad = [item for item in found.nodes if item.verdict.fails]
    failing = {item.name.partition("@")[0]: item.verdict for item in bad}
    assert failing == {"class_head.predict.depthwise": Verdict.CANDIDATE_DIFFERS}
    assert not any("other places" in pattern for pattern in first.patterns)


class OfOtherNames(torch.nn.Module):
    """The faithful model, of which no module has its name."""

    def __init__(self, model):
        super().__init__()
        self.features, self.neck = model.backbone, model.fpn
        self.classes, self.boxes = model.class_head, model.box_head

    def forward(self, images):
        levels = self.neck(self.features(images))
        return self.classes(levels), self.boxes(levels)


def partial_convolution(layer):
    """What the border lacks is made up for, behind the convolution and within its module."""
    faithful = layer.forward

    def forward(x):
        ones = layer.weight.new_ones(1, 1, *layer.kernel_size)
        there = F.conv2d(F.pad(torch.ones_like(x[:, :1]), pads(x, ones.shape[2:], (1, 1))), ones)
        return faithful(x) * ones.numel() / there

    layer.forward = forward


def test_what_a_module_does_behind_its_layer_is_the_layers(two_images):
    """Also where a single node reads it: that one is another module's."""
    model = two_images.candidate().eval()
    partial_convolution(model.class_head.convs[0].depthwise)
    found, first = compared(two_images, OfOtherNames(model).eval())
    failing = {item.name.partition("@")[0] for item in found.nodes if item.verdict.fails}
    assert failing == {"class_head.convs.0.depthwise"}
    assert (len(first.nodes), first.slug) == (5, "padding-partial")


def looked_at(lockstep, node, fault, style):
    """The results of a port with a fault at a node's place, and the first suspect."""
    nodes = [name for name in lockstep.kinds if name.partition("@")[0] == node]
    faults = dict.fromkeys(nodes, fault)
    model = Port(lockstep.referee, lockstep.outputs, STYLES[style](), faults, False).eval()
    return compared(lockstep, model)


def compared(lockstep, model):
    """The results of a port, and the first suspect."""
    reference = lockstep.pairing(lockstep.faithful).reference
    candidate = ObservedCandidate(model, list(lockstep.kinds))
    pairing = Pairing(reference, candidate, lockstep.referee, lockstep.images)
    found = compare(pairing)
    guilty = suspects(pairing, found.nodes)
    if not guilty:
        return found, None
    return found, diagnosed(pairing, guilty, found.nodes, lockstep.known(), [], 1)[0]
