"""The port efficientdet-pytorch (``effdet``) with the same values."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import Case
from benchmarks.runtimes import eager
from benchmarks.runtimes.packages import missing_of
from benchmarks.workers import Opened

NAME = "effdet"
SETTINGS = "effdet.EfficientDet, channels last, torch.inference_mode, huge pages as for eager"

files = eager.files


def missing() -> str | None:
    return missing_of(["effdet", "timm"])


def open(case: Case, images: Path, source: Path) -> Opened:
    from benchmarks.runtimes.pytorch import opened, prepared

    prepared(case)
    import torch
    from effdet import EfficientDet, get_efficientdet_config

    import torch_model

    config = get_efficientdet_config(f"tf_{case.model.replace('-', '_')}")
    config.image_size = case.size
    network = EfficientDet(config, pretrained_backbone=False)
    ours = torch_model.load(source).state_dict()
    # Both register their layers in one order; a wrong one would not compute the same.
    values = dict(zip(network.state_dict(), ours.values(), strict=True))
    network.load_state_dict(values)
    network = network.eval().to(memory_format=torch.channels_last)
    return opened(
        lambda given: network(given.contiguous(memory_format=torch.channels_last)), images
    )
