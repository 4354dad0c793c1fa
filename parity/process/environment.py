"""What a result depends on besides its inputs: versions, threads and numeric settings."""

from __future__ import annotations

import os
import platform
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from efficientdet_spec import installed_version

_PACKAGES = (
    "efficientdet-parity",
    "h5py",
    "numba",
    "numpy",
    "opencv-python",
    "pycocotools",
    "simplejpeg",
    "tensorflow",
    "torch",
)


def prepare(*, in_turns: bool = True) -> None:
    """Settings for two frameworks in one process; call it before importing PyTorch.

    None of them changes a result, and one that the user has set stays. PyTorch's large buffers
    come in huge pages, since they are allocated anew for every layer. TensorFlow's sessions have
    threads of their own, so that each computes with the number it was given.

    Args:
        in_turns: The frameworks take turns many times a second: PyTorch's idle threads sleep
            rather than spin. That costs a third of its speed where it runs alone.
    """
    if in_turns:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")


def describe(threads: int | None, *, optimised: str | bool = False) -> dict[str, Any]:
    """Versions, processor, threads and the settings that change arithmetic.

    Args:
        threads: Threads within one operation, on both sides; None where each takes its default.
        optimised: What of its graph TensorFlow was allowed to rewrite.
    """
    return {
        "packages": {name: installed_version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "default"),
        "THP_MEM_ALLOC_ENABLE": os.environ.get("THP_MEM_ALLOC_ENABLE", "default"),
        "TF_OVERRIDE_GLOBAL_THREADPOOL": os.environ.get("TF_OVERRIDE_GLOBAL_THREADPOOL", "default"),
        "tensorflow_graph_optimizer": optimised,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model n")]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor()


def peak_memory_bytes() -> int:
    """The largest resident memory of this process so far."""
    with suppress(OSError, ValueError, StopIteration):
        # What the resource limits have counts the process that has started this one too.
        lines = Path("/proc/self/status").read_text().splitlines()
        most = next(line for line in lines if line.startswith("VmHWM:"))
        return int(most.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
