"""Ports of one model in many styles, none with the names, modules or layouts of this project.

Each is written as a way to do the steps of the network; what the steps are comes from the faithful
model. A fault replaces one step at one node.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientdet_spec import FUSION_EPSILON, Activation, Fusion, NodeKind, same_padding
from parity.sides.pytorch.nested import flatten, mapped

K = NodeKind


def pads(x, kernel, stride):
    """SAME's padding of [..., H, W], as F.pad takes it."""
    (top, bottom), (left, right) = (
        same_padding(size, k, s) for size, k, s in zip(x.shape[-2:], kernel, stride, strict=True)
    )
    return left, right, top, bottom


class Style:
    """The plain style: functions on NCHW tensors."""

    first_boxes = False
    joined = False

    def into(self, images):
        return images

    def conv(self, x, layer):
        x = F.pad(x, pads(x, layer.kernel_size, layer.stride))
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)

    depthwise = conv

    def norm(self, x, layer):
        stats = layer.running_mean, layer.running_var
        return F.batch_norm(x, *stats, layer.weight, layer.bias, eps=layer.eps)

    def act(self, x):
        return F.silu(x)

    def activate(self, x, activation):
        """The model's activation, whichever it is."""
        if activation is Activation.SWISH:
            return self.act(x)
        return self.others[activation](x)

    others = {
        Activation.RELU: F.relu,
        Activation.RELU6: F.relu6,
        Activation.HARD_SWISH: F.hardswish,
        Activation.MISH: F.mish,
    }

    def mean(self, x):
        return x.mean((2, 3), keepdim=True)

    def gate(self, x):
        return torch.sigmoid(x)

    def scale(self, x, gate):
        return x * gate

    def add(self, x, y):
        return x + y

    def weights(self, weights):
        weights = F.relu(weights)
        return weights / (weights.sum() + FUSION_EPSILON)

    def fuse(self, maps, weights):
        if weights is None:
            return sum(maps[1:], maps[0])
        shares = self.weights(weights)
        total = maps[0] * shares[0]
        for item, share in zip(maps[1:], shares[1:], strict=True):
            total = total + item * share
        return total

    def fused(self, maps, weights, fusion):
        """The model's fusion, whichever it is."""
        if fusion in (Fusion.FAST_ATTENTION, Fusion.SUM):
            return self.fuse(maps, weights)
        shares = torch.softmax(weights, 0)
        if not fusion.is_softmax:
            shares = F.relu(weights) / (F.relu(weights).sum(0) + FUSION_EPSILON)
        if fusion.is_per_channel:
            shares = self.by_channel(shares)
        return self.shared(maps, shares)

    def by_channel(self, shares):
        return shares[:, :, None, None]

    def shared(self, maps, shares):
        total = maps[0] * shares[0]
        for item, share in zip(maps[1:], shares[1:], strict=True):
            total = total + item * share
        return total

    def pool(self, x, size):
        stride = [-(-a // b) for a, b in zip(x.shape[-2:], size, strict=True)]
        kernel = [s + 1 for s in stride]
        return F.max_pool2d(F.pad(x, pads(x, kernel, stride), value=-torch.inf), kernel, stride)

    def up(self, x, size):
        return F.interpolate(x, size=tuple(size), mode="nearest")

    def out(self, x):
        return x

    def join(self, levels, values):
        flat = [x.permute(0, 2, 3, 1).reshape(len(x), -1, values) for x in levels]
        return torch.cat(flat, 1)


class ByParts(Style):
    """What other people have operations for is written out."""

    def act(self, x):
        return x * torch.sigmoid(x)

    others = {
        Activation.RELU: lambda x: x.clamp(min=0),
        Activation.RELU6: lambda x: x.clamp(0, 6),
        Activation.HARD_SWISH: lambda x: x * F.relu6(x + 3) / 6,
        Activation.MISH: lambda x: x * torch.tanh(F.softplus(x)),
    }

    def shared(self, maps, shares):
        return (torch.stack(maps, -1) * shares.movedim(0, -1)).sum(-1)

    def mean(self, x):
        return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])

    def norm(self, x, layer):
        def along(values):
            return values.view(1, -1, 1, 1)

        scaled = (x - along(layer.running_mean)) / torch.sqrt(along(layer.running_var) + layer.eps)
        return scaled * along(layer.weight) + along(layer.bias)

    def fuse(self, maps, weights):
        if weights is None:
            return torch.stack(maps).sum(0)
        weights = F.relu(weights)
        total = sum(x * w for x, w in zip(maps, weights, strict=True))
        return total / (weights.sum() + FUSION_EPSILON)

    def up(self, x, size):
        if (size[0] % x.shape[2], size[1] % x.shape[3]) != (0, 0):
            return super().up(x, size)
        rows, columns = size[0] // x.shape[2], size[1] // x.shape[3]
        return x.repeat_interleave(rows, 2).repeat_interleave(columns, 3)


