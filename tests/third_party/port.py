"""An EfficientDet as somebody else may have written it: the tiny model, sides multiples of 32.

It shares no code with ``torch_model``: stock layers, padding by hand, names of its own, and sums
and gates as bare functions, which no hook can see. It stands for any model from elsewhere, and
``docs/third-party.md`` checks it.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS = 16
LEVELS = 5
CELLS = 2
REPEATS = 2
ANCHORS = 9
CLASSES = 7

# Input, output, kernel, stride, expansion, bottleneck of squeeze-excite.
STAGES = (
    (8, 8, 3, 1, 1, 2),
    (8, 8, 3, 2, 2, 2),
    (8, 8, 3, 1, 2, 2),
    (8, 16, 5, 2, 2, 2),
    (16, 24, 3, 2, 2, 4),
    (24, 24, 3, 1, 2, 6),
    (24, 32, 5, 2, 2, 6),
)
TAPS = (3, 5, 6)

# Inputs of a cell's joints: 0 to 4 are P3 to P7, 5 to 12 the joints' own results; level of each.
JOINTS = (
    ((3, 4), 6),
    ((2, 5), 5),
    ((1, 6), 4),
    ((0, 7), 3),
    ((1, 7, 8), 4),
    ((2, 6, 9), 5),
    ((3, 5, 10), 6),
    ((4, 11), 7),
)

# Channels of the first cell's inputs that are not the neck's, by joint; P3 has the neck's.
LATERALS = {1: 32, 2: 24, 4: 24, 5: 32}


class Op(nn.Module):
    """A function as a module, so that hooks see its result."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def bare(function):
    return function


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def enlarge(x, size):
    return F.interpolate(x, size=size, mode="nearest")


def blend(weights, *maps):
    weights = F.relu(weights)
    weights = weights / (weights.sum() + 1e-4)
    return sum(weight * x for weight, x in zip(weights, maps, strict=True))


class Shrink(nn.Module):
    """3x3 max-pool at stride 2, the odd row and column of padding at the end."""

    fill = float("-inf")

    def forward(self, x):
        bottom, right = (1 if side % 2 == 0 else 2 for side in x.shape[2:])
        x = F.pad(x, (right - 1, 1, bottom - 1, 1), value=self.fill)
        return F.max_pool2d(x, 3, 2)


class Block(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expansion, bottleneck, op):
        super().__init__()
        wide = inputs * expansion
        self.grow = nn.Sequential()
        if expansion > 1:
            self.grow = nn.Sequential(
                nn.Conv2d(inputs, wide, 1, bias=False), norm(wide), nn.SiLU(inplace=True)
            )
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.dw = nn.Sequential(
            nn.ZeroPad2d((before, after, before, after)),
            nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False),
        )
        self.dw_norm = norm(wide)
        self.dw_act = nn.SiLU(inplace=True)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(wide, bottleneck, 1)
        self.fc1_act = nn.SiLU(inplace=True)
        self.fc2 = nn.Conv2d(bottleneck, wide, 1)
        self.sigmoid = op(torch.sigmoid)
        self.times = op(torch.mul)
        self.out = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), norm(outputs))
        self.plus = op(torch.add) if stride == 1 and inputs == outputs else None

    def forward(self, x):
        skip = x
        x = self.dw_act(self.dw_norm(self.dw(self.grow(x))))
        gate = self.sigmoid(self.fc2(self.fc1_act(self.fc1(self.squeeze(x)))))
        x = self.out(self.times(gate, x))
        return x if self.plus is None else self.plus(x, skip)


class Backbone(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(3, 8, 3, 2, bias=False),
            norm(8),
            nn.SiLU(inplace=True),
        )
        self.stages = nn.ModuleList(Block(*stage, op) for stage in STAGES)

    def forward(self, x):
        x = self.stem(x)
        taps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAPS:
                taps.append(x)
        return taps


