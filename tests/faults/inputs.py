"""Faults at the network's two ends: what it is given and what it returns."""

from collections.abc import Callable

import torch
from faults.fault import Context, Fault, Names, at, before, named, then
from torch import Tensor, nn

from torch_model import EfficientDet
from torch_model.preprocess import MEAN_RGB, STDDEV_RGB


def per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    """A value for each of the image's channels."""
    return torch.tensor(values, dtype=like.dtype).view(1, 3, 1, 1)


def pixels(x: Tensor) -> Tensor:
    """Normalised images as grey levels from 0 to 255."""
    return x * per_channel(STDDEV_RGB, x) + per_channel(MEAN_RGB, x)


def other_normalisation(x: Tensor) -> Tensor:
    """Normalised images as another family of models has them, about zero within one."""
    return (pixels(x) - 127.0) / 128.0


def swapped_channels(x: Tensor) -> Tensor:
    """Blue, green and red for red, green and blue."""
    return x.flip(1)


def swap_input_weights(conv: nn.Module) -> None:
    """Exchange the kernel's first and last input channel."""
    conv.weight.data.copy_(conv.weight.data.flip(1))


def whole(
    key: str, title: str, change: Callable[[EfficientDet], None], nodes: Names, *slugs: str
) -> Fault:
    """A fault of the model as a whole."""
    return Fault(key, title, lambda model, context: change(model), nodes, frozenset(slugs))


STEM = named("backbone.stem_conv")

INPUTS = (
    whole(
        "input-bgr/image", "Channels in the order BGR", before(swapped_channels), STEM, "input-bgr"
    ),
    at(
        "input-bgr/weights",
        "First convolution made for BGR",
        swap_input_weights,
        "backbone.stem_conv",
        "input-bgr",
        "parameters-permuted",
    ),
    whole(
        "input-unnormalised/grey-levels",
        "Grey levels from 0 to 255",
        before(pixels),
        STEM,
        "input-unnormalised",
    ),
    whole(
        "input-unnormalised/unit",
        "Grey levels from 0 to 1",
        before(lambda x: pixels(x) / 255.0),
        STEM,
        "input-unnormalised",
    ),
    whole(
        "input-unnormalised/other-statistics",
        "Mean 127 and deviation 128 in every channel",
        before(other_normalisation),
        STEM,
        "input-scaled",
    ),
)
"""Images that are not what the network was trained on."""


def regrouped(groups: int) -> Callable[[Tensor], Tensor]:
    """Channels of ``groups`` groups with the order of group and member exchanged."""

    def function(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        grouped = x.view(batch, groups, channels // groups, height, width)
        return grouped.transpose(1, 2).reshape(x.shape)

    return function


def class_major(model: EfficientDet, context: Context) -> None:
    """Make class predictions run over anchors first, then classes."""
    then(regrouped(context.config.num_anchors))(model.class_head.predict.pointwise)


def reordered_codes(order: tuple[int, ...]) -> Callable[[EfficientDet, Context], None]:
    """Give each box's codes in another order, by rearranging the last convolution."""

    def inject(model: EfficientDet, context: Context) -> None:
        conv = model.box_head.predict.pointwise
        anchors = context.config.num_anchors
        index = torch.arange(4 * anchors).view(anchors, 4)[:, list(order)].flatten()
        conv.weight.data.copy_(conv.weight.data[index])
        conv.bias.data.copy_(conv.bias.data[index])

    return inject


CLASSES = named("class_head.predict.pointwise")
BOXES = named("box_head.predict.pointwise")
PREDICTIONS = named("class_head.predict.pointwise", "box_head.predict.pointwise")

OUTPUTS = (
    Fault(
        "prediction-order/class-major",
        "Class logits class by class rather than anchor by anchor",
        class_major,
        CLASSES,
        frozenset({"prediction-order", "parameters-permuted"}),
    ),
    *(
        Fault(
            f"box-order/{name}",
            title,
            reordered_codes(order),
            BOXES,
            frozenset({"box-order", "parameters-permuted"}),
        )
        for name, title, order in (
            ("xy", "Box codes x before y, width before height", (1, 0, 3, 2)),
            ("sizes-first", "Box codes of the size before those of the centre", (2, 3, 0, 1)),
        )
    ),
    whole(
        "output-order/levels-reversed",
        "Class outputs from the coarsest level on",
        then(lambda outputs: (outputs[0][::-1], outputs[1])),
        CLASSES,
        "output-order",
    ),
    whole(
        "output-order/boxes-first",
        "Boxes before classes",
        then(lambda outputs: (outputs[1], outputs[0])),
        PREDICTIONS,
        "output-order",
    ),
    whole(
        "output-order/level-missing",
        "The coarsest level's boxes are not returned",
        then(lambda outputs: (outputs[0], outputs[1][:-1])),
        PREDICTIONS,
        "output-order",
    ),
)
"""Predictions in an order that whoever uses them does not expect."""
