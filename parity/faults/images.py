"""What ports get wrong in the images that the network is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.faults.case import Case, Hypothesis
from parity.faults.convolution import faithful

MEAN_RGB = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels, where white is 1 (official ``hparams_config.py``)."""

STDDEV_RGB = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, where white is 1 (likewise)."""


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Images of another channel order, scale or orientation than the node was given."""
    own = faithful(case)
    x = own.x
    if x.shape[1] != 3:
        return
    yield Hypothesis("input-bgr", "images in BGR order", replace(own, x=x.flip(1)))
    mean = torch.tensor(MEAN_RGB, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(STDDEV_RGB, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    yield Hypothesis(
        "input-bgr",
        "images in BGR order, normalised by the mean and deviation of RGB",
        replace(own, x=((x * std + mean).flip(1) - mean) / std),
    )
    for order in permutations(range(3)):
        if order not in ((0, 1, 2), (2, 1, 0)):
            letters = "".join("RGB"[i] for i in order)
            yield Hypothesis(
                "input-channels-permuted",
                f"images in {letters} order",
                replace(own, x=x[:, list(order)]),
            )
    for slug, title, function in _scales(mean, std):
        yield Hypothesis(slug, title, replace(own, x=function(x)))
        yield Hypothesis(slug, f"{title}, in BGR order", replace(own, x=function(x).flip(1)))
    # Black pixels around the image instead of zeros after normalising.
    left, right, top, bottom = own.pads
    inside = F.pad(torch.ones_like(x[:, :1]), own.pads)
    padded = F.pad(x, own.pads) * inside + (1 - inside) * (-mean / std)
    if left or right or top or bottom:
        yield Hypothesis(
            "padding-black",
            "padding with black pixels instead of zeros after normalising",
            replace(own, x=padded, pads=(0, 0, 0, 0)),
        )


def _scales(mean: Tensor, std: Tensor) -> Iterator[tuple[str, str, Callable[[Tensor], Tensor]]]:
    def pixels(x: Tensor) -> Tensor:
        return x * std + mean

    raw = "input-unnormalised"
    yield raw, "images not normalised, with values up to 255", lambda x: 255 * pixels(x)
    yield raw, "images not normalised, with values up to 1", pixels
    yield raw, "images not divided by the standard deviation", lambda x: x * std
    yield raw, "images with the mean subtracted only, in grey levels", lambda x: 255 * x * std
    yield raw, "images divided by the deviation, their mean left in", lambda x: x + mean / std
    other = "input-scaled"
    yield other, "images scaled to -1..1 (AdvProp)", lambda x: 2 * pixels(x) - 1
    yield (
        other,
        "images normalised by mean 127 and deviation 128 (lite)",
        lambda x: (255 * pixels(x) - 127) / 128,
    )
    yield (
        other,
        "images normalised by one mean 0.5 and deviation 0.25",
        lambda x: (pixels(x) - 0.5) / 0.25,
    )
    yield (
        other,
        "images with values up to 255 normalised by a mean and deviation for values up to 1",
        lambda x: (255 * pixels(x) - mean) / std,
    )
    yield (
        other,
        "images with values up to 1 normalised by a mean and deviation for values up to 255",
        lambda x: (pixels(x) / 255 - mean) / std,
    )
    twice = "input-normalised-twice"
    yield twice, "images normalised twice", lambda x: (x - mean) / std
    yield (
        twice,
        "images normalised twice, the second time in grey levels",
        lambda x: (x - 255 * mean) / (255 * std),
    )
    yield twice, "normalised images divided by 255", lambda x: x / 255
    yield twice, "normalised images scaled by x * 2 / 255 - 1", lambda x: x * 2 / 255 - 1
    yield twice, "normalised images scaled by x * 2 - 1", lambda x: x * 2 - 1
    yield twice, "normalised images normalised by 127 and 128", lambda x: (x - 127) / 128