class Joint(nn.Module):
    def __init__(self, count, op):
        super().__init__()
        self.w = nn.Parameter(torch.ones(count))
        self.blend = op(blend)
        self.act = nn.SiLU(inplace=True)
        self.dw = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)
        self.pw = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.norm = norm(CHANNELS)

    def forward(self, maps):
        return self.norm(self.pw(self.dw(self.act(self.blend(self.w, *maps)))))


class Cell(nn.Module):
    """Two passes over five levels; one pool and one up-sampling serve all of it."""

    def __init__(self, op, laterals):
        super().__init__()
        self.lateral = nn.ModuleDict(
            {
                f"to_{number}": nn.Sequential(nn.Conv2d(channels, CHANNELS, 1), norm(CHANNELS))
                for number, channels in laterals.items()
            }
        )
        self.shrink = Shrink()
        self.enlarge = op(enlarge)
        self.joints = nn.ModuleList(Joint(len(sources), op) for sources, _ in JOINTS)

    def forward(self, maps):
        sizes = [x.shape[2:] for x in maps]
        levels = [*range(3, 8), *(level for _, level in JOINTS)]
        maps = list(maps)
        for number, (joint, (sources, level)) in enumerate(zip(self.joints, JOINTS, strict=True)):
            inputs = []
            for source in sources:
                x = maps[source]
                if source == sources[0] and f"to_{number}" in self.lateral:
                    x = self.lateral[f"to_{number}"](x)
                if levels[source] < level:
                    x = self.shrink(x)
                elif levels[source] > level:
                    x = self.enlarge(x, sizes[level - 3])
                inputs.append(x)
            maps.append(joint(inputs))
        # P3 comes from the end of the first pass, the others from the second.
        return maps[8:]


class Neck(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.to_p6 = nn.Sequential(nn.Conv2d(32, CHANNELS, 1), norm(CHANNELS), Shrink())
        self.to_p7 = Shrink()
        self.cells = nn.ModuleList(Cell(op, {} if cell else LATERALS) for cell in range(CELLS))

    def forward(self, taps):
        p6 = self.to_p6(taps[-1])
        maps = [*taps, p6, self.to_p7(p6)]
        for cell in self.cells:
            maps = cell(maps)
        return maps


class Head(nn.Module):
    """Convolutions and activation are shared by the levels, batch norms are not."""

    def __init__(self, outputs):
        super().__init__()
        self.dw = nn.ModuleList(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)
            for _ in range(REPEATS + 1)
        )
        self.pw = nn.ModuleList(
            nn.Conv2d(CHANNELS, CHANNELS if repeat < REPEATS else outputs, 1)
            for repeat in range(REPEATS + 1)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(norm(CHANNELS) for _ in range(REPEATS)) for _ in range(LEVELS)
        )
        self.act = nn.SiLU(inplace=True)

    def forward(self, maps):
        outputs = []
        for x, norms in zip(maps, self.norms, strict=True):
            for repeat, normalise in enumerate(norms):
                x = self.act(normalise(self.pw[repeat](self.dw[repeat](x))))
            outputs.append(self.pw[-1](self.dw[-1](x)))
        return outputs