class ChannelsLast(Style):
    """Tensors are [N, H, W, C] throughout, and the outputs too."""

    def into(self, images):
        return images.permute(0, 2, 3, 1).contiguous()

    def by_channel(self, shares):
        return shares[:, None, None, :]

    def nchw(self, x):
        return x.permute(0, 3, 1, 2)

    def nhwc(self, x):
        return x.permute(0, 2, 3, 1).contiguous()

    def conv(self, x, layer):
        return self.nhwc(super().conv(self.nchw(x), layer))

    depthwise = conv

    def norm(self, x, layer):
        return self.nhwc(super().norm(self.nchw(x), layer))

    def mean(self, x):
        return x.mean((1, 2), keepdim=True)

    def pool(self, x, size):
        return self.nhwc(super().pool(self.nchw(x), size))

    def up(self, x, size):
        return self.nhwc(super().up(self.nchw(x), size))


class InPlace(Style):
    """Whatever can be written over is written over."""

    def conv(self, x, layer):
        x = F.pad(x, pads(x, layer.kernel_size, layer.stride))
        x = F.conv2d(x, layer.weight, None, layer.stride, 0, 1, layer.groups)
        return x if layer.bias is None else x.add_(layer.bias.view(1, -1, 1, 1))

    depthwise = conv

    def norm(self, x, layer):
        factor = layer.weight / torch.sqrt(layer.running_var + layer.eps)
        offset = layer.bias - layer.running_mean * factor
        return x.mul_(factor.view(1, -1, 1, 1)).add_(offset.view(1, -1, 1, 1))

    def act(self, x):
        return F.silu(x, inplace=True)

    others = {
        Activation.RELU: torch.relu_,
        Activation.RELU6: lambda x: F.hardtanh_(x, 0.0, 6.0),
        Activation.HARD_SWISH: lambda x: F.hardswish(x, inplace=True),
        Activation.MISH: lambda x: F.mish(x, inplace=True),
    }

    def gate(self, x):
        return x.sigmoid_()

    def scale(self, x, gate):
        return x.mul_(gate)

    def add(self, x, y):
        return x.add_(y)

    def fuse(self, maps, weights):
        shares = [1.0] * len(maps) if weights is None else self.weights(weights)
        total = torch.zeros_like(maps[0])
        for item, share in zip(maps, shares, strict=True):
            total += item * share
        return total


class Einsum(ByParts):
    """Matrix products for 1x1 kernels; vectors of channels for the squeeze-excite."""

    def conv(self, x, layer):
        if layer.kernel_size != (1, 1):
            return super().conv(x, layer)
        if x.dim() == 2:
            return F.linear(x, layer.weight[:, :, 0, 0], layer.bias)
        y = torch.einsum("nchw,oc->nohw", x, layer.weight[:, :, 0, 0])
        return y if layer.bias is None else y + layer.bias.view(1, -1, 1, 1)

    def mean(self, x):
        return x.flatten(2).mean(-1)

    def scale(self, x, gate):
        return x * gate[:, :, None, None]

    def fuse(self, maps, weights):
        if weights is None:
            return super().fuse(maps, weights)
        return torch.einsum("knchw,k->nchw", torch.stack(maps), self.weights(weights))


class BoxesFirst(Style):
    """Box outputs before class outputs, each joined to [N, anchors, values]."""

    first_boxes = True
    joined = True


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)


class OwnFunctions(Style):
    """Functions with a backward pass of their own."""

    def act(self, x):
        return Swish.apply(x)

    def norm(self, x, layer):
        return torch.native_batch_norm(
            x,
            layer.weight,
            layer.bias,
            layer.running_mean,
            layer.running_var,
            False,
            0.0,
            layer.eps,
        )[0]


STYLES = {
    "functions": Style,
    "by parts": ByParts,
    "channels last": ChannelsLast,
    "in place": InPlace,
    "einsum": Einsum,
    "boxes first and joined": BoxesFirst,
    "own functions": OwnFunctions,
}


