"""What ports get wrong in the images that the network is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import Evaluation, Operation, Site
from parity.faults.basics.fault import Fault, Variant, in_variants
from parity.faults.basics.operations import Change, convolution

MEAN_RGB = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels, where white is 1 (official ``hparams_config.py``)."""

STDDEV_RGB = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, where white is 1 (likewise)."""


def normalisation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that images are normalised by, both [1, 3, 1, 1]."""
    mean, deviation = (
        torch.tensor(values, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
        for values in (MEAN_RGB, STDDEV_RGB)
    )
    return mean, deviation


def _reads_images(site: Site) -> bool:
    return site.is_input


_Changes = Callable[[Tensor, Tensor], Iterable[tuple[str, Change]]]
"""Changes of normalised images, from the mean and the deviation that they were normalised by."""


def _of_images(slug: str, title: str, changes: _Changes, *, in_bgr: bool = False) -> Fault:
    """The first convolution of other images than it should be given.

    Args:
        slug: As for a fault.
        title: As for a fault.
        changes: What is done to the images.
        in_bgr: Whether the changed images may be in BGR order, too.
    """

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        if not operation.is_input or operation.arguments[0].shape[1] != 3:
            return
        own = convolution(operation)
        for words, change in changes(*normalisation(own.x)):
            x = change(own.x)
            yield words, replace(own, x=x)
            if in_bgr:
                yield f"{words}, in BGR order", replace(own, x=x.flip(1))

    return in_variants(slug, title, frozenset({NodeKind.CONV}), variants, where=_reads_images)


def _bgr(mean: Tensor, std: Tensor) -> Iterator[tuple[str, Change]]:
    yield "images in BGR order", lambda x: x.flip(1)
    yield (
        "images in BGR order, normalised by the mean and deviation of RGB",
        lambda x: ((x * std + mean).flip(1) - mean) / std,
    )


def _other_orders(mean: Tensor, std: Tensor) -> Iterator[tuple[str, Change]]:
    for order in permutations(range(3)):
        if order not in ((0, 1, 2), (2, 1, 0)):
            letters = "".join("RGB"[i] for i in order)
            yield f"images in {letters} order", partial(_in_order, order)


def _in_order(order: tuple[int, ...], x: Tensor) -> Tensor:
    return x[:, list(order)]


def _not_normalised(mean: Tensor, std: Tensor) -> Iterator[tuple[str, Change]]:
    yield "images not normalised, with values up to 255", lambda x: 255 * (x * std + mean)
    yield "images not normalised, with values up to 1", lambda x: x * std + mean
    yield "images not divided by the standard deviation", lambda x: x * std
    yield "images with the mean subtracted only, in grey levels", lambda x: 255 * x * std
    yield "images divided by the deviation, their mean left in", lambda x: x + mean / std


def _other_scales(mean: Tensor, std: Tensor) -> Iterator[tuple[str, Change]]:
    def pixels(x: Tensor) -> Tensor:
        return x * std + mean

    yield "images scaled to -1..1 (AdvProp)", lambda x: 2 * pixels(x) - 1
    yield (
        "images normalised by mean 127 and deviation 128 (lite)",
        lambda x: (255 * pixels(x) - 127) / 128,
    )
    yield (
        "images normalised by one mean 0.5 and deviation 0.25",
        lambda x: (pixels(x) - 0.5) / 0.25,
    )
    yield (
        "images with values up to 255 normalised by a mean and deviation for values up to 1",
        lambda x: (255 * pixels(x) - mean) / std,
    )
    yield (
        "images with values up to 1 normalised by a mean and deviation for values up to 255",
        lambda x: (pixels(x) / 255 - mean) / std,
    )


def _normalised_twice(mean: Tensor, std: Tensor) -> Iterator[tuple[str, Change]]:
    yield "images normalised twice", lambda x: (x - mean) / std
    yield (
        "images normalised twice, the second time in grey levels",
        lambda x: (x - 255 * mean) / (255 * std),
    )
    yield "normalised images divided by 255", lambda x: x / 255
    yield "normalised images scaled by x * 2 / 255 - 1", lambda x: x * 2 / 255 - 1
    yield "normalised images scaled by x * 2 - 1", lambda x: x * 2 - 1
    yield "normalised images normalised by 127 and 128", lambda x: (x - 127) / 128


def _black_padding(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Black pixels around the image instead of zeros after normalising."""
    own = convolution(operation)
    x = own.x
    if not operation.is_input or x.shape[1] != 3 or not any(own.pads):
        return
    mean, std = normalisation(x)
    inside = F.pad(torch.ones_like(x[:, :1]), own.pads)
    padded = F.pad(x, own.pads) * inside + (1 - inside) * (-mean / std)
    yield (
        "padding with black pixels instead of zeros after normalising",
        replace(own, x=padded, pads=(0, 0, 0, 0)),
    )


FAULTS = (
    _of_images("input-bgr", "images in BGR order", _bgr),
    _of_images("input-channels-permuted", "images in another order of colours", _other_orders),
    _of_images("input-unnormalised", "images not normalised", _not_normalised, in_bgr=True),
    _of_images("input-scaled", "images normalised in another way", _other_scales, in_bgr=True),
    _of_images("input-normalised-twice", "images normalised twice", _normalised_twice, in_bgr=True),
    in_variants(
        "padding-black",
        "images padded before they are normalised",
        frozenset({NodeKind.CONV}),
        _black_padding,
        where=_reads_images,
    ),
)
"""Images of another channel order or scale than the network should be given."""