class Detector(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.bb = Backbone(op)
        self.neck = Neck(op)
        self.cls = Head(ANCHORS * CLASSES)
        self.reg = Head(ANCHORS * 4)

    def forward(self, images):
        maps = self.neck(self.bb(images))
        return self.cls(maps), self.reg(maps)


def layers():
    """Path of each layer that has parameters, here and in the faithful model."""
    yield "bb.stem.1", "backbone.stem_conv"
    yield "bb.stem.2", "backbone.stem_bn"
    for index, (*_, expansion, _) in enumerate(STAGES):
        ours, theirs = f"bb.stages.{index}", f"backbone.blocks.{index}"
        if expansion > 1:
            yield f"{ours}.grow.0", f"{theirs}.expand_conv"
            yield f"{ours}.grow.1", f"{theirs}.expand_bn"
        yield f"{ours}.dw.1", f"{theirs}.depthwise_conv"
        yield f"{ours}.dw_norm", f"{theirs}.depthwise_bn"
        yield f"{ours}.fc1", f"{theirs}.se.reduce_conv"
        yield f"{ours}.fc2", f"{theirs}.se.expand_conv"
        yield f"{ours}.out.0", f"{theirs}.project_conv"
        yield f"{ours}.out.1", f"{theirs}.project_bn"
    yield "neck.to_p6.0", "fpn.resample_p6.conv"
    yield "neck.to_p6.1", "fpn.resample_p6.bn"
    for cell in range(CELLS):
        for number in range(len(JOINTS)):
            ours, theirs = f"neck.cells.{cell}.joints.{number}", f"fpn.cells.{cell}.nodes.{number}"
            if cell == 0 and number in LATERALS:
                lateral = f"neck.cells.{cell}.lateral.to_{number}"
                yield f"{lateral}.0", f"{theirs}.resamples.0.conv"
                yield f"{lateral}.1", f"{theirs}.resamples.0.bn"
            yield f"{ours}.dw", f"{theirs}.conv.depthwise"
            yield f"{ours}.pw", f"{theirs}.conv.pointwise"
            yield f"{ours}.norm", f"{theirs}.bn"
    for ours, theirs in (("cls", "class_head"), ("reg", "box_head")):
        for repeat in range(REPEATS + 1):
            conv = f"{theirs}.convs.{repeat}" if repeat < REPEATS else f"{theirs}.predict"
            yield f"{ours}.dw.{repeat}", f"{conv}.depthwise"
            yield f"{ours}.pw.{repeat}", f"{conv}.pointwise"
        for level in range(LEVELS):
            for repeat in range(REPEATS):
                yield f"{ours}.norms.{level}.{repeat}", f"{theirs}.bns.{repeat}.P{level + 3}"


def filled(model, state):
    """The model with the values of the faithful one's state dict, for inference."""
    places = dict(layers())
    for cell in range(CELLS):
        for number in range(len(JOINTS)):
            places[f"neck.cells.{cell}.joints.{number}"] = f"fpn.cells.{cell}.nodes.{number}"

    def source(name):
        path, _, last = name.rpartition(".")
        return f"{places[path]}.{'weights' if last == 'w' else last}"

    model.load_state_dict({name: state[source(name)] for name in model.state_dict()})
    return model.eval()


def build(faithful):
    """The port as it is: sums, gates, fusions and up-samplings are bare functions."""
    return filled(Detector(bare), faithful.state_dict())


def build_hookable(faithful):
    """The same computation, each step of it a module."""
    return filled(Detector(Op), faithful.state_dict())


class InThread(nn.Module):
    """Runs a model's parts in a thread of their own, as those do that serve several requests."""

    def __init__(self, model):
        super().__init__()
        self.bb, self.neck, self.cls, self.reg = model.bb, model.neck, model.cls, model.reg
        self.whole = type(model).forward

    def forward(self, images):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.no_grad()(self.whole), self, images).result()


def build_in_thread(faithful):
    """The port as it is, in another thread than the one that it is called in."""
    return InThread(build(faithful)).eval()


def zero_padded_pool(faithful):
    """With zeros around what the max-pools see, which win against negative values."""
    model = build(faithful)
    for module in model.modules():
        if isinstance(module, Shrink):
            module.fill = 0.0
    return model


def wrong_epsilon(faithful):
    """With PyTorch's epsilon instead of TensorFlow's in one head's batch norms."""
    model = build(faithful)
    for module in model.cls.norms.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    return model


def symmetric_padding(faithful):
    """With as much padding before as after in strided convolutions, as PyTorch pads by itself."""
    model = build(faithful)
    for layer in (model.bb.stem, *(stage.dw for stage in model.bb.stages)):
        if layer[1].stride == (2, 2):
            layer[0].padding = (layer[1].kernel_size[0] // 2,) * 4
    return model


def forgotten_sigmoid(faithful):
    """With a gate that is no gate; as a bare function it is none of the nodes that are seen."""
    model = build(faithful)
    model.bb.stages[2].sigmoid = bare
    return model


def forgotten_sigmoid_in_thread(faithful):
    """The same where its functions are not seen."""
    return InThread(forgotten_sigmoid(faithful)).eval()