class Port(nn.Module):
    """A model in some style.

    Args:
        referee: Knows the steps of the faithful model.
        outputs: The output nodes.
        style: How they are done.
        fault: By node a function that takes the style, what the step is given, and the step.
        folded: Whether batch norms are folded into the convolutions before them.
        without: Nodes that are left out: what they read goes on in their place.
        again: Nodes that are done twice, the second time on what the last of them has made.
        wired: By node which other nodes it reads in the place of those that it should.
    """

    def __init__(
        self,
        referee,
        outputs,
        style,
        fault=None,
        folded=False,
        without=(),
        again=(),
        wired=None,
    ):
        super().__init__()
        self._without = frozenset(without)
        self._again = tuple(again)
        self._wired = wired or {}
        self._shapes = referee.shapes
        self.held = nn.ParameterList()
        self._style = style
        self._fault = fault or {}
        self._outputs = outputs
        self._steps = []
        kinds = dict(referee.kinds)
        readers = {}
        for node, call in referee.calls.items():
            for source in call.sources:
                readers.setdefault(source, []).append(node)
        skipped = {}
        for node, call in referee.calls.items():
            layer = _Layer(call.module, self._hold)
            if folded and kinds[node] is K.BATCH_NORM:
                source = call.sources[0]
                alone = readers[source] == [node] and kinds[source] in (K.CONV, K.DEPTHWISE)
                if alone:
                    skipped[node] = source
                    folded_layer = self._steps[[s[0] for s in self._steps].index(source)][2]
                    folded_layer.fold(layer, self._hold)
                    continue
            arguments = mapped(call.arguments, self._argument)
            self._steps.append((node, kinds[node], layer, arguments))
        self._skipped = skipped
        self._readers = {
            node: sum(node in c.sources for c in referee.calls.values()) for node in kinds
        }

    def _hold(self, tensor):
        self.held.append(nn.Parameter(tensor.detach().clone(), requires_grad=False))
        return self.held[-1]

    def _argument(self, value):
        if isinstance(value, Tensor):
            return self._hold(value)
        return value

    def forward(self, images):
        style = self._style
        made = {"images": style.into(images)}

        for step in self._steps:
            node = step[0]
            self._do(*step, made)
            if self._again and node == self._again[-1]:
                # What is read from outside of these nodes is what the last of them has made.
                twice = {**dict.fromkeys(made, made[node]), "images": made["images"]}
                for repeated in self._steps:
                    if repeated[0] in self._again:
                        del twice[repeated[0]]
                        self._do(*repeated, twice)
                made[node] = twice[node]
        levels = self._levels([made[self._skipped.get(node, node)] for node in self._outputs])
        half = len(levels) // 2
        classes, boxes = levels[:half], levels[half:]
        if style.joined:
            anchors = boxes[0].shape[1] // 4
            values = classes[0].shape[1] // anchors
            classes, boxes = style.join(classes, values), style.join(boxes, 4)
        return (boxes, classes) if style.first_boxes else (classes, boxes)

    def _levels(self, levels):
        return levels

    def _do(self, node, kind, layer, arguments, made):
        if node in made:
            return
        wired = self._wired.get(node, {})

        def real(value):
            source = getattr(value, "node", None)
            if source is None:
                return value
            source = wired.get(source, source)
            source = self._skipped.get(source, source)
            if source not in made:
                self._do(*next(step for step in self._steps if step[0] == source), made)
            return made[source]

        given = mapped(arguments, real)
        if node in self._without:
            made[node] = next(iter(flatten(given)))
            return
        if kind in (K.POOL, K.UPSAMPLE):
            # Sizes follow those of the maps, which a fault may have changed.
            given = given[0], self._size(kind, given, made)
        made[node] = self._step(node, kind, layer, given)

    def _size(self, kind, given, made):
        """The size of the level that a map is brought to: of what is there already, or a half."""
        rows = 1 if isinstance(self._style, ChannelsLast) else 2
        x, size = given
        for node in reversed(made):
            there = made[node].shape[rows : rows + 2]
            if (
                len(there) == 2
                and node in self._shapes
                and tuple(self._shapes[node][1:3]) == tuple(size)
            ):
                return list(there)
        return [-(-length // 2) for length in x.shape[rows : rows + 2]]

    def _step(self, node, kind, layer, given):
        style = self._style
        steps = {
            K.CONV: lambda: style.conv(given[0], layer),
            K.DEPTHWISE: lambda: style.depthwise(given[0], layer),
            K.BATCH_NORM: lambda: style.norm(given[0], layer),
            K.ACTIVATION: lambda: style.activate(given[0], layer.activation),
            K.MEAN: lambda: style.mean(given[0]),
            K.GATE: lambda: style.gate(given[0]),
            K.SCALE: lambda: style.scale(*given),
            K.ADD: lambda: style.add(*given),
            K.FUSE: lambda: style.fused(*given, layer.fusion),
            K.POOL: lambda: style.pool(*given),
            K.UPSAMPLE: lambda: style.up(*given),
        }
        if node in self._fault:
            return self._fault[node](style, layer, given, steps[kind])
        return steps[kind]()


class JoinedInside(Port):
    """Its last convolutions are a product of matrices each, over all levels joined.

    Attributes:
        change: What is done to such a product.
    """

    def change(self, product):
        return product

    def _step(self, node, kind, layer, given):
        if node not in self._outputs:
            return super()._step(node, kind, layer, given)
        # The other levels are not there yet.
        return given[0], layer

    def _levels(self, levels):
        half = len(levels) // 2
        return [*self._apart(levels[:half]), *self._apart(levels[half:])]

    def _apart(self, levels):
        maps, (layer, *_) = zip(*levels, strict=True)
        joined = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1)
        product = self.change(joined @ layer.weight[:, :, 0, 0].T + layer.bias)
        parts = product.split([x.shape[2] * x.shape[3] for x in maps], 1)
        return [
            part.transpose(1, 2).unflatten(2, x.shape[2:])
            for part, x in zip(parts, maps, strict=True)
        ]


class _Layer:
    """The parameters of a layer, held by a port under no name."""

    def __init__(self, module, hold):
        for name in ("kernel_size", "stride", "groups", "eps", "activation", "fusion"):
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(module, name, None)
            setattr(self, name, value if value is None else hold(value))

    def fold(self, norm, hold):
        """Take over the scale and the shift of a batch norm."""
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        bias = 0.0 if self.bias is None else self.bias
        shift = norm.bias + (bias - norm.running_mean) * factor
        self.weight = hold(self.weight * factor.view(-1, 1, 1, 1))
        self.bias = hold(shift)


class Permuted(Port):
    """Hidden channels of its blocks lie in another order, with all that reads them.

    Attributes:
        expanded: Whether those that a block expands to are among them, not only those inside of its
            squeeze-excite.
        readers: Whether what reads them counts on that.
    """

    expanded = False
    readers = True

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        layers = {step[0]: step[2] for step in self._steps}
        for node in layers:
            block, _, last = node.rpartition(".")
            if last == "reduce_conv":
                self._permute(layers, [node], [f"{block}.expand_conv"])
            elif last == "expand_conv" and self.expanded and not block.endswith("se"):
                parts = ["expand_conv", "expand_bn", "depthwise_conv", "depthwise_bn"]
                made = [f"{block}.{part}" for part in (*parts, "se.expand_conv")]
                read = [f"{block}.{part}" for part in ("se.reduce_conv", "project_conv")]
                self._permute(layers, made, read)

    def _permute(self, layers, made, read):
        count = len(layers[made[0]].weight)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
        for node in made:
            for name in ("weight", "bias", "running_mean", "running_var"):
                value = getattr(layers[node], name, None)
                if value is not None:
                    setattr(layers[node], name, self._hold(value[order]))
        for node in read if self.readers else ():
            layers[node].weight = self._hold(layers[node].weight[:, order])


class BothHeads(Port):
    """The first layers of both heads are one: each channel twice, then two groups."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._layers = {step[0]: step[2] for step in self._steps}

    def forward(self, images):
        self._made = {}
        return super().forward(images)

    def _step(self, node, kind, layer, given):
        head, _, rest = node.partition(".")
        if not rest.startswith("convs.0."):
            return super()._step(node, kind, layer, given)
        part, level = rest.removeprefix("convs.0.").split("@")
        if part == "depthwise":
            if level not in self._made:
                self._made[level] = self._both(given[0], level)
            return given[0]
        return self._made[level][head != "class_head"]

    def _both(self, x, level):
        one, other = (
            [self._layers[f"{head}.convs.0.{part}@{level}"] for head in ("class_head", "box_head")]
            for part in ("depthwise", "pointwise")
        )
        count = x.shape[1]
        twice = torch.stack([layer.weight for layer in one], 1).flatten(0, 1)
        x = F.pad(x, pads(x, one[0].kernel_size, one[0].stride))
        x = F.conv2d(x, twice, None, 1, 0, 1, count)
        x = x.unflatten(1, (count, 2)).transpose(1, 2).flatten(1, 2)
        weight, bias = (torch.cat([getattr(a, n) for a in other]) for n in ("weight", "bias"))
        return F.conv2d(x, weight, bias, 1, 0, 1, 2).chunk(2, 1)
