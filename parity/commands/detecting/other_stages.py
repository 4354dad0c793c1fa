"""What pipelines with other stages need of decoders and of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def decode(path: Path, kind: str) -> NDArray[np.uint8]:
    """An image file as uint8 [h, w, 3] in RGB order.

    Args:
        path: A JPEG, PNG or BMP file.
        kind: ``fast-dct`` or, as OpenCV and Pillow decode, ``accurate-dct``.

    Raises:
        InputError: The file cannot be read or is no image that can be decoded exactly.
    """
    from torch_model.decode import read_image

    return read_image(path, fast_dct=kind == "fast-dct")


def resize_with_torch(
    image: NDArray[Any],
    height: int,
    width: int,
    *,
    antialias: bool = False,
    mode: str = "bilinear",
) -> NDArray[Any]:
    """With half-pixel centres, by PyTorch.

    Args:
        image: [h, w, 3] float32.
        height: In pixels.
        width: In pixels.
        antialias: Average over all pixels where the image shrinks.
        mode: ``bilinear`` or ``bicubic``.
    """
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None],
        size=(height, width),
        mode=mode,
        align_corners=False,
        antialias=antialias,
    )
    return resized[0].permute(1, 2, 0).numpy()


def torch_resizes() -> Mapping[str, Callable[[Any, int, int], Any]]:
    """PyTorch's resizes, by the names of :data:`parity.pipelines.stages.resizing.INJECTED`."""
    antialias = partial(resize_with_torch, antialias=True)
    return {
        "torch": resize_with_torch,
        "torch-antialias": antialias,
        "torch-antialias-levels": partial(_rounded, antialias),
        "torch-cubic": partial(resize_with_torch, mode="bicubic"),
    }


def _rounded(resize: Callable[..., Any], image: Any, height: int, width: int) -> Any:
    resized = np.rint(resize(image.astype(np.float32), height, width))
    return np.clip(resized, 0, 255).astype(np.uint8)
