"""The device that the candidate runs on, and settings that make its arithmetic a stated one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from efficientdet_spec import Cause, InputError

DEVICES = ("cpu", "cuda")


def open_device(name: str, *, tf32: bool = False) -> torch.device:
    """Choose a device and fix how it computes: full float32 and deterministic algorithms.

    Args:
        name: ``cpu`` or ``cuda``.
        tf32: Whether matrix products and convolutions may round their inputs to TF32's 10 bits.

    Raises:
        InputError: PyTorch has no such device here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        built = "with CUDA" if torch.version.cuda else "without CUDA"
        raise InputError(
            f"--device cuda needs a GPU, and PyTorch {torch.__version__} (built {built}) finds "
            f"none; leave the option out to compute on the CPU.",
            Cause.DEVICE,
        )
    # cuBLAS is deterministic only with a workspace of its own, set before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device(name)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Give the process back the settings that :func:`open_device` changes.

    They hold for all of PyTorch, and a program that calls this project computes on its own too.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    tf32 = matmul.allow_tf32, cudnn.allow_tf32
    chosen = cudnn.benchmark, cudnn.deterministic
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = tf32
        cudnn.benchmark, cudnn.deterministic = chosen
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def _onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def describe_device(device: torch.device) -> dict[str, Any]:
    """What a result depends on: the device, its libraries and their settings."""
    values: dict[str, Any] = {
        "device": device.type,
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch_onednn": _onednn(),
    }
    if device.type == "cuda":
        values |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return values
