"""Faults that nobody wrote a hypothesis for, and well-known ones in unusual places.

Each is put into a layer as a function of the layer's faithful self, so that nothing here is taken
from the hypotheses that are to be held against it.
"""

import numpy as np
import torch
import torch.nn.functional as F
from faults.fault import instead, then


def dropout_left_on(rate):
    """Dropout that inference does not switch off, the same at every run."""

    def drop(x):
        keep = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) >= rate
        return x * keep / (1 - rate)

    return then(drop)


def convolved(module, x):
    """What a convolution makes of a feature map with its faithful padding, without its bias."""
    before = module.bias
    try:
        module.bias = None
        return type(module).__mro__[1].forward(module, x)
    finally:
        module.bias = before


def partial(module, x):
    """A partial convolution: what the border lacks is made up for."""
    height, width = module.weight.shape[2:]
    pads = (width // 2, width // 2, height // 2, height // 2)
    here = F.conv2d(F.pad(torch.ones_like(x[:, :1]), pads), torch.ones(1, 1, height, width).to(x))
    return convolved(module, x) * (height * width) / here


def quantised(weight):
    """Weights as int8 with one scale for each output channel."""
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    return (weight / scale).round() * scale


def quantised_in_place(module):
    module.weight.data = quantised(module.weight.data)


def quantised_on_the_fly(module):
    def forward(module, x):
        before = module.weight.data
        module.weight.data = quantised(before)
        result = type(module).__mro__[1].forward(module, x)
        module.weight.data = before
        return result

    instead(forward)(module)


def quantised_output(x):
    scale = x.abs().max() / 127
    return (x / scale).round() * scale


def table(function, low, high, entries=256):
    """A function looked up among so many values."""
    points = torch.linspace(low, high, entries)
    values = function(points.double()).float()

    def look_up(module, x):
        index = ((x.clamp(low, high) - low) * (entries - 1) / (high - low)).round().long()
        return values.to(x)[index]

    return instead(look_up)


def leak(share):
    """Every image is mixed with the mean of the batch."""
    return then(lambda x: (1 - share) * x + share * x.mean(0, keepdim=True))


def last_bit(module):
    flat = module.weight.data.view(-1)
    index = int(flat.abs().argmax())
    flat[index] = float(np.nextafter(np.float32(flat[index].item()), np.float32(9)))


def smoothed(x):
    return 0.999 * x + 0.001 * x.roll(1, 3)


def group_norm(groups):
    return instead(
        lambda module, x: F.group_norm(x, groups, module.weight, module.bias, module.eps)
    )


def under_autocast(module, x):
    """A convolution without padding as autocast computes it on a CPU."""
    with torch.autocast("cpu", torch.bfloat16):
        return F.conv2d(x, module.weight, module.bias).float()


def some_channels(factor):
    def scale(x):
        factors = torch.ones(x.shape[1]).to(x)
        factors[: x.shape[1] // 3] = factor
        return x * factors.view(1, -1, 1, 1)

    return then(scale)


def noise(size):
    def add(x):
        draw = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
        return x * (1 + size * draw.to(x))

    return then(add)
