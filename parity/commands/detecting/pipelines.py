"""What pipelines need of PyTorch: decoders, its resizes, and the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parity.commands.detecting import swaps
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.other_stages import resize_with_torch
from parity.pipelines.running import Tools


@contextmanager
def open_tools(setup: Detection) -> Iterator[Tools]:
    """The tools with the checkpoint's networks.

    Args:
        setup: The pipeline.
    """
    import torch

    from parity.sides.pytorch.device import open_device

    device = open_device(setup.device)
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        yield Tools(_decode, _resizes(), _networks(setup, device))
    finally:
        torch.set_num_threads(before)


def _decode(path: Path, kind: str) -> Any:
    from torch_model.decode import read_image

    return read_image(path, fast_dct=kind == "fast-dct")


def _resizes() -> Mapping[str, Callable[[Any, int, int], Any]]:
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


def _networks(setup: Detection, device: Any) -> Mapping[str, Callable[[Any], Any]]:
    detector = swaps.detector_of(setup, setup.conversion, device)
    found: dict[str, Callable[[Any], Any]] = {
        "faithful": partial(swaps.forward, detector),
        "zero-padded-pool": partial(swaps.forward_zero_padded, detector),
    }
    if swaps.has_raw_twins(setup):
        raw = swaps.detector_of(setup, swaps.raw_values(setup), device)
        found["raw"] = partial(swaps.forward, raw)
    return found
