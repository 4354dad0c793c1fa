"""A port that is a script as a whole: every step typed and with its control flow in TorchScript."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientdet_spec import FUSION_EPSILON, NodeKind

K = NodeKind


def pads(x: Tensor, kernel: list[int], stride: list[int]) -> list[int]:
    """SAME's padding, as F.pad takes it."""
    size = [x.shape[3], x.shape[2]]
    result: list[int] = []
    for axis in range(2):
        step = stride[1 - axis]
        whole = (size[axis] + step - 1) // step
        missing = max((whole - 1) * step + kernel[1 - axis] - size[axis], 0)
        result += [missing // 2, missing - missing // 2]
    return result


class Step(nn.Module):
    """A step of the network.

    Args:
        sources: Places of what it reads among all that has been made.
    """

    sources: list[int]

    def __init__(self, sources):
        super().__init__()
        self.sources = sources


def _copy(tensor):
    return None if tensor is None else tensor.detach().clone()


class Conv(Step):
    kernel: list[int]
    stride: list[int]
    bias: Tensor | None

    def __init__(self, sources, call):
        super().__init__(sources)
        layer = call.module
        self.kernel, self.stride = list(layer.kernel_size), list(layer.stride)
        self.groups: int = layer.groups
        self.register_buffer("weight", _copy(layer.weight))
        self.register_buffer("bias", _copy(layer.bias))

    def forward(self, given: list[Tensor]) -> Tensor:
        x = given[0]
        around = pads(x, self.kernel, self.stride)
        if max(around) > 0:
            x = F.pad(x, around)
        y = F.conv2d(x, self.weight, None, self.stride, [0, 0], [1, 1], self.groups)
        bias = self.bias
        if bias is not None:
            y = y + bias.view(1, -1, 1, 1)
        return y


class Norm(Step):
    def __init__(self, sources, call):
        super().__init__(sources)
        layer = call.module
        self.eps: float = layer.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, _copy(getattr(layer, name)))

    def forward(self, given: list[Tensor]) -> Tensor:
        stats, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
        return F.batch_norm(
            given[0], stats[0], stats[1], affine[0], affine[1], self.training, 0.1, self.eps
        )


class Act(Step):
    def __init__(self, sources, call):
        super().__init__(sources)

    def forward(self, given: list[Tensor]) -> Tensor:
        return given[0] * torch.sigmoid(given[0])


class Mean(Act):
    def forward(self, given: list[Tensor]) -> Tensor:
        return F.adaptive_avg_pool2d(given[0], [1, 1])


class Gate(Act):
    def forward(self, given: list[Tensor]) -> Tensor:
        return given[0].sigmoid()


class Scale(Act):
    def forward(self, given: list[Tensor]) -> Tensor:
        return given[0] * given[1]


class Sum(Act):
    def forward(self, given: list[Tensor]) -> Tensor:
        return given[0] + given[1]


class Fuse(Step):
    weights: Tensor | None

    def __init__(self, sources, call):
        super().__init__(sources)
        self.epsilon: float = FUSION_EPSILON
        self.register_buffer("weights", _copy(call.arguments[1]))

    def forward(self, given: list[Tensor]) -> Tensor:
        weights = self.weights
        total = torch.zeros_like(given[0])
        if weights is None:
            for item in given:
                total = total + item
            return total
        shares = torch.relu(weights)
        shares = shares / (shares.sum() + self.epsilon)
        for number, item in enumerate(given):
            total = total + shares[number] * item
        return total


class Pool(Step):
    size: list[int]

    def __init__(self, sources, call):
        super().__init__(sources)
        self.size = list(call.arguments[1])

    def forward(self, given: list[Tensor]) -> Tensor:
        x = given[0]
        height, width = x.shape[2], x.shape[3]
        stride = [(height - 1) // self.size[0] + 1, (width - 1) // self.size[1] + 1]
        kernel = [stride[0] + 1, stride[1] + 1]
        around = pads(x, kernel, stride)
        return F.max_pool2d(F.pad(x, around, "constant", -float("inf")), kernel, stride)


class Up(Pool):
    def forward(self, given: list[Tensor]) -> Tensor:
        return F.interpolate(given[0], size=self.size, mode="nearest")


STEPS = {
    K.CONV: Conv,
    K.DEPTHWISE: Conv,
    K.BATCH_NORM: Norm,
    K.ACTIVATION: Act,
    K.MEAN: Mean,
    K.GATE: Gate,
    K.SCALE: Scale,
    K.ADD: Sum,
    K.FUSE: Fuse,
    K.POOL: Pool,
    K.UPSAMPLE: Up,
}


class Slope(Act):
    """Fault: another slope of the activation."""

    def forward(self, given: list[Tensor]) -> Tensor:
        return given[0] * torch.sigmoid(1.5 * given[0])


class LeftOut(Act):
    """Fault: nothing is computed."""

    def forward(self, given: list[Tensor]) -> Tensor:
        return given[0]


class Rolled(Conv):
    """Fault: a convolution that is off by a pixel."""

    def forward(self, given: list[Tensor]) -> Tensor:
        around = pads(given[0], self.kernel, self.stride)
        x = F.pad(given[0], around)
        y = F.conv2d(x, self.weight, self.bias, self.stride, [0, 0], [1, 1], self.groups)
        return y.roll(1, 2)


class Written(nn.Module):
    """What is scripted: each step is given what it reads of all that was made before it."""

    outputs: list[int]

    def __init__(self, steps, outputs):
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.outputs = outputs

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        made = [images]
        for step in self.steps:
            made.append(step([made[place] for place in step.sources]))
        levels = [made[place] for place in self.outputs]
        half = len(levels) // 2
        return levels[:half], levels[half:]


def scripted_port(referee, outputs, fault=None):
    """The network as one script.

    Args:
        referee: Knows the steps of the faithful model.
        outputs: The output nodes.
        fault: By node the class of the step that is done instead of its own.
    """
    places = {node: number for number, node in enumerate(referee.calls, 1)}
    steps = []
    for node, call in referee.calls.items():
        make = (fault or {}).get(node, STEPS[referee.kinds[node]])
        steps.append(make([places.get(source, 0) for source in call.sources], call))
    return torch.jit.script(Written(steps, [places[node] for node in outputs]).eval())
