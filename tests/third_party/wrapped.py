"""A port that joins its levels into [N, anchors, values], and the wrapper that it needs."""

import port
import torch
from torch import nn


class Joined(port.Detector):
    def forward(self, images):
        classes, boxes = port.Detector.forward(self, images)
        return joined(classes, port.CLASSES), joined(boxes, 4)


def joined(levels, values):
    """One [N, anchors of all levels, values] of [N, anchors * values, H, W] for each level."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, values) for x in levels], dim=1)


class PerLevel(nn.Module):
    """A model that returns what its prediction layers make, not what it does with that.

    The hooks are set at each run: those that compare are older then, and put the reference's
    tensors in place before these see them.
    """

    def __init__(self, model, class_layer, box_layer):
        super().__init__()
        self.model = model
        self.layers = (class_layer, box_layer)

    def forward(self, images):
        made = [[], []]

        def collect(into):
            return lambda layer, inputs, output: into.append(output)

        handles = [
            self.model.get_submodule(layer).register_forward_hook(collect(into))
            for layer, into in zip(self.layers, made, strict=True)
        ]
        try:
            self.model(images)
        finally:
            for handle in handles:
                handle.remove()
        return made


def build_joined(faithful):
    """A model whose outputs cannot be compared as they are."""
    return port.filled(Joined(port.Op), faithful.state_dict())


def build_joined_in_thread(faithful):
    """The same where modules alone are seen."""
    return port.InThread(build_joined(faithful)).eval()


def build(faithful):
    """The same model, made comparable: its modules' paths begin with ``model.``."""
    return PerLevel(build_joined(faithful), "cls.pw.2", "reg.pw.2").eval()
